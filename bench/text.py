"""
prepare.py and the tokenizer: python bench/text.py --text=book.txt --vocab=vocab_small.txt

Encoding is measured beside transformers' fast BERT tokenizer, where transformers is installed. --gigabytes=1 also
prepares a file of that size, made by repeating the text.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from configurator import configure, run  # noqa: E402


@dataclass
class Settings:
    text: str = ""  # a text file; empty: the classic that prepare.py fetches
    vocab: str = ""  # a BERT vocabulary file; empty: one of the text's characters
    gigabytes: float = 0.0  # also prepare a text of this size
    rounds: int = 5  # how often each is measured
    json: str = ""  # also write the figures to this file


settings = configure(Settings) if __name__ == "__main__" else None  # before the heavy imports: --help answers at once

import importlib.util
import statistics
import tempfile
from collections import Counter

from measure import process, show, side_by_side

import prepare
from tokenizer import BYTES, SPECIALS, Tokenizer


def rows(s: Settings) -> list[dict]:
    path = Path(s.text or prepare.fetch_classic()).resolve()
    size = path.stat().st_size / 1e6
    with tempfile.TemporaryDirectory() as folder:
        runs = [process("prepare.py", str(path), f"--out_dir={folder}/data") for _ in range(s.rounds)]
        seconds, memory = (statistics.median(figures) for figures in zip(*runs))
        found = [
            {"what": f"prepare.py, {size:.1f} MB, processor time with imports", "ours": seconds, "unit": "s"},
            {"what": f"prepare.py, {size:.1f} MB, peak memory", "ours": memory, "unit": "MiB"},
        ]
        if s.gigabytes:
            big, data = Path(folder) / "big.txt", path.read_bytes()
            with open(big, "wb") as file:
                while file.tell() < s.gigabytes * 1e9:
                    file.write(data)
            seconds, memory = process("prepare.py", str(big), f"--out_dir={folder}/big")
            found += [
                {"what": f"prepare.py, {s.gigabytes:g} GB, processor time", "ours": seconds, "unit": "s"},
                {"what": f"prepare.py, {s.gigabytes:g} GB, peak memory", "ours": memory, "unit": "MiB"},
            ]
        return found + encoding(s, path.read_text(encoding="utf-8"), Path(folder))


def encoding(s: Settings, text: str, folder: Path) -> list[dict]:
    """Characters a second; the peer on a part of the text, being slow, after a check that it gives the same ids."""
    native = Tokenizer.build(Counter(text))
    bert = Tokenizer.load(s.vocab) if s.vocab else Tokenizer([*SPECIALS, "##a", *(t for t in native.tokens if t not in {*SPECIALS, *BYTES})])
    calls, part = [lambda: native.encode(text), lambda: bert.encode(text)], text[:1_000_000]
    if importlib.util.find_spec("transformers"):
        from transformers import BertTokenizer

        bert.save(folder / "vocab.txt")
        peer = BertTokenizer(str(folder / "vocab.txt"))
        assert peer(part, add_special_tokens=False).input_ids == bert.encode(part).tolist(), "not the same ids"
        calls.append(lambda: peer(part, add_special_tokens=False).input_ids)
    seconds = side_by_side(s.rounds, *calls)
    other = {"other": "transformers, fast BERT", "peer": len(part) / seconds[2] / 1e6} if len(seconds) > 2 else {}
    return [
        {"what": f"encode, {kind} vocabulary", "ours": len(text) / taken / 1e6, "unit": "M characters/s", **other}
        for kind, taken in zip(("native", "BERT"), seconds)
    ]


if __name__ == "__main__":
    run(lambda s: show(rows(s), s.json), settings)
