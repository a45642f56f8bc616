"""Texts whose lines were cut at a fixed width, in the middle of sentences: notice them, and join their lines again."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, islice, pairwise

from text.headings import ends_as_prose, parse

MIN_WIDTH = 24  # columns; a Chinese character has two
MAX_WIDTH = 200  # characters: no text is wrapped at more
SLACK = 5  # columns: a line is shorter when a word or punctuation goes with the next
MIN_FULL = 0.25  # of the lines are as wide as they are cut
MIN_FULL_ASKED = 0.05  # the same where the user says that lines are cut: much dialogue has few long lines
SAMPLE = 3_000  # lines that show how wide a text is; so many paragraphs are put into a block
SENTENCE_ENDS = "。！？…”’」』.!?\"'—~～）)"
LATIN_END = re.compile("[0-9A-Za-zÀ-ɏ][!-,.-/:-?\\]_}”’…]*$")  # with punctuation, but no hyphen
LATIN_START = re.compile("[!-~“‘À-ɏ]")


@lru_cache(maxsize=2**14)
def columns(c: str) -> int:
    return 2 if unicodedata.east_asian_width(c) in "WFA" else 1


def width(line: str) -> int:
    """In columns of a terminal."""
    if line.isascii() or len(line) > MAX_WIDTH:
        return len(line)
    return sum(map(columns, line))


def wrap_width(lines: Sequence[str], min_full: float = MIN_FULL) -> int:
    """The width at which lines were cut, in columns. 0: most of them are whole paragraphs.

    Cut lines are about as wide as most of the others, and end in the middle of a sentence.
    """
    lines = [line.rstrip() for line in lines if line.strip()]
    widths = [width(line) for line in lines]
    cut = Counter(w for line, w in zip(lines, widths) if w >= MIN_WIDTH and line[-1] not in SENTENCE_ENDS)
    if len(lines) < 20 or not cut:
        return 0
    widest = max((w for w in cut if cut[w] >= 0.1 * cut.total()), default=0)
    full = sum(widest - SLACK <= w <= widest for w in widths)
    are_cut = sum(n for w, n in cut.items() if widest - SLACK <= w <= widest)
    wider = sum(w > widest for w in widths)
    found = widest and full >= min_full * len(lines) and are_cut >= 0.5 * full and wider <= 0.1 * len(lines)
    return widest if found else 0


@dataclass
class Layout:
    """Where the lines of a document were cut, and what shows the ends of its paragraphs."""

    cut_at: int  # the width in columns; 0: lines are not cut
    double_spaced: bool = False  # a blank line after each line shows nothing
    has_gaps: bool = False  # blank lines between paragraphs
    has_indents: bool = False

    def is_full(self, line: str) -> bool:
        slack = self.cut_at // 4 if self.has_gaps else SLACK
        return self.cut_at > 0 and abs(self.cut_at - width(line.rstrip())) <= slack


def layout_of(lines: Sequence[str]) -> Layout:
    """The layout of a document, of which these are the first lines."""
    layout = Layout(wrap_width(lines, MIN_FULL_ASKED))
    cut = [pair for pair in pairwise(lines) if layout.is_full(pair[0]) and pair[0].rstrip()[-1] not in SENTENCE_ENDS]
    layout.double_spaced = sum(not following.strip() for _, following in cut) > 0.8 * len(cut)
    if layout.double_spaced:
        lines = list(single_spaced(lines, Counter()))
    after_ends = [following for line, following in pairwise(lines) if 0 < width(line.rstrip()) < 0.75 * layout.cut_at]
    filled = list(filter(str.strip, after_ends))
    layout.has_gaps = len(filled) < 0.5 * len(after_ends)
    layout.has_indents = sum(line[0].isspace() for line in filled) > 0.5 * len(filled)
    return layout


def unwrapped(blocks: Iterable[str], removed: Counter) -> Iterator[str]:
    """Join the lines of a wrapped document. One that is not wrapped stays as it is.

    A line as wide as the others are cut is joined with the next, unless that is indented, blank or a heading. Where
    neither indents nor blank lines show paragraphs, a line that ends a sentence ends the paragraph too.
    blocks: of whole lines, as those that are returned. removed: counts the line breaks that are taken out.
    """
    lines = (line for block in blocks for line in block.split("\n")[:-1])
    first = list(islice(lines, SAMPLE))
    layout, lines = layout_of(first), chain(first, lines)
    paragraphs = paragraphs_of(single_spaced(lines, removed) if layout.double_spaced else lines, layout)
    while batch := list(islice(paragraphs, SAMPLE)):
        yield "".join(joined(paragraph) + "\n" for paragraph in batch)
        removed["line breaks inside paragraphs"] += sum(len(paragraph) - 1 for paragraph in batch)


def single_spaced(lines: Iterable[str], removed: Counter) -> Iterator[str]:
    """The lines without one blank line after each."""
    after_blank = True
    for line in lines:
        is_blank = not line.strip()
        if is_blank and not after_blank:
            removed["blank lines"] += 1
        else:
            yield line
        after_blank = is_blank


def paragraphs_of(lines: Iterable[str], layout: Layout) -> Iterator[list[str]]:
    """The lines of each paragraph."""
    paragraph = []
    for line in lines:
        if paragraph and not goes_on(paragraph[-1].rstrip(), line, layout):
            yield paragraph
            paragraph = []
        paragraph.append(line)
    yield paragraph


def goes_on(line: str, following: str, layout: Layout) -> bool:
    """Is the second line of the same paragraph as the first?"""
    if not layout.is_full(line) or not following.strip() or following[0].isspace():
        return False
    ends = line[-1] in SENTENCE_ENDS
    if ends and not (layout.has_indents or layout.has_gaps):
        return False
    parsed = parse(following.strip()) if len(following) < 60 else None
    return not parsed or not (parsed[2] or ends) or ends_as_prose(following)


def joined(paragraph: list[str]) -> str:
    """The paragraph as one line. Between two Latin words stands a space."""
    text = paragraph[0]
    for line in map(str.lstrip, paragraph[1:]):
        text = text.rstrip()
        text += " " + line if LATIN_END.search(text[-10:]) and LATIN_START.match(line) else line
    return text
