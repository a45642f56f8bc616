"""HTML, XML and Markdown -> text, as browsers and reading apps show it. Damaged markup is read as far as it goes."""

import html
import re
from dataclasses import dataclass, field

from lxml import etree

from text.headings import ends_as_prose
from text.tags import MarkupInText

BLOCKS = frozenset(
    "address article aside blockquote body br caption center dd details dialog div dl dt fieldset figcaption figure"
    " footer form h1 h2 h3 h4 h5 h6 header hr html legend li main nav ol option p pre section summary table tbody tfoot"
    " thead tr ul"
    " cite epigraph image poem stanza subtitle text-author v".split()  # FictionBook's
)
SKIPPED = frozenset("head title script style rt rp rtc svg math select template iframe object audio video".split())
RAW = frozenset(("script", "style"))  # their text has no tags in it. The others end before a block, if not before
TITLES = frozenset(("h1", "h2", "h3"))
MAX_TITLE = 100  # characters: a heading that is longer is a paragraph
INDENTED = re.compile("\n(?=[ \t]*\u3000)")  # a line break of the source that a style sheet shows


@dataclass
class Page:
    """What a page shows."""

    lines: list[str] = field(default_factory=list)  # one a block, none of them blank
    titles: set[str] = field(default_factory=set)  # the lines that are headings
    anchors: dict[str, int] = field(default_factory=dict)  # the id of an element -> the number of its line
    pictures: int = 0
    notes: int = 0  # parts with footnotes that were left out
    pictures_in_text: int = 0  # of these, in the middle of a line
    links: int = 0
    linked: int = 0  # characters in links
    navigation: int = 0  # lines that were left out because they are links to other pages
    left_out: int = 0  # characters of these lines
    hidden: int = 0  # elements that browsers do not show
    damaged: bool = False  # so badly that the tags were just taken out

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


def read_html(source: str) -> Page:
    """HTML or XHTML, as lxml's parser takes it: a line for each block element, without scripts and ruby readings."""
    source = re.sub(r"<!DOCTYPE[^>\[]*(\[.*?\]\s*)?>", "", source, count=1, flags=re.DOTALL | re.IGNORECASE)
    source = re.sub(r"<!\[CDATA\[(.*?)\]\]>", lambda match: html.escape(match[1]), source, flags=re.DOTALL)
    source = re.sub(
        r"(?is)(<h[1-3]\b[^>]*>)\s*<p\b.*?(?=</h[1-3])", lambda match: re.sub("</?p\\b[^>]*>", "<br>", match[0]), source
    )
    extractor = Extractor()
    parser = etree.HTMLParser(target=extractor, encoding="utf-8", huge_tree=True, no_network=True)
    parser.feed(source.replace("\0", "").lstrip("\ufeff \t\r\n").encode("utf-8", "replace"))
    page = parser.close()
    shown = len(page.text) + page.left_out
    if len(source) > 3 * shown + 1000:
        plain = without_tags(source)
        if len("".join(plain.split())) > 2 * shown + 1000:  # most of it is in a hidden element that does not end
            return Page(lines=[line for line in map(str.strip, plain.split("\n")) if line], damaged=True)
    return page


def without_tags(source: str) -> str:
    """What is left of a page when its tags are taken out."""
    source = re.sub(
        r"<(script|style|head|svg|select)\b.*?</\1\s*>|<!--.*?-->", "", source, flags=re.DOTALL | re.IGNORECASE
    )
    source = re.sub(r"</?(\w*)[^<>]*>", lambda tag: "\n" if tag[1].lower() in BLOCKS else "", source)
    return html.unescape(re.sub(r"[ \t\r]+", " ", source)).strip()


