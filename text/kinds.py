"""What kind of file a file is: by its first bytes, and by its name only where they do not say it."""

import re
from contextlib import suppress

from text.containers import DAMAGE, File, damage, open_zip
from text.encodings import NotText, detect_encoding
from text.json_texts import TEXT_FIELDS, table_names

MAGIC = [  # how files begin: (offset, bytes, kind)
    (0, b"PK\x03\x04", ".zip"),
    (0, b"PK\x05\x06", ".zip"),
    (0, b"\x1f\x8b", ".gz"),
    (4, b"1AY&SY", ".bz2"),
    (4, b"\x17rE8P\x90", ".bz2"),
    (0, b"\xfd7zXZ\0", ".xz"),
    (0, b"\x28\xb5\x2f\xfd", ".zst"),
    (257, b"ustar", ".tar"),
    (0, b"%PDF", ".pdf"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", ".doc"),
    (0, b"{\\rtf", ".rtf"),
    (0, b"Rar!\x1a\x07", ".rar"),
    (0, b"7z\xbc\xaf\x27\x1c", ".7z"),
    (60, b"BOOKMOBI", ".mobi"),
    (0, b"BOOKMOBI", ".mobi"),
    (60, b"TEXtREAd", ".pdb"),
    (0, b"TPZ", ".azw1"),
    (0, b"\xeaDRMION", ".kfx"),
    (0, b"CONT\x02\0", ".kfx"),
    (0, b"ITSF", ".chm"),
    (0, b"ITOLITLS", ".lit"),
    (0, b"\x89\x9b\x9a\xde", ".umd"),
    (0, b"SNBP", ".snb"),
    (0, b"AT&TFORM", ".djvu"),
    (0, b"L\0R\0F\0", ".lrf"),
    (0, b"bplist00", ".webarchive"),
    (0, b"\x1f\x9d", ".Z"),
    (0, b"\x04\x22\x4d\x18", ".lz4"),
    (0, b"LZIP", ".lz"),
    (0, b"MSCF", ".cab"),
    (0, b"\x00\x05\x16\x07", "AppleDouble"),
    (0, b"\xff\xd8\xff", "picture"),
    (0, b"\x89PNG", "picture"),
    (0, b"GIF8", "picture"),
    (8, b"WEBP", "picture"),
    (0, b"SQLite format 3\0", "database"),
    (0, b"PAR1", "database"),
    (0, b"\x7fELF", "program"),
    (0, b"MZ\x90\0", "program"),
    (0, b"ID3", "sound"),
    (8, b"WAVE", "sound"),
    (8, b"AVI ", "film"),
    (4, b"ftyp", "film"),
    (0, b"\x1a\x45\xdf\xa3", "film"),
    (0, b"wOFF", "font"),
    (0, b"OTTO\0", "font"),
    (0, b"\0\1\0\0\0", "font"),
    (0, b"\x93NUMPY", "array"),
]
TEXT_ENDINGS = {
    **dict.fromkeys((".txt", ".text"), ".txt"),
    **dict.fromkeys((".md", ".markdown", ".mkd"), ".md"),
    **dict.fromkeys((".html", ".htm", ".xhtml", ".xht", ".shtml"), ".html"),
    **dict.fromkeys((".jsonl", ".ndjson"), ".jsonl"),
    **{".json": ".json", ".fb2": ".fb2"},
}
PACKED = (".zip", ".tar", ".gz", ".bz2", ".xz", ".zst")
ADVICE = [  # what to do with a kind that is not read
    (
        ".pdf .djvu .ceb .caj",
        "the order of its text is not kept in it; save it as .txt first, with pdftotext or calibre, say",
    ),
    (
        ".mobi .azw .azw1 .azw3 .azw4 .kfx .prc .pdb .lit .lrf .chm .umd .snb .iba",
        "convert it to .epub or save it as .txt, with calibre, say",
    ),
    (
        ".doc .rtf .wps .pages .dot .ppt .pptx .xls .xlsx .ods .odp",
        "open it in a word processor and save it as .docx or .txt",
    ),
    (".rar .7z .Z .lz4 .lz .cab .iso .arj", "unpack it and give what is in it"),
    (".webarchive .mht .mhtml", "open it in a browser and save it as .html"),
    (".xml", "save it as .html or .txt"),
    (".csv .tsv", "name the column with the text in its first line, text or content, or save it as .txt"),
]


def advice(kind: str) -> str:
    return next((text for endings, text in ADVICE if kind in endings.split()), "save it as .txt")


def kind_of(file: File) -> str:
    """ ".txt", ".epub" ...: a key of ADVICE or MAGIC, a value of TEXT_ENDINGS, or "" for what has no such ending."""
    head, ending = file.head(), file.ending
    for offset, magic, kind in MAGIC:
        if head.startswith(magic, offset):
            return kind_of_zip(file) if kind == ".zip" else kind
    if ending == ".lzma" and head[:1] == b"]":
        return ".xz"
    if re.match(rb"(?s)\s*(mime-version:|from: <saved by)", head[:200].lower()):
        return ".mhtml"
    beginning = head[:2000].replace(b"\0", b"").decode("latin-1").lower().lstrip("ï»¿þÿ")  # of UTF-16, too
    if "<fictionbook" in beginning:
        return ".fb2"
    if re.search(r"^(\s|<\?xml[^>]*>|<!--.*?-->)*(<!doctype\s+html|<html[\s>])", beginning, re.DOTALL):
        return ".html"
    if ending in (".doc", ".wps", *PACKED) and not head.isascii() and is_text(file):
        return ".txt"  # it is not what its name says, but some programs name texts so
    if ending in (".epub", ".docx", ".odt", *PACKED) or advice(ending) != advice(""):
        is_table = ending in (".csv", ".tsv") and has_text_column(head)
        return "table" if is_table else ending  # else damaged, or an older form
    if beginning.startswith("<?xml") and ending not in TEXT_ENDINGS:
        return ".xml"
    return TEXT_ENDINGS.get(ending, "")


def has_text_column(head: bytes) -> bool:
    """Does the first line of a table name a column with the text?"""
    try:
        first = head.decode(detect_encoding(head), "replace").partition("\n")[0]
    except NotText:
        return False
    return not set(TEXT_FIELDS).isdisjoint(table_names(first))


def kind_of_zip(file: File) -> str:
    """Books and documents are .zip files too. Raises Unreadable for a damaged one."""
    try:
        names = set(open_zip(file).namelist())
    except DAMAGE as error:
        raise damage(file.name, error) from None
    mimetype = b""
    with suppress(*DAMAGE), open_zip(file).open("mimetype") as member:
        mimetype = member.read(100)
    if b"opendocument" in mimetype:
        return ".odt" if b"opendocument.text" in mimetype else ".ods"
    has_pages = any(name.lower().endswith((".xhtml", ".html", ".htm")) for name in names)
    is_book = file.ending == ".epub" or any(name.lower().endswith(".opf") for name in names)  # Calibre has an .opf, too
    if any(name.lower() == "meta-inf/container.xml" for name in names) or (is_book and has_pages):
        return ".epub"
    for name, kind in (("word/document.xml", ".docx"), ("xl/workbook.xml", ".xlsx"), ("ppt/presentation.xml", ".pptx")):
        if name in names:
            return kind
    if "Index/Document.iwa" in names or "index.apxl" in names:
        return ".pages"
    if file.ending == ".odt" and "content.xml" in names:
        return ".odt"
    return "program" if "META-INF/MANIFEST.MF" in names else ".zip"


def is_text(file: File) -> bool:
    """Are the first bytes of a file without a known ending a text?"""
    try:
        return bool(detect_encoding(file.head()))
    except (NotText, *DAMAGE):
        return False
