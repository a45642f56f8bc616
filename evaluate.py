"""
How good is a model? Bits per character on held-out text, and how its samples read beside the book.

    python evaluate.py --model=out/novel
    python evaluate.py --model=out/novel --samples=samples.txt --json

Bits per character: what it costs the model to spell a character of chapters it never saw, so that
vocabularies compare; an [UNK] is charged 20 bits more, for it does not say which character it stands for. Of the samples: how varied they are, what repeats, whether quotes close, and
how much of them stands word for word in the training text. A held-out chapter's figures stand beside them.
"""

from dataclasses import dataclass
from typing import Literal

from configurator import UserError, configure, run


@dataclass
class Settings:
    model: str = ""  # a run or a checkpoint folder; empty: the newest run under out/
    data_dir: str = ""  # the prepared text that it was trained on; empty: as its checkpoint says
    samples: str = ""  # samples to judge, as sample.py --save wrote them; empty: it writes some
    num_samples: int = 4  # how many it writes
    max_new_tokens: int = 500  # and how long each
    seed: int = 1  # of those
    json: bool = False  # print JSON instead of a table
    device: str = "auto"  # cpu, cuda, cuda:1, mps; auto: the best there is
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"  # of the products

    def __post_init__(self):
        if self.num_samples < 1 or self.max_new_tokens < 1:
            raise UserError("--num_samples and --max_new_tokens: at least 1 is needed")


settings = configure(Settings) if __name__ == "__main__" else None  # before the heavy imports: --help answers at once

import json
import math
import re
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch

import checkpoint
from dataset import Corpus
from machine import pick_device, pick_dtype
from model import GPT, IGNORE_INDEX
from tokenizer import Tokenizer


def main(s: Settings) -> None:
    device = pick_device(s.device)
    dtype = pick_dtype(s.dtype, device)
    folder = checkpoint.find_checkpoint(s.model or checkpoint.newest_run(Path("out")))
    data_dir = s.data_dir or checkpoint.facts(folder).get("data_dir", "data/novel")
    corpus = Corpus.open(data_dir)
    tokenizer, model = checkpoint.load_tokenizer(folder), checkpoint.load_pretrained(folder).to(device)
    if tokenizer != corpus.tokenizer:
        raise UserError(f"{folder} has another vocabulary than {data_dir}; name its own text with --data_dir")

    autocast = torch.autocast(device.type, dtype) if dtype != torch.float32 else nullcontext()
    with autocast:
        nats = held_out_nats(model, corpus.val, device)
    bits = corpus.bits_per_char(nats / corpus.meta["val_tokens"])

    samples = read_samples(Path(s.samples)) if s.samples else write_samples(model, tokenizer, s, device)
    held_out = [chapter for chapter in corpus.tokenizer.decode(corpus.val).split("[CLS]") if chapter]
    length = max(200, max(map(len, samples)))  # as many pieces, and as long: distinct-n falls with length
    pieces = [chapter[i : i + length] for chapter in held_out for i in range(0, max(1, len(chapter) - length + 1), length)]
    book = [pieces[i] for i in sorted({round(i) for i in np.linspace(0, len(pieces) - 1, len(samples))})]
    training = corpus.tokenizer.decode(corpus.train)
    figures = {"samples": judge(samples, training), "held-out text": judge(book, training)}
    result = {"model": folder.as_posix(), "bits_per_char": bits, **figures}
    print(json.dumps(result, ensure_ascii=False, indent=2) if s.json else table(result))


# -- the held-out text -----------------------------------------------------------------------------------------------------


