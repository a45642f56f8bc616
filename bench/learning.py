"""
The learning curve of a run next to character n-gram models of the same text, with pieces of the run's samples:

    python bench/learning.py --model=out/laptop --picture=docs/learning.png
    python bench/learning.py --model=out/laptop --picture=docs/learning.png --gloss="..." --gloss="..." --gloss="..."

The curve is bits per character at each validation, on at most `eval_windows` windows of the held-out chapters, over
minutes of training. The n-gram models count the training text and are scored on all held-out chapters. The pieces are
from the samples of the first validation, the one in the middle and the last; they are printed, to be glossed.

The n-gram models are interpolated Kneser-Ney with one discount per order, n1 / (n1 + 2 n2) (Chen and Goodman 1999, "An
empirical study of smoothing techniques for language modeling"). The unigram model is the same with order 1. The order
below the unigrams is uniform over the N = 1,112,064 characters of Unicode: a character that the training text does not
have costs 20 bits and the cost of reaching that order. GPT can spell any character of Unicode too. A chapter's start,
[CLS], is one more symbol to predict, as for GPT; bits are divided by the number of characters without it.
"""

from dataclasses import dataclass, field
from pathlib import Path

from measure import show

from configurator import PathStr, UserError, configure, run


@dataclass
class Settings:
    model: PathStr = ""  # a run; empty: the newest under out/
    data_dir: PathStr = ""  # the prepared text; empty: the one that the model was trained on
    gloss: list[str] = field(default_factory=list)  # the English of a piece, in the order of the pieces
    picture: PathStr = ""  # a .png to draw


settings = configure(Settings) if __name__ == "__main__" else None  # before the heavy imports: --help answers at once

import re
import textwrap
from itertools import zip_longest
from typing import NamedTuple

import numpy as np

import checkpoint
from dataset import UNICODE, Corpus
from evaluate import check_vocabulary
from tokenizer import Tokenizer
from training.runlog import chinese_font, read_metrics

MODELS = {"unigram": 1, "bigram": 2, "5-gram": 5}  # name -> order
PIECE_LENGTH = 24  # characters, at most
OPENING, CLOSING = "“‘《（—", "，。、！？；：”’》）…"  # marks that end, that begin no line
GLOSS_WIDTH, GLOSS_LINES = 40, 3  # characters, lines


class Point(NamedTuple):
    """A validation."""

    step: int
    minutes: float
    bits: float  # per character


class Piece(NamedTuple):
    """A piece of the sample that was written at a validation."""

    point: Point
    text: str
    gloss: str = ""


def main(s: Settings) -> None:
    best = checkpoint.find_checkpoint(s.model or checkpoint.newest_run(Path("out")))
    curve = validations(best.parent)
    pieces = choose_pieces(read_samples(best.parent, curve), s.gloss)
    corpus = Corpus.open(s.data_dir or checkpoint.read_metadata(best).get("data_dir", "data/novel"))
    check_vocabulary(best, corpus)
    font = chinese_font() if s.picture else ""
    if s.picture and not font:
        raise UserError(
            "no font with Chinese characters was found. Install Noto Sans CJK: https://github.com/notofonts/noto-cjk"
            " (Debian and Ubuntu: apt install fonts-noto-cjk)"
        )
    levels = ngram_bits(corpus)
    row = {"what": "bits per character, held-out chapters", "ours": min(point.bits for point in curve), "unit": ""}
    show([row | {"other": name, "peer": bits} for name, bits in levels.items()])
    print("\n" + "\n".join(f"step {p.point.step:,}: {p.text}  {p.gloss}".rstrip() for p in pieces))
    if s.picture:
        draw(curve, levels, pieces, font).savefig(s.picture)


# -- the run -----------------------------------------------------------------------------------------------------------


def validations(folder: Path) -> list[Point]:
    """The validations of a run, the first first. Raises UserError when there are fewer than two."""
    logged = [m for m in read_metrics(folder) if m.get("bits_per_char") is not None and "seconds" in m]
    if len(logged) < 2:
        raise UserError(
            f"{folder} has fewer than two validations in its metrics.jsonl, too few for a curve: train longer"
        )
    return [Point(m["step"], m["seconds"] / 60, m["bits_per_char"]) for m in logged]


def read_samples(folder: Path, curve: list[Point]) -> dict[Point, str]:
    """The samples of the validations that have one. Raises UserError when there is none."""
    paths = {point: folder / "samples" / f"step-{point.step:06d}.txt" for point in curve}
    samples = {point: path.read_text(encoding="utf-8").strip() for point, path in paths.items() if path.exists()}
    samples = {point: text for point, text in samples.items() if text}
    if not samples:
        raise UserError(f"{folder / 'samples'} has no text of these validations")
    return samples


