"""
Memory of a training step on a CPU: python bench/memory.py

The peak memory of one forward and backward pass of GPT-2 small (4 windows of 1,024, 13,317 tokens), beyond the weights,
with full or chunked logits, with and without activation checkpointing. Each in a new process. POSIX only. On a GPU
bench/gpu_memory.py measures what training takes.
"""

import resource
import subprocess
import sys

from measure import show


def step(checkpoint_activations: bool, keep_logits: bool) -> None:
    """In the child process: one pass. Prints the growth of the peak in KiB."""
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
    """MiB of each combination."""
    found = []
    for checkpointing in (False, True):
        for full_logits in (False, True):
            arguments = [f"{checkpointing:d}", f"{full_logits:d}"]
            child = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, check=True)
            what = f"activation checkpointing {'on' if checkpointing else 'off'}"
            what += ", full logits" if full_logits else ", chunked logits"
            found.append({"what": what, "ours": int(child.stdout) / 2**10, "unit": "MiB"})
    return found


if __name__ == "__main__":
    if len(sys.argv) == 3:
        step(sys.argv[1] == "1", sys.argv[2] == "1")
    else:
        show(rows())