class Extractor:
    """A parser target of lxml: gathers a Page from tags and text."""

    def __init__(self):
        self.page = Page()
        self.line = []  # parts of the line that is not finished
        self.skipping = ""  # the SKIPPED element whose text is left out
        self.title = ""  # the heading element that is open
        self.pre = self.link = 0  # how many of these elements are open
        self.links = self.linked = 0  # before this line
        self.hidden = 0  # how many elements are open from a hidden one on

    def start(self, tag: str, attributes: dict) -> None:
        tag = tag.rpartition(":")[2]
        if self.hidden or is_hidden(tag, attributes):
            self.page.hidden += not self.hidden
            self.hidden += 1
        else:
            self.show(tag, attributes)
        for name in ("id", "name"):
            if name in attributes:
                self.page.anchors.setdefault(attributes[name], len(self.page.lines))

    def show(self, tag: str, attributes: dict) -> None:
        """Begin an element that is not hidden."""
        if tag == "br" and self.title:
            self.line.append(" ")  # a heading in two lines is one
        elif tag in BLOCKS:
            self.end_line()
            self.title = tag if tag in TITLES else self.title
            self.pre += tag == "pre"
        elif tag in ("td", "th") and "".join(self.line).strip():
            self.line.append("\u3000")  # between cells
        elif tag in ("ruby", "rb"):
            self.skipping = ""
        elif tag in ("img", "image"):
            alternative, inside = attributes.get("alt", ""), bool("".join(self.line).strip())
            is_character = len(alternative) == 1 and alternative.isalpha() and alternative not in "图圖"
            if inside and is_character and not self.link:  # with a link it is the icon of a footnote
                self.data(alternative)  # a rare character, shown as a picture
            else:
                self.page.pictures += 1
                self.page.pictures_in_text += inside
        self.link += tag == "a" and "href" in attributes
        self.page.links += tag == "a" and "href" in attributes
        if tag in SKIPPED and self.skipping not in RAW:
            self.skipping = tag

    def end(self, tag: str) -> None:
        tag = tag.rpartition(":")[2]
        if self.hidden:
            self.hidden -= 1
            return
        if tag == self.skipping or (tag == "ruby" and self.skipping not in RAW):
            self.skipping = ""
        if tag in BLOCKS and not (tag == "br" and self.title):
            self.end_line()
            self.title = "" if tag in TITLES else self.title
            self.pre -= tag == "pre"
        self.link -= tag == "a" and self.link > 0

    def data(self, text: str) -> None:
        if not self.skipping and not self.hidden:
            self.line.append(text)
            self.page.linked += len(text.strip()) if self.link else 0

    def end_line(self) -> None:
        if self.skipping not in RAW:
            self.skipping = ""
        text, self.line = "".join(self.line), []
        links, linked = self.page.links - self.links, self.page.linked - self.linked
        if links > 1 and linked >= 0.6 * len("".join(text.split())):
            self.page.navigation += 1  # 上一章 目录 下一章
            self.page.left_out += len(text)
            self.page.links, self.page.linked = self.links, self.linked
            return
        self.links, self.linked = self.page.links, self.page.linked
        for line in text.split("\n") if self.pre else map(join_source_lines, INDENTED.split(text)):
            line = line.replace("\xa0", " ").replace("\xad", "")
            if line.strip():
                self.page.lines.append(line)
                if self.title and len(line) <= MAX_TITLE:
                    self.page.titles.add(line.strip())

    def close(self) -> Page:
        self.end_line()
        return self.page


def is_hidden(tag: str, attributes: dict) -> bool:
    """Does a browser not show this element? Headings are read: a picture may stand for one. So is a whole page."""
    style = attributes.get("style", "").lower().replace(" ", "")
    return ("hidden" in attributes or "display:none" in style) and tag not in (*TITLES, "html", "body")


def join_source_lines(text: str) -> str:
    """White space as HTML shows it. A line break in the source is a space, but nothing between Chinese characters."""
    if "\n" in text or "\r" in text:
        text = re.sub(r"(?<![!-~])[ \t\r\f]*[\r\n][ \t\r\n\f]*|[ \t\r\f]*[\r\n][ \t\r\n\f]*(?![!-~])", "", text)
    return re.sub(r"[ \t\r\n\f]+", " ", text).strip(" ") if re.search(r"[\t\r\n\f]|  ", text) else text.strip(" ")


# -- Markdown ---------------------------------------------------------------------------------------------------------

