"""Texts whose lines were cut at a fixed width, in the middle of sentences: notice them, and join their lines again."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain, islice

from text.headings import ends_as_prose, parse

MIN_WIDTH = 24  # columns; a Chinese character has two
MAX_WIDTH = 200  # characters: no text is wrapped at more
SLACK = 5  # columns: a line is shorter when a word or punctuation goes with the next
SAMPLE = 3_000  # lines that show how wide a text is; so many paragraphs are put into a block
INDENTED = re.compile(r"\s")
SENTENCE_ENDS = "。！？…”’」』.!?\"'—~～）)"


@lru_cache(maxsize=2**14)
def columns(c: str) -> int:
    return 2 if unicodedata.east_asian_width(c) in "WFA" else 1


def width(line: str) -> int:
    """In columns of a terminal."""
    if line.isascii() or len(line) > MAX_WIDTH:
        return len(line)
    return sum(map(columns, line))


def wrap_width(lines: Sequence[str]) -> int:
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
    return widest if widest and full >= 0.25 * len(lines) and are_cut >= 0.5 * full and wider <= 0.1 * len(lines) else 0


def unwrapped(blocks: Iterable[str], removed: Counter) -> Iterator[str]:
    """Join the lines of a wrapped document. One that is not wrapped stays as it is.

    A line as wide as the others are cut is joined with the next, unless that is indented, blank or a heading. Where
    paragraphs are not indented, a line that ends a sentence ends the paragraph too.
    blocks: of whole lines, as those that are returned. removed: counts the line breaks that are taken out.
    """
    lines = (line for block in blocks for line in block.split("\n")[:-1])
    first = list(islice(lines, SAMPLE))
    filled = [line for line in first if line.strip()]
    has_indents = sum(INDENTED.match(line) is not None for line in filled) >= 0.1 * len(filled)
    paragraphs = paragraphs_of(chain(first, lines), wrap_width(first), has_indents)
    while batch := list(islice(paragraphs, SAMPLE)):
        yield "".join(joined(paragraph) + "\n" for paragraph in batch)
        removed["line breaks inside paragraphs"] += sum(len(paragraph) - 1 for paragraph in batch)


def paragraphs_of(lines: Iterable[str], cut_at: int, has_indents: bool) -> Iterator[list[str]]:
    """The lines of each paragraph. cut_at: the width at which lines were cut, 0 for none."""
    paragraph = []
    for line in lines:
        if paragraph and not goes_on(paragraph[-1].rstrip(), line, cut_at, has_indents):
            yield paragraph
            paragraph = []
        paragraph.append(line)
    yield paragraph


def goes_on(line: str, following: str, cut_at: int, has_indents: bool) -> bool:
    """Is the second line of the same paragraph as the first?"""
    if not cut_at or not following.strip() or INDENTED.match(following) or not 0 <= cut_at - width(line) <= SLACK:
        return False
    ends = line[-1] in SENTENCE_ENDS
    if ends and not has_indents:
        return False
    parsed = parse(following.strip()) if len(following) < 60 else None
    return not parsed or not (parsed[2] or ends) or ends_as_prose(following)


def joined(paragraph: list[str]) -> str:
    """The paragraph as one line. Between two Latin words stands a space."""
    text = paragraph[0]
    for line in map(str.lstrip, paragraph[1:]):
        space = " " if text[-1:].isascii() and text[-1:].isalnum() and line[:1].isascii() else ""
        text = text.rstrip() + space + line
    return text
