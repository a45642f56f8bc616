"""
Does config/novel.py train within 8 GB? python bench/gpu_memory.py

Forty steps on random characters on a CUDA GPU limited to 8 GB (--gpu_memory), with micro-batches of 8 windows (compiled
and not), of 16 and of batch_size=auto. The figure is the peak that torch allocated.
"""

import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from measure import ROOT, show

from configurator import UserError, run
from machine import pick_device

# batch_size, gradient_accumulation_steps, compile
WAYS = (("8", "4", True), ("8", "4", False), ("16", "2", True), ("auto", "4", True))
LIMITS = ["--epochs=0", "--max_iters=40", "--eval_interval=40", "--gpu_memory=8"]


def rows() -> list[dict]:
    """Peak GB of each batch size."""
    if pick_device().type != "cuda":
        raise UserError("this needs a CUDA GPU")
    found = []
    with tempfile.TemporaryDirectory() as folder:
        write_random_book(Path(folder) / "book.txt")
        python(["prepare.py", f"{folder}/book.txt", f"--out_dir={folder}/data"])
        for row, (batch_size, accumulation, compiled) in enumerate(WAYS):
            batch = [f"--batch_size={batch_size}", f"--compile={compiled}"]
            folders = [f"--data_dir={folder}/data", f"--out_dir={folder}/{row}"]
            what = f"config/novel.py, {' '.join(batch)}, limit 8 GB"
            try:
                steps = f"--gradient_accumulation_steps={accumulation}"
                out = python(["train.py", "config/novel.py", *folders, *batch, steps, *LIMITS])
            except subprocess.CalledProcessError as error:
                print(f"{what}: {error.stderr.strip()}", file=sys.stderr)
                continue
            expected = re.search(r"about ([\d.]+ GB)", out)[1]
            what += f" (expected {expected} in eager mode)"
            found.append({"what": what, "ours": float(re.search(r"([\d.]+) GB used", out)[1]), "unit": "GB"})
    return found


def write_random_book(path: Path) -> None:
    """Twelve chapters of 50,000 random Chinese characters."""
    rng = random.Random(0)
    chapters = ("".join(chr(0x4E00 + rng.randrange(13000)) for _ in range(50_000)) for _ in range(12))
    path.write_text("\n".join(f"第{n}回\n{text}" for n, text in enumerate(chapters, 1)), encoding="utf-8")


def python(command: list[str]) -> str:
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, encoding="utf-8", check=True
    ).stdout


if __name__ == "__main__":
    run(lambda _: show(rows()), None)
