"""
Let a trained model write.

    python sample.py --start "韩立见此，便大笑起来"      the newest run under out/
    python sample.py --model=out/novel --num_samples=10 --save
    python sample.py --start "[CLS]第一回"              [CLS] starts a chapter; an empty start does, too
    python sample.py --interactive                     write a story together

The text appears as it is written. A seed gives the same text again.
"""

from dataclasses import asdict, dataclass, field, replace
from typing import Literal

from configurator import UserError, configure, first_line, is_out_of_memory, run, with_setting


@dataclass
class Settings:
    model: str = ""  # a run or a checkpoint folder; empty: the newest run under out/
    # what to write
    start: list[str] = field(default_factory=list)  # the text to go on from
    start_file: str = ""  # a file with one start a line
    num_samples: int = 1  # continuations of each start
    max_new_tokens: int = 500  # length of each, at most
    stop: str = ""  # end before that: at the next chapter, paragraph, or with this text
    seed: int = 0  # the same seed gives the same text; 0: another each time
    save: bool | str = False  # also append the samples to this file, .jsonl with their settings; alone: to samples.txt
    stream: bool = True  # show the text while it is written
    interactive: bool = False  # write together: Enter writes on, what you type is added
    # how to choose the next token
    temperature: float = 0.8  # below 1 bolder on the likely, above 1 wilder; 0: always the likeliest
    top_k: int = 0  # only the k likeliest; 0: all
    top_p: float = 0.95  # only the likeliest that together reach this probability; 1: all
    min_p: float = 0.0  # only those at least this share as likely as the likeliest; 0: all
    repetition_penalty: float = 1.0  # above 1: what was written already becomes less likely
    repetition_window: int = 0  # how many tokens back that looks; 0: all
    # the machine
    device: str = "auto"  # cpu, cuda, cuda:1, mps; auto: the best there is
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"  # of weights and products; auto: 16 bits where they are fast
    quantize: Literal["none", "int8"] = "none"  # int8: weights of 8 bits, for a CPU: the fastest for one text, in a quarter of the memory
    compile: bool = False  # torch.compile, for a long text of a large model on a CPU: nearly twice as fast, after 4 to 20 s; one text after the other

    def __post_init__(self):
        for name, fits, what in (
            ("num_samples", self.num_samples >= 1, "at least 1 is needed"),
            ("max_new_tokens", 1 <= self.max_new_tokens <= 10**7, "1 to 10,000,000 is needed"),
            ("temperature", self.temperature == 0 or 0.001 <= self.temperature <= 1000, "0, or 0.001 to 1000, is needed"),
            ("top_k", self.top_k >= 0, "0 or more is needed"),
            ("top_p", 0 < self.top_p <= 1, "a probability above 0, up to 1, is needed"),
            ("min_p", 0 <= self.min_p <= 1, "a share from 0 to 1 is needed"),
            ("repetition_penalty", 0.01 <= self.repetition_penalty <= 100, "0.01 to 100 is needed (1: off)"),
            ("repetition_window", self.repetition_window >= 0, "0 or more is needed"),
            ("seed", self.seed >= 0, "0 or more is needed"),
        ):
            if not fits:
                raise UserError(f"--{name}={getattr(self, name)}: {what}")
        if self.start and self.start_file:
            raise UserError("--start or --start_file, not both")
        if self.interactive and (self.num_samples > 1 or self.start_file or len(self.start) > 1):
            raise UserError("--interactive writes one story: no --num_samples, no --start_file, one --start at most")
        if self.temperature == 0 and self.num_samples > 1:
            raise UserError(f"--temperature=0 always takes the likeliest token, so all {self.num_samples} samples would be the same")
        if self.quantize == "int8" and self.dtype not in ("auto", "bfloat16"):
            raise UserError(f"--quantize=int8 computes in bfloat16, so no --dtype={self.dtype}")


settings = configure(Settings) if __name__ == "__main__" else None  # before the heavy imports: --help answers at once

