"""
Generate text with a trained model.

    python sample.py --start "韩立见此，便大笑起来"      the newest run under out/
    python sample.py --model=out/novel --num_samples=10 --save
    python sample.py --start "[CLS]第一回"              [CLS] starts a chapter; so does an empty start
    python sample.py --interactive                     write a story with the model

The text is shown as it is generated. The same seed gives the same text.
"""

from dataclasses import asdict, dataclass, field, replace
from typing import ClassVar, Literal

from configurator import PathStr, UserError, configure, run, select
from generation.sampling import DecodeOptions, SamplingParams


@dataclass
class Settings:
    model: PathStr = ""  # a run or a checkpoint folder; empty: the newest run under out/
    # what to generate
    start: list[str] = field(default_factory=list)  # the text to continue
    start_file: PathStr = ""  # a file with one start per line
    encoding: str = "auto"  # of that file: utf-8, gb18030, big5, ...
    num_samples: int = 1  # continuations of each start
    max_new_tokens: int = 500  # length of each, at most
    stop: str = ""  # end earlier: chapter, paragraph, or a text after which it ends (\n: a line break)
    seed: int = 0  # the same seed gives the same text; 0: another text each time
    save: bool | PathStr = False  # append the samples to this file (.jsonl: with settings); bare: samples.txt
    stream: bool = True  # show the text while it is generated
    interactive: bool = False  # write a story with the model
    # how the next token is chosen
    temperature: float = 1.0  # below 1 prefers likely tokens, above 1 unlikely ones; 0: always the most likely
    top_k: int = 0  # only the k most likely tokens; 0: all
    top_p: float = 0.95  # only the most likely tokens that reach this probability; 1: all
    min_p: float = 0.0  # only tokens at least this many times as likely as the most likely one; 0: all
    repetition_penalty: float = 1.0  # above 1 makes tokens that were used less likely
    # machine
    device: str = "auto"  # cpu, cuda, cuda:1, mps; auto: the best available
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"  # of weights and products
    quantize: Literal["auto", "none", "int8"] = "auto"  # int8 weights, on a CPU: fast for few texts
    compile: bool | Literal["auto"] = "auto"  # with int8 weights, for one text: compile the decoder (once)

    REPLACED: ClassVar[dict[str, str]] = {
        "repetition_window": "--repetition_penalty, which looks at the whole text",
        "out_dir": "--model=FOLDER",
        "model_path": "--model",
        "prefix": "--start",
        "length": "--max_new_tokens",
        "nsamples": "--num_samples",
        "topk": "--top_k",
        "topp": "--top_p",
        "save_samples": "--save",
        "save_samples_path": "--save=FILE",
        "fast_pattern": "nothing: there is always a KV cache",
    }

    def __post_init__(self):
        self.stop = self.stop.replace("\\n", "\n")
        select(SamplingParams, self), select(DecodeOptions, self)  # check their values
        for name, lowest in (("num_samples", 1), ("seed", 0)):
            if getattr(self, name) < lowest:
                raise UserError(f"--{name}={getattr(self, name)}: {lowest} or more is needed")
        if self.start and self.start_file:
            raise UserError("use --start or --start_file, not both")
        if any(start.startswith("FILE:") for start in self.start):
            raise UserError("--start=FILE:... is nanoGPT's; use --start_file, which has one start per line")
        if self.interactive and (self.num_samples > 1 or self.start_file or len(self.start) > 1):
            raise UserError("--interactive writes one story: no --num_samples, no --start_file, one --start at most")
        if self.temperature == 0 and self.num_samples > 1:
            raise UserError(f"--temperature=0 is deterministic: all {self.num_samples} samples would be the same")


settings = configure(Settings) if __name__ == "__main__" else None  # before the heavy imports, so --help is quick

import secrets
import sys
import time
from pathlib import Path

import checkpoint
from generation.batching import Continuation, generate, max_batch_size
from generation.console import ConsoleStreamer
from generation.interactive import InteractiveSession, story_file
from generation.optimize import load_for_inference
from generation.saving import SampleFile
from machine import pick_device
from model import GPT
from text.cleaning import Cleaner, CleaningOptions
from text.readers import find_sources
from tokenizer import Tokenizer


def main(s: Settings) -> None:
    """Load the model, generate, save."""
    prompts = read_prompts(s)
    device = pick_device(s.device)
    folder = checkpoint.find_checkpoint(s.model or checkpoint.newest_run(Path("out")))
    path = story_file(s.save) if s.interactive else "samples.txt" if s.save is True else s.save
    options, texts = select(DecodeOptions, s), len(prompts) * s.num_samples
    tokenizer, model, options = load_for_inference(folder, device, options, texts, s.max_new_tokens)
    s = replace(s, **asdict(options))
    params, seed = select(SamplingParams, s), s.seed or secrets.randbelow(10**6) + 1
    print(f"{folder.as_posix()}, seed {seed}", file=sys.stderr)
    file = SampleFile(path, folder, seed, {**asdict(params), **asdict(options)}) if path else None
    if s.interactive:
        InteractiveSession(model, tokenizer, params, prompts[0], file, autosave=bool(s.save)).run()
    else:
        continuations = [Continuation(tokenizer, prompt, params) for prompt in prompts for _ in range(s.num_samples)]
        write_samples(model, tokenizer, continuations, s, seed, file)


def write_samples(
    model: GPT, tokenizer: Tokenizer, continuations: list[Continuation], s: Settings, seed: int, file: SampleFile | None
) -> None:
    """Generate in batches as large as the memory allows; show and save each."""
    if file:
        file.append([])  # fails now, not after generating, where the file cannot be written
    params, device = select(SamplingParams, s), model.transformer.wpe.weight.device
    longest, block_size = max(len(c.ids) for c in continuations), model.config.block_size
    if longest > block_size:
        print(f"the start has {longest:,} tokens, of which the model sees the last {block_size:,}", file=sys.stderr)
    # The compiled step is for a single text. With it, each text is a batch of its own, so it does not depend on others.
    rows = 1 if s.compile else max_batch_size(model, device, s.max_new_tokens)
    began = time.perf_counter()
    for first in range(0, len(continuations), rows):
        batch = continuations[first : first + rows]
        streamer = ConsoleStreamer(s.max_new_tokens, s.stream, first, len(continuations))
        try:
            generate(model, tokenizer, batch, params, seed, first, streamer)
        finally:  # also after Ctrl-C
            if file:
                file.append(batch, first + 1)
    seconds, tokens = time.perf_counter() - began, sum(c.new_tokens for c in continuations)
    saved = f"; added to {file.path}" if file else ""
    print(f"{tokens:,} tokens in {seconds:.1f} s, {tokens / seconds:,.0f} tokens/s{saved}", file=sys.stderr)


def read_prompts(s: Settings) -> list[str]:
    """The prompts, at least one: "" starts a chapter. \\n is a line break; a file has one prompt per line."""
    if not s.start_file:
        return [clean_prompt(start.replace("\\n", "\n")) for start in s.start] or [""]
    documents = (document for source in find_sources([s.start_file], s.encoding) for document in source.documents())
    lines = clean_prompt("\n".join("".join(document) for document in documents)).split("\n")
    return [line for line in lines if line] or [""]


def clean_prompt(prompt: str) -> str:
    """Clean a prompt as prepare.py cleans a text: no indents, no carriage returns, no control characters."""
    cleaned = "".join(Cleaner(CleaningOptions()).blocks([prompt]))
    return cleaned if prompt.endswith("\n") else cleaned.removesuffix("\n")


if __name__ == "__main__":
    run(main, settings)
