"""
Does config/novel.py train within 8 GB? python bench/gpu_memory.py

Forty steps of it on a CUDA GPU that is held to 8 GB (--gpu_memory), with micro-batches of 8 and 16 windows and of batch_size=auto, on
random characters. The figure is the most that torch had allocated.
"""

import random
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from configurator import UserError, configure, run  # noqa: E402


@dataclass
class Settings:
    gigabytes: float = 8.0  # what the GPU is held to
    steps: int = 40  # of training
    json: str = ""  # also write the figures to this file


settings = configure(Settings) if __name__ == "__main__" else None  # before the heavy imports: --help answers at once

from measure import ROOT, show

from machine import pick_device


def rows(s: Settings) -> list[dict]:
    if pick_device().type != "cuda":
        raise UserError("this needs a CUDA GPU")
    found, rng = [], random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        book = Path(folder) / "book.txt"
        book.write_text("\n".join(f"第{n}回\n" + "".join(chr(0x4E00 + rng.randrange(13000)) for _ in range(50_000)) for n in range(1, 13)), encoding="utf-8")
        python(["prepare.py", str(book), f"--out_dir={folder}/data"])
        for batch_size, accumulation in (("8", "4"), ("16", "2"), ("auto", "4")):
            out = python(["train.py", "config/novel.py", f"--data_dir={folder}/data", f"--out_dir={folder}/{batch_size}", f"--batch_size={batch_size}",
                          f"--gradient_accumulation_steps={accumulation}", "--epochs=0", f"--max_iters={s.steps}", f"--eval_interval={s.steps}",
                          f"--gpu_memory={s.gigabytes}"])  # fmt: skip
            expected, used = (float(re.search(pattern, out)[1]) for pattern in (r"about ([\d.]+) GB", r"([\d.]+) GB used"))
            found.append({"what": f"config/novel.py, --batch_size={batch_size}, held to {s.gigabytes:g} GB (expected {expected:g} GB in eager mode)", "ours": used, "unit": "GB"})
    return found


def python(command: list[str]) -> str:
    return subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, encoding="utf-8", check=True).stdout


if __name__ == "__main__":
    run(lambda s: show(rows(s), s.json), settings)
