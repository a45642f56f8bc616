"""
Generation: python bench/sampling.py

GPT-2 small with 13,317 tokens and random weights, plain sampling from all tokens. In turn with transformers,
llama-cpp-python and CTranslate2, where they are installed. Also: the fraction of the memory bandwidth that is reached,
ten texts at once, what `python sample.py` prints as its rate, the time to the first token of a folder, and, with
--model, what int8 weights cost in loss.
"""

from dataclasses import dataclass

from measure import ROOT, show, side_by_side

from configurator import configure, run


@dataclass
class Settings:
    tokens: int = 1000  # tokens to generate
    rounds: int = 3  # measurements of each
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
from dataset import Corpus
from evaluate import held_out_losses
from generation.optimize import optimize_for_inference
from machine import compile_error, pick_device
from model import GPT, GPTConfig
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
        others = peers.transformers(small, device)
        if device.type == "cpu":
            others |= peers.llama_cpp(small) | peers.ctranslate2(small)
        found = speeds(models, others, device, 1, s.tokens, s.rounds)
        others = peers.ctranslate2(small, rows=10) if device.type == "cpu" else {}
        models.pop("int8 compiled", None)  # it decodes a single text
        found += speeds(models, others, device, 10, s.tokens, s.rounds)
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


def speeds(
    models: dict[str, GPT], others: peers.Peers, device: torch.device, texts: int, tokens: int, rounds: int
) -> list[dict]:
    """The memory bandwidth, the speed of each model with `texts` at once, and the fastest next to what others reach."""
    start = torch.zeros(texts, 1, dtype=torch.long, device=device)

    def generate(model: GPT) -> None:
        model.generate(start, tokens, seed=1)[0, -1].item()  # waits for the last token

    calls = {name: partial(generate, model) for name, model in models.items()}
    calls |= {name: partial(peer, tokens) for name, peer in others.items()}
    memory_speeds, numbers = [], torch.ones(2**27, device=device)  # 512 MiB to read

    def read_memory() -> None:
        for _ in range(5):
            began = time.perf_counter()
            numbers.sum().item()
            memory_speeds.append(numbers.nbytes / (time.perf_counter() - began))

    *taken, _ = side_by_side(rounds, *calls.values(), read_memory)
    rate = {name: texts * tokens / seconds for name, seconds in zip(calls, taken)}
    bandwidth = max(memory_speeds)  # of the machine; a shared one often gives less
    what = f"{texts} x {tokens:,} tokens"
    found = [{"what": "memory bandwidth (a sum over 512 MiB)", "ours": bandwidth / 1e9, "unit": "GB/s"}]
    for name, model in models.items():
        fraction = bytes_per_step(model, name, texts, tokens) * rate[name] / texts / bandwidth
        found.append(
            {"what": f"{what}, {name}: {fraction:.0%} of the bandwidth", "ours": rate[name], "unit": "tokens/s"}
        )
    best = max(models, key=rate.get)
    row = {"what": f"{what}, {best}", "ours": rate[best], "unit": "tokens/s"}
    return found + [row | {"other": name, "peer": rate[name]} for name in others]


def bytes_per_step(model: GPT, name: str, texts: int, new_tokens: int) -> int:
    """What is read per token of each text: all weights but the positions' once, and half of each cache on average."""
    c = model.config
    weights = 12 * c.n_layer * c.n_embd**2 + c.padded_vocab_size * c.n_embd
    cache = 2 * c.n_layer * c.n_embd * min(new_tokens, c.block_size) // 2
    weight_size = 1 if name.startswith("int8") else model.transformer.wpe.weight.element_size()
    return weights * weight_size + texts * cache * (model.decoder or model).new_cache(texts, 1).kv.element_size()


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
    """A run's mean loss on its held-out text with int8 weights, next to bf16. On a CPU."""
    path, cpu = checkpoint.find_checkpoint(folder), torch.device("cpu")
    corpus = Corpus.open(checkpoint.read_metadata(path).get("data_dir", "data/novel"))
    models = (
        optimize_for_inference(checkpoint.load_pretrained(path), cpu, torch.bfloat16, quantize)
        for quantize in ("int8", "none")
    )
    int8, bf16 = (held_out_losses(model, corpus.val, cpu).mean() for model in models)
    what = f"loss of {folder} on held-out text, int8 weights"
    return {"what": what, "ours": int8, "unit": "nats/token", "other": "bf16", "peer": bf16}


if __name__ == "__main__":
    run(lambda s: show(rows(s)), settings)