def choose_pieces(samples: dict[Point, str], glosses: list[str]) -> list[Piece]:
    """A piece from the first sample, the one in the middle and the last; the first first.

    Raises UserError for glosses that are too long or too many.
    """
    points = list(samples)
    half = (points[0].minutes + points[-1].minutes) / 2
    middle = min(points, key=lambda point: abs(point.minutes - half))
    chosen = sorted({points[0], middle, points[-1]})
    if len(glosses) > len(chosen):
        raise UserError(f"--gloss: {len(glosses)} for {len(chosen)} pieces")
    for gloss in glosses:
        if len(textwrap.wrap(gloss, GLOSS_WIDTH)) > GLOSS_LINES:
            raise UserError(f"--gloss={gloss!r}: more than {GLOSS_LINES} lines of {GLOSS_WIDTH} characters")
    return [Piece(p, cut_piece(samples[p]), gloss) for p, gloss in zip_longest(chosen, glosses, fillvalue="")]


def cut_piece(sample: str) -> str:
    """At most PIECE_LENGTH characters of a sample's body: a speech if there is one, else whole clauses from the start.

    The first line, the heading, is left out where there are more.
    """
    body = sample.partition("\n")[2].strip() or sample
    speech = re.search(r"(?<![^，。！？；”\n])[^，。！？；：“”\n]{1,8}[：，]?“[^“”\n]{4,12}”", body)
    if speech and len(speech.group()) <= PIECE_LENGTH:
        return speech.group()
    line = body.split("\n")[0]
    clauses = re.match(rf".{{4,{PIECE_LENGTH - 1}}}[，。！？；]”?", line[:PIECE_LENGTH])
    return clauses.group().rstrip("，；") if clauses else line[:PIECE_LENGTH]


# -- n-gram models -----------------------------------------------------------------------------------------------------


class Level(NamedTuple):
    """The k-grams of one order. Contexts are the (k-1)-grams, by their index in the level below."""

    keys: np.ndarray  # (grams,) int64, ascending: context * 0x110000 + code point
    counts: np.ndarray  # (grams,) of the text, or (below the highest order) how many symbols stand before the gram
    totals: np.ndarray  # (contexts,) the sum of the counts after a context
    kinds: np.ndarray  # (contexts,) how many symbols follow a context
    discount: float


class KneserNey:
    """An interpolated Kneser-Ney model of a sequence of code points. With order 1: absolute discounting of the counts.

    p_k(w | context) = (max(count - D, 0) + D * kinds * p_k-1(w | shorter context)) / total
    """

    def __init__(self, codes: np.ndarray, order: int, size: int = UNICODE):
        """codes: (n,) of the training text. size: p_0 = 1 / size."""
        self.size, self.levels = size, []
        codes, below = np.asarray(codes, dtype=np.int64), []
        grams = np.zeros(len(codes) + 1, dtype=np.int64)  # the (k-1)-gram that ends at each position: the empty one
        for k in range(1, order + 1):
            contexts = grams[:-1]
            keys, first, inverse = np.unique(
                contexts * 0x110000 + codes[k - 1 :], return_index=True, return_inverse=True
            )
            if k > 1:  # each k-gram is one more symbol before the (k-1)-gram that it ends in
                self._add(below, np.bincount(grams[1:][first], minlength=len(below)))
            below, grams = keys, inverse
        self._add(below, np.bincount(grams))

    def _add(self, keys: np.ndarray, counts: np.ndarray) -> None:
        contexts, size = keys // 0x110000, len(self.levels[-1].keys) if self.levels else 1
        totals = np.bincount(contexts, weights=counts, minlength=size)
        kinds = np.bincount(contexts, weights=counts > 0, minlength=size)
        once, twice = (counts == 1).sum(), (counts == 2).sum()
        discount = once / (once + 2 * twice) if once else 0.5
        self.levels.append(Level(keys, counts, totals, kinds, float(discount)))

    def probabilities(self, codes: np.ndarray) -> np.ndarray:
        """The probability of each code point after those before it. (n,) -> (n,)."""
        codes = np.asarray(codes, dtype=np.int64)
        p = np.full(len(codes), 1 / self.size)
        contexts = np.zeros(len(codes), dtype=np.int64)  # -1: not in the training text
        for level in self.levels:
            keys = contexts * 0x110000 + codes
            at = np.searchsorted(level.keys, keys).clip(max=len(level.keys) - 1)
            seen = (contexts >= 0) & (level.keys[at] == keys)
            total = np.where(contexts >= 0, level.totals[contexts], 0)
            above = np.where(seen, np.maximum(level.counts[at] - level.discount, 0), 0)
            left = level.discount * level.kinds[contexts]
            p = np.where(total > 0, (above + left * p) / np.maximum(total, 1), p)
            contexts = np.append(-1, np.where(seen, at, -1)[:-1])
        return p