@torch.no_grad()
def held_out_nats(model: GPT, ids: np.ndarray, device, batch_size: int = 8) -> float:
    """Nats for all ids but the first, each seen with at least half a block of context (where there is so much)."""
    block = model.config.block_size
    stride = max(1, block // 2)
    starts = np.arange(0, max(1, len(ids) - 1 - (block - stride)), stride)  # the last window reaches the end
    total = 0.0
    for group in np.array_split(starts, math.ceil(len(starts) / batch_size)):
        window = np.full((len(group), block + 1), IGNORE_INDEX, dtype=np.int64)
        for row, start in enumerate(group):
            piece = ids[start : start + block + 1]
            window[row, : len(piece)] = piece
        y = window[:, 1:].copy()
        y[group > 0, : block - stride] = IGNORE_INDEX  # counted by the window before
        x, y = torch.from_numpy(window[:, :-1].clip(min=0)).to(device), torch.from_numpy(y).to(device)
        counted = int((y >= 0).sum())
        if counted:
            total += model(x, y, keep_logits=False)[1].item() * counted
    return total


# -- the samples -----------------------------------------------------------------------------------------------------------


def write_samples(model: GPT, tokenizer: Tokenizer, s: Settings, device) -> list[str]:
    """Chapter beginnings, as sample.py writes them by default."""
    idx = torch.full((s.num_samples, 1), tokenizer.cls, device=device)
    grammar = [torch.from_numpy(table).to(device) for table in tokenizer.grammar(model.config.vocab_size)]
    ids = model.generate(idx, s.max_new_tokens, temperature=0.8, top_p=0.95, grammar=grammar, seed=s.seed)
    return [tokenizer.decode(row[1:].cpu().numpy()).replace("[CLS]", "\n").rstrip("\ufffd") for row in ids]  # the end can cut a character


def read_samples(path: Path) -> list[str]:
    """The texts that sample.py saved: under `==== SAMPLE n ====` lines, or as JSON lines. A file of neither kind is one sample."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"cannot read {path}: byte {error.start} is not UTF-8") from None
    if path.suffix == ".jsonl":
        try:
            return [json.loads(line)["text"] for line in text.split("\n") if line.strip()]
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{path} is not what sample.py --save writes: a line is no JSON object with a text") from None
    samples = [sample.strip() for sample in re.split(r"^=+ SAMPLE \d+ =+$", text, flags=re.MULTILINE)]
    samples = [sample for sample in samples if sample]
    if not samples:
        raise UserError(f"{path} holds no samples")
    return samples


def judge(texts: list[str], training: str) -> dict[str, float]:
    """The figures of some texts. Rates are shares of 1; n-grams are of characters."""
    characters = sum(map(len, texts))
    figures = {"texts": len(texts), "characters": characters}
    for n in (1, 2, 3, 4):
        figures[f"distinct-{n}"] = 1 - repeated_share(texts, n)
    for n in (8, 12):
        figures[f"repeated {n}-grams"] = repeated_share(texts, n)
    figures["texts with unbalanced quotes"] = sum(not balanced(text) for text in texts) / len(texts)
    for name, mark in (("line breaks", "\n"), ("…", "…"), ("—", "—")):
        figures[f"{name} a character"] = sum(text.count(mark) for text in texts) / characters
    copied = copied_runs(texts, training, (20, 50))
    figures["longest copied run"] = copied["longest"]
    figures["in copied runs of 20"], figures["in copied runs of 50"] = copied[20], copied[50]
    return figures


def repeated_share(texts: list[str], n: int) -> float:
    """The share of n-grams that occurred before, all texts together (1 - distinct-n, Li et al. 2016)."""
    grams = [text[i : i + n] for text in texts for i in range(len(text) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def balanced(text: str) -> bool:
    """Every closing mark has its opening one, in order, and none opens twice; at the end some may be open still, for a
    sample ends anywhere."""
    pairs = dict(zip("”’」』）》】", "“‘「『（《【"))
    open_marks: list[str] = []
    for mark in text:
        if mark in pairs.values():
            if mark in open_marks:
                return False  # opened twice
            open_marks.append(mark)
        elif mark in pairs:
            if not open_marks or open_marks.pop() != pairs[mark]:
                return False
    return True


def copied_runs(texts: list[str], training: str, lengths: tuple[int, ...]) -> dict:
    """What stands word for word in the training text: the longest run, and the share of characters inside runs
    of at least each length."""
    book = Grams(training)
    own = Grams("\0".join(texts))  # NUL occurs in no text, so no run goes over a seam
    low, high = 0, max(map(len, texts))
    while low < high:  # if a run of n is copied, so is one of n - 1: bisect
        middle = (low + high + 1) // 2
        low, high = (middle, high) if own.found_in(book, middle).any() else (low, middle - 1)
    result = {"longest": low}
    for n in lengths:
        starts = np.flatnonzero(own.found_in(book, n))
        inside = np.zeros(len(own.codes) + 1, dtype=np.int64)
        np.add.at(inside, starts, 1)
        np.add.at(inside, starts + n, -1)
        result[n] = float((inside.cumsum() > 0).sum() / sum(map(len, texts)))
    return result


class Grams:
    """A text's n-grams for any n, as 64-bit polynomial hashes out of one table of prefix sums (Karp & Rabin 1987)."""

    BASE = 0x9E3779B97F4A7C15  # odd, so it has an inverse modulo 2^64

    def __init__(self, text: str):
        self.codes = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
        scrambled = (self.codes.astype(np.uint64) + np.uint64(1)) * np.uint64(0xBF58476D1CE4E5B9)
        scrambled ^= scrambled >> np.uint64(31)
        self.prefix = np.concatenate((np.zeros(1, np.uint64), np.cumsum(scrambled * self._powers(self.BASE, len(scrambled)))))
        self.inverse = self._powers(pow(self.BASE, -1, 2**64), len(scrambled))

    @staticmethod
    def _powers(base: int, n: int) -> np.ndarray:
        powers = np.full(n, base, dtype=np.uint64)
        powers[:1] = 1
        return np.cumprod(powers)

    def hashes(self, n: int) -> np.ndarray:
        """One number for each n-gram, by where it starts."""
        if n > len(self.codes):
            return np.zeros(0, np.uint64)
        return (self.prefix[n:] - self.prefix[:-n]) * self.inverse[: len(self.codes) - n + 1]

    def found_in(self, other: "Grams", n: int) -> np.ndarray:
        """For each of our n-grams: does the other text hold it? Equal hashes are compared letter by letter."""
        mine, theirs = self.hashes(n), other.hashes(n)
        wanted = np.sort(mine)
        place = np.searchsorted(wanted, theirs).clip(max=max(0, len(wanted) - 1))
        hits = np.flatnonzero(wanted[place] == theirs) if len(wanted) else place
        where = dict(zip(theirs[hits].tolist(), hits.tolist()))  # hash -> a place in the other text
        found = np.zeros(len(mine), dtype=bool)
        for i in np.flatnonzero(np.isin(mine, theirs[hits])):
            at = where[int(mine[i])]
            found[i] = np.array_equal(self.codes[i : i + n], other.codes[at : at + n])
        return found


def table(result: dict) -> str:
    columns = ("samples", "held-out text")
    lines = [result["model"], f"bits per character on held-out text, with at least half a block of context: {result['bits_per_char']:.3f}", ""]
    lines.append(f"{'':30}{columns[0]:>14}{columns[1]:>16}")
    for name in result[columns[0]]:
        cells = (result[column][name] for column in columns)
        lines.append(f"{name:30}" + "".join(f"{cell:>{width},.4g}" for cell, width in zip(cells, (14, 16))))
    return "\n".join(lines)


if __name__ == "__main__":
    run(main, settings)