# "# 第一章", "#第一章" and "##第一章##", but not "#话题# ..."
MARKDOWN_HEADING = re.compile(r" {0,3}(#{1,6})(?:[ \t\u3000]+|(?<=##)|(?!.*#))(?=[^#\s])(.*?)[ \t]*#*[ \t]*\r?")
# [1]: https://example.com "title"
ADDRESS = r"<?(?:[a-z][a-z0-9+.-]*:|[./#]|[a-z0-9-]+\.[a-z])[!-~]*>?"
LINK_TARGET = rf"""^ {{0,3}}\[[^\]\n^][^\]\n]*\]:[ \t]*{ADDRESS}[ \t]*(?:["'(].*)?\r?$"""
MARKDOWN_MARKS = [  # a pattern, and what is left of it
    (re.compile(r"!\[[^\]\n]*\]\([^)\n]*\)"), ""),  # a picture
    (re.compile(r"\[([^\]\n]+)\]\((?:[^()\n]|\([^()\n]*\))*\)"), r"\1"),  # a link
    (re.compile(LINK_TARGET, re.MULTILINE | re.IGNORECASE), ""),
    (re.compile(r"^ {0,3}\[\^[\w-]{1,20}\]:[ \t]*|\[\^[\w-]{1,20}\]"), ""),  # a footnote's number
    (re.compile(r"^ {0,3}>[ \t]?", re.MULTILINE), ""),  # a quotation
    (re.compile(r"(\*\*\*|\*\*|(?<!\*)\*(?!\*))(?=[^\s*])([^*\n]*[^\s*])\1(?!\*)"), r"\2"),
    (re.compile(r"(?<![\w_])(__|_)(?=[^\s_])([^_\n]*[^\s_])\1(?![\w_])"), r"\2"),
    (re.compile(r"~~([^~\n]+)~~"), r"\1"),
    (re.compile(r"^ {0,3}(?:```|~~~)[ -}]*\r?$", re.MULTILINE), ""),  # around code
    (re.compile(r"(?<!`)`([^`\n]+)`(?!`)"), r"\1"),
    (re.compile(r"\\([!-/:-@\[-`{-~])"), r"\1"),  # an escaped mark
    (re.compile(r"(?: {2,}|\\)$", re.MULTILINE), ""),  # a line break inside a paragraph
]


def read_markdown(source: str) -> Page:
    """The lines of a Markdown text without its marks. Lines stay lines, as Chinese writers mean them."""
    source = re.sub(r"\A\ufeff?---[ \t]*\r?\n(?:[^\n]*:[^\n]*\r?\n|[ \t-][^\n]*\r?\n)*?---[ \t]*\r?\n", "", source)
    page = Page(pictures=len(MARKDOWN_MARKS[0][0].findall(source)))
    for line in source.split("\n"):
        heading = MARKDOWN_HEADING.fullmatch(line)
        above = page.lines[-1].strip() if page.lines else ""
        if re.fullmatch(r" {0,3}(=+|-{2,})[ \t]*\r?", line) and above and not ends_as_prose(above):
            heading, line = True, page.lines.pop()  # the line above is a heading
        elif heading:
            line = heading[2]
        for pattern, left in MARKDOWN_MARKS:
            line = pattern.sub(left, line)
        if heading and len(line) <= MAX_TITLE:
            page.titles.add(line.strip())
        page.lines.append(line)
    page.lines = MarkupInText().resolve(page.text).split("\n")
    return page


# -- XML --------------------------------------------------------------------------------------------------------------


def parse_xml(source: str) -> etree._Element:
    """The root of an XML document, whose declaration of encoding and of entities is left out. Raises ValueError."""
    source = re.sub(r"\A[\s\ufeff\0]*<\?xml.*?\?>", "", source.replace("\0", ""), flags=re.DOTALL)
    source = re.sub(r"<!DOCTYPE[^>\[]*(\[.*?\]\s*)?>", "", source, count=1, flags=re.DOTALL | re.IGNORECASE)
    source = re.sub(r"&(?!(?:lt|gt|amp|quot|apos|#\d+|#x[0-9a-fA-F]+);)([A-Za-z]\w*;)?", escape_entity, source)
    parser = etree.XMLParser(
        recover=True, resolve_entities=False, no_network=True, load_dtd=False, remove_comments=True
    )
    try:
        root = etree.fromstring(source.strip().encode("utf-8", "replace"), parser)
    except etree.XMLSyntaxError:
        root = None
    if root is None:
        raise ValueError("its XML cannot be read")
    return root


def escape_entity(match: re.Match) -> str:
    """An entity of HTML's as the character that it means, a lone "&" as itself."""
    text = html.unescape(match[0])
    return html.escape(match[0] if text == match[0] else text)


def local_name(element) -> str:
    """The name of an element without its namespace, "" for a comment."""
    return element.tag.rpartition("}")[2].rpartition(":")[2] if isinstance(element.tag, str) else ""
