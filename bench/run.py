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

import subprocess
import sys
import time

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
        command = [sys.executable, str(ROOT / "bench" / script), *arguments]
        try:
            subprocess.run(command, timeout=max(1, end - time.monotonic()), check=True)
        except subprocess.CalledProcessError as error:
            print(f"{script} was not measured: exit status {error.returncode}", file=sys.stderr)
        except subprocess.TimeoutExpired:
            print(f"{script} was not measured: no time left", file=sys.stderr)


if __name__ == "__main__":
    run(main, settings)
