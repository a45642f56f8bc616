"""
Generation: python bench/sampling.py --nanogpt=PATH

GPT-2 small with 13,317 tokens and random weights, plain sampling from all tokens. Compared with
transformers' generate with its cache, where it is installed, and with nanoGPT's (a checkout; it has
no cache, so a tenth of the tokens). Also: the fraction of the memory bandwidth that is reached, ten
samples at once, the time to the first token of a folder, and, with --model, what int8 weights cost
in loss. On a CPU also the compiled step for int8 weights, where there is a C++ compiler; on a CUDA
GPU also without CUDA graphs.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from configurator import configure, run


@dataclass
class Settings:
    tokens: int = 1000  # tokens to generate
    rounds: int = 3  # measurements of each
    nanogpt: str = ""  # a checkout of nanoGPT to compare with
    model: str = ""  # a trained run or checkpoint, for the loss with int8 weights
    json: str = ""  # also write the figures to this file


settings = configure(Settings) if __name__ == "__main__" else None

import importlib.util
import os
import subprocess
import tempfile
import time

import torch
from measure import ROOT, load_nanogpt, show, side_by_side

import checkpoint
from dataset import Corpus, validation_windows
from generation.optimize import optimize_for_inference
from machine import compile_error, pick_device
from model import GPT, IGNORE_INDEX, GPTConfig
from tokenizer import BYTES, SPECIALS, Tokenizer

VOCAB = 13317


def rows(s: Settings) -> list[dict]:
    """One stream, ten samples at once, the first token, and the loss with int8 weights."""
    device = pick_device()
    compiles = device.type == "cpu" and not compile_error(device)
    models = optimized_models(device, compiles)
    found = one_stream(models, device, s)
    found += ten_samples(models, device, s.tokens)
    if s.nanogpt:
        found.append(one_stream_of_nanogpt(models["fp32"], device, s))
    found += first_token(compiles)
    return found + ([int8_loss(s.model)] if s.model else [])


def optimized_models(device: torch.device, compiles: bool) -> dict[str, GPT]:
    """Name -> a model that is ready for generation."""
    ways = {"fp32": (torch.float32,), "bf16": (torch.bfloat16,)}
    if device.type == "cpu":
        ways["int8"] = (torch.bfloat16, "int8")
    if compiles:
        ways["int8 compiled"] = (torch.bfloat16, "int8", True)
    models = {name: optimize_for_inference(GPT(GPTConfig(VOCAB)), device, *way) for name, way in ways.items()}
    if device.type == "cuda":
        models["bf16 without CUDA graphs"] = GPT(GPTConfig(VOCAB)).eval().to(device, torch.bfloat16)
    return models


def sampling(model, device: torch.device, *length: int, batch_size: int = 1, **settings):
    """A function that generates and waits for the last token. length, settings: arguments of model.generate."""
    start = torch.zeros(batch_size, 1, dtype=torch.long, device=device)
    return lambda: model.generate(start, *length, **settings)[0, -1].item()


def sampling_of_transformers(device: torch.device, new_tokens: int) -> dict:
    """Name -> a function like those of `sampling`. Empty where transformers is not installed."""
    if not importlib.util.find_spec("transformers"):
        return {}
    from transformers import GPT2Config, GPT2LMHeadModel

    settings = {"max_new_tokens": new_tokens, "min_new_tokens": new_tokens, "do_sample": True, "top_k": 0}
    calls = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        model = GPT2LMHeadModel(GPT2Config(vocab_size=VOCAB)).eval().to(device, dtype)
        model.generation_config.eos_token_id = model.generation_config.pad_token_id = VOCAB - 1
        calls[f"transformers, {name}"] = sampling(model, device, **settings)
    return calls


def one_stream(models: dict[str, GPT], device: torch.device, s: Settings) -> list[dict]:
    """The memory bandwidth, and the speed of each model next to transformers'."""
    ours = {name: sampling(model, device, s.tokens, seed=1) for name, model in models.items()}
    peers = sampling_of_transformers(device, s.tokens)
    numbers, speeds = torch.ones(2**27, device=device), []  # 512 MiB to read

    def read_memory():
        for _ in range(5):
            began = time.perf_counter()
            numbers.sum().item()
            speeds.append(numbers.nbytes / (time.perf_counter() - began))

    calls = {**ours, **peers}
    *taken, _ = side_by_side(s.rounds, *calls.values(), read_memory, warm_up=device.type == "cuda")
    rate = {name: s.tokens / seconds for name, seconds in zip(calls, taken)}
    bandwidth = max(speeds)  # of the machine; a shared one often gives less
    found = [{"what": "memory bandwidth (a sum over 512 MiB)", "ours": bandwidth / 1e9, "unit": "GB/s"}]
    for name, model in models.items():
        fraction = bytes_per_token(model, name, s.tokens) * rate[name] / bandwidth
        what = f"one stream of {s.tokens:,} tokens, {name}: {fraction:.0%} of the bandwidth"
        row = {"what": what, "ours": rate[name], "unit": "tokens/s"}
        found += [row | {"other": peer, "peer": rate[peer]} for peer in peers] or [row]
    return found


