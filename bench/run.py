"""
All measurements in one command: python bench/run.py --nanogpt=PATH --text=book.txt

    python bench/run.py                                    on a CPU, some 25 minutes on two cores
    python bench/run.py --suite=gpu --minutes=8            on a CUDA GPU: steps, memory within 8 GB, generation

Each part is a process of its own and prints its table. It compares with transformers, if that can be imported, and
training with nanoGPT (--nanogpt). Parts for which no time is left are skipped and named.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from measure import ROOT

from configurator import UserError, configure, run


@dataclass
class Settings:
    suite: Literal["cpu", "gpu"] = "cpu"  # which parts
    minutes: float = 60.0  # time limit
    nanogpt: str = ""  # a checkout of nanoGPT to compare with
    text: str = ""  # a text file; empty: the classic that prepare.py fetches
    vocab: str = ""  # a BERT vocabulary file
    model: str = ""  # a trained run, for the loss with int8 weights


settings = configure(Settings) if __name__ == "__main__" else None

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

from machine import pick_device


def parts(s: Settings) -> list[list[str]]:
    """The commands, the most important first."""
    nanogpt, text, vocab, model = (
        [f"--{name}={getattr(s, name)}"] if getattr(s, name) else [] for name in ("nanogpt", "text", "vocab", "model")
    )
    if s.suite == "gpu":
        return [
            ["train_step.py", *nanogpt, "--compile"],
            ["gpu_memory.py"],
            ["sampling.py", *model],
            ["train_step.py", *nanogpt],
        ]
    return [
        ["startup.py"],
        ["text.py", *text, *vocab],
        ["train_step.py", *nanogpt],
        ["memory.py"],
        ["sampling.py", *model],
    ]


def main(s: Settings) -> None:
    for path in filter(None, (s.nanogpt, s.text, s.vocab, s.model)):
        if not Path(path).exists():
            raise UserError(f"there is no {path}")
    if s.suite == "gpu" and pick_device().type != "cuda":
        raise UserError("--suite=gpu needs a CUDA GPU, and torch sees none here")
    end = time.monotonic() + 60 * s.minutes
    for script, *arguments in parts(s):
        print(f"\n{' '.join([script, *arguments])}\n", flush=True)
        seconds = end - time.monotonic()
        problem = measure([script, *arguments], seconds) if seconds > 0 else "no time left"
        if problem:
            print(f"{script} was not measured: {problem}", file=sys.stderr)


def measure(command: list[str], seconds: float) -> str:
    """Run a part for so long at most. Returns why it did not end well, or ""."""
    process = subprocess.Popen([sys.executable, ROOT / "bench" / command[0], *command[1:]], start_new_session=True)
    try:
        status = process.wait(seconds)
        return f"exit status {status}" if status else ""
    except subprocess.TimeoutExpired:
        return "no time left"
    finally:  # end it and the processes that it started, which would keep the GPU
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL) if hasattr(os, "killpg") else process.kill()
        process.wait()


if __name__ == "__main__":
    run(main, settings)
