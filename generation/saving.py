"""Samples in a file: under GPT2-Chinese's headings, or as JSON lines."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


def heading(number: int) -> str:
    """GPT2-Chinese's line above each sample."""
    return "=" * 40 + f" SAMPLE {number} " + "=" * 40


@dataclass(frozen=True)
class SampleFile:
    """A file to which samples are appended. A name that ends in .jsonl gets a JSON object per line."""

    path: str
    model: Path  # the checkpoint
    seed: int
    settings: dict  # those that decide what is generated

    def append(self, samples: list, first_number: int = 1) -> None:
        """Append continuations. Raises OSError, naming the file."""
        with name_file(self.path), open(self.path, "a", encoding="utf-8", newline="\n") as file:
            for number, sample in enumerate(samples, first_number):
                if self.path.endswith(".jsonl"):
                    file.write(self.json_line(sample.prompt, sample.text, self.settings, sample=number))
                else:
                    file.write(f"{heading(number)}\n{sample.text}\n")

    def json_line(self, prompt: str, text: str, settings: dict, **more) -> str:
        """A text with all that made it, as a JSON object on a line."""
        made_by = {"seed": self.seed, "model": self.model.as_posix(), "settings": settings}
        return json.dumps({"prompt": prompt, "text": text, **more, **made_by}, ensure_ascii=False) + "\n"


@contextmanager
def name_file(path: str) -> Iterator[None]:
    """Add the file's name to an OSError: that of a full disk has none."""
    try:
        yield
    except OSError as error:
        error.filename = path
        raise
