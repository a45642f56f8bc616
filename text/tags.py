"""Tags and entities in a plain text -> what they mean."""

import html
import re
from collections.abc import Iterable, Iterator

from text.encodings import counted, noted

INLINE = (
    "a abbr acronym b bdo big cite code del dfn em font i img ins kbd mark q rb rp rt ruby s samp small span strike"
    " strong sub sup tt u wbr o:p input button label meta link"
)
LINE = (
    "p div br h[1-6] hr li ul ol dl dt dd tr td th table tbody thead blockquote center section article pre body html"
    " head title"
)
NAMES = "|".join((INLINE + " " + LINE).split())
ATTRIBUTE = (
    r"""(?:[a-zA-Z:_@-][\w:.-]*\s*=\s*(?:"[^"<>]*"|'[^'<>]*'|[^\s<>"']+)"""
    r"|data-[\w-]+|alt|hidden|nowrap|noshade|checked|disabled|selected)"
)
FORUM = r"\[/?(?:b|i|u|s|p|size|color|font|align|backcolor|url|img|quote|indent|float|hide)(?:=[^\[\]\n]{1,80})?\]"
TAG = re.compile(rf"</?(?:{NAMES})(?:\s+{ATTRIBUTE})*\s*/?>|{FORUM}", re.IGNORECASE)
LINE_TAG = re.compile(rf"</?(?:{'|'.join(LINE.split())})\b[^<>]*>[ \t]*\n?", re.IGNORECASE)
CLOSING = re.compile(r"</[abiqsu]>|\[/[bipsu]\]", re.IGNORECASE)
HIDDEN = [  # elements whose text is not shown, and their ends
    (re.compile(f"{start}.*?{end}", re.DOTALL | re.IGNORECASE), re.compile(end, re.IGNORECASE))
    for start, end in [("<!--", "-->")] + [(rf"<{n}\b[^<>]*>", rf"</{n}\s*>") for n in ("script", "style", "rt", "rp")]
]
ENTITY = re.compile(r"&(?:[A-Za-z][A-Za-z0-9]{1,24};|nbsp|#[0-9]{1,7};|#[xX][0-9a-fA-F]{1,6};)")
SEVERAL = 3  # tags and entities: fewer may be what the text speaks of
MAX_TAG = 300  # characters


class MarkupInText:
    """Tags and entities in a .txt, where there are several: taken for what they mean. A lone "<" or "&" stays."""

    def __init__(self):
        self.tags = self.entities = self.breaks = 0
        self.left = 0  # tags and entities that stay, because there are too few
        self.closed = set()  # tags of one letter that are closed: the others are ranks, such as [S] and <A>

    def blocks(self, blocks: Iterable[str]) -> Iterator[str]:
        """The same text without them. A tag may be cut by the end of a block."""
        rest = ""
        for block in blocks:
            block, rest = rest + block, ""
            if "<" in block or "&" in block or "[/" in block:
                at = max(block.rfind(c, -MAX_TAG) for c in "<&[")
                if at >= 0 and not re.search("[>;\\]]", block[at:]):
                    block, rest = block[:at], block[at:]
                block = self.resolve(block)
            if "\\n" in block and (n := block.count("\\n")) > max(SEVERAL, block.count("\n")):
                self.breaks += n
                block = block.replace("\\r\\n", "\n").replace("\\n", "\n")
            yield block
        yield self.resolve(rest)

    def resolve(self, text: str) -> str:
        self.closed.update(tag.replace("/", "") for tag in CLOSING.findall(text))
        tags = len(list(filter(self.is_tag, TAG.finditer(text)))) if "<" in text or "[/" in text else 0
        entities = len([e for e in ENTITY.findall(text) if html.unescape(e) != e]) if "&" in text else 0
        if not tags + entities:
            return text
        if self.tags + self.entities == 0 and self.left + tags + entities < SEVERAL:
            self.left += tags + entities
            return text
        self.tags, self.entities = self.tags + tags, self.entities + entities
        text = LINE_TAG.sub("\n", without_hidden(text))
        text = TAG.sub(lambda match: "" if self.is_tag(match) else match[0], text)
        text = ENTITY.sub(lambda match: html.unescape(match[0]), text).replace("\xa0", " ")
        return self.resolve(text) if entities >= SEVERAL and TAG.search(text) else text  # the tags were escaped

    def is_tag(self, match: re.Match) -> bool:
        """Is it a tag, or a single letter in brackets?"""
        return len(match[0]) > 3 or match[0].lower() == "<p>" or match[0] in self.closed

    def notes(self) -> list[str]:
        meant = f"taken for what they mean: {counted(self.tags, 'HTML tag')}, {self.entities:,} entities"
        return noted(
            {
                meant: self.tags + self.entities,
                f"taken for line breaks: {self.breaks:,} times \\n": self.breaks,
                f"left as they are: {counted(self.left, 'HTML tag')} or entities": self.left,
            }
        )


def without_hidden(text: str) -> str:
    """The text without scripts, comments and ruby readings, unless they do not end."""
    for element, end in HIDDEN:  # where none ends, none is searched for: each would be searched to the end of the text
        last = max((match.end() for match in end.finditer(text)), default=0)
        text = element.sub("", text[:last]) + text[last:]
    return text
