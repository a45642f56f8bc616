"""
config/novel.py against config/original.py (the recipe that this project grew from), on the same text and split:

    python bench/recipes.py --text=book.txt                                   full size, for a GPU
    python bench/recipes.py --text=book.txt --small --characters=1e6 --minutes=10    3.6 M parameters, two CPU cores

Trains both (an interrupted run continues). Prints the best bits per character of each, and the time that the new recipe
takes to reach the original's best. --picture draws both curves. --small: 3 layers of 256, windows of 256, steps of 8
windows, no dropout in the new recipe; the original's warm-up is the same part of the run as at full size.
"""

from dataclasses import dataclass
from pathlib import Path

from measure import ROOT, read_utf8, show

from configurator import UserError, configure, run


@dataclass
class Settings:
    text: str = ""  # the book
    characters: int = 0  # use only the first ones; 0: all
    minutes: float = 0.0  # of training for each; 0: as the config files say
    small: bool = False  # a model for a CPU
    out_dir: str = "out/recipes"  # for the prepared text and both runs
    picture: str = ""  # a .png to draw


settings = configure(Settings) if __name__ == "__main__" else None

import subprocess
import sys

from training.runlog import read_metrics

SMALL = ["--n_layer=3", "--n_head=4", "--n_embd=256", "--block_size=256", "--eval_interval=150", "--eval_windows=100"]
RECIPES = {
    "novel": ["--batch_size=8", "--gradient_accumulation_steps=1", "--dropout=0", "--compile=False"],
    "original": ["--stride=128", "--warmup_iters=200"],
}


def main(s: Settings) -> None:
    if not Path(s.text).is_file():
        raise UserError(f"--text={s.text}: name a text file")
    out = Path(s.out_dir).resolve()
    book, text = out / "book.txt", read_utf8(s.text)[: s.characters or None]
    if book.exists() and read_utf8(book) != text:
        raise UserError(f"{out} holds runs with another text; choose another --out_dir")
    if not (out / "data/meta.json").exists():
        out.mkdir(parents=True, exist_ok=True)
        book.write_text(text, encoding="utf-8", newline="\n")
        call("prepare.py", str(book), f"--out_dir={out / 'data'}")
    for name, small in RECIPES.items():
        call(
            "train.py",
            f"config/{name}.py",
            f"--data_dir={out / 'data'}",
            f"--out_dir={out / name}",
            "--resume",
            *(["--epochs=0", f"--max_minutes={s.minutes}"] if s.minutes else []),
            *(SMALL + small if s.small else []),
        )
    curves = {
        name: [(m["seconds"] / 60, m["bits_per_char"]) for m in read_metrics(out / name) if "val_loss" in m]
        for name in RECIPES
    }
    show(rows(curves))
    if s.picture:
        draw(curves, s.picture)


def call(*command: str) -> None:
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True)


def rows(curves: dict) -> list[dict]:
    """The best of each, and when the new recipe reaches the original's best, if it does."""
    new, old = (min(curves[name], key=lambda point: point[1]) for name in ("novel", "original"))
    passed = [minutes for minutes, bits in curves["novel"] if bits <= old[1]]
    found = [
        {"what": "best bits per character", "ours": new[1], "unit": "", "other": "config/original.py", "peer": old[1]},
        {"what": "minutes to that best", "ours": new[0], "unit": "min", "other": "config/original.py", "peer": old[0]},
    ]
    return found + [
        {
            "what": "minutes to the original's best",
            "ours": at,
            "unit": "min",
            "other": "config/original.py",
            "peer": old[0],
        }
        for at in passed[:1]
    ]


def draw(curves: dict, path: str) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    for name, curve in curves.items():
        minutes, bits = zip(*curve)
        (line,) = axes.plot(minutes, bits, marker="o", markersize=3, label=f"config/{name}.py, best {min(bits):.3f}")
        axes.plot(*min(curve, key=lambda point: point[1]), "*", color=line.get_color(), markersize=12)
    axes.set(xlabel="minutes of training", ylabel="bits per character, held-out chapters")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path)


if __name__ == "__main__":
    run(main, settings)
