"""
A file with text: its documents, each in blocks, and notes on what was left out, replaced or guessed.

lxml's parsers are imported where they are used: a .txt needs none of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain

from configurator import UserError
from text import json_texts
from text.containers import DAMAGE, File, damage, open_zip
from text.encodings import Decoder, NotText, counted, detect_encoding, noted, superset
from text.tags import MarkupInText

PLAIN = ("", ".txt", ".text")  # endings of plain texts
CHUNK = 2**22  # bytes decoded at a time
MEMBER_CHUNK = 2**20  # bytes of a document in a .zip that are parsed at a time


@dataclass
class Document:
    """One text. Its blocks are str of any size, not whole lines."""

    blocks: Iterator[str]
    # Lines, stripped, that the file itself marks as headings. Complete when the blocks are used up.
    titles: set[str] = field(default_factory=set)

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
        for document in self.checked(READERS[self.kind](self)):
            yield Document(self.checked(document.blocks), document.titles)

    def checked(self, items: Iterator) -> Iterator:
        """The documents, or the blocks of one: damage may be found only when they are read."""
        try:
            yield from items
        except NotText as error:
            raise UserError(f"{self.name}: {error}") from None
        except DAMAGE as error:
            raise damage(self.name, error) from None

    # -- bytes -> text -----------------------------------------------------------------------------------------------

    def text(self, declared: str = "") -> Iterator[str]:
        """The file as text, decoded chunk by chunk. Chunks in ASCII wait for those that show what the encoding is."""
        wanted = "" if self.wanted == "auto" else superset(self.wanted)
        chunks = self.file.chunks(self.file.open(), CHUNK)
        first = next(chunks, b"")
        while not wanted and first.isascii() and len(first) >= CHUNK and b"\0" not in first:
            yield first.decode("ascii")
            first = next(chunks, b"")
        self.encoding = wanted or detect_encoding(first, declared)
        decoder = Decoder(self.encoding, self.errors)
        for chunk in chain((first,), chunks):
            yield decoder.decode(chunk)
        yield decoder.decode(b"", final=True)
        self.notes += decoder.notes()
        if self.encoding == "cp1252" and not wanted:
            self.notes.append("it was read as cp1252, a guess; --encoding=... names another")

    def member_chunks(self, path: str) -> Iterator[bytes]:
        """A file of a .zip, in chunks. Raises KeyError when there is none, UserError for a bomb."""
        return self.file.chunks(open_zip(self.file).open(path), MEMBER_CHUNK)

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
        from text.markup import Page, read_html, read_markdown
        from text.office import read_fb2

        source = "".join(self.text(declared_encoding(self.file.head())))
        if self.kind == ".html" and "<" not in source:
            page = Page(lines=source.split("\n"))  # a plain text
        else:
            page = {".html": read_html, ".md": read_markdown, ".fb2": read_fb2}[self.kind](source)
        self.notes += noted(
            {
                "its markup is damaged: only the tags were taken out": page.damaged,
                f"left out: {counted(page.pictures, 'picture')}": page.pictures,
                f"left out: {counted(page.notes, 'part')} with footnotes": page.notes,
                f"left out: {counted(page.navigation, 'line')} of links": page.navigation,
                f"left out: {counted(page.hidden, 'hidden element')}": page.hidden,
            }
        )
        yield Document(iter([page.text + "\n"]), page.titles)

    def read_items(self) -> Iterator[Document]:
        """JSON, JSON lines and tables, of which each item is a text."""
        reader, markup = json_texts.JsonTexts(), MarkupInText()
        items = {".json": self.json_items, ".jsonl": self.json_lines, "table": self.table_rows}[self.kind]()
        for item, where in items:
            try:
                text, title = reader.text(item, where)
            except ValueError as error:
                raise UserError(f"{self.name}, {error}") from None
            if text:
                yield Document(markup.blocks([text]), {title} - {""})
        self.notes += reader.notes() + markup.notes()

    def json_items(self) -> Iterator[tuple]:
        """The items, and how a message names their places."""
        try:
            items = json_texts.items_of("".join(self.text()))
        except NotText:
            raise
        except ValueError as error:
            raise UserError(f"{self.name}: {error}") from None
        for number, item in enumerate(items, 1):
            yield item, f"item {number:,}"

    def json_lines(self) -> Iterator[tuple]:
        found = False
        for number, line in enumerate(json_texts.split_lines(self.text()), 1):
            if line.strip():
                try:
                    items = json_texts.parse_values(line)
                except ValueError as error:
                    if not found and line.lstrip()[:1] in "[{":  # one JSON text over several lines
                        yield from self.json_items()
                        return
                    raise UserError(f"{self.name}, line {number:,}: {error}") from None
                found = True
                for inner in json_texts.flattened(items):
                    yield inner, f"line {number:,}"

    def table_rows(self) -> Iterator[tuple]:
        for number, item in enumerate(json_texts.table_rows(json_texts.split_lines(self.text())), 1):
            if any(item.values()):
                yield item, f"row {number:,}"

    def read_epub(self) -> Iterator[Document]:
        from text import epub

        book = epub.Book(self.file, self.member_chunks, epub.MarkupDecoder(self.wanted), self.notes)

        def blocks():
            yield from book.blocks()
            self.encoding = ", ".join(sorted(book.decoder.encodings)) or "utf-8"

        yield Document(blocks(), book.titles)

    def read_office(self) -> Iterator[Document]:
        from text.office import read_docx, read_odt

        self.encoding, titles = "utf-8", set()
        read = read_docx if self.kind == ".docx" else read_odt
        yield Document(read(self.member_chunks, titles, self.notes), titles)


READERS = {
    ".txt": Source.read_txt,
    ".md": Source.read_page,
    ".html": Source.read_page,
    ".fb2": Source.read_page,
    ".json": Source.read_items,
    ".jsonl": Source.read_items,
    "table": Source.read_items,
    ".epub": Source.read_epub,
    ".docx": Source.read_office,
    ".odt": Source.read_office,
}