import json
import os
import secrets
import sys
import time
import warnings
from contextlib import contextmanager
from pathlib import Path

import torch
from tqdm import tqdm

import checkpoint
from generation.inference import CompiledGPT, for_writing
from machine import free_memory, pick_device, pick_dtype
from model import GPT
from text.readers import find_sources
from tokenizer import Tokenizer


def main(s: Settings) -> None:
    """Load, write, and keep what was written."""
    warnings.formatwarning = lambda message, *_: f"{message}\n"  # for people, so without the line of code
    starts = read_starts(s)
    device = pick_device(s.device)
    folder = checkpoint.find_checkpoint(s.model or checkpoint.newest_run(Path("out")))
    tokenizer, model = load(folder, s, device)
    s = replace(s, compile=isinstance(model, CompiledGPT))
    seed = s.seed or secrets.randbelow(10**6) + 1
    print(f"{folder.as_posix()}, seed {seed}", file=sys.stderr)
    file = "samples.txt" if s.save is True else s.save
    if file:
        append(file, "")  # say now if it cannot be written
    if s.interactive:
        return together(model, tokenizer, s, seed, folder, file or "story.txt")

    jobs = [Sample(tokenizer, start, s) for start in starts for _ in range(s.num_samples)]
    tokens, block = max(len(sample.ids) for sample in jobs), model.config.block_size
    if tokens > block:
        print(f"the start has {tokens:,} tokens, of which the model sees the last {block:,}", file=sys.stderr)
    rows, began = 1 if s.compile else rows_that_fit(model, device, s.max_new_tokens), time.perf_counter()
    for first in range(0, len(jobs), rows):
        batch = jobs[first : first + rows]
        try:
            write(model, tokenizer, batch, s, seed, first, Screen(s, first, len(jobs)))
        finally:  # Ctrl-C, too
            if file:
                append(file, "".join(record(sample.start, sample.text, n, s, seed, folder, file) for n, sample in enumerate(batch, first + 1)))
    seconds, tokens = time.perf_counter() - began, sum(sample.written for sample in jobs)
    saved = f"; added to {file}" if file else ""
    print(f"{tokens:,} tokens in {seconds:.1f} s, {tokens / seconds:,.0f} tokens/s{saved}", file=sys.stderr)


def load(folder: Path, s: Settings, device: torch.device) -> tuple[Tokenizer, GPT]:
    """A checkpoint's tokenizer, and its model on the device in the precision that was asked for."""
    tokenizer, model = checkpoint.load_tokenizer(folder), checkpoint.load_pretrained(folder)
    if model.config.vocab_size < tokenizer.vocab_size:
        raise UserError(f"{folder}: the vocabulary has {tokenizer.vocab_size:,} tokens, the model {model.config.vocab_size:,}")
    dtype = pick_dtype(s.dtype, device)
    for asked in ([f"--quantize={s.quantize}"] if s.quantize != "none" else []) + (["--compile"] if s.compile else []):
        if device.type != "cpu":
            raise UserError(f"{asked} is for writing on a CPU (--device=cpu); this is {device}")
    if s.compile:
        print("compiling ...", file=sys.stderr)
    return tokenizer, for_writing(model, device, dtype, s.quantize, s.compile)


def read_starts(s: Settings) -> list[str]:
    """The prompts, of which there is always one: "" starts a chapter."""
    if not s.start_file:
        return s.start or [""]
    text = "".join(block for source in find_sources([s.start_file]) for document in source.documents() for block in document)
    return [line.rstrip("\r") for line in text.split("\n") if line.strip()] or [""]


