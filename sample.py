"""
Let a trained model write.

    python sample.py --start "韩立见此，便大笑起来"      the newest run under out/
    python sample.py --model=out/novel --num_samples=10 --save
    python sample.py --start "[CLS]第一回"              [CLS] starts a chapter; an empty start does, too

The text appears as it is written. A seed gives the same text again.
"""

from dataclasses import dataclass, field
from typing import Literal

from configurator import UserError, configure, run


@dataclass
class Settings:
    model: str = ""  # a run or a checkpoint folder; empty: the newest run under out/
    # what to write
    start: list[str] = field(default_factory=list)  # the text to go on from
    start_file: str = ""  # a file with one start a line
    num_samples: int = 1  # continuations of each start
    max_new_tokens: int = 500  # length of each
    seed: int = 0  # the same seed gives the same text; 0: another each time
    save: bool | str = False  # also append the samples to this file; alone: to samples.txt
    # how to choose the next token
    temperature: float = 0.8  # below 1 bolder on the likely, above 1 wilder; 0: always the likeliest
    top_k: int = 0  # only the k likeliest; 0: all
    top_p: float = 0.95  # only the likeliest that together reach this probability; 1: all
    min_p: float = 0.0  # only those at least this share as likely as the likeliest; 0: all
    repetition_penalty: float = 1.0  # above 1: what was written already becomes less likely
    # the machine
    device: str = "auto"  # cpu, cuda, cuda:1, mps; auto: the best there is
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"  # of the weights; auto: 16 bits on a GPU

    def __post_init__(self):
        for name, fits, what in (
            ("num_samples", self.num_samples >= 1, "at least 1 is needed"),
            ("max_new_tokens", self.max_new_tokens >= 1, "at least 1 is needed"),
            ("temperature", self.temperature == 0 or 0.001 <= self.temperature <= 1000, "0, or 0.001 to 1000, is needed"),
            ("top_k", self.top_k >= 0, "0 or more is needed"),
            ("top_p", 0 < self.top_p <= 1, "a probability above 0, up to 1, is needed"),
            ("min_p", 0 <= self.min_p <= 1, "a share from 0 to 1 is needed"),
            ("repetition_penalty", 0.01 <= self.repetition_penalty <= 100, "0.01 to 100 is needed (1: off)"),
            ("seed", self.seed >= 0, "0 or more is needed"),
        ):
            if not fits:
                raise UserError(f"--{name}={getattr(self, name)}: {what}")
        if self.start and self.start_file:
            raise UserError("--start or --start_file, not both")


settings = configure(Settings) if __name__ == "__main__" else None  # before the heavy imports: --help answers at once

import secrets
import sys
import time
from pathlib import Path

import torch

import checkpoint
from machine import pick_device, pick_dtype
from model import GPT
from tokenizer import Tokenizer


def main(s: Settings) -> None:
    """Load, write, and keep what was written."""
    starts = read_starts(s)
    device = pick_device(s.device)
    folder = checkpoint.find_checkpoint(s.model or checkpoint.newest_run(Path("out")))
    tokenizer = checkpoint.load_tokenizer(folder)
    model = checkpoint.load_pretrained(folder)
    if model.config.vocab_size < tokenizer.vocab_size:
        raise UserError(f"{folder}: the vocabulary has {tokenizer.vocab_size:,} tokens, the model {model.config.vocab_size:,}")
    dtype = torch.float32 if s.dtype == "auto" and device.type != "cuda" else pick_dtype(s.dtype, device)
    model.to(device, dtype)
    seed = s.seed or secrets.randbelow(10**6) + 1
    print(f"{folder.as_posix()}, seed {seed}", file=sys.stderr)

    file = "samples.txt" if s.save is True else s.save
    if file:
        append(file, "")  # say now if it cannot be written
    began, tokens, number = time.perf_counter(), 0, 0
    for start in starts:
        for text in write(model, tokenizer, start, s, seed, first_number=number, device=device):
            number += 1
            if file:
                append(file, f"{heading(number)}\n{text}\n")
        tokens += s.num_samples * s.max_new_tokens
    seconds = time.perf_counter() - began
    saved = f"; added to {file}" if file else ""
    print(f"{tokens:,} tokens in {seconds:.1f} s, {tokens / seconds:,.0f} tokens/s{saved}", file=sys.stderr)


def read_starts(s: Settings) -> list[str]:
    """The prompts, of which there is always one: "" starts a chapter."""
    if not s.start_file:
        return s.start or [""]
    try:
        lines = Path(s.start_file).read_text(encoding="utf-8-sig").split("\n")
    except OSError as error:
        raise UserError(f"cannot read {s.start_file}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{s.start_file}: byte {error.start} is not UTF-8") from None
    return [line.rstrip("\r") for line in lines if line.strip()] or [""]


def write(model: GPT, tokenizer: Tokenizer, start: str, s: Settings, seed: int, first_number: int, device) -> list[str]:
    """All samples of one start at once: the first streams to the terminal, the others follow. Returns their texts."""
    try:
        ids = tokenizer.encode_lines(start or "[CLS]")
    except UnicodeEncodeError:
        raise UserError(f"--start={start!r} is not valid text") from None
    if not len(ids):
        raise UserError(f"--start={start!r} is nothing to this vocabulary")
    idx = torch.from_numpy(ids.astype("int64")).to(device).expand(s.num_samples, -1)
    beyond = range(tokenizer.vocab_size, model.config.vocab_size)  # ids without a token
    banned = torch.tensor([*tokenizer.banned.tolist(), *beyond], device=device)
    shown = start.replace("[CLS]", "").replace("[SEP]", "\n")
    texts, spellers = [shown] * s.num_samples, [Speller(tokenizer) for _ in range(s.num_samples)]
    many = s.num_samples > 1 or first_number > 0 or s.start_file
    if many:
        print(heading(first_number + 1))
    print(shown, end="", flush=True)
    for token in model.stream(idx, s.max_new_tokens, s.temperature, s.top_k, s.top_p, s.min_p, s.repetition_penalty, banned, seed):
        for row, i in enumerate(token.tolist()):
            piece = spellers[row].add(i)
            texts[row] += piece
            if row == 0:
                print(piece, end="", flush=True)
    print()
    for row in range(1, s.num_samples):
        print(heading(first_number + row + 1), texts[row], sep="\n")
    return texts


class Speller:
    """Ids one by one -> text, in whole characters: the bytes of one are held back until it is complete."""

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer, self.before, self.held = tokenizer, [], []

    def add(self, i: int) -> str:
        if i == self.tokenizer.cls:
            self.before, self.held = [], []
            return "\n\n"  # a new chapter
        self.held.append(i)
        context = self.tokenizer.decode(self.before)  # decides whether a space goes between two words
        text = self.tokenizer.decode(self.before + self.held)[len(context) :]
        if self.tokenizer.is_byte[i] and text.endswith("\ufffd") and len(self.held) < 4:
            return ""
        self.before, self.held = self.held[-1:] if not self.tokenizer.is_byte[i] else [], []
        return text


def heading(number: int) -> str:
    """GPT2-Chinese's line over each sample."""
    return "=" * 40 + f" SAMPLE {number} " + "=" * 40


def append(path: str, text: str) -> None:
    """Add to the end of a file, so that nothing written before is lost."""
    with open(path, "a", encoding="utf-8", newline="\n") as file:
        file.write(text)


if __name__ == "__main__":
    run(main, settings)
