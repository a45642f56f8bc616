"""
Find text that stands in a book twice: the same novel in two files, chapters that a site repeats.

Chapters are compared by pairs of neighbouring sentences, of which only the letters and digits count. So neither other
headings, punctuation and line breaks nor an added line hide a copy, and what only sounds alike is none.
"""

import re
from itertools import pairwise

import numpy as np

from text.book import BookFile

MAX_SENTENCE = 400  # letters: what is longer is compared clause by clause
MIN_TEXT = 20  # letters: shorter chapters are never copies
MIN_PAIRS = 4  # a chapter with fewer pairs of sentences is a copy only if all of it is
COPIED = 0.7  # the share of a chapter's pairs in earlier chapters that makes it a copy
LONGER = 1.1  # of two copies, one that is so many times as long stays; else the earlier
FEW = 0.002  # of the text: so few copies may stay
SAMPLE_ABOVE, MAX_SAMPLE = 5 * 10**6, 8  # bytes: of a larger text only a sample of the pairs is kept, at least 1/8
NO_LETTERS = re.compile(r"[\W_]+")
SENTENCE_END = re.compile("[。｡．.！？!?…]")
STOPS, CLAUSE_ENDS = "。｡．.", "，,､、；;：:！？!?…\n"
OTHER, LETTER, CLAUSE_END, STOP = range(4)
KINDS = np.full(0x110000, LETTER, dtype=np.uint8)  # by code point. Beyond 0xFFFF all are taken for letters
KINDS[:0x10000] = np.fromiter(map(str.isalnum, map(chr, range(0x10000))), dtype=bool)
KINDS[[ord(c) for c in CLAUSE_ENDS]], KINDS[[ord(c) for c in STOPS]] = CLAUSE_END, STOP
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd, so that no bits are lost


