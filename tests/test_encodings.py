import random

import pytest
from conftest import story

from configurator import UserError
from text.encodings import Decoder, NotText, check_encoding, detect_encoding, superset

TRADITIONAL = (
    "第一回　風雪夜歸人\n卻說這日天色已晚，那書生行至渡口，見無人過來，便對船家道：「此去還有多少路程？」"
    "船家笑道：「客官且慢，雪大得很。」\n"
) * 20
TEXTS = {
    "book": story(),
    "traditional": TRADITIONAL,
    "short": "他说：“去罢。”",
    "tiny": "第一章",
    "rare": "青螭吐焰",
    "rare, traditional": "雲騰鶴駕",
    "a start": "韩立见此，便大笑起来",
    "modern": "手机屏幕亮了",
    "dialogue": "「這個要三百€。」",
}
SUPERSETS = {"gbk": "gb18030", "gb2312": "gb18030", "big5": "cp950"}  # the superset is detected
UTF_16 = ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")  # without a mark, for texts that are not very short
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-32", "gb18030", "gbk", "gb2312", "big5", "cp950"]


def encodable(text: str, encoding: str) -> bool:
    return text == text.encode(encoding, errors="ignore").decode(encoding)


@pytest.mark.parametrize(
    "name, encoding",
    [(name, encoding) for name, text in TEXTS.items() for encoding in ENCODINGS if encodable(text, encoding)]
    + [(name, encoding) for name in ("book", "traditional", "short") for encoding in UTF_16],
)
def test_detect_encoding_recognises(name, encoding):
    data = TEXTS[name].encode(encoding)
    found = detect_encoding(data)
    assert found == SUPERSETS.get(encoding, encoding)
    assert data.decode(found) == TEXTS[name]


@pytest.mark.parametrize("data", [b"Chapter 1\nIt was late.", b""])
def test_detect_encoding_takes_ascii_for_utf8(data):
    assert detect_encoding(data) == "utf-8"


@pytest.mark.parametrize("encoding", ["utf-8", "gb18030", "cp950", "utf-16-le"])
def test_detect_encoding_accepts_a_character_cut_at_the_end(encoding):
    assert detect_encoding(("却說" * 20).encode(encoding, "ignore")[:-1]) == encoding


@pytest.mark.parametrize("encoding", ["gb18030", "cp950", "utf-8", "utf-16-le"])
@pytest.mark.parametrize("bad", [b"\xff\xff", b"\x80", b"\xf8\xf8\xf8\xff"])
def test_detect_encoding_is_not_misled_by_bad_bytes(encoding, bad):
    part = TRADITIONAL[:300].encode(encoding)
    assert detect_encoding(part + bad + part) == encoding


@pytest.mark.parametrize("data", [b"It was late.\xff\xff He went.", b"late \x81 late"])
def test_detect_encoding_takes_ascii_with_bad_bytes_for_utf8(data):
    assert detect_encoding(data) == "utf-8"


def test_detect_encoding_looks_behind_a_long_beginning_in_ascii():
    assert detect_encoding(b"=" * 2**18 + TEXTS["book"].encode("gb18030")) == "gb18030"


def test_utf8_mark_before_gbk_is_left_out():
    data = b"\xef\xbb\xbf" + TEXTS["book"].encode("gbk")
    assert decode(data, detect_encoding(data), size=10**6) == (TEXTS["book"], [])


@pytest.mark.parametrize("encoding", ["utf-8", "gb18030"])
def test_detect_encoding_looks_past_zeros_at_the_end(encoding):
    assert detect_encoding(TEXTS["book"].encode(encoding) + b"\0" * 4096) == encoding


@pytest.mark.parametrize("text", ["目录", "联通"])
def test_detect_encoding_takes_gbk_that_is_valid_utf8_for_gbk(text):
    assert detect_encoding(text.encode("gbk")) == "gb18030"


@pytest.mark.parametrize("text", ["café", "été", "Привет, мир", "à côté"])
def test_detect_encoding_takes_short_utf8_of_other_scripts_for_utf8(text):
    assert detect_encoding(text.encode()) == "utf-8"


