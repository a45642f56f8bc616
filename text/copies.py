"""
Find text that stands in a book twice: the same novel in two files, chapters that a site repeats.

Chapters are compared by pairs of neighbouring sentences. So neither other headings and line breaks nor an added line
hide a copy, and what only sounds alike is none.
"""

import re

import numpy as np

from text.book import BookFile, Chapter

MAX_SENTENCE = 400  # characters: what is longer is compared clause by clause
MIN_TEXT = 20  # characters: shorter chapters are never copies
MIN_PAIRS = 4  # a chapter with fewer pairs of sentences is a copy only if all of it is
COPIED = 0.7  # the share of a chapter's pairs in earlier chapters that makes it a copy
FEW = 0.002  # of the text: so few copies may stay
SAMPLE_ABOVE, MAX_SAMPLE = 5 * 10**6, 8  # bytes: of a larger text only a sample of the pairs is kept, at least 1/8
SENTENCE_END = re.compile("[。！？!?…]+[”’」』]?")
CLAUSE_END = re.compile("[，,、；;：:！？!?.]")


class CopyFinder:
    """Takes in chapters one by one. Hashes of them stay in memory, about a byte for three characters."""

    def __init__(self, size: int):
        """size: of the text, in bytes."""
        self.sample = min(1 + size // SAMPLE_ABOVE, MAX_SAMPLE)
        self.whole: dict[int, int] = {}  # hash of a chapter's text -> the first such chapter
        self.originals: list[int] = []  # for each chapter, the first with the same text: itself, or an earlier one
        self.pairs: list[np.ndarray] = []  # for each chapter
        self.removed: list[str] = []  # the titles of the copies that were left out

    def add(self, chapter: Chapter, text: str) -> None:
        """The next chapter. Its headings are not compared."""
        i, body = len(self.pairs), without_headings(text, chapter.headings)
        if len(body) < MIN_TEXT:
            body = without_space(text)
        original = self.whole.setdefault(hash(body), i) if len(body) >= MIN_TEXT else i
        self.originals.append(original)
        self.pairs.append(sentence_pairs(body, self.sample))

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
            self.pairs = [self.pairs[i] for i in kept]
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


def sentences(text: str) -> list[str]:
    """The sentences of a text without white space. Questions go with the next sentence."""
    parts = text.split("。")
    if max(map(len, parts)) > MAX_SENTENCE:
        parts = [
            clause for part in parts for clause in ([part] if len(part) <= MAX_SENTENCE else CLAUSE_END.split(part))
        ]
    return parts


def sentence_pairs(text: str, sample: int = 1) -> np.ndarray:
    """Hashes of each two neighbouring sentences, int64; of about one pair in `sample`."""
    parts = sentences(text)
    pairs = zip(parts, parts[1:])
    return np.array([hash(a + b) for a, b in pairs if hash(a) % sample == 0], dtype=np.int64)


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
