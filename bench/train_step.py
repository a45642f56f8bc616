"""
A training step: python bench/train_step.py --nanogpt=PATH

GPT-2 small with 13,317 tokens: forward, backward, clipping, fused AdamW. Compared with nanoGPT (a checkout) and
transformers, where they are. On a CPU 2 windows of 512 tokens, on a GPU 8 of 1,024. Also: what the chunked loss and
activation checkpointing cost in time. (bench/memory.py has what they save.)
"""

from dataclasses import dataclass

from measure import load_nanogpt, show, side_by_side

from configurator import configure, run


@dataclass
class Settings:
    nanogpt: str = ""  # a checkout of nanoGPT to compare with
    compile: bool = False  # compile all of them


settings = configure(Settings) if __name__ == "__main__" else None

import statistics
from importlib.util import find_spec

import torch

from machine import matmul_rate, pick_device, pick_dtype
from model import GPT, GPTConfig

VOCAB = 13317


class Bench:
    """The batch, and a step on it for each program."""

    def __init__(self, s: Settings):
        self.s, self.device = s, pick_device()
        self.dtype = pick_dtype("auto", self.device)
        self.cuda = self.device.type == "cuda"
        self.B, self.T = (8, 1024) if self.cuda else (2, 512)  # windows, tokens of each
        idx = torch.randint(0, VOCAB, (self.B, self.T + 1), device=self.device)
        self.x, self.y = idx[:, :-1].contiguous(), idx[:, 1:].contiguous()

    def step(self, model, loss_of, autocast: bool):
        """A function that does one training step of a model. loss_of: model -> loss."""
        model = model.to(self.device).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
        called = torch.compile(model) if self.s.compile else model

        def step():
            with torch.autocast(self.device.type, self.dtype, enabled=autocast):
                loss = loss_of(called)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            return loss.item()

        return step

    def ours(self, keep_logits: bool = False, checkpoint_activations: bool = False):
        model = GPT(GPTConfig(VOCAB, self.T))
        model.checkpoint_activations = checkpoint_activations
        return self.step(model, lambda m: m(self.x, self.y, keep_logits=keep_logits)[1], self.dtype != torch.float32)

    def steps(self) -> dict:
        """Name -> step."""
        steps = {
            "ours": self.ours(),
            "ours, full logits": self.ours(keep_logits=True),
            "ours, activation checkpointing": self.ours(checkpoint_activations=True),
        }
        if self.s.nanogpt:
            module = load_nanogpt(self.s.nanogpt)
            config = module.GPTConfig(block_size=self.T, vocab_size=VOCAB, dropout=0.0)
            loss_of = lambda m: m(self.x, self.y)[1]  # noqa: E731
            if not self.cuda:
                steps["nanoGPT, fp32, as shipped for a CPU"] = self.step(module.GPT(config), loss_of, False)
            if self.dtype != torch.float32:
                steps["nanoGPT, 16-bit autocast"] = self.step(module.GPT(config), loss_of, True)
        if find_spec("transformers"):
            from transformers import GPT2Config, GPT2LMHeadModel

            model = GPT2LMHeadModel(
                GPT2Config(vocab_size=VOCAB, n_positions=self.T, attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0)
            )
            steps["transformers, fp32"] = self.step(model, lambda m: m(self.x, labels=self.x).loss, False)
        return steps


def rows(s: Settings) -> list[dict]:
    """The speed of each step."""
    bench = Bench(s)
    steps, tokens = bench.steps(), bench.B * bench.T
    # The rate of matrix products is measured in turn with the steps: on a shared machine it changes by the minute.
    rates = []
    *taken, _ = side_by_side(5, *steps.values(), lambda: rates.append(matmul_rate(bench.device, bench.dtype)))
    seconds = dict(zip(steps, taken))
    matmul, ours = statistics.median(rates), tokens / seconds["ours"]
    fraction = ours * GPT(GPTConfig(VOCAB, bench.T)).flops_per_token() / matmul
    dtype = str(bench.dtype).removeprefix("torch.")
    name = f"GPT-2 small, {bench.B} x {bench.T}, {dtype}" + (", compiled" if s.compile else "")
    found = [
        {"what": f"matmul rate, {dtype}", "ours": matmul / 1e9, "unit": "GFLOP/s"},
        {"what": f"train step, {name}: {fraction:.0%} of the matmul rate", "ours": ours, "unit": "tokens/s"},
    ]
    row = {"what": "train step", "ours": ours, "unit": "tokens/s"}
    return found + [row | {"other": other, "peer": tokens / seconds[other]} for other in list(seconds)[1:]]


if __name__ == "__main__":
    run(lambda s: show(rows(s)), settings)
