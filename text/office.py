"""Word processors' documents -> text: .docx (ECMA-376), .odt (OASIS), and FictionBook .fb2."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain

from lxml import etree

from text.encodings import counted
from text.markup import MAX_TITLE, Page, local_name, parse_xml, read_html


@dataclass(frozen=True)
class Format:
    """The elements of a document, by their names without namespace."""

    texts: frozenset[str]  # those that hold text; none: all do
    paragraphs: frozenset[str]
    marks: dict[str, str]  # elements that stand for a character
    skipped: frozenset[str]  # those whose content is left out
    notes: dict[str, str]  # elements that are counted, for the report


DOCX = Format(
    texts=frozenset(("t",)),
    paragraphs=frozenset(("p",)),
    marks={"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"},
    skipped=frozenset(("del", "moveFrom", "Fallback", "rt", "instrText", "pPrChange", "rPrChange", "tabs")),
    notes={
        "footnoteReference": "footnote",
        "endnoteReference": "endnote",
        "drawing": "picture",
        "pict": "picture",
        "numPr": "automatic number",
        "sym": "symbol",
    },
)
ODT = Format(
    texts=frozenset(),
    paragraphs=frozenset(("p", "h")),
    marks={"tab": "\t", "line-break": "\n", "s": " "},
    skipped=frozenset(
        ("annotation", "tracked-changes", "ruby-text", "note", "table-of-content", "automatic-styles", "desc", "title")
    ),
    notes={"note": "footnote", "image": "picture", "table-of-content": "table of contents"},
)


@dataclass
class Reader:
    """A parser target of lxml: gathers the finished lines, and the titles among them."""

    format: Format
    is_title: Callable[[str, dict], bool]  # of an element that may say so: w:pStyle, w:outlineLvl, text:h
    titles: set[str]  # to which the titles are added
    contents: frozenset[str] = frozenset()  # the styles of a table of contents, whose lines are left out
    lines: list[str] = field(default_factory=list)
    counts: Counter = field(default_factory=Counter)  # of what is not read, by kind
    stack: list[list[str]] = field(default_factory=list)  # the parts of the open paragraphs: one may be inside another
    in_title: list[bool] = field(default_factory=list)
    depth: int = 0  # how many skipped elements are open
    in_text: int = 0  # how many elements that hold text
    in_contents: bool = False

    def start(self, tag: str, attributes: dict) -> None:
        name = local(tag)
        if not self.depth and name in self.format.notes:
            self.counts[self.format.notes[name]] += 1
        self.depth += name in self.format.skipped
        if self.depth:
            return
        if name in self.format.paragraphs:
            self.stack.append([])
            self.in_title.append(name == "h" and self.is_title(name, attributes))
        elif name in ("pStyle", "outlineLvl") and self.in_title:
            self.in_title[-1] |= self.is_title(name, attributes)
            if attribute(attributes, "val") in self.contents:
                self.counts["contents line"] += 1
                self.in_contents = True
        elif name in self.format.marks and self.stack:
            self.stack[-1].append(self.format.marks[name] * number(attributes))
        self.in_text += name in self.format.texts

    def end(self, tag: str) -> None:
        name = local(tag)
        if self.depth:
            self.depth -= name in self.format.skipped
            return
        self.in_text -= name in self.format.texts
        if name in self.format.paragraphs and self.stack:
            text, is_title = "".join(self.stack.pop()), self.in_title.pop()
            text = "" if self.in_contents else text.replace("\n", " ") if is_title else text
            self.in_contents = False
            self.lines += [line for line in text.split("\n") if line.strip()]
            if is_title and 0 < len(text.strip()) <= MAX_TITLE:
                self.titles.add(text.strip())

    def data(self, text: str) -> None:
        if self.stack and not self.depth and (self.in_text or not self.format.texts):
            self.stack[-1].append(text if self.in_text else re.sub(r"[ \t\r\n]+", " ", text))

    def close(self) -> None:
        pass


def number(attributes: dict) -> int:
    """How many characters an element stands for: <text:s text:c="2"/>."""
    count = attribute(attributes, "c", "1")
    return min(int(count), 100) if re.fullmatch("[0-9]{1,3}", count) else 1


def attribute(attributes: dict, name: str, default: str = "") -> str:
    """The value of an attribute, whatever its namespace."""
    return next((value for key, value in attributes.items() if local(key) == name), default)


def local(name: str) -> str:
    return name.rpartition("}")[2]


def read_docx(open_member: Callable[[str], Iterator[bytes]], titles: set[str], notes: list[str]) -> Iterator[str]:
    """The paragraphs of word/document.xml. Headings are those whose style or outline level says so.

    open_member: gives a file of the archive in chunks.
    """
    try:
        styles = b"".join(open_member("word/styles.xml"))
    except KeyError:
        styles = b""
    headings, contents = read_styles(styles.decode("utf-8", "replace"))

    def is_title(name: str, attributes: dict) -> bool:
        value = attribute(attributes, "val")
        return value in headings if name == "pStyle" else value in ("0", "1", "2")

    yield from read_xml(open_member("word/document.xml"), Reader(DOCX, is_title, titles, contents), notes)


def read_styles(source: str) -> tuple[set[str], frozenset[str]]:
    """The ids of the styles of headings, three levels, and of tables of contents. Word names them in its language."""
    headings, contents, parents = {"Heading1", "Heading2", "Heading3", "Title"}, set(), {}
    for style in parse_xml(source).iter() if source else ():
        if local_name(style) == "style":
            values = {(local_name(e), local(key)): value for e in style.iter() for key, value in e.attrib.items()}
            name, identity = values.get(("name", "val"), "").lower(), values.get(("style", "styleId"), "")
            level = values.get(("outlineLvl", "val"), "")
            if re.fullmatch("heading [1-3]|title|标题 ?[1-3]?", name) or level in ("0", "1", "2"):
                headings.add(identity)
            elif re.fullmatch("toc [1-9]|目录 ?[1-9]", name):
                contents.add(identity)
            elif not level:
                parents[identity] = values.get(("basedOn", "val"), "")
    headings |= {identity for identity, parent in parents.items() if parent in headings}
    return headings, frozenset(contents)


def read_odt(open_member: Callable[[str], Iterator[bytes]], titles: set[str], notes: list[str]) -> Iterator[str]:
    """The paragraphs of content.xml. Headings are those of the first three levels."""
    reader = Reader(ODT, lambda _, attributes: attribute(attributes, "outline-level", "1") in "123", titles)
    yield from read_xml(open_member("content.xml"), reader, notes)


def read_xml(chunks: Iterable[bytes], reader: Reader, notes: list[str]) -> Iterator[str]:
    """The lines that a reader finds, in blocks. Raises ValueError for XML that declares entities."""
    parser = etree.XMLParser(target=reader, recover=True, resolve_entities=False, no_network=True, load_dtd=False)
    chunks = iter(chunks)
    first = next(chunks, b"")
    if not first:
        raise ValueError("it is empty")
    if b"<!ENTITY" in first.replace(b"\0", b""):
        raise ValueError("its XML declares entities")
    for chunk in chain([first.lstrip()], chunks):
        parser.feed(chunk)
        lines, reader.lines = reader.lines, []
        yield "".join(line + "\n" for line in lines)
    parser.close()
    yield "".join(line + "\n" for line in reader.lines)
    if reader.counts:
        counts = ", ".join(counted(n, kind) for kind, n in reader.counts.items())
        notes.append(f"not read: {counts}")


FB2_NOTES = r"<body\b[^>]*\bname\s*=\s*[\"'](?:notes|comments|footnotes)[\"'].*?</body\s*>"


def read_fb2(source: str) -> Page:
    """The bodies of a FictionBook, whose titles are headings."""
    source = re.sub(r"<(description|binary|stylesheet)\b.*?</\1\s*>", "", source, flags=re.DOTALL)
    source = re.sub(r"<a\b[^>]*\btype\s*=\s*[\"']note[\"'].*?</a\s*>", "", source, flags=re.DOTALL)
    source, bodies = re.subn(FB2_NOTES, "", source, flags=re.DOTALL)
    page = read_html(re.sub(r"<(/?)(?:\w+:)?title\b", r"<\1h2", source))
    page.notes = bodies
    return page
