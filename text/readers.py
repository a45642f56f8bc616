"""
Files -> text: .txt .json .jsonl .epub, each also as .gz or .xz, or in a .zip; in the usual encodings.

    for source in find_sources(["book.txt", "more/"]):
        for document in source.documents():      # a .txt file, a JSON string, or a chapter of an .epub
            for block in document: ...           # str, so that a large file is never in memory whole

Nothing is unpacked to the disk, so paths inside an archive do no harm. A file that unpacks to a hundred times its size
is refused.
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
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

from configurator import UserError
from dataset import FILES, STAGING
from text.encodings import check_encoding, detect_encoding
from text.markup import html_to_text, parse_xml

KINDS = (".txt", ".json", ".jsonl", ".epub")
UNREADABLE = (".pdf", ".doc", ".docx", ".rtf", ".mobi", ".azw", ".azw3", ".rar", ".7z")  # other formats of books
COMPRESSED = {".gz": gzip.open, ".xz": lzma.open}
CHUNK = 2**22  # bytes decoded at a time
MAX_RATIO = 100  # unpacked size to packed size; a novel has about 3
MAX_UNCHECKED = 2**26  # bytes that may be unpacked at any ratio

DAMAGE = (  # what the standard library raises for a damaged, encrypted or forged archive
    OSError,
    EOFError,
    RuntimeError,
    LookupError,
    ValueError,
    OverflowError,
    AttributeError,
    TypeError,
    lzma.LZMAError,
    zlib.error,
    zipfile.BadZipFile,
    ElementTree.ParseError,
)


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
        """The texts in it, each in blocks. Raises UserError, naming the place, for what cannot be read."""
        reader = {".txt": self._txt, ".json": self._json, ".jsonl": self._jsonl, ".epub": self._epub}[self.kind]
        with self._damage_as_user_error():
            for document in reader():
                yield self._checked(document)

    def _checked(self, document: Iterator[str]) -> Iterator[str]:
        """The blocks of a document. Damage may be found only when they are read."""
        with self._damage_as_user_error():
            yield from document

    @contextmanager
    def _damage_as_user_error(self):
        try:
            yield
        except UserError:
            raise
        except DAMAGE as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            if isinstance(error, (LookupError, AttributeError, TypeError)):
                reason = f"its structure is wrong ({reason})"
            raise UserError(f"cannot read {self.name}: {reason.splitlines()[0][:200]}") from None

    # -- bytes -> text -------------------------------------------------------------------------------------------------

    @property
    def _max_size(self) -> int:
        return max(MAX_UNCHECKED, MAX_RATIO * self.packed_size)

    def _chunks(self) -> Iterator[bytes]:
        """The file in chunks of CHUNK bytes. Raises UserError for a decompression bomb."""
        total = 0
        with self.open() as file:
            while chunk := file.read(CHUNK):
                total += len(chunk)
                if total > self._max_size:
                    raise UserError(
                        f"{self.name} unpacks to more than {MAX_RATIO} times its size: not a text, so it was not read"
                    )
                yield chunk

    def _blocks(self) -> Iterator[str]:
        """The file as text, decoded chunk by chunk."""
        chunks = self._chunks()
        first = next(chunks, b"")
        self.encoding = detect_encoding(first, self.wanted, whole=len(first) < CHUNK)
        decoder, offset = codecs.getincrementaldecoder(self.encoding)(), 0
        for chunk in chain((first,), chunks, (b"",)):  # the empty chunk is the end
            held = len(decoder.getstate()[0])  # the first bytes of a character that ends in this chunk
            try:
                block = decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                advice = (
                    "name it: --encoding=big5, say" if self.wanted == "auto" else "leave --encoding out to detect it"
                )
                raise UserError(
                    f"{self.name}: byte {offset - held + error.start:,} is not {error.encoding}."
                    f" If the file is in another encoding, {advice}; if it is damaged, repair it there."
                ) from None
            yield block
            offset += len(chunk)

    # -- formats -------------------------------------------------------------------------------------------------------

    def _txt(self) -> Iterator[Iterator[str]]:
        yield self._blocks()

    def _json(self) -> Iterator[Iterator[str]]:
        """A list of strings, or of {"text": ...}.

        Files made by hand may have raw line breaks and control characters inside strings, and a comma after the last.
        """
        text = "".join(self._blocks())
        try:
            items = parse_json(re.sub(r",\s*\]\s*$", "]", text))
        except ValueError as error:
            raise UserError(f"{self.name}: {error}") from None
        if not isinstance(items, list):
            raise UserError(f'{self.name}: a list of strings is expected, ["...", "..."]')
        for number, item in enumerate(items, 1):
            yield iter([self._text(item, f"item {number}")])

    def _jsonl(self) -> Iterator[Iterator[str]]:
        for number, line in enumerate(split_lines(self._blocks()), 1):
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
        """The chapters in the order of the spine (EPUB 3.3, W3C). A page of one line, a title, begins the next."""
        self.encoding = "utf-8"
        data = b"".join(self._chunks())
        self.packed_size = len(data)
        title = ""
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for path in self._spine(archive):
                page = self._member(archive, path)
                text = title + html_to_text(page.decode(detect_encoding(page, self.wanted, whole=True)))
                title = ""
                if "\n" in text.strip("\n"):
                    yield iter([text])
                elif text.strip():
                    title = text.strip("\n") + "\n"
            if title:
                yield iter([title])

    def _spine(self, archive: zipfile.ZipFile) -> Iterator[str]:
        """The paths of an EPUB's pages in reading order, without the navigation page."""
        package = parse_xml(self._member(archive, "META-INF/container.xml")).find(".//{*}rootfile").get("full-path")
        root = parse_xml(self._member(archive, package))
        items = {item.get("id"): item for item in root.iterfind(".//{*}manifest/{*}item")}
        for reference in root.iterfind(".//{*}spine/{*}itemref"):
            item = items[reference.get("idref")]
            is_navigation = "nav" in (item.get("properties") or "").split()
            if not is_navigation and "html" in (item.get("media-type") or "html").lower():
                href = unquote(re.split("[#?]", item.get("href"))[0])
                yield posixpath.normpath(posixpath.join(posixpath.dirname(package), href)).lstrip("/")

    def _member(self, archive: zipfile.ZipFile, path: str) -> bytes:
        """A file of an archive. Upper and lower case are the same, as on the systems where some were made."""
        names = {name.lower(): name for name in archive.namelist()}
        with archive.open(names.get(path.lower(), path)) as file:
            data = file.read(self._max_size + 1)
        if len(data) > self._max_size:
            raise UserError(
                f"{self.name}: {path} unpacks to more than {MAX_RATIO} times the archive's size, so it was not read"
            )
        return data


