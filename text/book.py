"""The text of a book in a temporary file, and where its chapters are in it."""

import codecs
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from text.chapters import MAX_CHAPTER, PIECE, Part, nearest_end, split_by_size

CHUNK = 2**22  # bytes read at a time
BATCH = 10**6  # characters that are counted at a time
MIN_CUT = 20  # characters: a shorter text is not cut in two


@dataclass
class Chapter:
    start: int  # in bytes of the file
    end: int
    length: int  # in characters
    title: str  # its first line
    headings: list[str] = field(default_factory=list)  # such as a volume's and a chapter's
    begins: bool = True  # False for the rest of a chapter that was cut in two


class BookFile:
    """The cleaned text of all sources. It is written once, and read in parts: it may not fit in memory.

    A context manager: the file is deleted at the end. `chapters` and `counts` stay.
    """

    def __init__(self, path: Path):
        self.path, self.file = path, open(path, "w+b")
        self.size = 0  # in bytes
        self.chapters: list[Chapter] = []
        self._counts = np.zeros(0x110000, dtype=np.int64)
        self._uncounted: list[str] = []  # texts that are not in _counts yet: many are counted at a time
        self._waiting = 0  # their characters

    def __enter__(self) -> "BookFile":
        return self

    def __exit__(self, *error) -> None:
        self.file.close()
        self.path.unlink(missing_ok=True)

    @property
    def lengths(self) -> list[int]:
        """Of the chapters, in characters."""
        return [chapter.length for chapter in self.chapters]

    @property
    def counts(self) -> np.ndarray:
        """How often each character stands in the chapters, (0x110000,), by code point."""
        self._count()
        return self._counts

    def _count(self) -> None:
        count_characters("".join(self._uncounted), self._counts)
        self._uncounted, self._waiting = [], 0

    @property
    def characters(self) -> int:
        return sum(self.lengths)

    def write(self, text: str) -> None:
        """Append to the text."""
        data = text.encode()
        self.file.seek(self.size)
        self.file.write(data)
        self.size += len(data)

    def text(self, start: int, end: int) -> str:
        """The text between two places."""
        self.file.seek(start)
        return self.file.read(end - start).decode()

    def read(self, i: int) -> str:
        """Chapter number i, from 0."""
        return self.text(self.chapters[i].start, self.chapters[i].end)

    # -- chapters ----------------------------------------------------------------------------------------------------

    def add(self, text: str, start: int, headings: Iterable[str] = (), begins: bool = True) -> Chapter | None:
        """Make a chapter of a text that stands in the file from start, without the line breaks at its ends."""
        stripped = text.strip("\n")
        if not stripped.strip():
            return None
        start += len(text) - len(text.lstrip("\n"))
        end = start + len(stripped.encode())
        title = stripped.partition("\n")[0][:40]
        chapter = Chapter(start, end, len(stripped), title, list(headings), begins)
        self.chapters.append(chapter)
        self._uncounted.append(stripped)
        self._waiting += len(stripped)
        if self._waiting > BATCH:
            self._count()
        return chapter

    def cut(self, parts: Iterable[Part]) -> Iterator[tuple[Chapter, str]]:
        """Make chapters of the parts of the text. A part that is too long to be a chapter is cut into pieces."""
        for part in parts:
            headings = [line.text for line in part.headings]
            for start, text in self.pieces(part):
                if chapter := self.add(text, start, headings):
                    yield chapter, text
                headings = []

    def pieces(self, part: Part) -> Iterator[tuple[int, str]]:
        """The part as it is, or its pieces, with their places."""
        if not part.may_cut or part.end - part.start <= MAX_CHAPTER:
            yield part.start, self.text(part.start, part.end)
            return
        start, rest, long = part.start, "", False
        for chunk in self.chunks(part.start, part.end):
            rest += chunk
            long |= len(rest) > MAX_CHAPTER
            *finished, rest = split_by_size(rest, PIECE) if len(rest) > MAX_CHAPTER else [rest]
            for piece in finished:
                yield start, piece
                start += len(piece.encode())
        for piece in split_by_size(rest, PIECE) if long else [rest]:
            yield start, piece
            start += len(piece.encode())

    def chunks(self, start: int, end: int) -> Iterator[str]:
        """The text between two places, in parts that fit in memory."""
        decoder = codecs.getincrementaldecoder("utf-8")()
        while start < end:
            self.file.seek(start)
            data = self.file.read(min(CHUNK, end - start))
            start += len(data)
            yield decoder.decode(data, final=start == end)

    def count(self, word: str) -> int:
        """How often a word stands in the whole text, also in what was left out."""
        data, n, rest = word.encode(), 0, b""
        self.file.seek(0)
        while chunk := self.file.read(CHUNK):
            n += (rest + chunk).count(data)
            rest = chunk[1 - len(data) :]
        return n

    def keep(self, chosen: Iterable[int]) -> None:
        """Leave out the other chapters."""
        chosen = set(chosen)
        for i in range(len(self.chapters)):
            if i not in chosen:
                count_characters(self.read(i), self.counts, -1)
        self.chapters = [chapter for i, chapter in enumerate(self.chapters) if i in chosen]

    def cut_single(self, pieces: int = 20) -> None:
        """Cut a text of a single chapter without a heading into so many pieces, so that there is something to
        validate on."""
        start, text = self.chapters[0].start, self.read(0)
        self.counts[:] = 0
        self.chapters = []
        for piece in split_by_size(text, max(1, len(text) // pieces)):
            self.add(piece, start)
            start += len(piece.encode())

    def cut_end(self, i: int, length: int) -> bool:
        """Cut chapter i in two: about so many characters at its end become the next one. False: it is too short."""
        chapter, text = self.chapters[i], self.read(i)
        place = nearest_end(text, len(text) - length)
        if len(text) < MIN_CUT or not text[:place].strip() or not text[place:].strip():
            return False
        later = self.chapters[i + 1 :]
        count_characters(text, self.counts, -1)
        del self.chapters[i:]
        self.add(text[:place], chapter.start, chapter.headings, chapter.begins)
        end = self.add(text[place:], chapter.start + len(text[:place].encode()), begins=False)
        end.title = f"the end of {chapter.title}"
        self.chapters += later
        return True

    def replace(self, i: int, text: str) -> None:
        """Put another text in the place of a chapter's. It is appended to the file."""
        old, self.chapters = self.chapters, []
        count_characters(self.text(old[i].start, old[i].end), self.counts, -1)
        start = self.size
        self.write(text)
        new = self.add(text, start, old[i].headings, old[i].begins)
        new.title = old[i].title
        self.chapters = [*old[:i], new, *old[i + 1 :]]


def count_characters(text: str, counts: np.ndarray, sign: int = 1) -> None:
    """Add the characters of a text to counts, (0x110000,), by code point; or subtract them."""
    part = np.bincount(np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32))
    counts[: len(part)] += sign * part
