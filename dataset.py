"""
A prepared folder: train.bin and val.bin (headerless little-endian uint16 ids), vocab.txt, meta.json.

    corpus = Corpus.open("data/novel")
    windows = Windows(corpus.train, block_size=1024, seed=1337)
    x, y = windows.batch(first=0, count=8)     # windows 0..7 of the endless shuffled stream

The stream is a function of (seed, window number) alone, so a run continues where it stopped by remembering one number.
"""

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from configurator import UserError
from files import sha256
from tokenizer import Tokenizer

FORMAT = 1  # of meta.json
UNICODE = 0x110000 - 0x800  # characters; surrogates are none
STAGING = ".next"  # the folder inside a prepared folder in which prepare.py writes the next set of files
FILES = ("train.bin", "val.bin", "vocab.txt", "meta.json")  # in the order in which they are moved; meta.json is last


@dataclass
class Corpus:
    """What prepare.py wrote. `train` and `val` are memory-mapped uint16 ids."""

    folder: Path
    meta: dict
    tokenizer: Tokenizer
    train: np.ndarray
    val: np.ndarray

    @classmethod
    def open(cls, folder) -> "Corpus":
        """Open a prepared folder. Raises UserError, naming the file, for one that is missing, truncated or changed."""
        folder = Path(folder)
        if folder.is_file():
            raise UserError(
                f"{folder} is a file. Prepare it first: python prepare.py {folder.as_posix()} --out_dir=data/NAME,"
                " then --data_dir=data/NAME"
            )
        promote_staged(folder)
        meta = read_meta(folder)
        for name in FILES[:-1]:
            check_file(folder / name, meta["bytes"][name], meta["sha256"][name])
        tokenizer = Tokenizer.load(folder / "vocab.txt", meta["split_digits"])
        train, val = (np.memmap(folder / name, dtype="<u2", mode="r") for name in ("train.bin", "val.bin"))
        for name, ids in (("train", train), ("val", val)):
            if len(ids) != meta[f"{name}_tokens"] or ids.max() >= tokenizer.vocab_size:
                raise UserError(
                    f"{folder / name}.bin does not fit its vocabulary and meta.json. Prepare the text again."
                )
        return cls(folder, meta, tokenizer, train, val)

    def check_unchanged(self) -> None:
        """Raises UserError when a file is no longer the one that was opened: edited, truncated or prepared again."""
        for name in FILES[:-1]:
            path = self.folder / name
            if not path.exists() or sha256(path) != self.meta["sha256"][name]:
                raise UserError(
                    f"{path} was changed since training began."
                    " Nothing was saved after that; the checkpoints before are whole."
                )

    @property
    def fingerprint(self) -> str:
        """A hash over the hashes of the files: different for every corpus."""
        return hashlib.sha256(json.dumps(self.meta["sha256"], sort_keys=True).encode()).hexdigest()

    def bits_per_char(self, nats_per_token: float, part: str = "val") -> float:
        """A loss in nats per token of one part, val or train -> bits per character of the original text.

        This compares models with different vocabularies. For each [UNK], the cost of naming any character of
        Unicode, 20 bits, is added.
        """
        unknown = (getattr(self, part) == self.tokenizer.unk).sum()
        bits = nats_per_token / np.log(2) * self.meta[f"{part}_tokens"] + unknown * np.log2(UNICODE)
        return float(bits / self.meta[f"{part}_characters"])


def read_meta(folder: Path) -> dict:
    """The checked content of a prepared folder's meta.json. Raises UserError when it is missing or not prepare.py's."""
    try:
        meta = json.loads((folder / "meta.json").read_bytes())
        counts = [meta[f"{part}_{what}"] for part in ("train", "val") for what in ("tokens", "characters")]
        sizes, digests = ([meta[key][name] for name in FILES[:-1]] for key in ("bytes", "sha256"))
        whole_numbers = all(type(n) is int and n > 0 for n in counts + sizes)
        strings = all(type(digest) is str for digest in digests)
        if meta["format"] != FORMAT or not whole_numbers or not strings or type(meta["split_digits"]) is not bool:
            raise ValueError
    except FileNotFoundError:
        raise UserError(f"no prepared text in {folder}. Run: python prepare.py --out_dir={folder.as_posix()}") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UserError(f"{folder / 'meta.json'} is not prepare.py's. Prepare the text again.") from None
    return meta