def parse_json(text: str):
    """json.loads that allows control characters inside strings. Raises ValueError for every mistake."""
    try:
        return json.loads(text, strict=False)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def split_lines(blocks: Iterator[str]) -> Iterator[str]:
    """The lines of a text that comes in blocks (split at "\\n" alone)."""
    rest = ""
    for block in blocks:
        *lines, rest = (rest + block).split("\n")
        yield from lines
    yield rest


# -- which files -------------------------------------------------------------------------------------------------------


def find_sources(names: list[str], encoding: str = "auto") -> list[Source]:
    """The text files that files, folders and globs stand for. Raises UserError for a name that stands for none."""
    if encoding != "auto":
        check_encoding(encoding)
    sources = []
    for name in names:
        paths = [Path(name)]
        if not paths[0].exists():
            paths = [Path(match) for match in sorted(glob.glob(name, recursive=True))]
            if not paths:
                raise UserError(f"{name} " + ("matches no file" if glob.has_magic(name) else "does not exist"))
        for path in paths:
            files = texts_in(path, "**/*") if path.is_dir() else [path]
            found = [source for file in files for source in open_file(file, encoding)]
            if not found:
                raise UserError(f"there is no {', '.join(KINDS)} file in {path}")
            sources += found
    return sources


def texts_in(folder: Path, pattern: str = "*") -> list[Path]:
    """The text files in a folder, without those that prepare.py itself writes there."""
    files = (path for path in Path(folder).glob(pattern) if path.is_file() and path.name not in FILES)
    return sorted(p for p in files if p.parent.name != STAGING and (p.suffix.lower() == ".zip" or kind_of(p.name)))


def kind_of(name: str) -> str:
    """The kind of a file by its name, compression apart; "" for what is not a text."""
    stem, dot, last = name.lower().rpartition(".")
    if "." + last in COMPRESSED:
        return kind_of(stem) or ".txt"
    return dot + last if dot + last in KINDS else ""


def open_file(path: Path, encoding: str) -> list[Source]:
    """A file's sources: one, or those in a .zip. Raises UserError when it cannot be read."""
    if not path.is_file():
        raise UserError(f"{path} is not a file")
    suffix = path.suffix.lower()
    if suffix in UNREADABLE:
        readable = f"{' '.join(KINDS)}, also as .gz .xz or in a .zip"
        raise UserError(f"{path}: save it as .txt or .epub first; what can be read is {readable}")
    try:
        if suffix == ".zip":
            return zip_sources(path, encoding)
        size = path.stat().st_size
    except DAMAGE as error:
        raise UserError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    opener = COMPRESSED.get(suffix, open)
    return [Source(path.as_posix(), kind_of(path.name) or ".txt", lambda: opener(path, "rb"), size, encoding)]


def zip_sources(path: Path, encoding: str) -> list[Source]:
    """The text files in a .zip, sorted by name."""
    with zipfile.ZipFile(path) as archive:
        infos = [info for info in archive.infolist() if kind_of(info.filename)]
    sources = []
    for info in sorted(infos, key=lambda info: info.filename):
        if info.filename.startswith("__MACOSX/"):
            continue  # macOS keeps files' attributes there
        printable = "".join(c if c.isprintable() else "?" for c in info.filename)
        name = f"{path.as_posix()}:{printable}"
        sources.append(Source(name, kind_of(info.filename), zip_opener(path, info), info.compress_size, encoding))
    return sources


def zip_opener(path: Path, info: zipfile.ZipInfo) -> Callable[[], io.BufferedIOBase]:
    """A function that opens a file inside a .zip, unpacking it when it is compressed itself."""

    def open_member():
        file = zipfile.ZipFile(path).open(info)
        unpack = COMPRESSED.get(Path(info.filename).suffix.lower())
        return unpack(file, "rb") if unpack else file

    return open_member
