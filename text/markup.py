"""HTML and XML -> text, for EPUB files. Standard library only."""

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

BLOCKS = set(
    "p div h1 h2 h3 h4 h5 h6 li tr br hr blockquote section article header footer pre dt dd table ul ol body".split()
)
SKIPPED = set("head script style rt rp".split())  # rt, rp: readings above characters (ruby)


def parse_xml(data: bytes) -> ElementTree.Element:
    """An XML document. Raises ValueError for one that declares entities, which could expand without limit."""
    if b"<!ENTITY" in data.replace(b"\0", b""):  # in UTF-16 too
        raise ValueError("its XML declares entities")
    return ElementTree.fromstring(data)


def html_to_text(page: str) -> str:
    """The text of a page, a line for each block element, without scripts, styles and ruby readings."""
    extractor = TextExtractor()
    extractor.feed(page)
    extractor.close()
    return re.sub("\n{2,}", "\n", "".join(extractor.parts)).strip("\n")


class TextExtractor(HTMLParser):
    """Collects the text of a page in `parts`."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.parts, self.skipping = [], 0  # skipping: how many SKIPPED elements are open

    def handle_starttag(self, tag, attributes):
        self.skipping += tag in SKIPPED
        self._break_line(tag)

    def handle_startendtag(self, tag, attributes):
        self._break_line(tag)

    def handle_endtag(self, tag):
        self.skipping = max(0, self.skipping - (tag in SKIPPED))
        self._break_line(tag)

    def handle_data(self, data):
        if self.skipping:
            return
        # A line break in the source is white space, but between Chinese characters there is none.
        data = re.sub(r"(?<![!-~])[ \t\r]*\n[ \t\r\n]*|[ \t\r]*\n[ \t\r\n]*(?![!-~])", "", data)
        self.parts.append(re.sub(r"[ \t\r\n]+", " ", data))

    def _break_line(self, tag):
        if tag in BLOCKS:
            self.parts.append("\n")
