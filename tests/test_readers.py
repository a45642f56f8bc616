import gzip
import io
import json
import lzma
import zipfile

import pytest
from conftest import story
from hypothesis import given, settings
from hypothesis import strategies as st

from configurator import UserError
from text import readers
from text.readers import find_sources, texts_in

BOOK = story()
CHAPTERS = BOOK.replace("\n第", "\n\0第").split("\0")


def read(path, encoding: str = "auto") -> str:
    """All text of all sources, a NUL between documents."""
    sources = find_sources([str(path)], encoding)
    return "\0".join("".join(document) for source in sources for document in source.documents())


def zip_archive(files: dict) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in files.items():
            target.writestr(name, content)
    return buffer.getvalue()


CONTAINER = (
    '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
    '<rootfile full-path="OEBPS/content.opf"/></rootfiles></container>'
)
PACKAGE = (
    '<package xmlns="http://www.idpf.org/2007/opf"><manifest>'
    '<item id="nav" href="nav.xhtml" properties="nav" media-type="application/xhtml+xml"/>{items}</manifest>'
    '<spine><itemref idref="nav"/>{references}</spine></package>'
)


def epub(chapters: list[str], extra: dict | None = None) -> bytes:
    """A small EPUB: a page per chapter, a navigation page, and a manifest that is not in reading order."""
    pages = {}
    for i, chapter in enumerate(chapters):
        body = "".join(f"<p>\n  {line}\n</p>" for line in chapter.strip().split("\n"))
        pages[f"OEBPS/text/{i}.xhtml"] = f"<html><head><title>t</title></head><body>{body}</body></html>"
    numbers = range(len(chapters))
    items = [f'<item id="c{i}" href="text/{i}.xhtml" media-type="application/xhtml+xml"/>' for i in reversed(numbers)]
    references = [f'<itemref idref="c{i}"/>' for i in numbers]
    files = {
        "META-INF/container.xml": CONTAINER,
        "OEBPS/content.opf": PACKAGE.format(items="".join(items), references="".join(references)),
        "OEBPS/nav.xhtml": "<p>目录</p>",
    }
    return zip_archive({**files, **pages, **(extra or {})})


HAND_MADE = "[" + ",\n".join(f'"{chapter}\x07"' for chapter in CHAPTERS) + ",\n]"  # raw line breaks, a last comma
JSON_LINES = "\n".join(json.dumps({"text": chapter}, ensure_ascii=False) for chapter in CHAPTERS)
FORMS = {
    "a.txt": BOOK.encode(),
    "a.json": json.dumps(CHAPTERS).encode(),
    "hand-made.json": HAND_MADE.encode(),
    "objects.json": json.dumps([{"text": chapter} for chapter in CHAPTERS]).encode(),
    "a.jsonl": JSON_LINES.encode("gb18030"),
    "a.epub": epub(CHAPTERS),
    "a.txt.gz": gzip.compress(BOOK.encode()),
    "a.xz": lzma.compress(BOOK.encode("utf-16")),
    "a.json.xz": lzma.compress(json.dumps(CHAPTERS).encode()),
    "a.zip": zip_archive(
        {
            "b/2.txt": "\n".join(CHAPTERS[6:]),
            "b/1.txt.gz": gzip.compress("".join(CHAPTERS[:6]).encode()),
            "__MACOSX/1.txt": "x",
            "c.jpg": "x",
        }
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_documents_have_the_same_lines_in_every_form(tmp_path, name):
    (tmp_path / name).write_bytes(FORMS[name])
    text = read(tmp_path / name).replace("\0", "\n").replace("\x07", "")
    assert [line for line in text.split("\n") if line] == [line for line in BOOK.split("\n") if line]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "gb18030"])
def test_source_reports_the_encoding_that_was_detected(tmp_path, encoding):
    (tmp_path / "a.txt").write_text(BOOK, encoding=encoding)
    (source,) = find_sources([str(tmp_path / "a.txt")])
    assert "".join(next(source.documents())) == BOOK
    assert source.encoding == encoding


def test_source_reads_in_the_wanted_encoding(tmp_path):
    (tmp_path / "a.txt").write_text("Ünäffable", encoding="latin-1")
    assert read(tmp_path / "a.txt", encoding="latin-1") == "Ünäffable"


def test_json_with_halves_of_characters_is_text(tmp_path):
    (tmp_path / "a.json").write_text('["a\\ud800b"]')
    assert read(tmp_path / "a.json") == "a\ufffdb"


def test_epub_page_of_one_line_begins_the_next_chapter(tmp_path):
    (tmp_path / "a.epub").write_bytes(epub(["第一卷", "甲\n乙", "丙\n丁", "完"]))
    assert read(tmp_path / "a.epub") == "第一卷\n甲\n乙\0丙\n丁\0完\n"


# -- chunks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [5, 3000, 10**6])
def test_a_byte_that_cannot_be_decoded_is_named_with_its_place(tmp_path, at, monkeypatch):
    monkeypatch.setattr(readers, "CHUNK", 1000)  # the place counts over all chunks
    data = (BOOK * 150).encode()
    while data[at] & 0xC0 == 0x80:
        at += 1
    (tmp_path / "a.txt").write_bytes(data[:at] + b"\xff" + data[at:])
    with pytest.raises(UserError, match=f"a.txt: byte {at:,} is not utf-8.*--encoding"):
        read(tmp_path / "a.txt")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_characters_may_be_cut_by_the_ends_of_chunks(tmp_path, size, encoding, monkeypatch):
    monkeypatch.setattr(readers, "CHUNK", size)
    (tmp_path / "a.txt").write_bytes("却说😀龘\n".encode(encoding))
    assert read(tmp_path / "a.txt", encoding=encoding) == "却说😀龘\n"