class CopyFinder:
    """Compares the chapters of a book. Hashes of them stay in memory, about a byte for three characters."""

    def __init__(self, book: BookFile):
        self.book = book
        self.removed: list[str] = []  # the titles of the copies that were left out
        self.pairs: list[np.ndarray] = []  # for each chapter, the hashes of its pairs of sentences
        self.repeated: set[int] = set()  # the chapters whose letters are all those of an earlier one
        sample, earlier = min(1 + book.size // SAMPLE_ABOVE, MAX_SAMPLE), set()
        for numbers in book.batches(range(len(book.chapters))):
            wholes, pairs = letter_hashes([body_of(book, i) for i in numbers], sample)
            self.pairs += pairs
            for i, whole in zip(numbers, wholes):
                if whole is not None and whole in earlier:
                    self.repeated.add(i)
                earlier.add(whole)

    def copies(self) -> set[int]:
        """The numbers of the chapters of which all or most stands in others: in the text before, or in a longer one."""
        counts = np.array([len(pairs) for pairs in self.pairs])
        if not counts.sum():
            return self.repeated
        pairs, chapters = np.concatenate(self.pairs), np.repeat(np.arange(len(counts)), counts)
        lengths = np.array(self.book.lengths)
        copied = most_of(counts, *holders(pairs, chapters, np.arange(len(counts))))
        # A chapter that was published in part, and again in full: the part is the copy, also if it stands first.
        own, holder = holders(pairs, chapters, -lengths)
        number, count = np.unique(own * len(counts) + holder, return_counts=True)
        own, holder = np.divmod(number, len(counts))
        is_part = (count >= COPIED * counts[own]) & (counts[own] >= MIN_PAIRS)
        is_part &= lengths[holder] > LONGER * lengths[own]
        parts = np.setdiff1d(own[is_part], holder[is_part])
        if len(parts):
            stays = ~np.isin(chapters, parts)
            copied = most_of(counts, *holders(pairs[stays], chapters[stays], np.arange(len(counts))))
        return self.repeated | {*copied.tolist(), *parts.tolist()}

    def remove(self) -> None:
        """Leave the copies out of the book, unless they are very few: then they are no more than a slip of the book's.

        (Those few are not held out: see hold_out.)
        """
        copies, chapters = self.copies(), self.book.chapters
        if sum(chapters[i].length for i in copies) > FEW * self.book.characters:
            self.removed = [chapters[i].title for i in sorted(copies)]
            self.pairs = [pairs for i, pairs in enumerate(self.pairs) if i not in copies]
            self.book.chapters = [chapter for i, chapter in enumerate(chapters) if i not in copies]

    def overlaps(self, held_out: list[int]) -> list[float]:
        """For each of some chapters, the share of its pairs of sentences that stand in the others too."""
        chosen, ours = set(held_out), [self.pairs[i] for i in held_out]
        others = np.concatenate([pairs for i, pairs in enumerate(self.pairs) if i not in chosen])
        known = np.split(np.isin(np.concatenate(ours), others), np.cumsum([len(pairs) for pairs in ours])[:-1])
        return [float(part.mean()) if len(part) else 0.0 for part in known]


def holders(pairs: np.ndarray, chapters: np.ndarray, rank: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each pair of sentences, its chapter, and that of the lowest rank in which the same pair stands."""
    order = np.lexsort((rank[chapters], pairs))
    is_first = np.append(True, np.diff(pairs[order]) != 0)  # of those that are equal
    return chapters[order], chapters[order][is_first][np.cumsum(is_first) - 1]


def most_of(counts: np.ndarray, chapters: np.ndarray, first: np.ndarray) -> np.ndarray:
    """The chapters, with so many pairs each, of which most stands first in others."""
    shares = np.bincount(chapters[first != chapters], minlength=len(counts)) / np.maximum(counts, 1)
    return np.flatnonzero((shares >= COPIED) & (counts >= MIN_PAIRS))


def body_of(book: BookFile, i: int) -> str:
    """A chapter's text without its headings, unless nearly all of it is headings, as in a table of contents."""
    body = text = book.read(i)
    while body and (line := body.partition("\n")[0]).strip() in book.chapters[i].headings:
        body = body[len(line) + 1 :]
    return body if len(body) >= MIN_TEXT else text


def sentence_ends(kinds: np.ndarray, places: np.ndarray, ends_of_texts: np.ndarray) -> np.ndarray:
    """Behind which letters sentences end, ascending. Questions go with the next sentence.

    kinds: of the characters. places: how many letters stand before each. ends_of_texts: counted in letters, too.
    """
    stops = places[np.flatnonzero(kinds == STOP)]
    is_new = np.diff(stops, prepend=-1, append=-1) != 0
    is_end = np.zeros(places[-1] + 1, dtype=bool)
    is_end[stops[is_new[:-1] & is_new[1:]]] = True  # several in a row are an ellipsis
    is_end[ends_of_texts] = True
    ends = np.flatnonzero(is_end)
    is_long = np.diff(ends, prepend=0) > MAX_SENTENCE
    if is_long.any():
        clauses = places[np.flatnonzero(kinds >= CLAUSE_END)]
        is_end[clauses[is_long[np.searchsorted(ends, clauses)]]] = True
    is_end[0] = False
    return np.flatnonzero(is_end)


def letter_hashes(texts: list[str], sample: int) -> tuple[list[int | None], list[np.ndarray]]:
    """For each text, a hash of its letters, None for a few; and hashes of each two neighbouring sentences, int64.

    The latter are of about one pair in `sample`. Their lengths and the first letter say whether two sentences are in
    the sample: so the others need not be hashed.
    """
    codes = np.frombuffer("".join(texts).encode("utf-32-le"), dtype=np.uint32)
    kinds = KINDS[codes]
    is_letter = kinds == LETTER
    places = np.cumsum(np.append(False, is_letter), dtype=np.int32)
    ends_of_texts = places[np.cumsum([len(text) for text in texts])]
    ends = sentence_ends(kinds, places, ends_of_texts)
    letters = codes[is_letter]
    data, width = letters.tobytes(), letters.itemsize
    bounds = pairwise([0, *ends_of_texts.tolist()])
    wholes = [hash(data[width * a : width * b]) if b - a >= MIN_TEXT else None for a, b in bounds]
    starts, middles, ends = np.append(0, ends[:-2])[: len(ends) - 1], ends[:-1], ends[1:]
    chosen = ~np.isin(middles, ends_of_texts)
    if sample > 1:
        traits = letters[starts] + (middles - starts) * 0x1_0001 + (ends - middles) * 0x1_0000_0001
        chosen &= (traits.astype(np.uint64) * MULTIPLIER >> np.uint64(40)) % np.uint64(sample) == 0
    bounds = zip((width * starts[chosen]).tolist(), (width * ends[chosen]).tolist())
    pairs = np.array([hash(data[a:b]) for a, b in bounds], dtype=np.int64)
    return wholes, np.split(pairs, np.searchsorted(starts[chosen], ends_of_texts[:-1]))


def sentences(text: str) -> list[str]:
    """The letters of each sentence, questions too."""
    return [NO_LETTERS.sub("", sentence) for sentence in SENTENCE_END.split(text)]


def sentence_hashes(text: str) -> set[int]:
    return set(map(hash, sentences(text)))


def without_known_lines(text: str, known: set[int]) -> str:
    """The lines of a text but those whose sentences are known, by their hashes, for the most part."""
    kept = []
    for line in text.split("\n"):
        parts = sentences(line)
        known_letters = sum(len(part) for part in parts if hash(part) in known)
        if len(line) < MIN_TEXT or known_letters <= 0.5 * sum(map(len, parts)):
            kept.append(line)
    return "\n".join(kept)