def check_file(path: Path, size: int, digest: str) -> None:
    """Raises UserError when the file has not this size in bytes and this sha256."""
    if not path.exists():
        raise UserError(f"{path} is missing. Prepare the text again.")
    if path.stat().st_size != size:
        raise UserError(
            f"{path} has {path.stat().st_size:,} bytes where meta.json says {size:,}: truncated, or of another text."
            " Prepare the text again."
        )
    if sha256(path) != digest:
        raise UserError(
            f"{path} is not the file that meta.json describes: edited, or of another text. Prepare the text again."
        )


class Windows:
    """An endless stream of windows of block_size + 1 tokens: in a new order each epoch, each window once per epoch.

    Windows start `stride` tokens apart (block_size apart when stride is 0). Each epoch shifts all of them by a random
    phase below the stride, so that the text is cut at other places.
    """

    def __init__(self, tokens: np.ndarray, block_size: int, stride: int = 0, seed: int = 0):
        """tokens: (n,) ids. Raises UserError when they do not fill one window."""
        if len(tokens) < block_size + 1:
            raise UserError(
                f"the training text has {len(tokens):,} tokens, less than one window of"
                f" block_size + 1 = {block_size + 1:,}. Give more text or a smaller --block_size."
            )
        self.tokens, self.block_size, self.seed = tokens, block_size, seed
        self.stride = stride or block_size
        last = len(tokens) - block_size - 1  # where the last window can start
        self.phases = min(self.stride, last + 1)
        self.per_epoch = (last - (self.phases - 1)) // self.stride + 1  # the same for every phase
        self.epoch_starts = lru_cache(maxsize=1)(self._epoch_starts)

    def _epoch_starts(self, epoch: int) -> np.ndarray:
        """Where the epoch's windows start, (per_epoch,), in the order in which they are served."""
        rng = np.random.default_rng((self.seed, epoch))
        phase = rng.integers(self.phases)
        return phase + self.stride * rng.permutation(self.per_epoch)

    def starts(self, first: int, count: int) -> np.ndarray:
        """Where windows first .. first + count - 1 of the endless stream start, (count,)."""
        numbers = np.arange(first, first + count)
        epochs = numbers // self.per_epoch
        return np.concatenate([self.epoch_starts(e)[numbers[epochs == e] % self.per_epoch] for e in np.unique(epochs)])

    def batch(self, first: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Windows first .. first + count - 1 as inputs and next-token targets, each (count, block_size) int64."""
        positions = self.starts(first, count)[:, None] + np.arange(self.block_size + 1)
        window = self.tokens[positions].astype(np.int64)
        return window[:, :-1], window[:, 1:]


def validation_windows(tokens: np.ndarray, block_size: int, at_most: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Every token of the validation text but the first as a target exactly once: x, y of (n, block_size) int64.

    at_most: only so many windows, spread evenly over the text. Where the last window has no token, the target is -100,
    which torch does not count in the loss.
    """
    n = max(1, -(-(len(tokens) - 1) // block_size))
    padded = np.full(n * block_size + 1, -100, dtype=np.int64)
    padded[: len(tokens)] = tokens
    x, y = padded[:-1].reshape(n, -1), padded[1:].reshape(n, -1)
    if at_most and n > at_most:
        chosen = np.linspace(0, n - 1, at_most).astype(int)
        x, y = x[chosen], y[chosen]
    return x.clip(min=0), y


def promote_staged(folder: Path) -> None:
    """Move a complete set of files from folder/.next into folder.

    prepare.py writes there, meta.json last. If it is killed before that, the old set stays. If it is killed after it,
    the next reader finishes the move. The folder never holds a mix.
    """
    staging = folder / STAGING
    if not (staging / "meta.json").exists():
        return
    for name in FILES:
        try:
            os.replace(staging / name, folder / name)
        except FileNotFoundError:
            pass  # moved already, by this or another reader
        except PermissionError:  # Windows: a file that is mapped cannot be replaced
            raise UserError(f"{folder / name} is in use (by a training run?). Stop that, then try again.") from None
    shutil.rmtree(staging, ignore_errors=True)
