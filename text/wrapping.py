"""Texts whose lines were cut at a fixed width, in the middle of sentences: notice them, and join their lines again."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache

from text.headings import ends_as_prose, parse

MIN_WIDTH = 24  # columns; a Chinese character has two
MAX_WIDTH = 200  # characters: no text is wrapped at more
SLACK = 5  # columns: a line is shorter when a word or punctuation goes with the next
SAMPLE = 3_000  # lines that show how wide a text is
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


class Unwrapper:
    """Joins the lines of a wrapped document. One that is not wrapped stays as it is.

    A line as wide as the others are cut is joined with the next, unless that is indented, blank or a heading. Where
    paragraphs are not indented, a line that ends a sentence ends the paragraph too.
    """

    def __init__(self):
        self.joined = 0
        self.waiting: list[str] = []  # lines, until there are enough to see how wide the text is
        self.width: int | None = None
        self.has_indents = False
        self.paragraph: list[str] = []  # its lines

    def feed(self, lines: str) -> str:
        """Take in whole lines. Returns the paragraphs that are finished, as lines."""
        self.waiting += lines.split("\n")[:-1]
        return "" if self.width is None and len(self.waiting) < SAMPLE else self._join_waiting()

    def flush(self) -> str:
        """The rest, at the end of the document."""
        return self._join_waiting() + self._finish()

    def _join_waiting(self) -> str:
        if self.width is None:
            self.width = wrap_width(self.waiting)
            indents = sum(INDENTED.match(line) is not None for line in self.waiting if line.strip())
            self.has_indents = indents >= 0.1 * sum(1 for line in self.waiting if line.strip())
        lines, self.waiting = self.waiting, []
        if not self.width:
            return "".join(line + "\n" for line in lines)
        return "".join(self._paragraphs(lines))

    def _paragraphs(self, lines: list[str]) -> Iterator[str]:
        for line in lines:
            if self.paragraph and self._goes_on(self.paragraph[-1], line):
                self.paragraph.append(line)
                self.joined += 1
            else:
                yield self._finish()
                self.paragraph = [line]

    def _goes_on(self, line: str, following: str) -> bool:
        """Is the second line of the same paragraph as the first?"""
        line = line.rstrip()
        if not following.strip() or INDENTED.match(following) or not 0 <= self.width - width(line) <= SLACK:
            return False
        ends = line[-1] in SENTENCE_ENDS
        if ends and not self.has_indents:
            return False
        parsed = parse(following.strip()) if len(following) < 60 else None
        return not parsed or not (parsed[2] or ends) or ends_as_prose(following)

    def _finish(self) -> str:
        """The paragraph as one line. Between two Latin words stands a space."""
        text = ""
        for line in self.paragraph:
            line = line if not text else line.lstrip()
            space = " " if text[-1:].isascii() and text[-1:].isalnum() and line[:1].isascii() else ""
            text = text.rstrip() + space + line if text else line
        finished, self.paragraph = text + "\n" if self.paragraph else "", []
        return finished
