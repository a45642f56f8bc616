"""
Memory of a training step on a CPU: python bench/memory.py

The peak of a fresh process over one forward and backward pass of GPT-2 small (4 windows of 1,024, 13,317 tokens), beyond what it
held with the weights alone; with and without all logits at once, and activation checkpointing. (POSIX only. On a GPU,
bench/train_step.py measures it.)
"""

import resource
import subprocess
import sys
from pathlib import Path

from measure import show

ROOT = Path(__file__).resolve().parent.parent


def step(checkpoint_activations: bool, keep_logits: bool) -> None:
    """In the child: one pass, and the growth of its peak in KiB to stdout."""
    import torch

    from machine import pick_dtype
    from model import GPT, GPTConfig

    model = GPT(GPTConfig(13317)).train()
    model.checkpoint_activations = checkpoint_activations
    idx = torch.randint(0, 13317, (4, 1024))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with torch.autocast("cpu", pick_dtype("auto", torch.device("cpu"))):
        loss = model(idx, idx, keep_logits=keep_logits)[1]
    loss.backward()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)


def rows() -> list[dict]:
    found = []
    for again in (False, True):
        for keep_logits in (False, True):
            child = subprocess.run([sys.executable, __file__, str(int(again)), str(int(keep_logits))], capture_output=True, text=True, check=True)
            what = ("activations computed again" if again else "activations kept") + (", all logits at once" if keep_logits else ", loss in pieces")
            found.append({"what": what, "ours": int(child.stdout) / 2**10, "unit": "MiB"})
    return found


if __name__ == "__main__":
    if len(sys.argv) == 3:
        step(sys.argv[1] == "1", sys.argv[2] == "1")
    else:
        show(rows(), sys.argv[1].removeprefix("--json=") if len(sys.argv) == 2 else "")
