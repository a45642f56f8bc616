"""
Find text that stands in a book twice: the same novel in two files, chapters that a site repeats.

Chapters are compared by pairs of neighbouring sentences. So neither other headings and line breaks nor an added line
hide a copy, and what only sounds alike is none.
"""

import re

import numpy as np

from text.book import BATCH, BookFile, Chapter

MAX_SENTENCE = 400  # characters: what is longer is compared clause by clause
MIN_TEXT = 20  # characters: shorter chapters are never copies
MIN_PAIRS = 4  # a chapter with fewer pairs of sentences is a copy only if all of it is
COPIED = 0.7  # the share of a chapter's pairs in earlier chapters that makes it a copy
FEW = 0.002  # of the text: so few copies may stay
SAMPLE_ABOVE, MAX_SAMPLE = 5 * 10**6, 8  # bytes: of a larger text only a sample of the pairs is kept, at least 1/8
SENTENCE_END = re.compile("[。！？!?…]+[”’」』]?")
STOP, CLAUSE_ENDS = ord("。"), [ord(c) for c in "，,、；;：:！？!?."]
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd, so that no bits are lost


class CopyFinder:
    """Takes in chapters one by one. Hashes of them stay in memory, about a byte for three characters."""

    def __init__(self, size: int):
        """size: of the text, in bytes."""
        self.sample = min(1 + size // SAMPLE_ABOVE, MAX_SAMPLE)
        self.whole: dict[int, int] = {}  # hash of a chapter's text -> the first such chapter
        self.originals: list[int] = []  # for each chapter, the first with the same text: itself, or an earlier one
        self.removed: list[str] = []  # the titles of the copies that were left out
        self._pairs: list[np.ndarray] = []
        self._waiting: list[str] = []  # texts that are not in _pairs yet: many at a time are fast
        self._length = 0  # their characters

    def add(self, chapter: Chapter, text: str) -> None:
        """The next chapter. Its headings are not compared."""
        i, body = len(self.originals), without_headings(text, chapter.headings)
        if len(body) < MIN_TEXT:
            body = without_space(text)
        original = self.whole.setdefault(hash(body), i) if len(body) >= MIN_TEXT else i
        self.originals.append(original)
        self._waiting.append(body)
        self._length += len(body)
        if self._length > BATCH:
            self._pair()

    def _pair(self) -> None:
        if self._waiting:
            self._pairs += sentence_pairs(self._waiting, self.sample)
        self._waiting, self._length = [], 0

    @property
    def pairs(self) -> list[np.ndarray]:
        """For each chapter, the hashes of its pairs of sentences."""
        self._pair()
        return self._pairs

    def copies(self) -> list[int]:
        """The numbers of the chapters that stand in the text before, all or most of them."""
        copied = {i for i, original in enumerate(self.originals) if original != i}
        counts = np.array([len(pairs) for pairs in self.pairs])
        if not counts.sum():
            return sorted(copied)
        pairs, chapters = np.concatenate(self.pairs), np.repeat(np.arange(len(counts)), counts)
        order = np.argsort(pairs, kind="stable")
        is_first = np.append(True, np.diff(pairs[order]) > 0)  # of those that are equal
        firsts = chapters[order][is_first][np.cumsum(is_first) - 1]  # where the first of them stands
        earlier = chapters[order][firsts < chapters[order]]
        shares = np.bincount(earlier, minlength=len(counts)) / np.maximum(counts, 1)
        copied |= set(np.flatnonzero((shares >= COPIED) & (counts >= MIN_PAIRS)).tolist())
        return sorted(copied)

    def remove(self, book: BookFile) -> None:
        """Leave the copies out of the book, unless they are very few: then they are no more than a slip of the book's.

        (Those few are not held out: see hold_out.)
        """
        copies = set(self.copies())
        if sum(book.chapters[i].length for i in copies) > FEW * book.characters:
            self.removed = [book.chapters[i].title for i in sorted(copies)]
            kept = [i for i in range(len(book.chapters)) if i not in copies]
            self._pairs = [self.pairs[i] for i in kept]
            book.keep(kept)

    def overlaps(self, held_out: list[int]) -> list[float]:
        """For each of some chapters, the share of its pairs of sentences that stand in the others too."""
        chosen = set(held_out)
        others = np.sort(np.concatenate([pairs for i, pairs in enumerate(self.pairs) if i not in chosen]))
        shares = []
        for i in held_out:
            places = np.searchsorted(others, self.pairs[i]).clip(max=len(others) - 1)
            shares.append(
                float((others[places] == self.pairs[i]).mean()) if len(self.pairs[i]) and len(others) else 0.0
            )
        return shares


def without_headings(text: str, headings: list[str]) -> str:
    """A chapter's text without its headings and without white space."""
    text = text.strip("\n")
    while text and (line := text.partition("\n")[0]).strip() in headings:
        text = text[len(line) + 1 :]
    return without_space(text)


def without_space(text: str) -> str:
    return text.replace("\n", "").replace(" ", "").replace("\u3000", "")


def sentence_ends(codes: np.ndarray, ends_of_texts: np.ndarray) -> np.ndarray:
    """Behind which characters sentences end, ascending. Questions go with the next sentence."""
    is_end = codes == STOP
    is_end[ends_of_texts[ends_of_texts > 0] - 1] = True
    ends = np.flatnonzero(is_end) + 1
    for i in np.flatnonzero(np.diff(ends, prepend=0) > MAX_SENTENCE):
        part = slice(ends[i - 1] if i else 0, ends[i])
        is_end[part] |= np.isin(codes[part], CLAUSE_ENDS)
    return np.flatnonzero(is_end) + 1


def sentence_pairs(texts: list[str], sample: int = 1) -> list[np.ndarray]:
    """For each text without white space, hashes of each two neighbouring sentences, int64; of about one in `sample`.

    Their lengths and the first character say whether two are in the sample: so the others need not be hashed.
    """
    data = "".join(texts).encode("utf-32-le")
    codes, ends_of_texts = np.frombuffer(data, dtype=np.uint32), np.cumsum([len(text) for text in texts])
    middles = sentence_ends(codes, ends_of_texts)
    starts, middles, ends = np.append(0, middles[:-2])[: len(middles) - 1], middles[:-1], middles[1:]
    chosen = ~np.isin(middles, ends_of_texts)
    if sample > 1:
        traits = codes[starts] + (middles - starts) * 0x1_0001 + (ends - middles) * 0x1_0000_0001
        chosen &= (traits.astype(np.uint64) * MULTIPLIER >> np.uint64(40)) % np.uint64(sample) == 0
    starts, ends = starts[chosen], ends[chosen]
    pairs = np.array([hash(data[a:b]) for a, b in zip((4 * starts).tolist(), (4 * ends).tolist())], dtype=np.int64)
    return np.split(pairs, np.searchsorted(starts, ends_of_texts[:-1]))


def sentence_hashes(text: str) -> set[int]:
    """Hashes of the sentences of a text, questions too."""
    return {hash(sentence) for sentence in SENTENCE_END.split(without_space(text))}


def without_known_lines(text: str, known: set[int]) -> str:
    """The lines of a text but those whose sentences are known, by their hashes, for the most part."""
    kept = []
    for line in text.split("\n"):
        parts = SENTENCE_END.split(without_space(line))
        if len(line) < MIN_TEXT or sum(len(part) for part in parts if hash(part) in known) < 0.5 * len(line):
            kept.append(line)
    return "\n".join(kept)
