"""
How good is a model? Bits per character on held-out chapters, and statistics of its samples next to
those of the book.

    python evaluate.py --model=out/novel
    python evaluate.py --model=out/novel --baseline=out/other
    python evaluate.py --model=out/novel --samples=samples.txt --json

Bits per character is the cost of predicting chapters that the model has not seen. It does not
depend on the vocabulary: an [UNK] costs 20 bits more, because it does not say which character it
stands for. Its standard error is over the chapters: how much other chapters would change it. The
difference from a baseline is taken chapter by chapter, so its standard error is smaller. The
statistics: variety, repetition, unbalanced quotes, and how much is copied word for word from the
training text.
"""

from dataclasses import dataclass
from typing import Literal

from configurator import PathStr, UserError, configure, run


@dataclass
class Settings:
    model: PathStr = ""  # a run or a checkpoint folder; empty: the newest run under out/
    baseline: PathStr = ""  # another run or checkpoint, of the same text, to compare with
    data_dir: PathStr = ""  # the prepared text; empty: the one that the model was trained on
    samples: PathStr = ""  # a file of sample.py --save; empty: generate samples
    num_samples: int = 4  # samples to generate
    max_new_tokens: int = 500  # their length
    seed: int = 1  # of the samples
    json: bool = False  # print JSON instead of a table
    device: str = "auto"  # cpu, cuda, cuda:1, mps; auto: the best available
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"  # of matrix products

    def __post_init__(self):
        for name, lowest in (("num_samples", 1), ("max_new_tokens", 1), ("seed", 0)):
            if getattr(self, name) < lowest:
                raise UserError(f"--{name}={getattr(self, name)}: at least {lowest} is needed")


settings = configure(Settings) if __name__ == "__main__" else None  # before the heavy imports, so --help is quick

import json
import math
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

import checkpoint
from dataset import Corpus
from generation.batching import displayed, generate
from generation.sampling import SamplingParams
from machine import pick_device, pick_dtype
from model import GPT


def main(s: Settings) -> None:
    """Score the held-out chapters, generate or read samples, print the figures."""
    device = pick_device(s.device)
    dtype = pick_dtype(s.dtype, device)
    folder = checkpoint.find_checkpoint(s.model or checkpoint.newest_run(Path("out")))
    corpus = Corpus.open(s.data_dir or checkpoint.read_metadata(folder).get("data_dir", "data/novel"))
    baseline = checkpoint.find_checkpoint(s.baseline) if s.baseline else None
    samples = read_samples(Path(s.samples)) if s.samples else []
    params = SamplingParams(max_new_tokens=s.max_new_tokens)
    model, losses = score(folder, corpus, device, dtype)
    result = {
        "model": folder.as_posix(),
        "bits_per_char": corpus.bits_per_char(losses.sum() / len(corpus.val)),
        "standard_error": standard_error(losses, corpus),
    }
    if baseline:
        difference = losses - score(baseline, corpus, device, dtype)[1]
        result |= {
            "baseline": baseline.as_posix(),
            "difference": difference_in_bits(difference.sum(), corpus),
            "difference_standard_error": standard_error(difference, corpus),
        }

    if not samples:
        samples = [c.text for c in generate(model, corpus.tokenizer, ["[CLS]"] * s.num_samples, params, s.seed)]
    training = corpus.tokenizer.decode(corpus.train)
    pieces = held_out_pieces(corpus, len(samples), max(200, *map(len, samples)))
    book = [piece[: max(1, len(sample))] for piece, sample in zip(pieces, samples)]
    result |= {"samples": text_statistics(samples, training), "held-out text": text_statistics(book, training)}
    print(json.dumps(result, ensure_ascii=False, indent=2) if s.json else table(result))


# -- the held-out text -------------------------------------------------------------------------------------------------


def score(folder: Path, corpus: Corpus, device, dtype: torch.dtype) -> tuple[GPT, np.ndarray]:
    """The model of a checkpoint, and its losses on the held-out chapters (held_out_losses).

    Raises UserError for a model with another vocabulary than the text's, or without some of its ids.
    """
    check_vocabulary(folder, corpus)
    model = checkpoint.load_with_tokenizer(folder)[1].to(device)
    with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        return model, held_out_losses(model, corpus.val, device)