FOREIGN = {
    "euc_jp": "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。",
    "cp932": "何でも薄暗いじめじめした所でニャーニャー泣いていた事だけは記憶している。",
    "cp949": "그는 문을 열고 밖으로 나갔다. 하늘은 맑았고 바람은 차가웠다.",
    "cp1251": "Он вышел из дома и пошёл по дороге. Небо было ясное, дул ветер.",
    "koi8_r": "Она вышла из дома и пошла по дороге. Небо было ясное, дул ветер.",
    "cp1253": "Ο γέρος ψαράς ζούσε με τη γυναίκα του κοντά στη θάλασσα.",
    "cp874": "กาลครั้งหนึ่งนานมาแล้ว มีชายชราคนหนึ่งอาศัยอยู่ในป่า",
}


@pytest.mark.parametrize("encoding", FOREIGN)
def test_detect_encoding_refuses_another_language_with_its_likely_encoding(encoding):
    with pytest.raises(NotText, match=f"--encoding={encoding}"):
        detect_encoding(FOREIGN[encoding].encode(encoding))


@pytest.mark.parametrize("encoding", FOREIGN)
def test_detect_encoding_takes_another_language_that_is_declared(encoding):
    assert detect_encoding(FOREIGN[encoding].encode(encoding), declared=encoding) == encoding


@pytest.mark.parametrize(
    "text", ["“It’s late,” he said — and left.", "Nous étions à l’étude, quand le Proviseur entra"]
)
def test_detect_encoding_takes_latin_text_for_windows(text):
    assert detect_encoding(text.encode("cp1252")) == "cp1252"


@pytest.mark.parametrize("size", [100, 1000, 40_000])
def test_detect_encoding_refuses_random_bytes(size):
    with pytest.raises(NotText, match="no likely text"):
        detect_encoding(random.Random(0).randbytes(size))


@pytest.mark.parametrize("declared", ["gb18030", "cp1252", "euc_jp"])
def test_detect_encoding_goes_by_the_evidence_against_a_declaration(declared):
    assert detect_encoding(TEXTS["traditional"].encode("cp950"), declared) == "cp950"


@pytest.mark.parametrize("name", ["klingon", "hex", "\0"])
def test_check_encoding_names_one_that_does_not_exist(name):
    with pytest.raises(UserError, match="no such encoding"):
        check_encoding(name)


@pytest.mark.parametrize(
    "name, expected", [("GBK", "gb18030"), ("gb2312", "gb18030"), ("big5", "cp950"), ("UTF8", "utf-8")]
)
def test_superset_stands_for_the_encodings_inside_it(name, expected):
    assert superset(name) == expected


# -- decoding ----------------------------------------------------------------------------------------------------------


def decode(data: bytes, encoding: str, errors: str = "strict", size: int = 3):
    decoder = Decoder(encoding, errors)
    text = "".join(decoder.decode(data[i : i + size]) for i in range(0, len(data), size))
    return text + decoder.decode(b"", final=True), decoder.notes()


@pytest.mark.parametrize("encoding", ["utf-8", "gb18030", "cp950", "utf-16", "utf-32"])
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_decoder_joins_characters_over_chunks(encoding, size):
    assert decode(TRADITIONAL.encode(encoding), encoding, size=size) == (TRADITIONAL, [])


def test_decoder_reads_the_euro_sign_of_windows_in_gbk():
    assert decode("三百".encode("gbk") + b"\x80" + "整".encode("gbk"), "gb18030") == (
        "三百€整",
        ["read as €, as Windows does: 1 byte 0x80"],
    )


@pytest.mark.parametrize(
    "text, form",
    [("€", "cp950"), ("碁銹裏墻恒粧嫺", "cp950"), ("啱嘅Ê̄①", "big5hkscs"), ("①の々ーァЖЯ①", "big5hkscs")],
)
@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_decoder_reads_every_form_of_big5(text, form, size):
    assert decode(text.encode(form), "cp950", size=size) == (text, [])


@pytest.mark.parametrize("encoding", ["utf-8", "gb18030", "cp950", "utf-16-le", "utf-32-be"])
def test_decoder_leaves_out_a_cut_last_character_and_says_so(encoding):
    assert decode("却說你們".encode(encoding, "ignore")[:-1], encoding)[1] == [
        "its last character was cut, and left out"
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "gb18030", "utf-16-le"])
def test_decoder_names_the_bad_byte_and_its_line(encoding):
    good = "却说\n此人\n".encode(encoding)
    bad = {"utf-16-le": b"\x00\xdc"}.get(encoding, b"\xff")
    with pytest.raises(NotText, match=rf"byte {len(good)} is not {encoding} \(line 3\).*--errors=replace.*--encoding"):
        decode(good + bad + good, encoding)


