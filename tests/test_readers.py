import gzip
import io
import json
import lzma
import zipfile
from pathlib import Path

import pytest
from conftest import story
from hypothesis import given, settings
from hypothesis import strategies as st

from text import readers
from configurator import UserError
from text.readers import Source, detect, find_sources, html_to_text

BOOK = story()
CHAPTERS = [chapter for chapter in BOOK.replace("\n第", "\n\0第").split("\0")]


def read(*names, encoding="auto") -> tuple[str, list[str]]:
    """All text of all sources, a NUL between documents; and the encodings."""
    sources = find_sources([str(name) for name in names], encoding)
    documents = ["".join(document) for source in sources for document in source.documents()]
    return "\0".join(documents), [source.encoding for source in sources]


def epub(chapters: list[str], folder: str = "OEBPS/", extra: dict = {}) -> bytes:
    """A small EPUB: a page a chapter, a navigation page, and a manifest that is not in reading order."""
    pages = {
        f"{folder}text/{i}.xhtml": "<html><head><title>t</title><style>p{}</style></head><body>"
        + "".join(f"<p>\n  {line}\n</p>" for line in chapter.strip().split("\n")) + "</body></html>"
        for i, chapter in enumerate(chapters)
    }  # fmt: skip
    items = [f'<item id="c{i}" href="text/{i}.xhtml" media-type="application/xhtml+xml"/>' for i in range(len(chapters))]
    package = (
        '<package xmlns="http://www.idpf.org/2007/opf"><manifest><item id="nav" href="nav.xhtml" properties="nav" media-type="application/xhtml+xml"/>'
        + "".join(reversed(items)) + '</manifest><spine><itemref idref="nav"/>'
        + "".join(f'<itemref idref="c{i}"/>' for i in range(len(chapters))) + "</spine></package>"
    )  # fmt: skip
    container = f'<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles><rootfile full-path="{folder}content.opf"/></rootfiles></container>'
    files = {"META-INF/container.xml": container, f"{folder}content.opf": package, f"{folder}nav.xhtml": "<p>目录</p>", **pages, **extra}
    return archive(files)


def archive(files: dict) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in files.items():
            target.writestr(name, content)
    return buffer.getvalue()


FORMS = {
    "a.txt": BOOK.encode(),
    "a.json": json.dumps(CHAPTERS).encode(),
    "hand-made.json": ("[" + ",\n".join(f'"{chapter}\x07"' for chapter in CHAPTERS) + ",\n]").encode(),  # raw breaks, a last comma
    "texts.json": json.dumps([{"text": chapter} for chapter in CHAPTERS]).encode(),
    "a.jsonl": "\n".join(json.dumps({"text": chapter}, ensure_ascii=False) for chapter in CHAPTERS).encode("gb18030"),
    "a.epub": epub(CHAPTERS),
    "a.txt.gz": gzip.compress(BOOK.encode()),
    "a.xz": lzma.compress(BOOK.encode("utf-16")),
    "a.json.xz": lzma.compress(json.dumps(CHAPTERS).encode()),
    "a.zip": archive({"b/2.txt": "\n".join(CHAPTERS[6:]), "b/1.txt.gz": gzip.compress("".join(CHAPTERS[:6]).encode()), "__MACOSX/1.txt": "x", "c.jpg": "x"}),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_same_lines(tmp_path, name):
    (tmp_path / name).write_bytes(FORMS[name])
    text, _ = read(tmp_path / name)
    assert [line for line in text.replace("\0", "\n").replace("\x07", "").split("\n") if line] == [line for line in BOOK.split("\n") if line]


TRADITIONAL = "第一回　風雪夜歸人\n卻說這日天色已晚，那書生行至渡口，見無人過來，便對船家道：「此去還有多少路程？」船家笑道：「客官且慢，雪大得很。」\n" * 20


@pytest.mark.parametrize("text", [BOOK, TRADITIONAL, "他说：“去罢。”", "第一章"], ids=["book", "traditional", "short", "tiny"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "gb18030", "gbk", "big5"])
def test_encodings_are_told_apart(tmp_path, text, encoding):
    try:
        data = text.encode(encoding)
    except UnicodeEncodeError:
        pytest.skip("not a text for this encoding")
    (tmp_path / "a.txt").write_bytes(data)
    got, (name,) = read(tmp_path / "a.txt")
    assert got == text, name
    same = {"gbk": "gb18030", "big5": "big5hkscs"}
    assert name == same.get(encoding, encoding)
    assert read(tmp_path / "a.txt", encoding=encoding)[0] == text


def test_ascii_and_empty_are_utf8(tmp_path):
    assert detect(b"Chapter 1\nIt was late.", whole=True) == detect(b"", whole=True) == "utf-8"


@pytest.mark.parametrize("at", [5, 3000, 10**6])
def test_a_bad_byte_is_named_with_its_place(tmp_path, at, monkeypatch):
    monkeypatch.setattr(readers, "BLOCK", 1000)  # the place counts over all blocks
    data = (BOOK * 150).encode()
    while data[at] & 0xC0 == 0x80:
        at += 1
    (tmp_path / "a.txt").write_bytes(data[:at] + b"\xff" + data[at:])
    with pytest.raises(UserError, match=f"a.txt: byte {at:,} is not utf-8.*--encoding"):
        read(tmp_path / "a.txt")


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_characters_over_the_seams_of_blocks(tmp_path, size, monkeypatch):
    monkeypatch.setattr(readers, "BLOCK", size)
    for encoding in ("utf-8", "utf-16"):
        (tmp_path / "a.txt").write_text("却说😀龘\n", encoding=encoding)
        assert read(tmp_path / "a.txt", encoding=encoding)[0] == "却说😀龘\n"


def test_folders_and_globs(tmp_path):
    (tmp_path / "in/deep").mkdir(parents=True)
    (tmp_path / "in/deep/b.txt").write_text("乙")
    (tmp_path / "in/a.jsonl").write_text('{"text": "甲"}')
    (tmp_path / "in/picture.jpg").write_bytes(b"\xff")
    (tmp_path / "in/meta.json").write_text("{}")
    assert read(tmp_path / "in")[0] == "甲\0乙"
    assert read(tmp_path / "in/*.jsonl")[0] == "甲"
    for nothing, words in ((tmp_path / "none*.txt", "matches no file"), (tmp_path / "in/deep/../../empty", "does not exist")):
        with pytest.raises(UserError, match=words):
            read(nothing)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="there is no .txt"):
        read(tmp_path / "empty")
    with pytest.raises(UserError, match="no such encoding"):
        read(tmp_path / "in", encoding="klingon")


