"""
What a run leaves for people to read, in its folder:

    log.txt        every line that was printed
    metrics.jsonl  one JSON object a logged step
    tensorboard/   the same as curves, and the samples as text
    loss.png       training and validation loss, the best marked
    samples/       what the model wrote as it learned

TensorBoard and matplotlib are conveniences: where one is missing, a line says so and training goes on.
"""

import json
import math
import os
import sys
from pathlib import Path


class RunLog:
    """Prints and keeps. With folder=None (any process but the first) it does neither."""

    def __init__(self, folder: Path | None, first_step: int = 0):
        """first_step: what an earlier, interrupted run logged past this step is dropped (it will be logged again)."""
        self.folder, self.status_shown, self.board = folder, 0, None  # status_shown: the length of the line on the screen
        if folder is None:
            return
        (folder / "samples").mkdir(parents=True, exist_ok=True)
        self.metrics = [m for m in read_metrics(folder) if m["step"] <= first_step] if first_step else []
        lines = "".join(json.dumps(m) + "\n" for m in self.metrics)
        (folder / "metrics.jsonl.writing").write_text(lines, encoding="utf-8")
        os.replace(folder / "metrics.jsonl.writing", folder / "metrics.jsonl")
        self.metrics_file = open(folder / "metrics.jsonl", "a", encoding="utf-8", buffering=1)
        self.log_file = open(folder / "log.txt", "a" if first_step else "w", encoding="utf-8", buffering=1)
        try:
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(folder / "tensorboard", purge_step=first_step + 1)
        except ImportError:
            self.say("TensorBoard is not installed, so there will be no tensorboard/ (pip install tensorboard)")

    def say(self, text: str) -> None:
        """A line for the terminal and log.txt."""
        if self.folder is None:
            return
        self._clear_status()
        print(text, flush=True)
        self.log_file.write(text + "\n")

    def status(self, text: str) -> None:
        """The line that says where training is: on a terminal each takes the place of the last."""
        if self.folder is None:
            return
        self.log_file.write(text + "\n")
        if sys.stdout.isatty():
            self._clear_status()
            print(text, end="", flush=True)
            self.status_shown = len(text)
        else:
            print(text, flush=True)

    def _clear_status(self) -> None:
        if self.status_shown:
            print("\r" + " " * self.status_shown + "\r", end="")
            self.status_shown = 0

    def measure(self, step: int, **values: float) -> None:
        """One line of metrics.jsonl, and a point on each of TensorBoard's curves."""
        if self.folder is None:
            return
        values = {name: value if math.isfinite(value) else None for name, value in values.items()}  # JSON has no infinity
        self.metrics.append({"step": step, **values})
        self.metrics_file.write(json.dumps(self.metrics[-1]) + "\n")
        if self.board:
            for name, value in ((n, v) for n, v in values.items() if v is not None):
                self.board.add_scalar(name, value, step)

    def sample(self, step: int, text: str) -> None:
        """What the model writes at this step."""
        if self.folder is None:
            return
        (self.folder / "samples" / f"step-{step:06d}.txt").write_text(text + "\n", encoding="utf-8")
        if self.board:
            self.board.add_text("sample", text.replace("\n", "  \n"), step)  # two spaces: a line break in Markdown

    def plot(self) -> None:
        """Draw loss.png anew."""
        if self.folder is None:
            return
        try:
            plot_losses(self.metrics, self.folder / "loss.png")
        except ImportError:
            self.say("matplotlib is not installed, so there will be no loss.png (pip install matplotlib)")
        except OSError as error:
            self.say(f"loss.png could not be written: {error}")

    def flush(self) -> None:
        """Onto the disk with it: before a checkpoint is written, for a resumed run logs only what comes after that."""
        if self.folder is None:
            return
        os.fsync(self.metrics_file.fileno())
        if self.board:
            self.board.flush()

    def close(self) -> None:
        if self.folder is None:
            return
        self._clear_status()
        self.metrics_file.close()
        self.log_file.close()
        if self.board:
            self.board.close()


def read_metrics(folder: Path) -> list[dict]:
    """A run's metrics.jsonl, up to a line that a kill cut short."""
    metrics = []
    path = Path(folder) / "metrics.jsonl"
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            metrics.append(json.loads(line))
        except ValueError:
            break
    return metrics


def plot_losses(metrics: list[dict], path: Path) -> None:
    """Training and validation loss in nats per token over steps; bits per character on the right. Raises ImportError."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    train = [(m["step"], m["loss"]) for m in metrics if "loss" in m]
    held_out = [(m["step"], m["val_loss"], m["bits_per_char"]) for m in metrics if "val_loss" in m]
    figure = Figure(figsize=(8, 5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    if train:
        steps, losses = zip(*train)
        axes.plot(steps, losses, color="tab:blue", alpha=0.25, linewidth=1)
        axes.plot(steps, smooth(losses), color="tab:blue", linewidth=1.5, label="training")
    if held_out:
        steps, losses, bits = zip(*held_out)
        axes.plot(steps, losses, color="tab:orange", marker="o", markersize=3, label="validation")
        best = min(held_out, key=lambda point: point[1])
        axes.plot(*best[:2], "*", color="tab:red", markersize=12, label=f"best: {best[1]:.3f}, {best[2]:.2f} bits/char, step {best[0]:,}")
        high = max(held_out, key=lambda point: point[1])  # bits are a line over nats: through two points, or one and the origin
        slope = (high[2] - best[2]) / (high[1] - best[1]) if high[1] > best[1] else best[2] / best[1]
        right = axes.secondary_yaxis("right", functions=(lambda y: best[2] + (y - best[1]) * slope, lambda y: best[1] + (y - best[2]) / slope))
        right.set_ylabel("bits per character (validation)")
    axes.set_title(path.parent.name)
    axes.set_xlabel("step")
    axes.set_ylabel("loss, nats per token")
    axes.grid(alpha=0.3)
    if train or held_out:
        axes.legend()
    figure.savefig(path)


def smooth(values) -> list[float]:
    """Exponential moving average with a half-life of a 30th of the curve, without the pull of its first value."""
    out, total, weight, keep = [], 0.0, 0.0, 0.5 ** (30 / len(values))
    for value in values:
        total, weight = keep * total + value, keep * weight + 1
        out.append(total / weight)
    return out