def rows_that_fit(model: GPT, device: torch.device, max_new_tokens: int) -> int:
    """How many samples to write at once: what half of the free memory holds of caches, logits and ids; 16 where the system does not tell."""
    c = model.config
    wide = 4 if device.type == "cpu" else model.transformer.wpe.weight.element_size()
    cache = 2 * c.n_layer * c.n_embd * c.block_size * wide
    activations = 40 * c.n_embd * c.block_size  # of one block, while the prompt is read
    tokens = 24 * max_new_tokens  # ids, twice while they are laid out, and a random number each
    row = cache + activations + tokens + 40 * c.vocab_size
    return max(1, free_memory(device) // 2 // row) if free_memory(device) else 16


def write(model: GPT, tokenizer: Tokenizer, batch: list["Sample"], s: Settings, seed: int, first_row: int, screen: "Screen") -> None:
    """Write all samples of a batch at once, until each is done. What is written is in them at any moment, also after a Ctrl-C."""
    device, block = model.transformer.wpe.weight.device, model.config.block_size
    prompts = [sample.ids[-block:] for sample in batch]
    longest, shortest = max(map(len, prompts)), min(map(len, prompts))
    idx = torch.full((len(batch), longest), -1)
    for row, prompt in enumerate(prompts):
        idx[row, : len(prompt)] = torch.tensor(prompt)
    grammar = [torch.from_numpy(table).to(device) for table in tokenizer.grammar(model.config.vocab_size)]
    tokens = model.stream(idx.to(device), s.max_new_tokens, s.temperature, s.top_k, s.top_p, s.min_p, s.repetition_penalty,
                          s.repetition_window, grammar, seed, first_row)  # fmt: skip
    waiting, read_every = [], 1 if device.type == "cpu" else 8  # reading a token makes the host wait for the GPU
    screen.begin(batch)
    for t, token in enumerate(tokens, shortest):
        waiting.append(token)
        if len(waiting) < read_every and t < longest + s.max_new_tokens - 1:
            continue
        for at, ids in enumerate(torch.stack(waiting).tolist(), t + 1 - len(waiting)):
            for sample, prompt, i in zip(batch, prompts, ids):
                if len(prompt) <= at and not sample.done:
                    sample.add(i)
        waiting.clear()
        screen.update()
        if all(sample.done for sample in batch):
            break


class Sample:
    """One text as it is written: ids in, whole characters out."""

    def __init__(self, tokenizer: Tokenizer, start: str, s: Settings):
        """start: the prompt; "" starts a chapter. Raises UserError when the vocabulary holds nothing of it."""
        try:
            self.ids = tokenizer.encode_lines(start or "[CLS]").tolist()
        except UnicodeEncodeError:
            raise UserError(f"--start={start!r} is not valid text") from None
        if not self.ids:
            raise UserError(f"--start={start!r} is nothing to this vocabulary")
        self.tokenizer, self.stop, self.limit = tokenizer, s.stop, s.max_new_tokens
        self.start, self.text = start, start.replace("[CLS]", "").replace("[SEP]", "\n")
        self.from_here, self.written, self.done = len(self.text), 0, False
        self.held = []  # bytes that are no character yet
        self.before = [i for i in self.ids[-1:] if i != tokenizer.cls and not tokenizer.is_byte[i]]  # words have spaces between them

    def add(self, i: int) -> None:
        """The next id."""
        tokenizer = self.tokenizer
        self.written += 1
        self.done = self.written == self.limit or (i == tokenizer.cls and self.stop == "chapter") or (i == tokenizer.sep and self.stop == "paragraph")
        self.held.append(i)
        if i == tokenizer.cls:
            piece = "" if self.stop == "chapter" else "\n\n"
        else:
            piece = tokenizer.decode(self.before + self.held)[len(tokenizer.decode(self.before)) :]
            if tokenizer.is_byte[i] and "\ufffd" in piece:
                return  # a part of a character: held back until it is whole
        self.before = [] if tokenizer.is_byte[i] or i == tokenizer.cls else [i]
        self.ids += self.held
        self.held, self.text = [], self.text + piece
        if self.stop not in ("", "chapter", "paragraph") and (end := self.text.find(self.stop, self.from_here)) >= 0:
            self.text, self.done = self.text[: end + len(self.stop)], True


class Screen:
    """Shows a batch: the first sample that is not done as it grows, those before it in full, one under the other."""

    def __init__(self, s: Settings, first: int = 0, count: int = 1):
        """first: the number of samples shown before; count: of all."""
        self.stream, self.first, self.many = s.stream, first, count > 1
        watched = s.stream and sys.stdout.isatty()
        self.bar = tqdm(total=s.max_new_tokens, unit=" tokens each", leave=False, disable=True if watched else None)

    def begin(self, batch: list[Sample]) -> None:
        self.batch, self.row, self.shown = batch, -1, 0
        self._next()

    def _next(self) -> None:
        self.row, self.shown = self.row + 1, 0
        if self.many and self.row < len(self.batch):
            print(heading(self.first + self.row + 1))

    def update(self) -> None:
        """Show what is new."""
        self.bar.update(max(sample.written for sample in self.batch) - self.bar.n)
        if not self.stream and not all(sample.done for sample in self.batch):
            return
        while self.row < len(self.batch):
            sample = self.batch[self.row]
            print(sample.text[self.shown :], end="\n" if sample.done else "", flush=True)
            self.shown = len(sample.text)
            if not sample.done:
                return
            self._next()
        self.bar.close()


# -- what stays --------------------------------------------------------------------------------------------------------------


CHOICES = ("max_new_tokens", "stop", "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "repetition_window")
"""The settings that decide what is written."""


def heading(number: int) -> str:
    """GPT2-Chinese's line over each sample."""
    return "=" * 40 + f" SAMPLE {number} " + "=" * 40


def record(start: str, text: str, number: int, s: Settings, seed: int, folder: Path, file: str) -> str:
    """A sample as it is saved: a heading and the text, or one JSON object a line in a .jsonl file."""
    if not str(file).endswith(".jsonl"):
        return f"{heading(number)}\n{text}\n"
    chosen = (*CHOICES, "dtype", "quantize", "compile")
    facts = {"prompt": start, "text": text, "sample": number, "seed": seed, "model": folder.as_posix()}
    return json.dumps({**facts, "settings": {name: asdict(s)[name] for name in chosen}}, ensure_ascii=False) + "\n"


def append(path: str, text: str) -> None:
    """Add to the end of a file, so that nothing written before is lost."""
    with naming(path), open(path, "a", encoding="utf-8", newline="\n") as file:
        file.write(text)


def replace_end(path: str, before: str, text: str) -> None:
    """The same, but in place of what was added before, if the file still ends with that. At a full disk the file is left as it was."""
    path = os.path.realpath(path)  # not the link in place of the file
    if os.path.exists(path) and not os.path.isfile(path):  # a device or a pipe keeps nothing to be replaced
        return append(path, text)
    aside = Path(f"{path}.writing")
    with naming(path):
        try:
            old = Path(path).read_bytes() if Path(path).exists() else b""
            aside.write_bytes(old.removesuffix(before.encode()) + text.encode())
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)


@contextmanager
def naming(path: str):
    """An error of the disk's names the file: a full one says of itself only that it is full."""
    try:
        yield
    except OSError as error:
        error.filename = path
        raise


# -- together ----------------------------------------------------------------------------------------------------------------

HELP = """Enter writes on; what you type is added to the story (\\n: a line break); Ctrl-C stops the writing.
/undo takes back the last piece   /retry writes it otherwise   /save [FILE] keeps the story ({file})
/set top_p 0.9 changes a setting   /help shows this   /quit or Ctrl-D leaves"""
COMMANDS = ("/undo", "/retry", "/save", "/set", "/help", "/quit", "/exit")


def together(model: GPT, tokenizer: Tokenizer, s: Settings, seed: int, folder: Path, file: str) -> None:
    """The interactive loop. The story is a list of pieces that were typed or written; with --save it is kept after each of them."""
    if hasattr(sys.stdin, "reconfigure"):
        sys.stdin.reconfigure(encoding="utf-8", errors="replace")
    print(HELP.format(file=file), file=sys.stderr)
    first = Sample(tokenizer, s.start[0] if s.start else "", s)
    pieces, turn = [Piece(first.ids, first.text)], 0
    kept = {}  # file -> the story as it was last kept there

    def keep(path: str) -> None:
        """The story at the end of a file: as it is, or as a JSON line."""
        text = record(first.start, told(pieces), 1, s, seed, folder, path) if path.endswith(".jsonl") else told(pieces) + "\n"
        replace_end(path, kept.get(path, ""), text)
        kept[path] = text

    print(first.text, end="", flush=True)
    while True:
        try:
            line = input("\n> ")
        except (EOFError, KeyboardInterrupt):
            print()
            line = "/quit"
        command, rest = (*line.strip().split(maxsplit=1), "", "")[:2]
        if command[:1] in ("／", "、") and "/" + command[1:] in COMMANDS:  # what a Chinese keyboard makes of the slash
            command = "/" + command[1:]
        if command in ("/quit", "/exit"):
            if s.save:
                keep(file)  # a disk that is still full ends the program
            return
        try:
            if command == "/help":
                print(HELP.format(file=file))
            elif command == "/save":
                keep(rest or file)
                print(f"{len(told(pieces)):,} characters are in {rest or file}")
            elif command == "/set":
                name, _, value = rest.replace("=", " ").partition(" ")
                if name not in CHOICES:
                    raise UserError(f"what can be set here: {' '.join(CHOICES)}")
                s = with_setting(s, name, value.strip())
                print(f"{name} is {getattr(s, name)}")
            elif command == "/undo":
                if len(pieces) == 1:
                    raise UserError("there is nothing to take back")
                pieces.pop()
                print(told(pieces)[-300:], end="")
            elif command.startswith("/") and command != "/retry":
                raise UserError(f"there is no command {command}; /help lists them")
            else:
                if command == "/retry" and pieces[-1].written:
                    pieces.pop()
                elif command != "/retry" and line.strip():
                    text = line.replace("\\n", "\n")
                    pieces.append(Piece(tokenizer.encode_lines(text).tolist(), text.replace("[CLS]", "\n\n").replace("[SEP]", "\n")))
                turn += 1
                pieces.append(go_on(model, tokenizer, pieces, s, seed, turn))
            if s.save:
                keep(file)
        except UserError as error:
            print(error, file=sys.stderr)
        except OSError as error:
            print(f"cannot write {error.filename}: {error.strerror or error}", file=sys.stderr)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            print(f"out of memory: {first_line(error)}", file=sys.stderr)


@dataclass
class Piece:
    """A piece of a story: its ids, and its text as it was typed or shown."""

    ids: list[int]
    text: str
    written: bool = False


def told(pieces: list[Piece]) -> str:
    """The text of a story."""
    return "".join(piece.text for piece in pieces)


def go_on(model: GPT, tokenizer: Tokenizer, pieces: list[Piece], s: Settings, seed: int, turn: int) -> Piece:
    """Write a piece after those that there are and show it, the end of the text before it first. Ctrl-C ends it."""
    ids = [i for piece in pieces for i in piece.ids]
    sample = Sample(tokenizer, "[CLS]", s)
    sample.ids, sample.text = list(ids), told(pieces).rpartition("\n")[2][-100:]
    sample.before, sample.from_here = [i for i in ids[-1:] if i != tokenizer.cls and not tokenizer.is_byte[i]], len(sample.text)
    try:
        write(model, tokenizer, [sample], s, seed, turn, Screen(s))
    except KeyboardInterrupt:
        print()
    ids = sample.ids[len(ids) :]
    end = "\n\n" if s.stop == "chapter" and ids[-1:] == [tokenizer.cls] else ""  # what comes next begins a chapter
    return Piece(ids, sample.text[sample.from_here :] + end, written=True)


if __name__ == "__main__":
    run(main, settings)