# -- which files -----------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in/deep").mkdir(parents=True)
    (tmp_path / "in/deep/b.txt").write_text("乙", encoding="utf-8")
    (tmp_path / "in/a.jsonl").write_text('{"text": "甲"}', encoding="utf-8")
    (tmp_path / "in/picture.jpg").write_bytes(b"\xff")
    (tmp_path / "in/meta.json").write_text("{}")
    return tmp_path / "in"


def test_find_sources_reads_the_texts_of_a_folder(folder):
    assert read(folder) == "甲\0乙"


def test_find_sources_reads_the_texts_of_a_glob(folder):
    assert read(folder / "*.jsonl") == "甲"


def test_texts_in_lists_the_folder_itself_only(folder):
    assert [path.name for path in texts_in(folder)] == ["a.jsonl"]


def test_find_sources_leaves_out_what_a_killed_prepare_wrote(folder):
    (folder / ".next").mkdir()
    (folder / ".next/chapters.txt").write_text("丙", encoding="utf-8")
    assert read(folder) == "甲\0乙"


def test_find_sources_reads_a_folder_named_next(folder):
    (folder / "next").mkdir()
    (folder / "next/c.txt").write_text("丙", encoding="utf-8")
    assert read(folder) == "甲\0乙\0丙"


@pytest.mark.parametrize(
    "name, words",
    [
        ("none*.txt", "matches no file"),
        ("none.txt", "does not exist"),
        ("empty", "there is no .txt"),
        ("book.PDF", "save it as .txt"),
    ],
)
def test_find_sources_names_what_it_cannot_use(tmp_path, name, words):
    (tmp_path / "empty").mkdir()
    (tmp_path / "book.PDF").write_bytes(b"%PDF-1.7")
    with pytest.raises(UserError, match=words):
        find_sources([str(tmp_path / name)])


# -- damage and attacks ----------------------------------------------------------------------------------------------

ZEROS = b"\0" * 2**24
BOMBS = {
    "a.gz": lambda: gzip.compress(ZEROS),
    "b.xz": lambda: lzma.compress(ZEROS),
    "c.zip": lambda: zip_archive({"c.txt": ZEROS}),
    "d.epub": lambda: epub(["一\n二"], extra={"OEBPS/text/0.xhtml": ZEROS}),
}


@pytest.mark.parametrize("name", BOMBS)
def test_decompression_bomb_is_refused(tmp_path, name, monkeypatch):
    monkeypatch.setattr(readers, "MAX_UNCHECKED", 2**20)
    monkeypatch.setattr(readers, "CHUNK", 2**16)
    (tmp_path / name).write_bytes(BOMBS[name]())
    with pytest.raises(UserError, match="100 times"):
        read(tmp_path / name)


def test_zip_paths_that_climb_write_nothing(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.zip").write_bytes(zip_archive({"../evil.txt": "甲\n", f"{tmp_path}/evil.txt": "乙\n"}))
    assert set(read(tmp_path / "in/a.zip")) == set("甲乙\n\0")
    assert not list(tmp_path.rglob("evil*"))


def test_epub_with_declared_entities_is_refused(tmp_path):
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
        ("a.epub", zip_archive({"x": "y"}), "a.epub: "),
        ("a.zip", b"PK", "a.zip: "),
        ("a.gz", b"\x1f\x8b\x08", "a.gz: "),
        ("a.xz", b"nonsense", "a.xz: "),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_damage_is_named_with_its_place(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=words):
        read(tmp_path / name)


TEMPLATES = {
    ".txt": [b"", BOOK.encode()[:200], BOOK.encode("gb18030")[:200]],
    ".json": [b"[]", json.dumps(CHAPTERS[:1]).encode()[:300]],
    ".jsonl": [b'{"text": "a"}'],
    ".epub": [epub(["一\n二"])],
    ".gz": [gzip.compress(b"abc" * 50, mtime=0)],
    ".xz": [lzma.compress(b"abc" * 50)],
    ".zip": [zip_archive({"a.txt": "abc", "b.json": "[]"})],
}
"""Suffix -> small files, for the tests with random bytes."""


def damaged(template: bytes, noise: bytes, where: float, insert: bool) -> bytes:
    """The template with noise at a place (0 to 1): inserted, or over what stands there."""
    at = int(where * len(template))
    return template[:at] + noise + template[at if insert else at + len(noise) :]


def read_or_refuse(path) -> None:
    """Read all of a file. A UserError of at most two lines is allowed, and no other error."""
    try:
        for source in find_sources([str(path)]):
            for document in source.documents():
                "".join(document).encode()
    except UserError as error:
        assert len(str(error).splitlines()) <= 2


@pytest.mark.parametrize("suffix", TEMPLATES)
@given(noise=st.binary(max_size=40), where=st.floats(0, 1), insert=st.booleans(), data=st.data())
@settings(max_examples=300, deadline=None, derandomize=True)
def test_any_bytes_are_read_or_refused(suffix, tmp_path_factory, noise, where, insert, data):
    """Noise, and real files with noise in them. tests/fuzz_readers.py does it 100,000 times."""
    template = data.draw(st.sampled_from(TEMPLATES[suffix]))
    path = tmp_path_factory.getbasetemp() / f"fuzz{suffix}"
    path.write_bytes(damaged(template, noise, where, insert))
    read_or_refuse(path)
