"""
Writing: python bench/sampling.py --nanogpt=PATH

GPT-2 small with 13,317 tokens and random weights, plain sampling from all tokens, beside transformers' generate with its cache (where it is
installed) and nanoGPT's (a checkout of it; without a cache, so only --tokens/10 of them). Also: ten samples at once, the share of
the memory bandwidth that is reached, the time to the first token of a folder, and, with --model (a trained run), what int8 costs in loss.
On a CPU also with the step compiled (where there is a C++ compiler), on a CUDA GPU also without the CUDA graph.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from configurator import configure, run  # noqa: E402


@dataclass
class Settings:
    tokens: int = 1000  # how many to write
    rounds: int = 3  # how often each is measured
    nanogpt: str = ""  # a checkout of nanoGPT to measure beside
    model: str = ""  # a trained run or checkpoint, for the loss with 8-bit weights
    json: str = ""  # also write the figures to this file


settings = configure(Settings) if __name__ == "__main__" else None  # before the heavy imports: --help answers at once

import importlib.util
import math
import os
import subprocess
import tempfile
import time

import torch
from measure import ROOT, load_nanogpt, side_by_side, show

import checkpoint
from dataset import Corpus, validation_windows
from generation.inference import for_writing
from machine import pick_device, why_not_compile
from model import GPT, GPTConfig
from tokenizer import BYTES, SPECIALS, Tokenizer

VOCAB = 13317


def rows(s: Settings) -> list[dict]:
    device = pick_device()
    cpu, cuda, n = device.type == "cpu", device.type == "cuda", s.tokens
    compiles = cpu and not why_not_compile(device)
    start = torch.zeros(1, 1, dtype=torch.long, device=device)
    fresh = lambda *how, **more: for_writing(GPT(GPTConfig(VOCAB)), device, *how, **more)  # noqa: E731
    ways = {"fp32": (torch.float32,), "bf16": (torch.bfloat16,)} | ({"int8": (torch.bfloat16, "int8")} if cpu else {})
    models = {name: fresh(*how) for name, how in ways.items()}
    if cuda:
        models["bf16 without a CUDA graph"] = GPT(GPTConfig(VOCAB)).eval().to(device, torch.bfloat16)
    several = list(models)  # which of them write several texts at once
    if compiles:
        models |= {f"{name} compiled": fresh(*how, compile=True) for name, how in ways.items()}
    calls = {f"ours, {name}": lambda m=m: m.generate(start, n, seed=1)[0, -1].item() for name, m in models.items()}
    if importlib.util.find_spec("transformers"):
        from transformers import GPT2Config, GPT2LMHeadModel

        for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
            peer = GPT2LMHeadModel(GPT2Config(vocab_size=VOCAB)).eval().to(device, dtype)
            peer.generation_config.eos_token_id = peer.generation_config.pad_token_id = VOCAB - 1
            calls[f"transformers, {name}"] = lambda m=peer: m.generate(start, max_new_tokens=n, min_new_tokens=n, do_sample=True, top_k=0)[0, -1].item()
    much, speeds = torch.ones(2**27, device=device), []  # 512 MiB, to be read

    def read_memory():
        for _ in range(5):
            began = time.perf_counter()
            much.sum().item()
            speeds.append(much.nbytes / (time.perf_counter() - began))

    seconds = dict(zip([*calls, ""], side_by_side(s.rounds, *calls.values(), read_memory, warm_up=cuda)))
    bandwidth = max(speeds)  # what the machine can do; on a shared one it is often less
    del seconds[""]
    rate = {name: n / taken for name, taken in seconds.items()}
    found = [{"what": "memory bandwidth (a sum over 512 MiB)", "ours": bandwidth / 1e9, "unit": "GB/s"}]
    for name, model in models.items():
        share = bytes_a_token(model, name, n) * rate[f"ours, {name}"] / bandwidth
        row = {"what": f"one stream of {n:,} tokens, {name}: {share:.0%} of the bandwidth", "ours": rate[f"ours, {name}"], "unit": "tokens/s"}
        peers = [other for other in rate if other.startswith("transformers")]
        found += [row | {"other": other, "peer": rate[other]} for other in peers] or [row]
    ten = start.expand(10, 1)
    for name, taken in zip(several, side_by_side(1, *(lambda m=models[m]: m.generate(ten, n, seed=1)[0, -1].item() for m in several), warm_up=cuda)):
        found.append({"what": f"ten samples of {n:,} tokens at once, {name}", "ours": 10 * n / taken, "unit": "tokens/s"})
    if s.nanogpt:
        module, part = load_nanogpt(s.nanogpt), max(1, n // 10)
        peer = module.GPT(module.GPTConfig(vocab_size=VOCAB, dropout=0.0)).eval().to(device)
        own, theirs = side_by_side(1, lambda: models["fp32"].generate(start, part, seed=1)[0, -1].item(), lambda: peer.generate(start, part)[0, -1].item())
        found.append({"what": f"one stream of {part:,} tokens, fp32", "ours": part / own, "unit": "tokens/s", "other": "nanoGPT", "peer": part / theirs})
    found += [{"what": f"first token of a folder, after torch's import{how}", "ours": taken, "unit": "s"} for how, taken in first_token(compiles).items()]
    if s.model:
        bf16, int8 = losses(s.model)
        found.append({"what": f"validation loss of {s.model}, int8 weights (beside bf16)", "ours": int8, "unit": "nats/token", "other": "bf16", "peer": bf16})
    return found


def bytes_a_token(model: GPT, name: str, n: int) -> int:
    """What must be read for a token: all weights but the positions' once, and on average half of the cache's n positions."""
    c = model.config
    weights = 12 * c.n_layer * c.n_embd**2 + c.padded_vocab_size * c.n_embd
    cache = 2 * c.n_layer * c.n_embd * min(n, c.block_size) // 2
    wide = 1 if name.startswith("int8") else model.transformer.wpe.weight.element_size()
    return weights * wide + cache * model.new_cache(1, 1).kv.element_size()


def first_token(compile: bool) -> dict[str, float]:
    """Seconds that `python sample.py --max_new_tokens=1` takes on a GPT-2-small folder, beyond what it takes to import torch. compile: also with
    --compile, for the first time on a machine and later."""
    tokenizer = Tokenizer([*SPECIALS, *BYTES, *(chr(0x4E00 + i) for i in range(VOCAB - 261))])
    with tempfile.TemporaryDirectory() as folder:
        checkpoint.save_pretrained(GPT(GPTConfig(VOCAB)), Path(folder) / "small", tokenizer)
        environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": f"{folder}/compiled"}  # where nothing is yet

        def seconds(rounds: int, *command: str) -> float:
            once = lambda: subprocess.run([sys.executable, *command], check=True, capture_output=True, env=environment)  # noqa: E731
            return side_by_side(rounds, once, warm_up=False)[0]

        write = str(ROOT / "sample.py"), f"--model={folder}/small", "--max_new_tokens=1", "--seed=1"
        taken = {"": seconds(3, *write)}
        if compile:
            taken |= {", compiled for the first time": seconds(1, *write, "--compile"), ", compiled before": seconds(3, *write, "--compile")}
        importing = seconds(3, "-c", "import torch")
    return {how: each - importing for how, each in taken.items()}


@torch.no_grad()
def losses(folder: str) -> list[float]:
    """Held-out nats per token of a run in bf16 and with 8-bit weights, in windows side by side."""
    path = checkpoint.find_checkpoint(folder)
    corpus = Corpus.open(checkpoint.facts(path)["data_dir"])
    found = []
    for quantize in ("none", "int8"):
        model, total = for_writing(checkpoint.load_pretrained(path), torch.device("cpu"), torch.bfloat16, quantize), 0.0
        x, y = map(torch.from_numpy, validation_windows(corpus.val, model.config.block_size))
        for rows in torch.arange(len(x)).split(8):
            logits = model(x[rows])[0].float()
            total += torch.nn.functional.cross_entropy(logits.flatten(0, 1), y[rows].flatten(), reduction="sum").item()
        found.append(total / (y >= 0).sum().item())
    assert all(map(math.isfinite, found))
    return found


if __name__ == "__main__":
    run(lambda s: show(rows(s), s.json), settings)
