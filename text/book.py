"""The text of a book in a temporary file, and where its chapters are in it."""

import codecs
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, groupby
from pathlib import Path

import numpy as np

from text.chapters import MAX_CHAPTER, PIECE, Part, nearest_end, split_by_size

CHUNK = 2**22  # bytes read at a time
BATCH = 10**6  # characters that are counted or compared at a time
PIECES = 20  # into which a text of a single chapter is cut
MIN_CUT = 20  # characters: a shorter text is not cut in two


@dataclass
class Chapter:
    start: int  # in bytes of the file
    end: int
    length: int  # in characters
    title: str  # its first line
    headings: list[str]  # such as a volume's and a chapter's
    begins: bool = True  # False for the rest of a chapter that was cut in two


class BookFile(AbstractContextManager):
    """The cleaned text of all sources. It is written once, and read in parts: it may not fit in memory.

    A context manager: the file is deleted at the end. `chapters` and `counts` stay.
    """

    def __init__(self, path: Path):
        self.path, self.file = path, open(path, "w+b")
        self.size = 0  # in bytes
        self.chapters: list[Chapter] = []

    def __exit__(self, *error) -> None:
        self.file.close()
        self.path.unlink(missing_ok=True)

    @property
    def lengths(self) -> list[int]:
        """Of the chapters, in characters."""
        return [chapter.length for chapter in self.chapters]

    @property
    def characters(self) -> int:
        return sum(self.lengths)

    @cached_property
    def counts(self) -> np.ndarray:
        """How often each character stands in the chapters, (0x110000,), by code point.

        They are counted only once: the chapters must not change afterwards.
        """
        return self.counts_of(range(len(self.chapters)))

    def counts_of(self, numbers: Iterable[int]) -> np.ndarray:
        """How often each character stands in some of the chapters, as `counts`."""
        counts = np.zeros(0x110000, dtype=np.int64)
        for batch in self.batches(numbers):
            codes = np.frombuffer("".join(map(self.read, batch)).encode("utf-32-le"), dtype=np.uint32)
            counts += np.bincount(codes, minlength=len(counts))
        return counts

    def count(self, word: str) -> int:
        """How often a word stands in the chapters."""
        return sum(self.data(chapter.start, chapter.end).count(word.encode()) for chapter in self.chapters)

    def batches(self, numbers: Iterable[int]) -> Iterator[list[int]]:
        """The numbers of chapters in groups of about BATCH characters: so many short texts at a time are fast."""
        numbers = list(numbers)
        ends = accumulate(self.chapters[i].length for i in numbers)
        for _, group in groupby(zip(ends, numbers), key=lambda pair: pair[0] // BATCH):
            yield [i for _, i in group]

    def write(self, text: str) -> None:
        """Append to the text."""
        data = text.encode()
        self.file.seek(self.size)
        self.file.write(data)
        self.size += len(data)

    def data(self, start: int, end: int) -> bytes:
        """The text between two places, in UTF-8."""
        self.file.seek(start)
        return self.file.read(end - start)

    def text(self, start: int, end: int) -> str:
        """The text between two places."""
        return self.data(start, end).decode()

    def read(self, i: int) -> str:
        """Chapter number i, from 0."""
        return self.text(self.chapters[i].start, self.chapters[i].end)

    # -- chapters ----------------------------------------------------------------------------------------------------

    def cut(self, parts: Iterable[Part]) -> None:
        """Make chapters of the parts of the text. A part that is too long to be a chapter is cut into pieces."""
        for part in parts:
            self.add(self.pieces(part), part.start, [line.text for line in part.headings])

    def add(self, texts: Iterable[str], start: int, headings: list[str]) -> None:
        """Make chapters of texts that follow each other in the file from start. The headings are those of the first.

        A blank text is left out.
        """
        for text in texts:
            if text.strip():
                self.chapters.append(chapter_of(text, start, headings))
            start, headings = start + len(text.encode()), []

    def pieces(self, part: Part) -> Iterator[str]:
        """The part as it is, or its pieces."""
        if not part.may_cut:
            yield self.text(part.start, part.end)
            return
        rest, is_long = "", False
        for chunk in self.chunks(part.start, part.end):
            rest += chunk
            is_long |= len(rest) > MAX_CHAPTER
            *finished, rest = split_by_size(rest, PIECE) if len(rest) > MAX_CHAPTER else [rest]
            yield from finished
        yield from split_by_size(rest, PIECE) if is_long else [rest]

    def chunks(self, start: int, end: int) -> Iterator[str]:
        """The text between two places, in parts that fit in memory."""
        decoder = codecs.getincrementaldecoder("utf-8")()
        for at in range(start, end, CHUNK):
            yield decoder.decode(self.data(at, min(at + CHUNK, end)))

    def cut_single(self) -> None:
        """Cut a text of a single chapter without a heading into pieces, so that there is something to validate on."""
        start, text = self.chapters[0].start, self.read(0)
        self.chapters = []
        self.add(split_by_size(text, max(1, len(text) // PIECES)), start, [])

    def cut_end(self, i: int, length: int) -> bool:
        """Cut chapter i in two: about so many characters at its end become the next one. False: it is too short."""
        chapter, text = self.chapters[i], self.read(i)
        place = nearest_end(text, len(text) - length)
        if len(text) < MIN_CUT or not text[:place].strip() or not text[place:].strip():
            return False
        first = chapter_of(text[:place], chapter.start, chapter.headings, chapter.begins)
        rest = chapter_of(text[place:], chapter.start + len(text[:place].encode()), [], begins=False)
        rest.title = f"the end of {chapter.title}"
        self.chapters[i : i + 1] = [first, rest]
        return True

    def replace(self, i: int, text: str) -> None:
        """Put another text in the place of a chapter's. It is appended to the file."""
        old = self.chapters[i]
        self.chapters[i] = chapter_of(text, self.size, old.headings, old.begins)
        self.chapters[i].title = old.title
        self.write(text)


def chapter_of(text: str, start: int, headings: list[str], begins: bool = True) -> Chapter:
    """The chapter of a text that stands in the file from start, without the line breaks at its ends."""
    stripped = text.strip("\n")
    start += len(text) - len(text.lstrip("\n"))
    title = stripped.partition("\n")[0][:40]
    return Chapter(start, start + len(stripped.encode()), len(stripped), title, headings, begins)
