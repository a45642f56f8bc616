"""
A training step: python bench/train_step.py --nanogpt=PATH

GPT-2 small with 13,317 tokens: forward, backward, clipping, fused AdamW. Beside nanoGPT (a checkout of it) and
transformers, where they are. On a CPU 2 windows of 512 tokens, on a GPU 8 of 1,024. Also: what the loss in pieces and
activation checkpointing cost in time and save in memory.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from configurator import configure, run  # noqa: E402


@dataclass
class Settings:
    nanogpt: str = ""  # a checkout of nanoGPT to measure beside
    batch_size: int = 0  # windows; 0: by the machine
    block_size: int = 0  # tokens a window; 0: by the machine
    compile: bool = False  # compile all of them
    rounds: int = 5  # how often each is measured
    json: str = ""  # also write the figures to this file


settings = configure(Settings) if __name__ == "__main__" else None  # before the heavy imports: --help answers at once

import importlib.util
import statistics

import numpy as np
import torch
from measure import load_nanogpt, show, side_by_side

from dataset import Windows
from machine import matmul_rate, pick_device, pick_dtype
from model import GPT, GPTConfig
from train import to_device

VOCAB = 13317


def rows(s: Settings) -> list[dict]:
    device = pick_device()
    dtype = pick_dtype("auto", device)
    cuda = device.type == "cuda"
    B, T = s.batch_size or (8 if cuda else 2), s.block_size or (1024 if cuda else 512)
    idx = torch.randint(0, VOCAB, (B, T + 1), device=device)
    x, y = idx[:, :-1].contiguous(), idx[:, 1:].contiguous()

    def stepper(model, loss_of, autocast: bool):
        """One training step of a model, as a call."""
        model = model.to(device).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
        called = torch.compile(model) if s.compile else model

        def step():
            with torch.autocast(device.type, dtype, enabled=autocast):
                loss = loss_of(called)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            return loss.item()

        return step

    def ours(keep_logits: bool = False, checkpoint_activations: bool = False):
        model = GPT(GPTConfig(VOCAB, T))
        model.checkpoint_activations = checkpoint_activations
        return stepper(model, lambda m: m(x, y, keep_logits=keep_logits)[1], dtype != torch.float32)

    steps = {"ours": ours(), "ours, all logits at once": ours(keep_logits=True), "ours, activations computed again": ours(checkpoint_activations=True)}
    if s.nanogpt:
        module = load_nanogpt(s.nanogpt)
        shape = module.GPTConfig(block_size=T, vocab_size=VOCAB, dropout=0.0)
        if not cuda:
            steps["nanoGPT, fp32, as shipped for a CPU"] = stepper(module.GPT(shape), lambda m: m(x, y)[1], False)
        steps["nanoGPT, bf16 autocast"] = stepper(module.GPT(shape), lambda m: m(x, y)[1], True)
    if importlib.util.find_spec("transformers"):
        from transformers import GPT2Config, GPT2LMHeadModel

        shape = GPT2Config(vocab_size=VOCAB, n_positions=T, attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0)
        steps["transformers, fp32"] = stepper(GPT2LMHeadModel(shape), lambda m: m(x, labels=x).loss, False)

    floors = []  # measured in turn with the steps, for a shared machine's rate is another from minute to minute
    *taken, _ = side_by_side(s.rounds, *steps.values(), lambda: floors.append(matmul_rate(device, dtype)))
    seconds = dict(zip(steps, taken))
    rate, floor = B * T / seconds["ours"], statistics.median(floors)
    share = rate * GPT(GPTConfig(VOCAB, T)).flops_per_token() / floor
    windows = Windows(np.zeros(8_000_000, dtype=np.uint16), T, seed=1)
    (reading,) = side_by_side(50, lambda: [to_device(array, device) for array in windows.batch(0, B)])
    name = f"GPT-2 small, {B} x {T}, {str(dtype).removeprefix('torch.')}" + (", compiled" if s.compile else "")
    found = [
        {"what": f"matmul rate, {str(dtype).removeprefix('torch.')}", "ours": floor / 1e9, "unit": "GFLOP/s"},
        {"what": f"train step, {name}: {share:.0%} of the matmul rate", "ours": rate, "unit": "tokens/s"},
    ]
    found.append({"what": f"reading a batch: {reading / seconds['ours']:.3%} of the step", "ours": reading * 1e3, "unit": "ms"})
    found += [{"what": "train step", "ours": rate, "unit": "tokens/s", "other": other, "peer": B * T / seconds[other]} for other in seconds if other != "ours"]
    if cuda:
        for other, step in steps.items():
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()  # the weights and optimizer states of all models here
            step()
            found.append({"what": f"memory of a step beyond weights and optimizer, {other}", "ours": (torch.cuda.max_memory_allocated() - before) / 2**20, "unit": "MiB"})
    return found


if __name__ == "__main__":
    run(lambda s: show(rows(s), s.json), settings)
