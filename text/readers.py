"""
Files -> text: .txt .json .jsonl .epub, each also as .gz or .xz, or in a .zip; in whatever encoding.

    for source in find_sources(["book.txt", "more/"]):
        for document in source.documents():      # one a .txt file, one a JSON string, one an .epub's chapter
            for block in document: ...           # str, so that a large file is never in memory whole

Nothing is unpacked to the disk, so a path inside an archive leads nowhere; what unpacks to a hundred times its size is refused.
"""

import codecs
import glob
import gzip
import io
import json
import lzma
import posixpath
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

from configurator import UserError

KINDS = (".txt", ".json", ".jsonl", ".epub")
OTHERS = (".pdf", ".doc", ".docx", ".rtf", ".mobi", ".azw", ".azw3", ".rar", ".7z")  # books, too, but not read here
PACKED = {".gz": gzip.open, ".xz": lzma.open}
BLOCK = 2**22  # bytes decoded at a time
UNPACKED_FREELY, HIGHEST_RATIO = 2**26, 100  # a novel packs to about a third
BROKEN = (OSError, EOFError, lzma.LZMAError, zlib.error, zipfile.BadZipFile, RuntimeError, LookupError,
          ValueError, OverflowError, AttributeError, TypeError, ElementTree.ParseError)  # fmt: skip
"""What the standard library throws at a damaged, encrypted or made-up archive."""


@dataclass
class Source:
    """One text file, perhaps inside an archive. `encoding` is known once documents() has been read."""

    name: str
    kind: str  # one of KINDS
    open: Callable[[], io.BufferedIOBase]
    packed_size: int
    wanted: str = "auto"
    encoding: str = field(default="", init=False)

    def documents(self) -> Iterator[Iterator[str]]:
        """The texts in it, each in blocks. Raises UserError, saying where, for what cannot be read."""
        reader = {".txt": self._txt, ".json": self._json, ".jsonl": self._jsonl, ".epub": self._epub}[self.kind]
        try:
            for document in reader():
                yield self._guarded(document)
        except UserError:
            raise
        except BROKEN as error:
            raise self._damaged(error) from None

    def _guarded(self, document: Iterator[str]) -> Iterator[str]:
        """The blocks of a document, whose reading may still find damage."""
        try:
            yield from document
        except UserError:
            raise
        except BROKEN as error:
            raise self._damaged(error) from None

    def _damaged(self, error: Exception) -> UserError:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        if isinstance(error, (LookupError, AttributeError, TypeError)):
            reason = f"it is not put together as it should be ({reason})"
        return UserError(f"cannot read {self.name}: {reason.splitlines()[0][:200]}")

    # -- bytes ---------------------------------------------------------------------------------------------------------

    def _pieces(self) -> Iterator[bytes]:
        """The file in pieces of BLOCK bytes. Raises UserError for a decompression bomb."""
        total = 0
        with self.open() as file:
            while piece := file.read(BLOCK):
                total += len(piece)
                if total > max(UNPACKED_FREELY, HIGHEST_RATIO * self.packed_size):
                    raise UserError(f"{self.name} unpacks to more than {HIGHEST_RATIO} times its size: not a text, so it was left alone")
                yield piece

    def _blocks(self) -> Iterator[str]:
        """The file as text, decoded piece by piece."""
        pieces = self._pieces()
        first = next(pieces, b"")
        self.encoding = detect(first, self.wanted, whole=len(first) < BLOCK)
        decoder, offset = codecs.getincrementaldecoder(self.encoding)(), 0
        for piece in self._and_end(first, pieces):
            held = len(decoder.getstate()[0])  # the start of a character whose end comes with this piece
            try:
                yield decoder.decode(piece or b"", final=piece is None)
            except UnicodeDecodeError as error:
                other = "name that: --encoding=big5, say" if self.wanted == "auto" else "without --encoding it would be looked for"
                raise UserError(
                    f"{self.name}: byte {offset - held + error.start:,} is not {error.encoding}."
                    f" If it is in another encoding, {other}; if it is damaged, repair it there."
                ) from None
            offset += len(piece or b"")

    @staticmethod
    def _and_end(first, rest):
        yield first
        yield from rest
        yield None

    # -- formats ---------------------------------------------------------------------------------------------------------

    def _txt(self) -> Iterator[Iterator[str]]:
        yield self._blocks()

    def _json(self) -> Iterator[Iterator[str]]:
        """A list of strings, or of {"text": ...}. Raw control characters and line breaks inside strings are let pass, as is a
        comma after the last: they are what hand-made files have."""
        text = "".join(self._blocks())
        try:
            texts = parse_json(re.sub(r",\s*\]\s*$", "]", text))
        except ValueError as error:
            raise UserError(f"{self.name}: {error}") from None
        if not isinstance(texts, list):
            raise UserError(f'{self.name}: a list of strings is expected, ["...", "..."]')
        for number, item in enumerate(texts, 1):
            yield iter([self._text(item, f"item {number}")])

    def _jsonl(self) -> Iterator[Iterator[str]]:
        for number, line in enumerate(lines_of(self._blocks()), 1):
            if line.strip():
                try:
                    item = parse_json(line)
                except ValueError as error:
                    raise UserError(f"{self.name}, line {number}: {error}") from None
                yield iter([self._text(item, f"line {number}")])

    def _text(self, item, where: str) -> str:
        item = item.get("text") if isinstance(item, dict) else item
        if not isinstance(item, str):
            raise UserError(f'{self.name}, {where}: a string or {{"text": "..."}} is expected')
        return re.sub("[\ud800-\udfff]", "\ufffd", item)  # JSON can spell halves of characters

    def _epub(self) -> Iterator[Iterator[str]]:
        """The chapters in the order of the spine (EPUB 3.3, W3C). A page of one line, a title, goes to the next."""
        self.encoding = "utf-8"
        data = b"".join(self._pieces())
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            self.packed_size = len(data)
            package = xml(self._member(archive, "META-INF/container.xml")).find(".//{*}rootfile").get("full-path")
            root = xml(self._member(archive, package))
            items = {item.get("id"): item for item in root.iterfind(".//{*}manifest/{*}item")}
            waiting = ""
            for reference in root.iterfind(".//{*}spine/{*}itemref"):
                item = items[reference.get("idref")]
                if "nav" in (item.get("properties") or "").split() or "html" not in (item.get("media-type") or "html").lower():
                    continue
                href = unquote(re.split("[#?]", item.get("href"))[0])
                path = posixpath.normpath(posixpath.join(posixpath.dirname(package), href)).lstrip("/")
                page = self._member(archive, path)
                text = waiting + html_to_text(page.decode(detect(page, self.wanted, whole=True)))
                waiting = ""
                if "\n" in text.strip("\n"):
                    yield iter([text])
                elif text.strip():
                    waiting = text.strip("\n") + "\n"
            if waiting:
                yield iter([waiting])

    def _member(self, archive: zipfile.ZipFile, path: str) -> bytes:
        """A file of an archive, in memory."""
        same = {name.lower(): name for name in archive.namelist()}  # some were packed on systems that do not tell case apart
        with archive.open(same.get(path.lower(), path)) as file:
            limit = max(UNPACKED_FREELY, HIGHEST_RATIO * self.packed_size)
            data = file.read(limit + 1)
        if len(data) > limit:
            raise UserError(f"{self.name}: {path} unpacks to more than {HIGHEST_RATIO} times the archive's size, so it was left alone")
        return data


