"""
All measurements in one command: python bench/run.py --nanogpt=PATH --text=book.txt

    python bench/run.py                                    on a CPU, some 25 minutes on two cores
    python bench/run.py --suite=gpu --minutes=8            on a CUDA GPU: steps, memory within 8 GB, generation

Each part is a process of its own. It compares with transformers, if that can be imported, and with nanoGPT (--nanogpt).
Prints the table of docs/BENCHMARKS.md and writes it as JSON. Parts for which no time is left are skipped and named.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from configurator import UserError, configure, run


@dataclass
class Settings:
    suite: Literal["cpu", "gpu"] = "cpu"  # which parts
    minutes: float = 60.0  # time limit
    nanogpt: str = ""  # a checkout of nanoGPT to compare with
    text: str = ""  # a text file; empty: the classic that prepare.py fetches
    vocab: str = ""  # a BERT vocabulary file
    model: str = ""  # a trained run, for the loss with int8 weights
    quick: bool = False  # few rounds and tokens, to test that everything runs
    json: str = "bench.json"  # output file


settings = configure(Settings) if __name__ == "__main__" else None

import json
import subprocess
import tempfile
import time

from measure import ROOT, table

from machine import pick_device


def parts(s: Settings) -> list[list[str]]:
    """The commands, the most important first."""
    nanogpt = [f"--nanogpt={Path(s.nanogpt).resolve()}"] if s.nanogpt else []
    rounds, tokens = (["--rounds=1"], ["--tokens=20"]) if s.quick else ([], [])
    model = [f"--model={s.model}"] if s.model else []
    if s.suite == "gpu":
        return [
            ["train_step.py", *nanogpt, *rounds, "--compile"],
            ["gpu_memory.py"],
            ["sampling.py", *nanogpt, *rounds, *tokens, *model],
            ["train_step.py", *nanogpt, *rounds],
        ]
    text = [f"--text={Path(s.text).resolve()}"] if s.text else []
    text += [f"--vocab={Path(s.vocab).resolve()}"] if s.vocab else []
    return [
        ["startup.py"],
        ["text.py", *text, *rounds],
        ["train_step.py", *nanogpt, *rounds, *(["--block_size=64"] if s.quick else [])],
        ["memory.py"],
        ["sampling.py", *nanogpt, *rounds, *tokens, *model],
    ]


def main(s: Settings) -> None:
    for path in filter(None, (s.nanogpt, s.text, s.vocab, s.model)):
        if not Path(path).exists():
            raise UserError(f"there is no {path}")
    if s.suite == "gpu" and pick_device().type != "cuda":
        raise UserError("--suite=gpu needs a CUDA GPU, and torch sees none here")
    began, rows, machine = time.monotonic(), [], ""
    with tempfile.TemporaryDirectory() as folder:
        for command in parts(s):
            print(f"{time.monotonic() - began:5.0f} s  {' '.join(command)}", file=sys.stderr, flush=True)
            file = Path(folder) / "rows.json"
            file.unlink(missing_ok=True)
            left = 60 * s.minutes - (time.monotonic() - began)
            try:
                done = subprocess.run(
                    [sys.executable, str(ROOT / "bench" / command[0]), *command[1:], f"--json={file}"],
                    stdout=subprocess.DEVNULL,
                    timeout=max(1, left),
                )
                failed = f"exit status {done.returncode}" if done.returncode else ""
            except subprocess.TimeoutExpired:
                failed = "no time left"
            if failed:
                print(f"{command[0]} was not measured: {failed}", file=sys.stderr)
                continue
            found = json.loads(file.read_text(encoding="utf-8"))
            machine, rows = found["machine"], rows + found["rows"]
    print(f"{machine}\n\n{table(rows)}")
    Path(s.json).write_text(json.dumps({"machine": machine, "rows": rows}, indent=2), encoding="utf-8")


if __name__ == "__main__":
    run(main, settings)
