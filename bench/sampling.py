"""
Generation: python bench/sampling.py --nanogpt=PATH

GPT-2 small with 13,317 tokens and random weights, plain sampling from all tokens. In turn with transformers,
llama-cpp-python and CTranslate2, where they are installed, and with nanoGPT (a checkout; it has no cache, so a tenth of
the tokens). Also: the fraction of the memory bandwidth that is reached, ten texts at once, what `python sample.py`
prints as its rate, the time to the first token of a folder, and, with --model, what int8 weights cost in loss.
"""

from dataclasses import dataclass

from measure import ROOT, load_nanogpt, show, side_by_side

from configurator import configure, run


@dataclass
class Settings:
    tokens: int = 1000  # tokens to generate
    rounds: int = 3  # measurements of each
    nanogpt: str = ""  # a checkout of nanoGPT to compare with
    model: str = ""  # a trained run or checkpoint, for the loss with int8 weights


settings = configure(Settings) if __name__ == "__main__" else None

import re
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import peers
import torch

import checkpoint
from dataset import Corpus, validation_windows
from generation.optimize import optimize_for_inference
from machine import compile_error, pick_device
from model import GPT, IGNORE_INDEX, GPTConfig
from tokenizer import BYTES, SPECIALS, Tokenizer

VOCAB = 13317


def rows(s: Settings) -> list[dict]:
    """One stream, ten texts at once, sample.py, the first token, and the loss with int8 weights."""
    device = pick_device()
    models = optimized_models(device)
    tokenizer = Tokenizer([*SPECIALS, *BYTES, *(chr(0x4E00 + i) for i in range(VOCAB - 261))])
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / "small"
        checkpoint.save_pretrained(GPT(GPTConfig(VOCAB)), small, tokenizer)
        found = one_stream(models, small, device, s)
        found += ten_texts(models, small, device, s.tokens)
        if s.nanogpt:
            found.append(one_stream_of_nanogpt(models["fp32"], device, s))
        found += through_sample_py(small, s) + first_token(small)
    return found + ([int8_loss(s.model)] if s.model else [])


def optimized_models(device: torch.device) -> dict[str, GPT]:
    """Name -> a model that is ready for generation."""
    ways = {"fp32": (torch.float32,), "bf16": (torch.bfloat16,)}
    if device.type == "cpu":
        ways["int8"] = (torch.bfloat16, "int8")
        if not compile_error(device):
            ways["int8 compiled"] = (torch.bfloat16, "int8", True)
    models = {name: optimize_for_inference(GPT(GPTConfig(VOCAB)), device, *way) for name, way in ways.items()}
    if device.type == "cuda":
        models["bf16 without CUDA graphs"] = GPT(GPTConfig(VOCAB)).eval().to(device, torch.bfloat16)
    return models


def sampling(model, device: torch.device, new_tokens: int, batch_size: int = 1):
    """A function that generates and waits for the last token."""
    start = torch.zeros(batch_size, 1, dtype=torch.long, device=device)
    return lambda: model.generate(start, new_tokens, seed=1)[0, -1].item()


def one_stream(models: dict[str, GPT], folder: Path, device: torch.device, s: Settings) -> list[dict]:
    """The memory bandwidth, the speed of each model, and the fastest next to what others reach."""
    calls = {name: sampling(model, device, s.tokens) for name, model in models.items()}
    others = peers.transformers(folder, device)
    if device.type == "cpu":
        others |= peers.llama_cpp(folder) | peers.ctranslate2(folder)
    calls |= {name: partial(generate, s.tokens) for name, generate in others.items()}
    numbers, speeds = torch.ones(2**27, device=device), []  # 512 MiB to read

    def read_memory():
        for _ in range(5):
            began = time.perf_counter()
            numbers.sum().item()
            speeds.append(numbers.nbytes / (time.perf_counter() - began))

    *taken, _ = side_by_side(s.rounds, *calls.values(), read_memory, warm_up=device.type == "cuda")
    rate = {name: s.tokens / seconds for name, seconds in zip(calls, taken)}
    bandwidth = max(speeds)  # of the machine; a shared one often gives less
    found = [{"what": "memory bandwidth (a sum over 512 MiB)", "ours": bandwidth / 1e9, "unit": "GB/s"}]
    for name, model in models.items():
        fraction = bytes_per_token(model, name, s.tokens) * rate[name] / bandwidth
        what = f"one stream of {s.tokens:,} tokens, {name}: {fraction:.0%} of the bandwidth"
        found.append({"what": what, "ours": rate[name], "unit": "tokens/s"})
    return found + fastest_with_others(f"one stream of {s.tokens:,} tokens", models, others, rate)


def fastest_with_others(what: str, models: dict[str, GPT], others: dict, rate: dict[str, float]) -> list[dict]:
    """The fastest of our models next to each of the others."""
    best = max(models, key=rate.get)
    row = {"what": f"{what}, {best}", "ours": rate[best], "unit": "tokens/s"}
    return [row | {"other": name, "peer": rate[name]} for name in others]


