"""
Measure what this project claims, beside what a user would run instead, on the machine at hand.

    python bench/run.py                                 all of it, beside transformers where it is installed
    python bench/run.py --only=train --nanogpt=PATH     one part, beside a checkout of nanoGPT too

Each pair is measured in turn (A B A B ...) and given by its medians, so that a noisy machine shakes both alike.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from configurator import configure, run  # noqa: E402


@dataclass
class Settings:
    only: str = ""  # encode, train, sample or start; empty: all
    text: str = ""  # a text file to encode; empty: the classic that prepare.py fetches
    vocab: str = ""  # a BERT vocabulary file for the comparison of tokenizers; empty: one made from the text
    nanogpt: str = ""  # a checkout of nanoGPT to measure beside
    rounds: int = 5  # how often each is measured
    json: str = ""  # also write the figures to this file


settings = configure(Settings) if __name__ == "__main__" else None  # before the heavy imports: --help answers at once

import importlib.util
import json
import os
import platform
import statistics
import subprocess
import time
from collections import Counter

import torch

import prepare
from machine import device_name, pick_device, pick_dtype
from model import GPT, GPTConfig
from tokenizer import BYTES, SPECIALS, Tokenizer


def main(s: Settings) -> None:
    device = pick_device()
    rows = [{"what": "bf16 matmul rate, 2048 x 2048", "ours": matmul_rate(device) / 1e9, "unit": "GFLOP/s"}]
    parts = {"encode": encode, "train": train_step, "sample": sample, "start": start}
    for name, part in parts.items():
        if not s.only or s.only == name:
            rows += part(s, device)
    machine = f"{device_name(device)}, {platform.machine()}, torch {torch.__version__}"
    print(f"{machine}\n\n| what | ours | other | ratio |\n|---|---|---|---|")
    for row in rows:
        print(f"| {row['what']} | {row['ours']:,.3g} {row['unit']} | " + " | ".join(cells(row)) + " |")
    if s.json:
        Path(s.json).write_text(json.dumps({"machine": machine, "rows": rows}, indent=2), encoding="utf-8")


def cells(row: dict) -> tuple[str, str]:
    """The peer's figure, and how many times better ours is (a rate: higher; seconds: lower)."""
    if "peer" not in row:
        return "", ""
    ratio = row["peer"] / row["ours"] if row["unit"] == "s" else row["ours"] / row["peer"]
    return f"{row['other']}: {row['peer']:,.3g}", f"{ratio:.2f}"


def side_by_side(rounds: int, *calls) -> list[float]:
    """The median seconds of each call, taken in turn after a warm-up of each."""
    for call in calls:
        call()
    times = [[] for _ in calls]
    for _ in range(rounds):
        for call, taken in zip(calls, times):
            began = time.perf_counter()
            call()
            taken.append(time.perf_counter() - began)
    return [statistics.median(taken) for taken in times]


def matmul_rate(device) -> float:
    """What this machine multiplies a second, in FLOP: the floor under a training step."""
    a = torch.randn(2048, 2048, device=device).to(pick_dtype("auto", device))
    (seconds,) = side_by_side(9, lambda: (a @ a)[0, 0].item())
    return 2 * 2048**3 / seconds


def encode(s: Settings, device) -> list[dict]:
    """Characters a second through our tokenizer and through transformers' fast BERT tokenizer, same vocabulary."""
    text = Path(s.text or prepare.fetch_classic()).read_text(encoding="utf-8")
    native = Tokenizer.build(Counter(text))
    if s.vocab:
        bert = Tokenizer.load(s.vocab)
    else:
        bert = Tokenizer([*SPECIALS, "##a", *(token for token in native.tokens if token not in {*SPECIALS, *BYTES})])
    rows = []
    calls = [lambda: native.encode(text), lambda: bert.encode(text)]
    sample = text[:500_000]  # enough of the slow one
    if importlib.util.find_spec("transformers"):
        from transformers import BertTokenizer

        path = ROOT / "out" / "bench-vocab.txt"
        bert.save(path)
        peer = BertTokenizer(str(path))
        assert peer(sample, add_special_tokens=False).input_ids == bert.encode(sample).tolist(), "not the same ids"
        calls.append(lambda: peer(sample, add_special_tokens=False).input_ids)
    seconds = side_by_side(s.rounds, *calls)
    for name, mine in (("native", seconds[0]), ("BERT", seconds[1])):
        row = {"what": f"encode, {name} vocabulary", "ours": len(text) / mine / 1e6, "unit": "M characters/s"}
        rows.append(row | ({"other": "transformers BERT", "peer": len(sample) / seconds[2] / 1e6} if len(seconds) > 2 else {}))
    return rows


