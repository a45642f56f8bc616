"""
Shared by the benchmarks: timing in turn, processes, the table. Imported first, because it makes the project importable.

A row of the table is a dict; peer and other are optional:

    {"what": ..., "ours": 12.3, "unit": "tokens/s", "peer": 4.5, "other": "transformers"}
"""

import importlib.util
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from configurator import UserError


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


def read_utf8(path) -> str:
    """The content of a text file. Raises UserError where it is not UTF-8."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: byte {error.start} is not UTF-8") from None


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


def process(*command: str) -> tuple[float, float]:
    """Run a Python command. Returns its processor seconds and its peak memory in MiB. POSIX only.

    It is started by a small process: the peak of a child begins with the size of the process that started it.
    """
    wrapped = [sys.executable, "-c", MEASURED, sys.executable, *command]
    seconds, peak = subprocess.run(wrapped, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    return float(seconds), int(peak) / (2**20 if sys.platform == "darwin" else 2**10)


def show(rows: list[dict]) -> None:
    """Print the machine, and the rows as a Markdown table. The ratio says how many times better ours is."""
    import torch  # not at the top, so that --help answers at once

    from machine import device_name, pick_device

    processor = platform.processor() or platform.machine()
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    print(f"{device_name(pick_device())}, {processor}, {versions}\n")
    print("| what | ours | other | ratio |\n|---|---|---|---|")
    for row in rows:
        other = ratio = ""
        if "peer" in row:
            lower_is_better = row["unit"] in ("s", "ms", "min", "MiB", "nats/token", "")
            better = row["peer"] / row["ours"] if lower_is_better else row["ours"] / row["peer"]
            other, ratio = f"{row['other']}: {row['peer']:,.4g}", f"{better:.2f}"
        print(f"| {row['what']} | {row['ours']:,.4g} {row['unit']} | {other} | {ratio} |")