def bytes_per_token(model: GPT, name: str, new_tokens: int) -> int:
    """What is read per token: all weights but the positions' once, and half of the cache's positions on average."""
    c = model.config
    weights = 12 * c.n_layer * c.n_embd**2 + c.padded_vocab_size * c.n_embd
    cache = 2 * c.n_layer * c.n_embd * min(new_tokens, c.block_size) // 2
    weight_size = 1 if name.startswith("int8") else model.transformer.wpe.weight.element_size()
    return weights * weight_size + cache * (model.decoder or model).new_cache(1, 1).kv.element_size()


def ten_samples(models: dict[str, GPT], device: torch.device, new_tokens: int) -> list[dict]:
    """The speed of ten samples in one batch, of all models but the compiled one, which decodes a single text."""
    models = {name: model for name, model in models.items() if "compiled" not in name}
    calls = {name: sampling(model, device, new_tokens, batch_size=10, seed=1) for name, model in models.items()}
    taken = side_by_side(1, *calls.values(), warm_up=device.type == "cuda")
    what = f"ten samples of {new_tokens:,} tokens at once"
    return [
        {"what": f"{what}, {name}", "ours": 10 * new_tokens / seconds, "unit": "tokens/s"}
        for name, seconds in zip(calls, taken)
    ]


def one_stream_of_nanogpt(model: GPT, device: torch.device, s: Settings) -> dict:
    """The speed of a tenth of the tokens, next to nanoGPT's."""
    module, part = load_nanogpt(s.nanogpt), max(1, s.tokens // 10)
    peer = module.GPT(module.GPTConfig(vocab_size=VOCAB, dropout=0.0)).eval().to(device)
    ours, theirs = side_by_side(1, sampling(model, device, part, seed=1), sampling(peer, device, part))
    row = {"what": f"one stream of {part:,} tokens, fp32", "ours": part / ours, "unit": "tokens/s"}
    return row | {"other": "nanoGPT", "peer": part / theirs}


def first_token(compiles: bool) -> list[dict]:
    """Seconds of `python sample.py --max_new_tokens=1` on a GPT-2-small folder, without those of importing torch."""
    tokenizer = Tokenizer([*SPECIALS, *BYTES, *(chr(0x4E00 + i) for i in range(VOCAB - 261))])
    with tempfile.TemporaryDirectory() as folder:
        checkpoint.save_pretrained(GPT(GPTConfig(VOCAB)), Path(folder) / "small", tokenizer)
        environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": f"{folder}/compiled"}  # empty at first

        def seconds(rounds: int, *command: str) -> float:
            command = [sys.executable, *command]
            call = lambda: subprocess.run(command, check=True, capture_output=True, env=environment)  # noqa: E731
            return side_by_side(rounds, call, warm_up=False)[0]

        sample = [str(ROOT / "sample.py"), f"--model={folder}/small", "--max_new_tokens=1", "--seed=1"]
        taken = {"": seconds(3, *sample)}
        if compiles:
            sample += ["--quantize=int8", "--compile"]
            taken[", compiled for the first time"] = seconds(1, *sample)
            taken[", compiled before"] = seconds(3, *sample)
        importing = seconds(3, "-c", "import torch")
    what = "first token of a folder, after torch's import"
    return [{"what": f"{what}{way}", "ours": total - importing, "unit": "s"} for way, total in taken.items()]


def int8_loss(folder: str) -> dict:
    """The validation loss of a run with int8 weights, next to bf16."""
    int8, bf16 = (validation_loss(folder, quantize) for quantize in ("int8", "none"))
    row = {"what": f"validation loss of {folder}, int8 weights", "ours": int8, "unit": "nats/token"}
    return row | {"other": "bf16", "peer": bf16}


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
    run(lambda s: show(rows(s), s.json), settings)