def test_a_bomb_is_refused_early(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "UNPACKED_FREELY", 2**20)
    monkeypatch.setattr(readers, "BLOCK", 2**16)
    zeros = b"\0" * 2**25
    (tmp_path / "a.gz").write_bytes(gzip.compress(zeros))
    (tmp_path / "b.xz").write_bytes(lzma.compress(zeros))
    (tmp_path / "c.zip").write_bytes(archive({"c.txt": zeros}))
    (tmp_path / "d.epub").write_bytes(epub(["一\n二"], extra={"OEBPS/text/0.xhtml": zeros}))
    for name in ("a.gz", "b.xz", "c.zip", "d.epub"):
        with pytest.raises(UserError, match="100 times"):
            read(tmp_path / name)


def test_paths_that_climb_lead_nowhere(tmp_path):
    (tmp_path / "a.zip").write_bytes(archive({"../../evil.txt": "甲\n", "/tmp/evil2.txt": "乙\n"}))
    assert set(read(tmp_path / "a.zip")[0]) == set("甲乙\n\0")
    assert not list(tmp_path.parent.glob("evil*")) and not Path("/tmp/evil2.txt").exists()


def test_declared_entities_are_refused(tmp_path):
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaa">]><container>&a;</container>'
    (tmp_path / "a.epub").write_bytes(epub(["一\n二"], extra={"META-INF/container.xml": bomb}))
    with pytest.raises(UserError, match="entities"):
        read(tmp_path / "a.epub")


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("a.json", b"[1]", "item 1: a string"),
        ("a.json", b'{"a": 1}', "list of strings"),
        ("a.json", b'["a", "b]', "a.json: "),
        ("a.json", b"[" * 100000, "a.json: nested"),
        ("a.jsonl", b'{"text": "a"}\n{"txt": "b"}', "line 2: a string"),
        ("a.jsonl", b'{"text": "a"}\nb', "line 2: "),
        ("a.epub", b"PK", "a.epub: "),
        ("a.epub", archive({"x": "y"}), "a.epub: "),
        ("a.zip", b"PK", "a.zip: "),
        ("a.gz", b"\x1f\x8b\x08", "a.gz: "),
        ("a.xz", b"nonsense", "a.xz: "),
    ],
)  # fmt: skip
def test_damage_is_named(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=words):
        read(tmp_path / name)


def test_a_page_s_text():
    page = "<html><head><title>x</title></head><body><h1>第一回 风　雪</h1>\n<p>他\n  说：&ldquo;去&rdquo;<ruby>罢<rt>ba</rt></ruby></p><p>one\n two</p>a<br/>b<script>x()</script></body></html>"
    assert html_to_text(page) == "第一回 风　雪\n他说：“去”罢\none two\na\nb"


def test_json_with_lone_surrogates_is_still_text(tmp_path):
    (tmp_path / "a.json").write_text('["a\\ud800b"]')
    read(tmp_path / "a.json")[0].encode()


TEMPLATES = {
    ".txt": [b"", BOOK.encode()[:200], BOOK.encode("gb18030")[:200]],
    ".json": [b"[]", json.dumps(CHAPTERS[:1]).encode()[:300]],
    ".jsonl": [b'{"text": "a"}'],
    ".epub": [epub(["一\n二"])],
    ".gz": [gzip.compress(b"abc" * 50)],
    ".xz": [lzma.compress(b"abc" * 50)],
    ".zip": [archive({"a.txt": "abc", "b.json": "[]"})],
}


@pytest.mark.parametrize("suffix", TEMPLATES)
@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_any_bytes_end_in_text_or_a_clear_error(suffix, tmp_path_factory, data):
    """Random bytes, and the real thing with random bytes in it. (tests/fuzz_readers.py does it a hundred thousand times.)"""
    path = tmp_path_factory.getbasetemp() / f"fuzz{suffix}"
    path.write_bytes(damaged(data.draw(st.sampled_from(TEMPLATES[suffix])), data.draw(st.binary(max_size=40)), data.draw(st.floats(0, 1)), data.draw(st.booleans())))
    read_or_refuse(path)


def damaged(template: bytes, noise: bytes, where: float, insert: bool) -> bytes:
    at = int(where * len(template))
    return template[:at] + noise + template[at if insert else at + len(noise) :]


def read_or_refuse(path) -> None:
    try:
        for source in find_sources([str(path)]):
            assert isinstance(source, Source)
            for document in source.documents():
                "".join(document).encode()
    except UserError as error:
        assert len(str(error).splitlines()) <= 2