def ngram_bits(corpus: Corpus) -> dict[str, float]:
    """The bits per held-out character of each n-gram model, counted as for GPT."""
    train, val = (code_points(corpus.tokenizer, ids) for ids in (corpus.train, corpus.val))
    nats = {name: -np.log(KneserNey(train, order).probabilities(val)).sum() for name, order in MODELS.items()}
    return {name: corpus.bits_per_char(total / corpus.meta["val_tokens"]) for name, total in nats.items()}


def code_points(tokenizer: Tokenizer, ids: np.ndarray) -> np.ndarray:
    """Ids -> the code points of their text, (n,) int64. [CLS] is U+0000 and [UNK] U+0001, which are in no novel."""
    text = tokenizer.decode(ids).replace("[CLS]", "\0").replace("[UNK]", "\1")
    return np.frombuffer(text.encode("utf-32-le"), dtype="<u4").astype(np.int64)


# -- the picture -------------------------------------------------------------------------------------------------------


def draw(curve: list[Point], levels: dict[str, float], pieces: list[Piece], font: str):
    """The curve, a dashed line per n-gram model, and above it a box per piece with a line to its validation."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), dpi=200)
    glosses = [textwrap.wrap(piece.gloss, GLOSS_WIDTH) for piece in pieces]
    height = 0.165 + 0.034 * max(map(len, glosses))  # of a box
    axes = figure.add_axes((0.075, 0.1, 0.78, 0.98 - height - 0.05 - 0.1))
    minutes, bits = [point.minutes for point in curve], [point.bits for point in curve]
    axes.set(xlim=(0, 1.02 * minutes[-1]), xlabel="minutes of training", ylabel="bits per character, held-out chapters")
    axes.margins(y=0.08)
    axes.spines[["top", "right"]].set_visible(False)
    axes.patch.set_visible(False)  # the lines from the boxes are behind the axes
    for bit in levels.values():
        axes.axhline(bit, color="0.55", linestyle="--", linewidth=1)
    axes.plot(minutes, bits, color="tab:blue", linewidth=2, marker="o", markersize=3)
    label_right(axes, {**levels, "GPT": bits[-1]})
    for number, piece in enumerate(pieces):
        draw_piece(figure, axes, piece, "\n".join(glosses[number]), (number + 0.5) / len(pieces), height, font)
    return figure


def label_right(axes, lines: dict[str, float]) -> None:
    """Names on the right of the lines, moved up where they would overlap."""
    low, high = axes.get_ylim()
    at = low
    for name, bits in sorted(lines.items(), key=lambda line: line[1]):
        at = max(bits, at)
        style = {"color": "tab:blue", "fontweight": "bold"} if name == "GPT" else {"color": "0.3"}
        axes.text(1.012, at, f"{name} {bits:.2f}", transform=axes.get_yaxis_transform(), va="center", **style)
        at += 0.065 * (high - low)


def draw_piece(figure, axes, piece: Piece, gloss: str, center: float, height: float, font: str) -> None:
    """A box above the axes: time and bits, the piece in one or two lines, its gloss. In parts of the figure's size."""
    from matplotlib.patches import ConnectionPatch, FancyBboxPatch

    top, width = 0.98, 0.31
    corner = (center - width / 2, top - height)
    style = {"boxstyle": "round,pad=0,rounding_size=0.012", "fc": "0.97", "ec": "0.75"}
    figure.add_artist(FancyBboxPatch(corner, width, height, transform=figure.transFigure, **style))
    seconds = round(60 * piece.point.minutes)
    head = f"{seconds // 60}:{seconds % 60:02} min, {piece.point.bits:.2f} bits"
    figure.text(center, top - 0.016, head, ha="center", va="top", fontsize=8.5, color="tab:blue")
    style = {"fontsize": 12, "fontfamily": [font, "DejaVu Sans"], "linespacing": 1.35}
    figure.text(center, top - 0.1, break_line(piece.text), ha="center", va="center", **style)
    figure.text(center, top - 0.155, gloss, ha="center", va="top", fontsize=8, color="0.25")
    to = (piece.point.minutes, piece.point.bits)
    style = {"color": "0.6", "linewidth": 0.8, "zorder": -1}
    figure.add_artist(ConnectionPatch((center, top - height), to, figure.transFigure, axes.transData, **style))
    axes.plot(*to, "o", color="tab:blue", markersize=7, markerfacecolor="white", markeredgewidth=1.5, zorder=3)


def break_line(text: str) -> str:
    """A piece in one line, or in two of at most 13 characters: after a mark near the middle if there is one."""
    if len(text) <= 13:
        return text
    places = range(max(1, len(text) - 13), min(len(text) - 1, 13) + 1)
    costs = {at: abs(2 * at - len(text)) - 8 * (text[at - 1] in CLOSING) for at in places}
    allowed = [at for at in places if text[at] not in CLOSING and text[at - 1] not in OPENING] or places
    at = min(allowed, key=costs.get)
    return text[:at] + "\n" + text[at:]


if __name__ == "__main__":
    run(main, settings)
