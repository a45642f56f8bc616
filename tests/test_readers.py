import bz2
import gzip
import json
import lzma
import zipfile
from collections import Counter

import pytest
from book_files import docx, epub, odt, page, paragraphs, tar_archive, zip_archive
from conftest import story
from hypothesis import given, settings
from hypothesis import strategies as st

from configurator import UserError
from dataset import FILES
from text import containers, sources
from text.readers import find_sources, holds_files

BOOK = story()
CHAPTERS = BOOK.replace("\n第", "\n\0第").split("\0")
PAGES = [page(paragraphs(chapter)) for chapter in CHAPTERS]


def read(path, encoding: str = "auto", errors: str = "strict", skipped: Counter | None = None) -> str:
    """All text of all sources, a NUL between documents."""
    found = find_sources([str(path)], encoding, errors, skipped)
    return "\0".join("".join(document) for source in found for document in source.documents())


def notes(path, errors: str = "strict") -> list[str]:
    (source,) = find_sources([str(path)], errors=errors)
    for document in source.documents():
        "".join(document)
    return source.notes


HAND_MADE = "[" + ",\n".join(f'"{chapter}\x07"' for chapter in CHAPTERS) + ",\n]"  # raw line breaks, a last comma
JSON_LINES = "\n".join(json.dumps({"text": chapter}, ensure_ascii=False) for chapter in CHAPTERS)
WORDS = "".join(f"<w:p><w:r><w:t>{line}</w:t></w:r></w:p>" for line in BOOK.split("\n"))
IN_ARCHIVE = {
    "b/2.txt": "\n".join(CHAPTERS[6:]).encode(),
    "b/1.txt.gz": gzip.compress("".join(CHAPTERS[:6]).encode()),
    "__MACOSX/1.txt": b"x",
    "b/._1.txt": b"x",
    "c.jpg": b"x",
}
FORMS = {
    "a.txt": BOOK.encode(),
    "a.text": BOOK.encode("gb18030"),
    "a.json": json.dumps(CHAPTERS).encode(),
    "hand-made.json": HAND_MADE.encode(),
    "objects.json": json.dumps([{"text": chapter} for chapter in CHAPTERS]).encode(),
    "lines.json": JSON_LINES.encode(),
    "a.jsonl": JSON_LINES.encode("gb18030"),
    "a.epub": epub(PAGES),
    "a.html": "".join(PAGES).encode("gb18030"),
    "a.htm": BOOK.encode(),
    "a.md": "\n\n".join(BOOK.split("\n")).encode(),
    "a.docx": docx(WORDS),
    "a.odt": odt("".join(f"<text:p>{line}</text:p>" for line in BOOK.split("\n"))),
    "a.csv": b"\xef\xbb\xbfid,Text\n" + "".join(f'1,"{chapter}"\n' for chapter in CHAPTERS).encode(),
    "a.tsv": "text\n".encode("utf-16") + "".join(f'"{chapter}"\n' for chapter in CHAPTERS).encode("utf-16-le"),
    "a.fb2": f"<FictionBook><body>{paragraphs(BOOK)}</body></FictionBook>".encode(),
    "a.txt.gz": gzip.compress(BOOK.encode()),
    "a.txt.bz2": bz2.compress(BOOK.encode()),
    "a.xz": lzma.compress(BOOK.encode("utf-16")),
    "a.lzma": lzma.compress(BOOK.encode(), format=lzma.FORMAT_ALONE),
    "a.json.xz": lzma.compress(json.dumps(CHAPTERS).encode()),
    "a.epub.gz": gzip.compress(epub(PAGES)),
    "a.zip": zip_archive(IN_ARCHIVE),
    "a.tar": tar_archive(IN_ARCHIVE),
    "a.tar.gz": tar_archive(IN_ARCHIVE, "w:gz"),
    "a.tgz": tar_archive(IN_ARCHIVE, "w:gz"),
    "a.tar.bz2": tar_archive(IN_ARCHIVE, "w:bz2"),
    "a.tar.xz": tar_archive(IN_ARCHIVE, "w:xz"),
    "nested.zip": zip_archive({"a.zip": zip_archive(IN_ARCHIVE)}),
    "epub-in.zip": zip_archive({"a.epub": epub(PAGES)}),
}
NAMED_OTHERWISE = {
    "html.doc": FORMS["a.html"],
    "gz.txt": FORMS["a.txt.gz"],
    "zip.txt": FORMS["a.zip"],
    "tar.txt": FORMS["a.tar"],
    "epub.txt": FORMS["a.epub"],
    "epub.zip": FORMS["a.epub"],
    "zip.epub": FORMS["a.zip"],
    "docx.txt": FORMS["a.docx"],
    "html.txt": FORMS["a.html"],
    "utf-16.txt": BOOK.encode("utf-16"),
    "book": BOOK.encode("gb18030"),
    "book.第一部": BOOK.encode(),
    "book.log": BOOK.encode(),
    "text.doc": BOOK.encode("gb18030"),
    "unpacked.txt.gz": BOOK.encode(),
}
"""A file's content decides, not its name."""


