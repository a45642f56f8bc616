"""
Writing: python bench/sampling.py

GPT-2 small with 13,317 tokens and random weights, one stream, beside transformers' generate with its cache.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from configurator import configure, run  # noqa: E402


@dataclass
class Settings:
    tokens: int = 200  # how many to write
    rounds: int = 3  # how often each is measured
    json: str = ""  # also write the figures to this file


settings = configure(Settings) if __name__ == "__main__" else None  # before the heavy imports: --help answers at once

import importlib.util

import torch
from measure import show, side_by_side

from machine import pick_device
from model import GPT, GPTConfig

VOCAB = 13317


def rows(s: Settings) -> list[dict]:
    device = pick_device()
    model = GPT(GPTConfig(VOCAB)).to(device).eval()
    start = torch.zeros(1, 1, dtype=torch.long, device=device)
    calls = [lambda: model.generate(start, s.tokens, seed=1)[0, -1].item()]
    if importlib.util.find_spec("transformers"):
        from transformers import GPT2Config, GPT2LMHeadModel

        peer = GPT2LMHeadModel(GPT2Config(vocab_size=VOCAB)).to(device).eval()
        peer.generation_config.eos_token_id = peer.generation_config.pad_token_id = VOCAB - 1
        calls.append(lambda: peer.generate(start, max_new_tokens=s.tokens, min_new_tokens=s.tokens, do_sample=True, top_k=0)[0, -1].item())
    seconds = side_by_side(s.rounds, *calls)
    row = {"what": f"sample, GPT-2 small, fp32, one stream, {s.tokens} tokens", "ours": s.tokens / seconds[0], "unit": "tokens/s"}
    return [row | ({"other": "transformers, fp32", "peer": s.tokens / seconds[1]} if len(seconds) > 1 else {})]


if __name__ == "__main__":
    run(lambda s: show(rows(s), s.json), settings)