def train_step(s: Settings, device) -> list[dict]:
    """Tokens a second in a training step of GPT-2 small (forward, backward, clip, AdamW), B=2, T=512, 13,317 tokens."""
    B, T, V = 2, 512, 13317
    idx = torch.randint(0, V, (B, T + 1), device=device)
    x, y = idx[:, :-1].contiguous(), idx[:, 1:].contiguous()
    dtype = pick_dtype("auto", device)
    ours = GPT(GPTConfig(V, T)).to(device)

    def stepper(model, loss_of, cast):
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

        def step():
            with torch.autocast(device.type, dtype, enabled=cast):
                loss = loss_of()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            loss.item()

        return step

    peers, calls = [], [stepper(ours, lambda: ours(x, y, keep_logits=False)[1], True)]
    if s.nanogpt:
        spec = importlib.util.spec_from_file_location("nanogpt_model", Path(s.nanogpt) / "model.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules["nanogpt_model"] = module
        spec.loader.exec_module(module)
        nano = module.GPT(module.GPTConfig(block_size=T, vocab_size=V, dropout=0.0)).to(device)
        peers += ["nanoGPT, fp32 as shipped for CPU", "nanoGPT, bf16 autocast"]
        calls += [stepper(nano, lambda: nano(x, y)[1], False), stepper(nano, lambda: nano(x, y)[1], True)]
    if importlib.util.find_spec("transformers"):
        from transformers import GPT2Config, GPT2LMHeadModel

        hf = GPT2LMHeadModel(GPT2Config(vocab_size=V, n_positions=T)).to(device).eval()
        peers.append("transformers, fp32")
        calls.append(stepper(hf, lambda: hf(x, labels=x).loss, False))
    seconds = side_by_side(s.rounds, *calls)
    ours_rate = B * T / seconds[0]
    share = ours_rate * ours.flops_per_token() / matmul_rate(device)
    rows = [{"what": f"train step, GPT-2 small, {str(dtype)[6:]}: {share:.0%} of the matmul rate", "ours": ours_rate, "unit": "tokens/s"}]
    return rows + [
        {"what": "train step, GPT-2 small", "ours": ours_rate, "unit": "tokens/s", "other": name, "peer": B * T / taken}
        for name, taken in zip(peers, seconds[1:])
    ]


def sample(s: Settings, device) -> list[dict]:
    """Tokens a second of one stream from GPT-2 small, random weights, 100 tokens with the cache."""
    n = 100
    ours = GPT(GPTConfig(13317)).to(device).eval()
    start = torch.zeros(1, 1, dtype=torch.long, device=device)
    peers, calls = [], [lambda: ours.generate(start, n, seed=1)[0, -1].item()]
    if importlib.util.find_spec("transformers"):
        from transformers import GPT2Config, GPT2LMHeadModel

        hf = GPT2LMHeadModel(GPT2Config(vocab_size=13317)).to(device).eval()
        hf.generation_config.eos_token_id = hf.generation_config.pad_token_id = 13316
        peers.append("transformers, fp32")
        calls.append(lambda: hf.generate(start, max_new_tokens=n, min_new_tokens=n, do_sample=True, top_k=0)[0, -1].item())
    seconds = side_by_side(max(1, s.rounds // 2), *calls)
    row = {"what": "sample, GPT-2 small, one stream, fp32", "ours": n / seconds[0], "unit": "tokens/s"}
    return [row | ({"other": peers[0], "peer": n / seconds[1]} if peers else {})]


def start(s: Settings, device) -> list[dict]:
    """Processor seconds of --help, beyond Python's own start."""

    def processor_seconds(*command) -> float:
        before = os.times()
        subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
        after = os.times()
        return after.children_user + after.children_system - before.children_user - before.children_system

    bare = statistics.median(processor_seconds("-c", "pass") for _ in range(s.rounds))
    return [
        {"what": f"{name} --help, beyond Python's own start", "unit": "s",
         "ours": statistics.median(processor_seconds(name, "--help") for _ in range(s.rounds)) - bare}
        for name in ("prepare.py", "train.py", "sample.py", "evaluate.py")
    ]  # fmt: skip


if __name__ == "__main__":
    run(main, settings)