@pytest.mark.parametrize("name, content", [*FORMS.items(), *NAMED_OTHERWISE.items()], ids=[*FORMS, *NAMED_OTHERWISE])
def test_documents_have_the_same_lines_in_every_form(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    text = read(tmp_path / name).replace("\0", "\n").replace("\x07", "")
    assert [line for line in text.split("\n") if line] == [line for line in BOOK.split("\n") if line]


def test_zst_is_read_or_refused_with_the_package_that_it_needs(tmp_path):
    (tmp_path / "a.txt.zst").write_bytes(b"\x28\xb5\x2f\xfd\x04\x00\x09\x00\x00abcd\xc6\xda\x74\xe7"[:9])
    with pytest.raises(UserError, match="a.txt.zst|zstandard"):
        read(tmp_path / "a.txt.zst")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "gb18030"])
def test_source_reports_the_encoding_that_was_detected(tmp_path, encoding):
    (tmp_path / "a.txt").write_text(BOOK, encoding=encoding)
    (source,) = find_sources([str(tmp_path / "a.txt")])
    assert "".join(next(source.documents())) == BOOK
    assert source.encoding == encoding


def test_source_reads_in_the_wanted_encoding(tmp_path):
    (tmp_path / "a.txt").write_text("Ünäffable", encoding="latin-1")
    assert read(tmp_path / "a.txt", encoding="latin-1") == "Ünäffable"


def test_source_finds_the_encoding_behind_chunks_in_ascii(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "CHUNK", 100)
    (tmp_path / "a.txt").write_bytes(b"=" * 1000 + BOOK.encode("gb18030"))
    assert read(tmp_path / "a.txt") == "=" * 1000 + BOOK


def test_html_titles_are_the_documents(tmp_path):
    (tmp_path / "a.html").write_text("<h2>第一章</h2><p>甲说了些话。</p>", encoding="utf-8")
    (document,) = find_sources([str(tmp_path / "a.html")])[0].documents()
    assert ("".join(document), document.titles) == ("第一章\n甲说了些话。\n", {"第一章"})


@pytest.mark.parametrize("charset", ["gb2312", "utf-8", "big5", "klingon"])
def test_html_that_declares_its_encoding_rightly_or_not(tmp_path, charset):
    (tmp_path / "a.html").write_bytes(f"<meta charset={charset}><p>{BOOK}".encode("gb18030"))
    assert read(tmp_path / "a.html").startswith("第1回")


# -- what is doubtful is said ----------------------------------------------------------------------------------------


def test_bad_byte_is_named_with_the_ways_on(tmp_path):
    (tmp_path / "a.txt").write_bytes(BOOK.encode("gb18030") + b"\n\xff" + BOOK.encode("gb18030"))
    with pytest.raises(
        UserError, match=r"a.txt: byte [\d,]+ is not gb18030 \(line 169\).*--errors=replace.*--encoding="
    ) as error:
        read(tmp_path / "a.txt")
    assert len(str(error.value).splitlines()) == 1


