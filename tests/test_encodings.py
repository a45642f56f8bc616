import pytest
from conftest import story

from configurator import UserError
from text.encodings import check_encoding, detect_encoding

TRADITIONAL = (
    "第一回　風雪夜歸人\n卻說這日天色已晚，那書生行至渡口，見無人過來，便對船家道：「此去還有多少路程？」"
    "船家笑道：「客官且慢，雪大得很。」\n"
) * 20
TEXTS = {"book": story(), "traditional": TRADITIONAL, "short": "他说：“去罢。”", "tiny": "第一章"}
SUPERSETS = {"gbk": "gb18030", "big5": "big5hkscs"}  # the superset is detected
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "gb18030", "gbk", "big5"]


def encodable(text: str, encoding: str) -> bool:
    return text == text.encode(encoding, errors="ignore").decode(encoding)


@pytest.mark.parametrize(
    "name, encoding",
    [(name, encoding) for name, text in TEXTS.items() for encoding in ENCODINGS if encodable(text, encoding)],
)
def test_detect_encoding_recognises(name, encoding):
    data = TEXTS[name].encode(encoding)
    found = detect_encoding(data, whole=True)
    assert found == SUPERSETS.get(encoding, encoding)
    assert data.decode(found) == TEXTS[name]


@pytest.mark.parametrize("data", [b"Chapter 1\nIt was late.", b""])
def test_detect_encoding_takes_ascii_for_utf8(data):
    assert detect_encoding(data, whole=True) == "utf-8"


def test_detect_encoding_accepts_a_character_cut_at_the_end_of_a_part():
    assert detect_encoding("却说".encode()[:-1], whole=False) == "utf-8"


def test_detect_encoding_gives_the_wanted_one():
    assert detect_encoding(b"abc", wanted="big5") == "big5"


@pytest.mark.parametrize("name", ["klingon", "hex", "\0"])
def test_check_encoding_names_one_that_does_not_exist(name):
    with pytest.raises(UserError, match="no such encoding"):
        check_encoding(name)
