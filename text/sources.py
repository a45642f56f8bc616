"""
A file with text: its documents, each in blocks, and notes on what was left out, replaced or guessed.

Parsers are imported where they are used: a .txt needs none of them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

from configurator import UserError
from text import containers
from text.containers import DAMAGE, File
from text.encodings import Decoder, NotText, counted, detect_encoding, superset
from text.tags import MarkupInText

if TYPE_CHECKING:
    from text.json_texts import JsonTexts

PLAIN = ("", ".txt", ".text")  # endings of plain texts
CHUNK = 2**22  # bytes decoded at a time
MEMBER_CHUNK = 2**20  # bytes of a document in a .zip that are parsed at a time


@dataclass
class Document:
    """One text. Its blocks are str of any size, not whole lines."""

    blocks: Iterator[str]
    titles: set[str] = field(default_factory=set)  # lines, stripped, that the file itself marks as headings
    """Filled while the blocks are read, complete when they are used up."""

    def __iter__(self) -> Iterator[str]:
        return iter(self.blocks)


@dataclass
class Source:
    """One file with text, perhaps inside an archive. `encoding` and `notes` are complete when all of it is read."""

    file: File
    kind: str  # one of READERS
    wanted: str = "auto"  # the encoding, unless "auto"
    errors: str = "strict"  # or "replace": bytes that do not fit the encoding are replaced and counted
    encoding: str = field(default="", init=False)
    notes: list[str] = field(default_factory=list, init=False)

    @property
    def name(self) -> str:
        return self.file.name

    def documents(self) -> Iterator[Document]:
        """The texts in it. Raises UserError, naming the place, for what cannot be read."""
        self.notes.clear()
        with self.damage_as_user_error():
            for document in READERS[self.kind](self):
                yield Document(self.checked(document.blocks), document.titles)

    def checked(self, blocks: Iterator[str]) -> Iterator[str]:
        """The blocks of a document. Damage may be found only when they are read."""
        with self.damage_as_user_error():
            yield from blocks

    @contextmanager
    def damage_as_user_error(self):
        try:
            yield
        except UserError:
            raise
        except NotText as error:
            raise UserError(f"{self.name}: {error}") from None
        except DAMAGE as error:
            raise containers.damage(self.name, error) from None

    # -- bytes -> text -----------------------------------------------------------------------------------------------

    def chunks(self) -> Iterator[bytes]:
        """The file in chunks of CHUNK bytes. Raises UserError for a decompression bomb."""
        total = 0
        with self.file.open() as file:
            while chunk := file.read(CHUNK):
                total += len(chunk)
                if total > self.file.max_size:
                    raise self.file.too_large()
                yield chunk

    def text(self, declared: str = "") -> Iterator[str]:
        """The file as text, decoded chunk by chunk. Chunks in ASCII wait for those that show what the encoding is."""
        chunks = self.chunks()
        first = next(chunks, b"")
        while not self.wanted_encoding and first.isascii() and len(first) >= CHUNK and b"\0" not in first:
            yield first.decode("ascii")
            first = next(chunks, b"")
        self.encoding = self.wanted_encoding or detect_encoding(first, declared)
        decoder = Decoder(self.encoding, self.errors)
        for chunk in chain((first,), chunks):
            yield decoder.decode(chunk)
        yield decoder.decode(b"", final=True)
        self.notes += decoder.notes()
        if self.encoding == "cp1252" and not self.wanted_encoding:
            self.notes.append("it was read as cp1252, a guess; --encoding=... names another")

    @property
    def wanted_encoding(self) -> str:
        return "" if self.wanted == "auto" else superset(self.wanted)

    def member(self, path: str) -> bytes:
        """A file of a .zip."""
        return b"".join(self.member_chunks(path))

    def member_chunks(self, path: str) -> Iterator[bytes]:
        """A file of a .zip, in chunks. Raises UserError for a bomb."""
        total = 0
        with containers.open_zip(self.file).open(path) as file:
            while chunk := file.read(MEMBER_CHUNK):
                total += len(chunk)
                if total > self.file.max_size:
                    raise self.file.too_large()
                yield chunk

    # -- kinds of file -----------------------------------------------------------------------------------------------

    def read_txt(self) -> Iterator[Document]:
        markup = MarkupInText()

        def blocks():
            yield from markup.blocks(self.text())
            self.notes += markup.notes()
            if self.file.ending not in PLAIN:
                self.notes.append(f"it was read as plain text, though its name ends in {self.file.ending}")

        yield Document(blocks())

    def read_page(self) -> Iterator[Document]:
        """HTML, Markdown and FictionBook, which are read whole."""
        from text.epub import declared_encoding
        from text.markup import plain_page, read_html, read_markdown
        from text.office import read_fb2

        source = "".join(self.text(declared_encoding(self.file.head())))
        readers = {".html": read_html if "<" in source else plain_page, ".md": read_markdown, ".fb2": read_fb2}
        page = readers[self.kind](source)
        self.notes += ["its markup is damaged: only the tags were taken out"] * page.damaged
        self.notes += [f"left out: {counted(page.pictures, 'picture')}"] * (page.pictures > 0)
        self.notes += [f"left out: {counted(page.navigation, 'line')} of links"] * (page.navigation > 0)
        yield Document(iter([page.text + "\n"]), page.titles)

    def read_json(self) -> Iterator[Document]:
        from text import json_texts

        reader, markup = json_texts.JsonTexts(), MarkupInText()
        try:
            items = json_texts.items_of("".join(self.text()))
        except NotText:
            raise
        except ValueError as error:
            raise UserError(f"{self.name}: {error}") from None
        for number, item in enumerate(items, 1):
            yield from self.json_item(reader, markup, item, f"item {number:,}")
        self.notes += reader.notes() + markup.notes()

    def read_jsonl(self) -> Iterator[Document]:
        from text import json_texts

        reader, markup, found = json_texts.JsonTexts(), MarkupInText(), False
        for number, line in enumerate(json_texts.split_lines(self.text()), 1):
            if line.strip():
                try:
                    item = json_texts.parse_line(line)
                except ValueError as error:
                    if not found and line.lstrip()[:1] in "[{":  # one JSON text over several lines
                        yield from self.read_json()
                        return
                    raise UserError(f"{self.name}, line {number:,}: {error}") from None
                found = True
                for inner in json_texts.flattened([item]):
                    yield from self.json_item(reader, markup, inner, f"line {number:,}")
        self.notes += reader.notes() + markup.notes()

    def read_table(self) -> Iterator[Document]:
        from text import json_texts

        reader, markup = json_texts.JsonTexts(), MarkupInText()
        for number, item in enumerate(json_texts.table_rows(json_texts.split_lines(self.text())), 1):
            if any(item.values()):
                yield from self.json_item(reader, markup, item, f"row {number:,}")
        self.notes += reader.notes() + markup.notes()

    def json_item(self, reader: "JsonTexts", markup: MarkupInText, item, where: str) -> Iterator[Document]:
        try:
            text, title = reader.text(item, where)
        except ValueError as error:
            raise UserError(f"{self.name}, {error}") from None
        if text:
            yield Document(markup.blocks([text]), {title} - {""})

    def read_epub(self) -> Iterator[Document]:
        from text import epub

        decoder, titles = epub.MarkupDecoder(self.wanted), set()
        book = epub.Book(self.file, self.member, decoder, titles, self.notes)

        def blocks():
            self.encoding = "utf-8"
            yield from book.blocks()
            self.encoding = ", ".join(sorted(decoder.encodings)) or "utf-8"

        yield Document(blocks(), titles)

    def read_docx(self) -> Iterator[Document]:
        from text.office import read_docx

        self.encoding, titles = "utf-8", set()
        yield Document(read_docx(self.member_chunks, titles, self.notes), titles)

    def read_odt(self) -> Iterator[Document]:
        from text.office import read_odt

        self.encoding, titles = "utf-8", set()
        yield Document(read_odt(self.member_chunks, titles, self.notes), titles)


READERS = {
    ".txt": Source.read_txt,
    ".md": Source.read_page,
    ".html": Source.read_page,
    ".fb2": Source.read_page,
    ".json": Source.read_json,
    ".jsonl": Source.read_jsonl,
    "table": Source.read_table,
    ".epub": Source.read_epub,
    ".docx": Source.read_docx,
    ".odt": Source.read_odt,
}
