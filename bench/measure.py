"""
Shared by the benchmarks: timing in turn, processes, the table. A row is a dict; peer and other are optional:

    {"what": ..., "ours": 12.3, "unit": "tokens/s", "peer": 4.5, "other": "transformers"}
"""

import importlib.util
import json
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from machine import device_name, pick_device


def side_by_side(rounds: int, *calls, warm_up: bool = True) -> list[float]:
    """The median seconds of each call, timed in turn (A B A B ...) after a warm-up, so that noise affects all."""
    for call in calls if warm_up else ():
        call()
    times = [[] for _ in calls]
    for _ in range(rounds):
        for call, taken in zip(calls, times):
            began = time.perf_counter()
            call()
            taken.append(time.perf_counter() - began)
    return [statistics.median(taken) for taken in times]


def load_nanogpt(folder: str):
    """Import model.py from a checkout of nanoGPT."""
    spec = importlib.util.spec_from_file_location("nanogpt_model", Path(folder) / "model.py")
    module = sys.modules["nanogpt_model"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MEASURED = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
print(usage.ru_utime + usage.ru_stime, usage.ru_maxrss)
"""


def process(*command: str, cwd=ROOT) -> tuple[float, float]:
    """Run a Python command. Returns its processor seconds and its peak memory in MiB. POSIX only.

    It is started by a small process: the peak of a child begins with the size of the process that started it.
    """
    wrapped = [sys.executable, "-c", MEASURED, sys.executable, *command]
    seconds, peak = subprocess.run(wrapped, cwd=cwd, capture_output=True, text=True, check=True).stdout.split()
    return float(seconds), int(peak) / (2**20 if sys.platform == "darwin" else 2**10)


def table(rows: list[dict]) -> str:
    """Rows as a Markdown table. The ratio says how many times better ours is."""
    lines = ["| what | ours | other | ratio |", "|---|---|---|---|"]
    for row in rows:
        other = ratio = ""
        if "peer" in row:
            lower_is_better = row["unit"] in ("s", "ms", "min", "MiB", "nats/token", "")
            better = row["peer"] / row["ours"] if lower_is_better else row["ours"] / row["peer"]
            other, ratio = f"{row['other']}: {row['peer']:,.4g}", f"{better:.2f}"
        lines.append(f"| {row['what']} | {row['ours']:,.4g} {row['unit']} | {other} | {ratio} |")
    return "\n".join(lines)


def show(rows: list[dict], json_file: str = "") -> None:
    """Print the machine and the table; with json_file, write both there too."""
    device = pick_device()
    processor = platform.processor() or platform.machine()
    machine = f"{device_name(device)}, {processor}, Python {platform.python_version()}, torch {torch.__version__}"
    print(f"{machine}\n\n{table(rows)}")
    if json_file:
        Path(json_file).write_text(json.dumps({"machine": machine, "rows": rows}, indent=2), encoding="utf-8")
