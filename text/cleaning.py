"""Remove what is not the novel's text, and count it. Case, width, punctuation and quotation marks are never changed."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from configurator import UserError

# control characters but tab and line break, zero-width characters, marks of writing direction, byte order marks
CONTROL = "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060\ufeff]"
BLANK = "[ \t\u3000]+"


@dataclass(frozen=True)
class CleaningOptions:
    """The fields are settings of prepare.py."""

    clean: bool = True  # remove control characters, indents and blank lines
    drop_lines: str = ""  # remove lines in which this regular expression is found
    simplify: bool = False  # traditional to simplified characters


class Cleaner:
    """Cleans documents. `removed` counts, for all of them, what each step took out."""

    def __init__(self, options: CleaningOptions):
        """Raises UserError for a bad regular expression, or when simplify's package is missing."""
        self.options, self.removed = options, Counter()
        try:
            self.drop = re.compile(options.drop_lines) if options.drop_lines else None
        except (re.error, RecursionError, OverflowError) as error:
            raise UserError(f"--drop_lines={options.drop_lines}: not a regular expression: {error}") from None
        if options.simplify:
            try:
                from opencc import OpenCC  # an optional package
            except ImportError:
                raise UserError("--simplify needs a package: pip install opencc-python-reimplemented") from None
            self.to_simplified = OpenCC("t2s").convert

    def blocks(self, document: Iterable[str]) -> Iterator[str]:
        """A document's blocks, cleaned. Each holds whole lines, which end in "\\n"."""
        rest = ""
        for block in document:
            block = rest + block
            held = "\r" if block.endswith("\r") else ""  # its "\n" may come with the next block
            block = block.removesuffix("\r")
            self.removed["carriage returns"] += block.count("\r")
            block = block.replace("\r\n", "\n").replace("\r", "\n")
            end = block.rfind("\n") + 1
            rest = block[end:] + held
            yield self.clean(block[:end])
        yield self.clean(rest.removesuffix("\r") + "\n")

    def clean(self, lines: str) -> str:
        """Whole lines, perhaps none -> what is left of them."""
        if not lines:
            return ""
        text = "\n" + lines  # so that every line follows a line break
        if self.options.clean:
            text = self._replace(CONTROL, "", text, "control characters")
        if self.drop:
            text = self._drop_lines(text)
        if self.options.clean:
            text = self._replace(BLANK + "\n", "\n", text, "line ends")
            text = self._replace("\n" + BLANK, "\n", text, "indents")
            before = text.count("\n")
            text = re.sub("\n{2,}", "\n", text)
            self.removed["blank lines"] += before - text.count("\n")
        text = text[1:]
        return self.to_simplified(text) if self.options.simplify else text

    def _drop_lines(self, text: str) -> str:
        lines = text[1:-1].split("\n")
        kept = [line for line in lines if not self.drop.search(line)]
        self.removed["dropped lines"] += len(lines) - len(kept)
        return "\n" + "".join(line + "\n" for line in kept)

    def _replace(self, pattern: str, by: str, text: str, name: str) -> str:
        text, n = re.subn(pattern, by, text)
        self.removed[name] += n
        return text
