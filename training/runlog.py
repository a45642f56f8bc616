"""
The log of a run, in its folder:

    log.txt        every line that was printed
    metrics.jsonl  one JSON object per logged step
    tensorboard/   the same as curves, and the samples as text
    loss.png       training and validation loss, with the best checkpoint marked
    samples/       a text generated at each validation

TensorBoard and matplotlib are optional: where one is missing, a line says so and training continues.
"""

import json
import math
import os
import shutil
import sys
from pathlib import Path

from configurator import discard_output
from files import write_atomic

# Of Windows, macOS and Linux.
CHINESE_FONTS = (
    "Microsoft YaHei",
    "SimHei",
    "PingFang SC",
    "Hiragino Sans GB",
    "Arial Unicode MS",
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Source Han Sans SC",
    "WenQuanYi Zen Hei",
    "WenQuanYi Micro Hei",
)


class RunLog:
    """Prints and logs."""

    def __init__(self, folder: Path, first_step: int = 0):
        """first_step: metrics that an interrupted run logged after this step are dropped. They will be logged again."""
        self.folder, self.tensorboard = folder, NoLog()
        self.status_length = 0  # of the progress line on the terminal
        (folder / "samples").mkdir(parents=True, exist_ok=True)
        self.metrics = [m for m in read_metrics(folder) if m["step"] <= first_step] if first_step else []
        write_atomic(folder / "metrics.jsonl", "".join(json.dumps(m) + "\n" for m in self.metrics).encode())
        self.metrics_file = open(folder / "metrics.jsonl", "a", encoding="utf-8", buffering=1)
        self.log_file = open(folder / "log.txt", "a" if first_step else "w", encoding="utf-8", buffering=1)
        try:
            from torch.utils.tensorboard import SummaryWriter

            self.tensorboard = SummaryWriter(folder / "tensorboard", purge_step=first_step + 1)
        except ImportError:
            self.info("TensorBoard is not installed, so there will be no tensorboard/ (pip install tensorboard)")

    def info(self, text: str) -> None:
        """Print a line, and add it to log.txt."""
        self._clear_status()
        self._print(text)
        self.log_file.write(text + "\n")

    def status(self, text: str) -> None:
        """Print the progress line. On a terminal it overwrites the previous one."""
        self.log_file.write(text + "\n")
        self._clear_status()
        if not sys.stdout.isatty():
            return self._print(text)
        text = text[: shutil.get_terminal_size().columns - 1]  # a line that wraps cannot be overwritten
        self._print(text, end="")
        self.status_length = len(text)

    def _clear_status(self) -> None:
        if self.status_length:
            self._print("\r" + " " * self.status_length + "\r", end="")
            self.status_length = 0

    def _print(self, text: str, end: str = "\n") -> None:
        """Print, also when nobody reads it any more: a closed terminal, or tee after Ctrl-C. log.txt has it all."""
        try:
            print(text, end=end, flush=True)
        except OSError:
            discard_output()

    def log_metrics(self, step: int, **values: float) -> None:
        """Add a line to metrics.jsonl and a point to each TensorBoard curve."""
        # JSON has no infinity and no NaN.
        values = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self.metrics.append({"step": step, **values})
        self.metrics_file.write(json.dumps(self.metrics[-1]) + "\n")
        for name, value in values.items():
            if value is not None:
                self.tensorboard.add_scalar(name, value, step)

    def log_sample(self, step: int, text: str) -> None:
        """Print and save a text that the model generated at this step."""
        self.info("  " + text.replace("\n", "\n  "))
        (self.folder / "samples" / f"step-{step:06d}.txt").write_text(text + "\n", encoding="utf-8")
        self.tensorboard.add_text("sample", text.replace("\n", "  \n"), step)  # Markdown's line break

    def plot(self) -> None:
        """Draw loss.png."""
        try:
            plot_losses(self.metrics, self.folder / "loss.png")
        except ImportError:
            self.info("matplotlib is not installed, so there will be no loss.png (pip install matplotlib)")
        except OSError as error:
            self.info(f"loss.png could not be written: {error}")

    def flush(self) -> None:
        """Write everything to disk. Done before a checkpoint: a run resumed from it logs only later steps."""
        os.fsync(self.metrics_file.fileno())
        self.tensorboard.flush()

    def close(self) -> None:
        """Close the files."""
        self._clear_status()
        self.metrics_file.close()
        self.log_file.close()
        self.tensorboard.close()


