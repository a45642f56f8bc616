"""Chapters -> the files of a prepared folder: vocab.txt, train.bin, val.bin and what meta.json says of them."""

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from tqdm import tqdm

from dataset import FORMAT, STAGING, fsync, promote_staged, sha256
from text.chapters import HEADING, split_by_size
from tokenizer import Tokenizer


@contextmanager
def staging_folder(out: Path) -> Iterator[Path]:
    """A folder in which to write a new set of files. At the end of the block they move into `out`.

    After an error what was written is removed, and `out` keeps its old set.
    """
    promote_staged(out)  # in case an earlier call was killed while its files moved
    staging = out / STAGING
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        yield staging
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    promote_staged(out)


class ChapterFile:
    """The chapters in a temporary file: kept until the vocabulary is known, then read back one by one.

    A context manager: the file is deleted at the end. `lengths` (in characters) and `titles` stay.
    """

    def __init__(self, path: Path):
        self.path, self.file = path, open(path, "w+b")
        self._clear()

    def _clear(self) -> None:
        self.file.truncate(0)
        self.file.seek(0)
        self.ends = [0]  # in bytes
        self.lengths, self.titles = [], []
        self.headings = 0  # how many chapters begin with a heading
        self.counts = np.zeros(0x110000, dtype=np.int64)  # of the characters, by code point

    def __enter__(self) -> "ChapterFile":
        return self

    def __exit__(self, *error) -> None:
        self.file.close()
        self.path.unlink(missing_ok=True)

    def add(self, chapters: Iterable[str]) -> None:
        """Append chapters, without the line breaks at their ends. Empty ones are left out."""
        for chapter in chapters:
            chapter = chapter.strip("\n")
            if not chapter:
                continue
            data = chapter.encode()
            self.file.write(data)
            self.ends.append(self.ends[-1] + len(data))
            self.lengths.append(len(chapter))
            title = chapter.partition("\n")[0]
            self.headings += HEADING.fullmatch(title) is not None
            self.titles.append(title[:40])
            count_characters(chapter, self.counts)

    def read(self, i: int) -> str:
        """Chapter number i, from 0."""
        self.file.seek(self.ends[i])
        return self.file.read(self.ends[i + 1] - self.ends[i]).decode()

    def cut_single(self, pieces: int = 20) -> None:
        """Cut a book of a single chapter into so many pieces, so that there is something to validate on."""
        text = self.read(0)
        self._clear()
        self.add(split_by_size(text, max(1, len(text) // pieces)))


def split_validation(lengths: list[int], fraction: float, seed: int) -> list[int]:
    """The numbers of the chapters to validate on, ascending.

    lengths: of the chapters, in characters. They are drawn from the whole book until they hold this fraction of its
    characters. At least one chapter is chosen, and at least one stays to train on.
    """
    wanted, chosen, total = fraction * sum(lengths), [], 0
    for i in np.random.default_rng(seed).permutation(len(lengths)).tolist()[:-1]:
        if chosen and total + lengths[i] / 2 > wanted:
            break
        chosen.append(i)
        total += lengths[i]
    return sorted(chosen)


def count_characters(text: str, counts: np.ndarray) -> None:
    """Add the characters of a text to counts, (0x110000,), by code point."""
    part = np.bincount(np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32))
    counts[: len(part)] += part


def build_vocabulary(book: ChapterFile, validation: list[int], min_count: int) -> Tokenizer:
    """The vocabulary of the training chapters alone."""
    unseen = np.zeros_like(book.counts)
    for i in validation:
        count_characters(book.read(i), unseen)
    counts = book.counts - unseen
    return Tokenizer.build(Counter({chr(code): int(counts[code]) for code in np.flatnonzero(counts)}), min_count)


def write_bins(folder: Path, book: ChapterFile, validation: list[int], tokenizer: Tokenizer) -> dict:
    """Write train.bin, val.bin and vocab.txt: each chapter as [CLS] and its ids, little-endian uint16.

    Returns the part of meta.json that describes them.
    """
    cls = np.array([tokenizer.cls], dtype="<u2")
    tokens, characters, unknown = Counter(), Counter(), Counter()
    chosen = set(validation)
    with open(folder / "train.bin", "wb") as train, open(folder / "val.bin", "wb") as val:
        for i in tqdm(range(len(book.lengths)), desc="encode", unit=" chapters", delay=1, leave=False):
            part, file = ("val", val) if i in chosen else ("train", train)
            text = book.read(i)
            ids = np.concatenate((cls, tokenizer.encode_lines(text, allow_special=False))).astype("<u2")
            file.write(ids.tobytes())
            tokens[part] += len(ids)
            characters[part] += len(text)
            if tokenizer.is_unknown[ids].any():
                unknown += tokenizer.unknown(text)
    tokenizer.save(folder / "vocab.txt")
    paths = [folder / name for name in ("train.bin", "val.bin", "vocab.txt")]
    for path in paths:
        fsync(path)
    return {
        "format": FORMAT,
        **{f"{part}_tokens": tokens[part] for part in ("train", "val")},
        **{f"{part}_characters": characters[part] for part in ("train", "val")},
        "vocab_size": tokenizer.vocab_size,
        "split_digits": tokenizer.split_digits,
        "unknown_characters": unknown.total(),
        "unknown": dict(unknown.most_common(100)),
        "chapters": len(book.lengths),
        "held_out": [book.titles[i] for i in validation],
        "bytes": {path.name: path.stat().st_size for path in paths},
        "sha256": {path.name: sha256(path) for path in paths},
    }
