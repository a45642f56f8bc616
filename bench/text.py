"""
prepare.py and the tokenizer: python bench/text.py --text=book.txt --vocab=vocab_small.txt

Encoding is compared with transformers' fast BERT tokenizer where transformers is installed. --gigabytes=1
also prepares a file of that size, made of varied copies of the text, and the same on a single line.
"""

from dataclasses import dataclass
from pathlib import Path

from measure import process, read_utf8, show, side_by_side

from configurator import configure, run


@dataclass
class Settings:
    text: str = ""  # a text file; empty: the classic that prepare.py fetches
    vocab: str = ""  # a BERT vocabulary file; empty: one of the text's characters
    gigabytes: float = 0.0  # also prepare a text of this size


settings = configure(Settings) if __name__ == "__main__" else None  # before the heavy imports: --help answers at once

import statistics
import tempfile
from collections import Counter
from importlib.util import find_spec

import numpy as np

from text.classic import fetch_classic
from tokenizer import BYTES, SPECIALS, Tokenizer

ROUNDS = 5  # how often each is measured


def main(s: Settings) -> None:
    path = Path(s.text or fetch_classic()).resolve()
    with tempfile.TemporaryDirectory() as folder:
        rows = preparing(path, f"{path.stat().st_size / 1e6:.1f} MB", Path(folder), ROUNDS)
        if s.gigabytes:
            big, size = Path(folder) / "big.txt", f"{s.gigabytes:g} GB"
            for name, line_break in ((size, b"\n"), (f"{size} on one line", b"")):
                write_varied(big, read_utf8(path), int(s.gigabytes * 1e9), line_break)
                rows += preparing(big, name, Path(folder), rounds=1)
        rows += encoding(s, read_utf8(path), Path(folder))
    show(rows)


def write_varied(big: Path, text: str, size: int, line_break: bytes) -> None:
    """Copies of a text, in bytes of UTF-8. In each, other characters stand for the Chinese ones, but those of headings.

    (Plain copies would be left out by prepare.py.)
    """
    codes, rng = np.frombuffer(text.encode("utf-32-le"), dtype="<u4"), np.random.default_rng(0)
    table, kept = np.arange(0x110000, dtype="<u4"), [ord(c) for c in "第章回卷节零一二三四五六七八九十百千"]
    han = np.setdiff1d(codes[(codes >= 0x4E00) & (codes < 0xA000)], kept)
    with open(big, "wb") as file:
        while file.tell() < size:
            data = table[codes].tobytes().decode("utf-32-le").encode()
            file.write(data.replace(b"\n", line_break))
            table[han] = rng.permutation(han)


def preparing(path: Path, size: str, folder: Path, rounds: int) -> list[dict]:
    """Processor time, with imports, and peak memory of prepare.py."""
    runs = [process("prepare.py", str(path), f"--out_dir={folder}/data") for _ in range(rounds)]
    seconds, memory = (statistics.median(figures) for figures in zip(*runs))
    return [
        {"what": f"prepare.py, {size}, processor time with imports", "ours": seconds, "unit": "s"},
        {"what": f"prepare.py, {size}, peak memory", "ours": memory, "unit": "MiB"},
    ]


def encoding(s: Settings, text: str, folder: Path) -> list[dict]:
    """Characters per second. The peer, which is slow, encodes a part of the text, after a check of its ids."""
    native = Tokenizer.build(Counter(text))
    characters = native.tokens[len(SPECIALS + BYTES) :]
    bert = Tokenizer.load(s.vocab) if s.vocab else Tokenizer([*SPECIALS, "##a", *characters])
    calls, part = [lambda: native.encode(text), lambda: bert.encode(text)], text[:1_000_000]
    if find_spec("transformers"):
        from transformers import BertTokenizer

        bert.save(folder / "vocab.txt")
        peer = BertTokenizer(str(folder / "vocab.txt"))
        assert peer(part, add_special_tokens=False).input_ids == bert.encode(part).tolist(), "not the same ids"
        calls.append(lambda: peer(part, add_special_tokens=False).input_ids)
    seconds = side_by_side(ROUNDS, *calls)
    other = {"other": "transformers, fast BERT", "peer": len(part) / seconds[2] / 1e6} if len(seconds) > 2 else {}
    return [
        {"what": f"encode, {kind} vocabulary", "ours": len(text) / taken / 1e6, "unit": "M characters/s", **other}
        for kind, taken in zip(("native", "BERT"), seconds)
    ]


if __name__ == "__main__":
    run(main, settings)