def test_decoder_replaces_and_counts_when_asked():
    assert decode("却".encode() + b"\xff\xfe" + "说".encode(), "utf-8", "replace") == (
        "却\ufffd\ufffd说",
        ["not utf-8, and replaced by U+FFFD: 2 bytes"],
    )


def test_decoder_refuses_zero_bytes():
    with pytest.raises(NotText, match="byte 3 is zero.*--errors=replace"):
        decode("却\0说".encode(), "utf-8", size=100)


@pytest.mark.parametrize("size", [2, 5, 100])
def test_decoder_leaves_out_zero_bytes_at_the_end(size):
    assert decode("却说".encode() + b"\0" * 9, "utf-8", size=size) == ("却说", ["left out: 9 zero bytes"])


def test_decoder_refuses_zero_bytes_at_the_end_of_a_chunk():
    with pytest.raises(NotText, match="is zero"):
        decode("却".encode() + b"\0\0\0" + "说".encode(), "utf-8", size=6)


@pytest.mark.parametrize("encodings", [("utf-8", "gb18030"), ("gb18030", "utf-8")])
def test_decoder_says_where_another_encoding_begins(encodings):
    first, second = ((TEXTS["book"] + "\n").encode(encoding) for encoding in encodings)
    with pytest.raises(
        NotText, match=f"byte {len(first):,} is not {encodings[0]}.*there on it is {encodings[1]}: split"
    ):
        decode(first + second, encodings[0], size=10**6)


def test_decoder_says_where_another_encoding_begins_after_a_mark():
    first, second = b"\xef\xbb\xbf" + TEXTS["book"].encode(), TEXTS["book"].encode("gb18030")
    with pytest.raises(NotText, match=f"byte {len(first):,} is not .*From there on it is gb18030: split"):
        decode(first + second, "utf-8-sig", size=10**6)


@pytest.mark.parametrize("encodings", [("utf-8", "gb18030"), ("gb18030", "utf-8"), ("utf-8", "cp950")])
@pytest.mark.parametrize("line", ["更多", "求月票", "本書來自www.txt.com", "更多小說請到天下書庫下載"])
def test_decoder_refuses_a_line_in_another_encoding(encodings, line):
    line, text = (line + "\r\n").encode(encodings[0]), (TRADITIONAL + "\r\n").encode(encodings[1]) * 20
    for before in (b"", text):
        n = before.count(b"\n") + 1
        start = f"byte {len(before):,} is not {encodings[1]} \\(line {n}\\). "
        with pytest.raises(NotText, match=f"{start}It is {encodings[0]} up to the end of line {n}: "):
            decode(before + line + text, encodings[1], size=10**6)
    with pytest.raises(NotText, match=f"From there on it is {encodings[0]}: split"):
        decode(text + line, encodings[1], size=10**6)


@pytest.mark.parametrize("text", ["联通", "腊月\n", "Größe für übel\n"])
def test_decoder_takes_no_line_of_gbk_for_utf8(text):
    assert decode((text * 9).encode("gb18030"), "gb18030", size=10**6) == (text * 9, [])


def test_decoder_names_the_encoding_of_a_file_that_has_another_from_its_beginning():
    data = ("https://\n" + TEXTS["book"]).encode("gb18030")
    with pytest.raises(NotText, match="The file is gb18030: --encoding=gb18030, or no --encoding"):
        decode(data, "utf-8", size=10**6)


def test_decoder_leaves_out_zero_bytes_when_asked():
    assert decode("却\0\0说".encode(), "utf-8", "replace") == ("却说", ["left out: 2 zero bytes"])


def test_decoders_do_not_disturb_each_other():
    one, other = Decoder("utf-8", "replace"), Decoder("utf-8", "strict")
    other.decode(b"a")
    one.decode(b"a\xff")
    assert (one.replaced, other.replaced) == (1, 0)