# -- which files -----------------------------------------------------------------------------------------------------------


def find_sources(names: list[str], encoding: str = "auto") -> list[Source]:
    """The text files that files, folders and globs stand for. Raises UserError for one that stands for nothing."""
    if encoding != "auto":
        try:
            codecs.getincrementaldecoder(encoding)
            b"".decode(encoding)
        except (LookupError, ValueError):
            raise UserError(f"--encoding={encoding}: there is no such encoding; try utf-8, gb18030 or big5") from None
    sources = []
    for name in names:
        paths = [Path(name)]
        if not paths[0].exists():
            paths = [Path(match) for match in sorted(glob.glob(name, recursive=True))]
            if not paths:
                raise UserError(f"{name} " + ("matches no file" if glob.has_magic(name) else "does not exist"))
        for path in paths:
            inside = sorted(p for p in path.rglob("*") if p.is_file() and is_text(p)) if path.is_dir() else [path]
            found = [source for file in inside for source in open_file(file, encoding)]
            if not found:
                raise UserError(f"there is no {', '.join(KINDS)} file in {path}")
            sources += found
    return sources


def kind_of(name: str) -> str:
    """The kind of a file by its name, packing apart; "" for what is not a text."""
    stem, dot, last = name.lower().rpartition(".")
    if "." + last in PACKED:
        inner = kind_of(stem)
        return inner if inner else ".txt"
    return dot + last if dot + last in KINDS else ""


def is_text(path: Path) -> bool:
    """Should a folder's file be read? Not what prepare.py itself wrote there."""
    packed = path.suffix.lower() == ".zip"
    return (packed or bool(kind_of(path.name))) and path.name not in ("vocab.txt", "meta.json") and "next" not in path.parts[-2:-1]


def open_file(path: Path, encoding: str) -> list[Source]:
    """A file's sources: one, or those in a .zip."""
    if not path.is_file():
        raise UserError(f"{path} is not a file")
    if path.suffix.lower() in OTHERS:
        raise UserError(f"{path}: save it as .txt or .epub first; what can be read is {' '.join(KINDS)}, also as .gz .xz or in a .zip")
    try:
        size = path.stat().st_size
        if path.suffix.lower() == ".zip":
            with zipfile.ZipFile(path) as archive:
                infos = [i for i in archive.infolist() if kind_of(i.filename) and not i.filename.startswith("__MACOSX/")]
            return [
                Source(f"{path.as_posix()}:{printable(i.filename)}", kind_of(i.filename), zip_opener(path, i), i.compress_size, encoding)
                for i in sorted(infos, key=lambda i: i.filename)
            ]
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except BROKEN as error:
        raise UserError(f"cannot read {path}: {error}") from None
    opener = PACKED.get(path.suffix.lower(), open)
    return [Source(path.as_posix(), kind_of(path.name) or ".txt", lambda: opener(path, "rb"), size, encoding)]