def bytes_per_token(model: GPT, name: str, new_tokens: int) -> int:
    """What is read per token: all weights but the positions' once, and half of the cache's positions on average."""
    c = model.config
    weights = 12 * c.n_layer * c.n_embd**2 + c.padded_vocab_size * c.n_embd
    cache = 2 * c.n_layer * c.n_embd * min(new_tokens, c.block_size) // 2
    weight_size = 1 if name.startswith("int8") else model.transformer.wpe.weight.element_size()
    return weights * weight_size + cache * (model.decoder or model).new_cache(1, 1).kv.element_size()


def ten_texts(models: dict[str, GPT], folder: Path, device: torch.device, new_tokens: int) -> list[dict]:
    """The speed of ten texts in one batch, of all models but the compiled one, which decodes a single text."""
    models = {name: model for name, model in models.items() if "compiled" not in name}
    calls = {name: sampling(model, device, new_tokens, batch_size=10) for name, model in models.items()}
    others = peers.ctranslate2(folder, rows=10) if device.type == "cpu" else {}
    calls |= {name: partial(generate, new_tokens) for name, generate in others.items()}
    taken = side_by_side(1, *calls.values(), warm_up=device.type == "cuda")
    rate = {name: 10 * new_tokens / seconds for name, seconds in zip(calls, taken)}
    what = f"ten texts of {new_tokens:,} tokens at once"
    found = [{"what": f"{what}, {name}", "ours": rate[name], "unit": "tokens/s"} for name in models]
    return found + fastest_with_others(what, models, others, rate)


def one_stream_of_nanogpt(model: GPT, device: torch.device, s: Settings) -> dict:
    """The speed of a tenth of the tokens, next to nanoGPT's."""
    module, part = load_nanogpt(s.nanogpt), max(1, s.tokens // 10)
    peer = module.GPT(module.GPTConfig(vocab_size=VOCAB, dropout=0.0)).eval().to(device)
    start = torch.zeros(1, 1, dtype=torch.long, device=device)
    ours, theirs = side_by_side(1, sampling(model, device, part), lambda: peer.generate(start, part)[0, -1].item())
    what = f"one stream of {part:,} tokens, fp32"
    return {"what": what, "ours": part / ours, "unit": "tokens/s", "other": "nanoGPT", "peer": part / theirs}


def run_sample_py(folder: Path, *arguments: str) -> str:
    """Run `python sample.py` on the folder. Returns what it prints on stderr."""
    command = [sys.executable, str(ROOT / "sample.py"), f"--model={folder}", "--seed=1", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stderr


def through_sample_py(folder: Path, s: Settings) -> list[dict]:
    """The rate in the last line of sample.py, with its filters, its constraint and its output."""
    found = []
    for flags in ([], ["--quantize=none"], ["--num_samples=10"]):
        command = [f"--max_new_tokens={s.tokens}", *flags]
        rates = [run_sample_py(folder, *command).splitlines()[-1] for _ in range(s.rounds)]
        rates = [float(re.search(r"([\d,]+) tokens/s", line)[1].replace(",", "")) for line in rates]
        what = " ".join(["python sample.py", *command])
        found.append({"what": what, "ours": statistics.median(rates), "unit": "tokens/s"})
    return found


def first_token(folder: Path) -> list[dict]:
    """Seconds of `python sample.py --max_new_tokens=1` on a GPT-2-small folder, without those of importing torch."""
    importing = partial(subprocess.run, [sys.executable, "-c", "import torch"], check=True)
    total, torch_alone = side_by_side(3, partial(run_sample_py, folder, "--max_new_tokens=1"), importing, warm_up=False)
    return [{"what": "first token of a folder, after torch's import", "ours": total - torch_alone, "unit": "s"}]


def int8_loss(folder: str) -> dict:
    """The validation loss of a run with int8 weights, next to bf16."""
    int8, bf16 = (validation_loss(folder, quantize) for quantize in ("int8", "none"))
    what = f"validation loss of {folder}, int8 weights"
    return {"what": what, "ours": int8, "unit": "nats/token", "other": "bf16", "peer": bf16}


@torch.no_grad()
def validation_loss(folder: str, quantize: str) -> float:
    """Nats per token on the held-out text, in windows that do not overlap. On a CPU, in bf16."""
    path = checkpoint.find_checkpoint(folder)
    corpus = Corpus.open(checkpoint.read_metadata(path)["data_dir"])
    cpu = torch.device("cpu")
    model, total = optimize_for_inference(checkpoint.load_pretrained(path), cpu, torch.bfloat16, quantize), 0.0
    x, y = map(torch.from_numpy, validation_windows(corpus.val, model.config.block_size))
    for batch in torch.arange(len(x)).split(8):
        logits = model(x[batch])[0].float().flatten(0, 1)
        total += torch.nn.functional.cross_entropy(logits, y[batch].flatten(), reduction="sum").item()
    return total / (y != IGNORE_INDEX).sum().item()


if __name__ == "__main__":
    run(lambda s: show(rows(s)), settings)