def check_vocabulary(folder: Path, corpus: Corpus) -> None:
    """Raises UserError when a checkpoint has another vocabulary than the text."""
    if checkpoint.load_tokenizer(folder) != corpus.tokenizer:
        raise UserError(f"{folder} has another vocabulary than {corpus.folder}; name its own text with --data_dir")


@torch.no_grad()
def held_out_losses(model: GPT, ids: np.ndarray, device, batch_size: int = 8) -> np.ndarray:
    """The losses in nats of all ids but the first, each with at least half a block of context if there is. (n - 1,)

    ids: (n,). The windows overlap by half a block.
    """
    block = model.config.block_size
    stride = max(1, block // 2)
    starts = np.arange(0, max(1, len(ids) - 1 - (block - stride)), stride)  # the last window reaches the end
    padded = np.append(ids, np.zeros(block, ids.dtype))
    losses = np.zeros(len(ids) - 1)
    for group in np.array_split(starts, math.ceil(len(starts) / batch_size)):
        windows = torch.from_numpy(padded[group[:, None] + np.arange(block + 1)].astype(np.int64)).to(device)
        for start, logits, targets in zip(group, model(windows[:, :-1])[0], windows[:, 1:]):
            nats = F.cross_entropy(logits.float(), targets, reduction="none").cpu().numpy()  # (block,)
            first = block - stride if start else 0  # those before were counted by the window before
            part = losses[start + first : start + block]
            part[:] = nats[first : first + len(part)]
    return losses


def standard_error(losses: np.ndarray, corpus: Corpus) -> float | None:
    """The standard error in bits per character of the mean of some losses over the held-out chapters.

    losses: (n - 1,) nats, or differences of two models' nats, of all ids of corpus.val but the first. None for a
    single chapter. (Cochran 1977, Sampling Techniques, 6.4: the ratio estimate of clusters of unequal size.)
    """
    chapter = np.cumsum(corpus.val == corpus.tokenizer.cls)[1:]
    chapter -= chapter[0]
    count, total = np.bincount(chapter), np.bincount(chapter, losses)
    n = len(count)
    if n == 1:
        return None
    deviation = total - losses.mean() * count
    return difference_in_bits(math.sqrt(n / (n - 1) * (deviation**2).sum()), corpus)


def difference_in_bits(nats: float, corpus: Corpus) -> float:
    """A difference of two sums of losses over the held-out text, in nats -> in bits per character."""
    return corpus.bits_per_char(nats / len(corpus.val)) - corpus.bits_per_char(0)


def held_out_pieces(corpus: Corpus, count: int, length: int) -> list[str]:
    """`count` pieces of the held-out chapters, of `length` characters: as many and as long as the samples.

    (distinct-n falls with the length of a text.) A piece begins with a paragraph where one begins near, because one
    that begins inside a speech has unbalanced quotes.
    """
    pieces = []
    for chapter in filter(None, corpus.tokenizer.decode(corpus.val).split("[CLS]")):
        begin = 0
        while not begin or begin + length <= len(chapter):
            end = begin + length
            pieces.append(chapter[begin:end])
            begin = chapter.find("\n", end - 1, end + length) + 1 or end
    return [pieces[i] for i in sorted({round(i) for i in np.linspace(0, len(pieces) - 1, count)})]


# -- samples -----------------------------------------------------------------------------------------------------------


def read_samples(path: Path) -> list[str]:
    """The texts of a file of sample.py: JSON lines, or texts under SAMPLE headings. Any other file is one sample.

    JSON lines say what the prompt was: it is left out.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"cannot read {path}: byte {error.start} is not UTF-8") from None
    if path.suffix == ".jsonl":
        try:
            records = [json.loads(line) for line in text.split("\n") if line.strip()]
            samples = [record["text"].removeprefix(displayed(record.get("prompt", ""))) for record in records]
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UserError(f"{path} was not written by sample.py --save: a line has no text") from None
    else:
        samples = [s.strip() for s in re.split(r"^=+ SAMPLE \d+ =+$", text, flags=re.MULTILINE) if s.strip()]
    if not any(samples):
        raise UserError(f"{path} holds no samples")
    return samples


def text_statistics(texts: list[str], training: str) -> dict[str, float]:
    """Figures of some texts. Rates are fractions of 1; n-grams are of characters."""
    characters = sum(map(len, texts))
    marks = {"line breaks": "\n", "…": "…", "—": "—"}
    return {
        "texts": len(texts),
        "characters": characters,
        **{f"distinct-{n}": 1 - repeated_share(texts, n) for n in (1, 2, 3, 4)},
        **{f"repeated {n}-grams": repeated_share(texts, n) for n in (8, 12)},
        "texts with unbalanced quotes": sum(not balanced(text) for text in texts) / len(texts),
        **{f"{name} per character": "".join(texts).count(mark) / max(1, characters) for name, mark in marks.items()},
        "longest copied run": longest_copied_run(texts, training),
        **{f"in copied runs of {n}": copied_share(texts, training, n) for n in (20, 50)},
    }


def repeated_share(texts: list[str], n: int) -> float:
    """The fraction of n-grams that occurred before in these texts (1 - distinct-n, Li et al. 2016)."""
    grams = [gram for text in texts for gram in ngrams(text, n)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def balanced(text: str) -> bool:
    """Has every closing mark its opening mark, in order, and is none opened twice? The text may end inside marks."""
    pairs = dict(zip("”’」』）》】", "“‘「『（《【"))
    opened: list[str] = []
    for mark in text:
        if mark in pairs.values():
            if mark in opened:
                return False
            opened.append(mark)
        elif mark in pairs and (not opened or opened.pop() != pairs[mark]):
            return False
    return True


def ngrams(text: str, n: int) -> list[str]:
    """All substrings of n characters."""
    return [text[i : i + n] for i in range(len(text) - n + 1)]


def copied_starts(texts: list[str], training: str, n: int, starts: Iterable[int]) -> list[int]:
    """Those of the starts at which the training text has an n-gram of the texts."""
    grams = {gram for text in texts for gram in ngrams(text, n)}
    return [i for i in starts if training[i : i + n] in grams]


def longest_copied_run(texts: list[str], training: str) -> int:
    """The length of the longest substring of a text that occurs in the training text."""
    n, step, starts = 0, 8, range(len(training))
    while step:
        # A longer run starts where a run of n characters starts, so the starts become few.
        longer = copied_starts(texts, training, n + step, starts)
        if longer:
            n, step, starts = n + step, 2 * step, longer
        else:
            step //= 2
    return n


def copied_share(texts: list[str], training: str, n: int) -> float:
    """The fraction of characters inside runs of at least n characters that occur in the training text."""
    copied = {training[i : i + n] for i in copied_starts(texts, training, n, range(len(training)))}
    inside = 0
    for text in texts:
        end = 0  # of the runs counted so far
        for start, gram in enumerate(ngrams(text, n)):
            if gram in copied:
                inside += start + n - max(start, end)
                end = start + n
    return inside / max(1, sum(map(len, texts)))


def table(result: dict) -> str:
    """The result as a table: a row per figure, a column for the samples and one for the held-out text."""
    lines = [
        result["model"],
        "bits per character on held-out text, with at least half a block of context:"
        f" {with_error(result['bits_per_char'], result['standard_error'])}",
    ]
    if "baseline" in result:
        difference = with_error(result["difference"], result["difference_standard_error"], "+.3f")
        lines.append(f"difference from {result['baseline']}: {difference}")
    lines += ["", f"{'':30}{'samples':>14}{'held-out text':>16}"]
    for name, figure in result["samples"].items():
        lines.append(f"{name:30}{figure:>14,.4g}{result['held-out text'][name]:>16,.4g}")
    return "\n".join(lines)


def with_error(bits: float, error: float | None, form: str = ".3f") -> str:
    """A number with its standard error, where there is one."""
    return f"{bits:{form}}" + (f" (standard error {error:.3f})" if error is not None else "")


if __name__ == "__main__":
    run(main, settings)