def test_bad_byte_is_replaced_and_counted_when_asked(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xff\n" + BOOK.encode("gb18030"))
    assert read(tmp_path / "a.txt", errors="replace") == "\ufffd\n" + BOOK
    assert notes(tmp_path / "a.txt", errors="replace") == ["not gb18030, and replaced by U+FFFD: 1 byte"]


@pytest.mark.parametrize(
    "content, note",
    [
        (BOOK.encode() + "却".encode()[:2], "its last character was cut, and left out"),
        (BOOK.encode("gbk") + b"\x80", "read as €, as Windows does: 1 byte 0x80"),
        ("It’s late,” he said.".encode("cp1252"), "it was read as cp1252, a guess; --encoding=... names another"),
        (BOOK.replace("\n", "<br>\n").encode(), "taken for what they mean: 167 HTML tags, 0 entities"),
    ],
)
def test_source_notes_what_it_made_of_the_text(tmp_path, content, note):
    (tmp_path / "a.txt").write_bytes(content)
    assert notes(tmp_path / "a.txt") == [note]


@pytest.mark.parametrize(
    "content", ["吾輩は猫である。名前はまだ無い。".encode("euc_jp"), b"\0\1\2\3" * 100, b"some text\0and more of it"]
)
def test_text_in_another_language_or_none_is_refused(tmp_path, content):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(UserError, match="a.txt: .*--e"):
        read(tmp_path / "a.txt")


def test_source_notes_an_ending_that_is_not_known(tmp_path):
    (tmp_path / "a.tex").write_bytes(BOOK.encode())
    assert notes(tmp_path / "a.tex") == ["it was read as plain text, though its name ends in .tex"]


# -- chunks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [5, 3000, 10**6])
def test_a_byte_that_cannot_be_decoded_is_named_with_its_place(tmp_path, at, monkeypatch):
    monkeypatch.setattr(sources, "CHUNK", 1000)  # the place counts over all chunks
    data = (BOOK * 150).encode()
    while data[at] & 0xC0 == 0x80:
        at += 1
    (tmp_path / "a.txt").write_bytes(data[:at] + b"\xff" + data[at:])
    with pytest.raises(UserError, match=f"a.txt: byte {at:,} is not utf-8.*--encoding"):
        read(tmp_path / "a.txt")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_characters_may_be_cut_by_the_ends_of_chunks(tmp_path, size, encoding, monkeypatch):
    monkeypatch.setattr(sources, "CHUNK", size)
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


@pytest.mark.parametrize("pattern", ["书[精校]/*.txt", "书[精校]/第[12]章*", "*/第[12]章*", "书[精校]/*[完结].txt"])
def test_find_sources_takes_brackets_in_names_as_they_are(tmp_path, pattern):
    (tmp_path / "书[精校]").mkdir()
    for name in ("第1章[完结].txt", "第2章[完结].txt"):
        (tmp_path / "书[精校]" / name).write_text("甲", encoding="utf-8")
    assert read(tmp_path / pattern) == "甲\0甲"


@pytest.mark.parametrize("pattern", ["*", "*.txt"])
def test_find_sources_leaves_out_prepared_files_that_a_glob_matches(tmp_path, pattern):
    for name in FILES:
        (tmp_path / name).write_text("[]")
    with pytest.raises(UserError, match="no file to read"):
        find_sources([str(tmp_path / pattern)])
    (tmp_path / "book.txt").write_text("甲", encoding="utf-8")
    assert read(tmp_path / pattern) == "甲"


def test_find_sources_counts_prepared_files_that_are_named(tmp_path):
    for name in FILES:
        (tmp_path / name).write_text("[]")
    (tmp_path / "book.txt").write_text("甲", encoding="utf-8")
    skipped = Counter()
    names = [str(tmp_path / name) for name in ("book.txt", "meta.json", "vocab.txt")]
    assert [source.name for source in find_sources(names, skipped=skipped)] == names[:1]
    assert skipped == {"meta.json (made by prepare.py)": 1, "vocab.txt (made by prepare.py)": 1}
    with pytest.raises(UserError, match="no file to read"):
        find_sources(names[1:])


def test_find_sources_reads_a_vocabulary_that_stands_alone(tmp_path):
    (tmp_path / "vocab.txt").write_text("甲", encoding="utf-8")
    assert read(tmp_path / "vocab.txt") == "甲"


def test_find_sources_leaves_out_what_a_killed_prepare_wrote(folder):
    (folder / ".next").mkdir()
    (folder / ".next/chapters.txt").write_text("丙", encoding="utf-8")
    assert read(folder) == "甲\0乙"


def test_find_sources_reads_a_folder_named_next(folder):
    (folder / "next").mkdir()
    (folder / "next/c.txt").write_text("丙", encoding="utf-8")
    assert read(folder) == "甲\0乙\0丙"


@pytest.mark.parametrize("name", [".hidden.txt", "._a.txt", ".git/c.txt", "__MACOSX/c.txt", "desktop.ini", "vocab.txt"])
def test_find_sources_leaves_out_hidden_files(folder, name):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("丙", encoding="utf-8")
    assert read(folder) == "甲\0乙"


@pytest.mark.parametrize("form", ["folder", "a.zip", "a.tar.gz"])
def test_find_sources_takes_files_in_natural_order(tmp_path, form):
    files = {f"{name}.txt": name.encode() for name in ["第10章", "第2章", "尾声", "第1章", "楔子"]}
    if form == "folder":
        (tmp_path / form).mkdir()
        for name, content in files.items():
            (tmp_path / form / name).write_bytes(content)
    else:
        (tmp_path / form).write_bytes(zip_archive(files) if form == "a.zip" else tar_archive(files, "w:gz"))
    assert read(tmp_path / form) == "楔子\0第1章\0第2章\0第10章\0尾声"


@pytest.mark.parametrize("form", ["folder", "a.zip"])
def test_find_sources_counts_what_is_not_read(tmp_path, form):
    files = {
        "a.txt": "甲".encode(),
        "b.mobi": b"BOOKMOBI",
        "c.mobi": b"x",
        "d.docx": b"PK\x03\x04x",
        "e.jpg": b"\xff\xd8\xff",
        "f": b"\0\1\2" * 100,
        "g.epub": epub(PAGES, {"META-INF/rights.xml": "x"}),
        "README.md": b"read me",
        "h.py": b"import os",
    }
    (tmp_path / "folder").mkdir()
    for name, content in files.items():
        (tmp_path / "folder" / name).write_bytes(content)
    (tmp_path / "a.zip").write_bytes(zip_archive(files))
    skipped = Counter()
    assert read(tmp_path / form, skipped=skipped) == "甲"
    assert skipped == {
        ".mobi": 2,
        ".docx (damaged)": 1,
        ".jpg": 1,
        "no ending": 1,
        ".epub (encrypted)": 1,
        "README.md": 1,
        ".py": 1,
    }


def test_find_sources_reads_a_text_without_ending_in_a_folder(folder):
    (folder / "第三章").write_text("丙说了些话。", encoding="gb18030")
    assert read(folder) == "甲\0乙\0丙说了些话。"


def test_find_sources_follows_a_link_to_a_folder_once(folder, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other/c.txt").write_text("丙", encoding="utf-8")
    try:
        (folder / "linked").symlink_to(tmp_path / "other")
        (folder / "loop").symlink_to(folder)
        (folder / "dead").symlink_to(tmp_path / "nothing")
    except OSError:
        pytest.skip("this system makes no links")
    assert read(folder) == "甲\0乙\0丙"


def test_holds_files_sees_what_a_person_put_there(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/meta.json").write_text("{}")
    (tmp_path / "empty/.keep").write_text("")
    assert (holds_files(folder), holds_files(tmp_path / "empty"), holds_files(tmp_path / "none")) == (
        True,
        False,
        False,
    )


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("none*.txt", None, "matches no file"),
        ("none.txt", None, "does not exist"),
        ("empty", None, "there is no file to read in .*can be read"),
        ("book.PDF", b"%PDF-1.7", "a .pdf, which is not read: .*save it as .txt"),
        ("book.txt", b"%PDF-1.7", "a .pdf, which is not read: .*save it as .txt"),
        ("book.mobi", b"\0" * 60 + b"BOOKMOBI", "a .mobi, .*calibre"),
        ("book.azw3", b"", "a .azw3, .*calibre"),
        ("book.doc", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a .doc, .*word processor"),
        ("book.docx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a .doc, .*word processor"),
        ("book.txt", rb"{\rtf1\ansi}", "a .rtf, .*word processor"),
        ("book.rar", b"Rar!\x1a\x07\x01", "a .rar, .*unpack it"),
        ("book.7z", b"7z\xbc\xaf\x27\x1c", "a .7z, .*unpack it"),
        ("book.chm", b"ITSF", "a .chm, .*calibre"),
        ("book.umd", b"\x89\x9b\x9a\xde", "a .umd, .*calibre"),
        ("book.mht", b"MIME-Version: 1.0", "a .mhtml, .*browser"),
        ("book.xml", b"<?xml version='1.0'?><book>", "a .xml, .*save it as .html"),
        ("book", b"<?xml version='1.0'?><book>", "a .xml, .*save it as .html"),
        ("book.csv", "第一章,甲\n".encode(), "a .csv, .*first line, text or content"),
        ("cover.jpg", b"\xff\xd8\xff", "picture, which is not read"),
        ("a.xlsx", zip_archive({"xl/workbook.xml": ""}), "a .xlsx, which"),
    ],
)
def test_find_sources_names_what_it_cannot_use(tmp_path, name, content, words):
    (tmp_path / "empty").mkdir()
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=words) as error:
        find_sources([str(tmp_path / name)])
    assert len(str(error.value).splitlines()) == 1


def test_unpacked_epub_is_refused(tmp_path):
    (tmp_path / "书.epub/META-INF").mkdir(parents=True)
    (tmp_path / "书.epub/META-INF/container.xml").write_text("<container/>")
    with pytest.raises(UserError, match="is an unpacked EPUB; pack"):
        find_sources([str(tmp_path / "书.epub")])


def test_folder_without_texts_is_refused_with_what_it_holds(tmp_path):
    (tmp_path / "a.mobi").write_bytes(b"x")
    with pytest.raises(UserError, match="only 1 .mobi"):
        find_sources([str(tmp_path)])


# -- damage and attacks ----------------------------------------------------------------------------------------------

LONG = b"a" * 2**24
BOMBS = {
    "a.gz": lambda: gzip.compress(LONG),
    "b.xz": lambda: lzma.compress(LONG),
    "c.bz2": lambda: bz2.compress(LONG),
    "c.zip": lambda: zip_archive({"c.txt": LONG}),
    "d.epub": lambda: epub([LONG]),
    "e.tar.gz": lambda: tar_archive({"e.txt": LONG}, "w:gz"),
    "f.zip": lambda: zip_archive({f"{i}.txt": LONG[: 2**19] for i in range(9)}),
    "g.docx": lambda: docx("<w:p><w:r><w:t>" + "a" * 2**24 + "</w:t></w:r></w:p>"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_decompression_bomb_is_refused(tmp_path, name, monkeypatch):
    monkeypatch.setattr(containers, "MAX_UNCHECKED", 2**20)
    monkeypatch.setattr(sources, "CHUNK", 2**16)
    (tmp_path / name).write_bytes(BOMBS[name]())
    with pytest.raises(UserError, match="100 times"):
        read(tmp_path / name)


@pytest.mark.parametrize("archive", [zip_archive, tar_archive])
def test_archive_paths_that_climb_write_nothing(tmp_path, archive):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.zip").write_bytes(
        archive({"../evil.txt": "甲\n".encode(), f"{tmp_path}/evil.txt": "乙\n".encode()})
    )
    assert set(read(tmp_path / "in/a.zip")) == set("甲乙\n\0")
    assert not list(tmp_path.rglob("evil*"))


def test_zip_of_a_calibre_folder_is_no_epub(tmp_path):
    (tmp_path / "a.zip").write_bytes(zip_archive({"书/metadata.opf": "<package/>", "书/书.txt": BOOK}))
    assert read(tmp_path / "a.zip") == BOOK


def test_zip_names_in_gbk_are_read(tmp_path):
    data = zip_archive({"abcd10.txt": "乙", "abcd2.txt": "甲"}).replace(b"abcd", "第章".encode("gbk"))
    (tmp_path / "a.zip").write_bytes(data)
    assert [source.name[-8:] for source in find_sources([str(tmp_path / "a.zip")])] == [":第章2.txt", "第章10.txt"]


def test_zip_names_that_python_has_from_their_unicode_field_are_kept():
    """From Python 3.12 on they have no mark of UTF-8, and are not in cp437."""
    in_gbk = "楔子.txt".encode("gbk").decode("cp437")
    infos = [zipfile.ZipInfo(name) for name in ("第一章/甲.txt", "b.txt", in_gbk)]
    assert containers.member_names(infos) == ["第一章/甲.txt", "b.txt", "楔子.txt"]


def test_archive_nested_too_deeply_is_counted(tmp_path):
    inner = zip_archive({"c.zip": zip_archive({"d.txt": "丁"}), "a.txt": "甲"})
    (tmp_path / "a.zip").write_bytes(zip_archive({"b.zip": zip_archive({"i.zip": inner}), "a.txt": "乙"}))
    skipped = Counter()
    assert read(tmp_path / "a.zip", skipped=skipped) == "乙"
    assert skipped == {".zip (nested too deeply)": 1}


def test_encrypted_zip_is_refused(tmp_path):
    data = bytearray(zip_archive({"a.txt": "甲"}))
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(UserError, match="encrypted: unpack it with its password"):
        read(tmp_path / "a.zip")


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("a.epub", b"PK", "a.epub"),
        ("a.epub", b"PK\x03\x04", "a.epub: "),
        ("a.zip", b"PK\x03\x04", "a.zip: "),
        ("a.docx", b"PK\x03\x04", "a.docx: "),
        ("a.gz", b"\x1f\x8b\x08", "a.gz: "),
        ("a.gz", gzip.compress(gzip.compress(gzip.compress(gzip.compress(b"a")))), "compressed more than 3 times"),
        ("a.xz", b"nonsense", "a.xz"),
        ("a.tar.gz", gzip.compress(tar_archive({"a.txt": b"a" * 5000}))[:-60], "a.tar.gz"),
        ("a.txt.gz", gzip.compress(BOOK.encode())[:-60], "a.txt.gz: "),
    ],
)
def test_damage_is_named_with_its_place(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=words) as error:
        read(tmp_path / name)
    assert len(str(error.value).splitlines()) == 1