def zip_opener(path: Path, info: zipfile.ZipInfo) -> Callable:
    """Opens a file inside a zip archive, unpacking it if it is packed once more."""

    def opened():
        file = zipfile.ZipFile(path).open(info)
        unpack = PACKED.get(Path(info.filename).suffix.lower())
        return unpack(file, "rb") if unpack else file

    return opened


def printable(name: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in name)


# -- encodings ---------------------------------------------------------------------------------------------------------------

COMMON = frozenset(
    "的一是不了人我在有他这这個个们們中来來上大为為和国國地到以说說时時要就出会會可也你对對生能而子那得于於着著下自之年过過发發后後作里裡用道"
    "行所然家种種事成方多经經么麼去法学學如都同现現当當没沒动動面起看定天分还還进進好小部其些主样樣理心她本前开開但因只从從想实實"
    "曰此将將见見何无無却卻与與又令马馬兵军軍今吾乃公王老头頭把被叫问問听聽笑话話走身门門手气氣白日山水三二两兩四五十百千万萬"
    "，。、：；！？“”‘’…—「」『』（）《》\n \u3000"
)
"""The commonest characters of Chinese prose, simplified and traditional, with its punctuation."""


def detect(data: bytes, wanted: str = "auto", whole: bool = False) -> str:
    """The encoding of a file by its first bytes; whole: they are all of it.

    A byte order mark decides, then UTF-8, which nothing else happens to be. GB18030 (with GBK and GB 2312), Big5 and UTF-16
    without a mark can all make something of each other's bytes, so the one is taken in which the text has the most common characters.
    """
    if wanted != "auto":
        return wanted
    for bom, name in ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16")):
        if data.startswith(bom):
            return name
    sample = data[: 2**18]
    whole = whole and len(sample) == len(data)
    if commonness(sample, "utf-8", whole) >= 0 and b"\0" not in sample:
        return "utf-8"
    best = max(("gb18030", "big5hkscs", "utf-16-le", "utf-16-be"), key=lambda name: commonness(sample, name, whole))
    # in Chinese prose 30 to 50 in 100 characters are common; what comes of a wrong guess has 5 or fewer
    return best if commonness(sample, best, whole) > 0.1 else "utf-8"


def commonness(sample: bytes, encoding: str, whole: bool) -> float:
    """The share of common characters in a sample read in an encoding; -1 where it cannot be."""
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(sample, final=whole)
    except UnicodeDecodeError:
        return -1.0
    return sum(c in COMMON for c in text) / max(1, len(text))


# -- JSON, lines, XML, HTML ----------------------------------------------------------------------------------------------------


def parse_json(text: str):
    """json.loads that lets control characters inside strings pass, and says ValueError whatever is wrong."""
    try:
        return json.loads(text, strict=False)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def lines_of(blocks: Iterator[str]) -> Iterator[str]:
    """The lines of a text that comes in blocks (split at "\\n" alone)."""
    rest = ""
    for block in blocks:
        *lines, rest = (rest + block).split("\n")
        yield from lines
    yield rest


def xml(data: bytes) -> ElementTree.Element:
    """An XML document, without declared entities, which could blow up."""
    if b"<!ENTITY" in data.replace(b"\0", b""):  # in UTF-16 too
        raise ValueError("its XML declares entities")
    return ElementTree.fromstring(data)


class _Text(HTMLParser):
    """Collects a page's text: a line for each block element; no scripts, styles, or readings over characters (ruby)."""

    BLOCKS = set("p div h1 h2 h3 h4 h5 h6 li tr br hr blockquote section article header footer pre dt dd table ul ol body".split())
    SILENT = set("head script style rt rp".split())

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.parts, self.silent = [], 0

    def handle_starttag(self, tag, attributes):
        self.silent += tag in self.SILENT
        if tag in self.BLOCKS:
            self.parts.append("\n")

    def handle_startendtag(self, tag, attributes):
        if tag in self.BLOCKS:
            self.parts.append("\n")

    def handle_endtag(self, tag):
        self.silent = max(0, self.silent - (tag in self.SILENT))
        if tag in self.BLOCKS:
            self.parts.append("\n")

    def handle_data(self, data):
        if not self.silent:  # line breaks in the source are white space: none between Chinese characters
            data = re.sub(r"(?<![!-~])[ \t\r]*\n[ \t\r\n]*|[ \t\r]*\n[ \t\r\n]*(?![!-~])", "", data)
            self.parts.append(re.sub(r"[ \t\r\n]+", " ", data))


def html_to_text(page: str) -> str:
    parser = _Text()
    parser.feed(page)
    parser.close()
    return re.sub("\n{2,}", "\n", "".join(parser.parts)).strip("\n")
