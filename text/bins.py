"""Chapters -> the files of a prepared folder: vocab.txt, train.bin, val.bin and what meta.json says of them."""

import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from tqdm import tqdm

from dataset import FORMAT, STAGING, promote_staged
from files import FolderLock, fsync, sha256
from text.book import BookFile
from text.chapters import PIECE
from text.copies import COPIED, CopyFinder, body_of, sentence_hashes, without_known_lines
from tokenizer import Tokenizer

MAX_OVERLAP = 0.01  # of the held-out text may stand in the training text too, such as a verse or a set phrase


@contextmanager
def staging_folder(out: Path) -> Iterator[Path]:
    """A folder in which to write a new set of files. At the end of the block they move into `out`.

    After an error what was written is removed, and `out` keeps its old set. Raises UserError while another process
    writes to `out`.
    """
    with FolderLock(out):
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


# -- what is held out ------------------------------------------------------------------------------------------------


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


def hold_out(book: BookFile, finder: CopyFinder, fraction: float, seed: int) -> list[int]:
    """The numbers of the chapters to validate on, ascending.

    Whole chapters, but where one long chapter would be more than twice what is wanted: then it is cut, and its end is
    held out. Returns none when the book is too short to hold anything out.
    """
    wanted = max(1, round(fraction * book.characters))
    if len(book.chapters) == 1:
        return [1] if book.cut_end(0, wanted) else []
    chosen = split_validation(book.lengths, fraction, seed)
    if sum(book.lengths[i] for i in chosen) < wanted / 2:  # a title page, and then chapters that are too long
        longest = max(range(len(book.chapters)), key=book.lengths.__getitem__)
        if book.cut_end(longest, wanted):
            return [longest + 1]
    longest = book.lengths[chosen[0]]
    if len(chosen) == 1 and longest > max(PIECE, 2 * wanted) and book.cut_end(chosen[0], wanted):
        return [chosen[0] + 1]
    return [i for i, share in zip(chosen, finder.overlaps(chosen)) if share < COPIED] or chosen


def remove_overlap(book: BookFile, finder: CopyFinder, held_out: list[int]) -> int:
    """Take out of the held-out chapters what stands in the training chapters too, if it is much.

    Returns how many characters were taken out.
    """
    if len(finder.pairs) != len(book.chapters):  # one was cut
        finder = CopyFinder(book)
    lengths = [book.chapters[i].length for i in held_out]
    shared = sum(share * length for share, length in zip(finder.overlaps(held_out), lengths))
    if shared <= MAX_OVERLAP * sum(lengths):
        return 0
    ours = set().union(*(sentence_hashes(body_of(book, i)) for i in held_out))
    known, removed = set(), 0
    for i in set(range(len(book.chapters))) - set(held_out):
        known |= ours & sentence_hashes(body_of(book, i))
    for i in held_out:
        text = book.read(i)
        rest = without_known_lines(text, known)
        if len(rest.strip()) > 0.1 * len(text):
            book.replace(i, rest)
            removed += len(text) - len(rest)
    return removed


# -- the files -------------------------------------------------------------------------------------------------------


def build_vocabulary(book: BookFile, validation: list[int], min_count: int) -> Tokenizer:
    """The vocabulary of the training chapters alone."""
    counts = book.counts - book.counts_of(validation)
    return Tokenizer.build(Counter({chr(code): int(counts[code]) for code in np.flatnonzero(counts)}), min_count)


def write_bins(folder: Path, book: BookFile, validation: list[int], tokenizer: Tokenizer) -> dict:
    """Write train.bin, val.bin and vocab.txt: each chapter as [CLS] and its ids, little-endian uint16.

    The end of a chapter that was cut has no [CLS]. Returns the part of meta.json that describes the files.
    """
    cls = np.array([tokenizer.cls], dtype="<u2")
    tokens, characters, chosen = Counter(), Counter(), set(validation)
    with open(folder / "train.bin", "wb") as train, open(folder / "val.bin", "wb") as val:
        for i, chapter in enumerate(tqdm(book.chapters, "encode", unit=" chapters", leave=False, delay=1.0)):
            part, file = ("val", val) if i in chosen else ("train", train)
            ids = tokenizer.encode_lines(book.read(i), allow_special=False).astype("<u2", copy=False)
            file.writelines([cls, ids] if chapter.begins else [ids])
            tokens[part] += len(ids) + chapter.begins
            characters[part] += chapter.length
    distinct = "".join(map(chr, np.flatnonzero(book.counts).tolist()))
    unknown = Counter({c: int(book.counts[ord(c)]) for c in tokenizer.unknown(distinct)})
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
        "chapters": sum(chapter.begins for chapter in book.chapters),
        "held_out": [book.chapters[i].title for i in validation],
        "bytes": {path.name: path.stat().st_size for path in paths},
        "sha256": {path.name: sha256(path) for path in paths},
    }