TEMPLATES = {
    ".csv": [b'title,text\na,"b\nc"\n', "标题;正文\n一;二\n".encode("gb18030")],
    ".txt": [b"", BOOK.encode()[:200], BOOK.encode("gb18030")[:200], "<br>甲&nbsp;".encode() * 9],
    ".json": [b"[]", json.dumps(CHAPTERS[:1]).encode()[:300], b'{"a": [{"title": "b", "content": "c"}]}'],
    ".jsonl": [b'{"text": "a"}'],
    ".epub": [epub(PAGES[:1], contents='<li><a href="text/0.xhtml#a">b</a></li>')],
    ".html": [PAGES[0].encode()[:600], b"<meta charset=gb2312><h1>a<p>b<ruby>c<rt>d<pre>e<!-- f"],
    ".md": ["---\na: b\n---\n# 甲\n**乙** [丙](x)\n===\n".encode()],
    ".docx": [
        docx("<w:p><w:r><w:t>a</w:t></w:r></w:p>", "<w:style w:styleId='1'><w:name w:val='heading 1'/></w:style>")
    ],
    ".odt": [odt("<text:h>a</text:h><text:p>b<text:s text:c='2'/></text:p>")],
    ".fb2": [b"<?xml version='1.0' encoding='gbk'?><FictionBook><body><title><p>a</p></title></body></FictionBook>"],
    ".gz": [gzip.compress(b"abc" * 50, mtime=0)],
    ".bz2": [bz2.compress(b"abc" * 50)],
    ".xz": [lzma.compress(b"abc" * 50)],
    ".zip": [zip_archive({"a.txt": "abc", "b.json": "[]"}), zip_archive({"b.zip": zip_archive({"a.txt": "abc"})})],
    ".tar": [tar_archive({"a.txt": b"abc", "b.gz": gzip.compress(b"abc", mtime=0)})],
    ".tgz": [gzip.compress(tar_archive({"a.txt": b"abc"}), mtime=0)],
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
@settings(max_examples=150, deadline=None, derandomize=True)
def test_any_bytes_are_read_or_refused(suffix, tmp_path_factory, noise, where, insert, data):
    """Noise, and real files with noise in them. tests/fuzz_readers.py does it 100,000 times."""
    template = data.draw(st.sampled_from(TEMPLATES[suffix]))
    path = tmp_path_factory.getbasetemp() / f"fuzz{suffix}"
    path.write_bytes(damaged(template, noise, where, insert))
    read_or_refuse(path)