class NoLog:
    """The log of every process but rank 0, and TensorBoard where it is not installed: its methods do nothing."""

    def __getattr__(self, name: str):
        return lambda *args, **values: None


def read_metrics(folder: Path) -> list[dict]:
    """The records of a run's metrics.jsonl, without a last line that a kill cut short."""
    metrics = []
    path = Path(folder) / "metrics.jsonl"
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            metrics.append(json.loads(line))
        except ValueError:
            break
    return metrics


def plot_losses(metrics: list[dict], path: Path) -> None:
    """Draw training and validation loss over steps: nats per token (left), bits per character (right).

    Raises ImportError without matplotlib.
    """
    from matplotlib.figure import Figure

    train = [(m["step"], m["loss"]) for m in metrics if m.get("loss") is not None]  # None: not finite
    validation = [(m["step"], m["val_loss"], m["bits_per_char"]) for m in metrics if "val_loss" in m]
    figure = Figure(figsize=(8, 5), dpi=120, layout="constrained")
    axes = figure.add_subplot(xlabel="step", ylabel="loss, nats per token")
    name = path.parent.name
    font = None if name.isascii() else chinese_font()
    if font != "":
        axes.set_title(name, fontfamily=font, parse_math=False)
    if train:
        steps, losses = zip(*train)
        axes.plot(steps, losses, color="tab:blue", alpha=0.25, linewidth=1)
        axes.plot(steps, smooth(losses), color="tab:blue", linewidth=1.5, label="training")
    if validation:
        plot_validation(axes, validation)
    axes.grid(alpha=0.3)
    if train or validation:
        axes.legend()
    figure.savefig(path)


def chinese_font() -> str:
    """The name of an installed font with Chinese characters, or ""."""
    from matplotlib.font_manager import findSystemFonts, fontManager

    if not any(font.name in CHINESE_FONTS for font in fontManager.ttflist):
        # matplotlib remembers the fonts that it found at its first start. Look for new ones.
        for path in set(findSystemFonts()) - {font.fname for font in fontManager.ttflist}:
            try:
                fontManager.addfont(path)
            except (OSError, RuntimeError):  # of a format that matplotlib cannot read
                continue
    installed = {font.name for font in fontManager.ttflist}
    return next((name for name in CHINESE_FONTS if name in installed), "")


def plot_validation(axes, validation: list[tuple[int, float, float]]) -> None:
    """Draw the validation curve, its best point, and an axis of bits per character. validation: (step, nats, bits)."""
    steps, losses, _ = zip(*validation)
    axes.plot(steps, losses, color="tab:orange", marker="o", markersize=3, label="validation")
    step, nats, bits = min(validation, key=lambda point: point[1])
    label = f"best: {nats:.3f}, {bits:.2f} bits/char, step {step:,}"
    axes.plot(step, nats, "*", color="tab:red", markersize=12, label=label)
    # Bits are a linear function of nats: through two validations, or through one and the origin.
    _, high_nats, high_bits = max(validation, key=lambda point: point[1])
    slope = (high_bits - bits) / (high_nats - nats) if high_nats > nats else bits / nats
    to_bits, to_nats = (lambda y: bits + (y - nats) * slope), (lambda y: nats + (y - bits) / slope)
    axes.secondary_yaxis("right", functions=(to_bits, to_nats)).set_ylabel("bits per character (validation)")


def smooth(values) -> list[float]:
    """Exponential moving average with a half-life of 1/30 of the curve, corrected for its start."""
    smoothed, total, weight, keep = [], 0.0, 0.0, 0.5 ** (30 / len(values))
    for value in values:
        total, weight = keep * total + value, keep * weight + 1
        smoothed.append(total / weight)
    return smoothed
