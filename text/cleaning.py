"""Remove what is not the novel's text, and count it. Case, width, punctuation and quotation marks are never changed."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from operator import ne

from configurator import UserError

# vertical tab, form feed, file, group and record separator, next line, line and paragraph separator
LINE_END = re.compile("[\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029]")
# control characters but tab, soft hyphens, zero-width characters, marks of writing direction, byte order marks
CONTROL = re.compile(
    "[\x00-\x08\x0e-\x1b\x1f\x7f-\x84\x86-\x9f\xad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\ufeff\ufff9-\ufffb]"
)
# Unicode's white space, and the fillers that look like it: Hangul's and Braille's
BLANKS = " \t\xa0\u115f\u1160\u1680\u202f\u205f\u2800\u3000\u3164\uffa0" + "".join(map(chr, range(0x2000, 0x200B)))


@dataclass(frozen=True)
class CleaningOptions:
    """The fields are settings of prepare.py."""

    clean: bool = True  # remove control characters, indents and blank lines
    unwrap: bool = False  # join the lines of texts that are wrapped at a fixed width
    drop_lines: str = ""  # remove lines in which this regular expression is found
    simplify: bool = False  # traditional to simplified characters


class Cleaner:
    """Cleans documents. `removed` counts, for all of them, what each step took out."""

    def __init__(self, options: CleaningOptions):
        """Raises UserError for a bad regular expression, or when simplify's package is missing."""
        self.options, self.removed = options, Counter()
        self.drop = regular_expression("drop_lines", options.drop_lines)
        if options.simplify:
            try:
                from opencc import OpenCC  # an optional package
            except ImportError:
                raise UserError("--simplify needs a package: pip install opencc-python-reimplemented") from None
            self.to_simplified = OpenCC("t2s").convert

    def blocks(self, document: Iterable[str]) -> Iterator[str]:
        """A document's blocks, cleaned. Each holds whole lines, which end in "\\n"."""
        lines = self.whole_lines(document)
        if self.options.unwrap:
            lines = self.unwrapped(lines)
        for block in lines:
            yield self.clean(block)

    def whole_lines(self, document: Iterable[str]) -> Iterator[str]:
        """A document's blocks with "\\n" as the only line end, each of whole lines."""
        parts, held = [], ""  # what follows the last line break; a "\r", whose "\n" may come with the next block
        for block in document:
            block = held + block
            held = "\r" if block.endswith("\r") else ""
            block = self.with_line_breaks(block.removesuffix("\r"))
            end = block.rfind("\n") + 1
            if end:
                yield "".join(parts) + block[:end]
                parts.clear()
            parts.append(block[end:])
        if held:
            self.removed["carriage returns"] += 1
        yield "".join(parts) + "\n"

    def with_line_breaks(self, block: str) -> str:
        """Every kind of line end -> "\\n"."""
        if returns := block.count("\r"):
            self.removed["carriage returns"] += returns
            block = block.replace("\r\n", "\n").replace("\r", "\n")
        if LINE_END.search(block):
            block, n = LINE_END.subn("\n", block)
            self.removed["other line ends"] += n
        return block

    def unwrapped(self, lines: Iterable[str]) -> Iterator[str]:
        from text.wrapping import Unwrapper  # sample.py, which cleans prompts, does not need what it imports

        unwrapper = Unwrapper()
        for block in lines:
            yield unwrapper.feed(block)
        yield unwrapper.flush()
        self.removed["line breaks inside paragraphs"] += unwrapper.joined

    def clean(self, lines: str) -> str:
        """Whole lines, perhaps none -> what is left of them."""
        if self.options.clean:
            lines, n = CONTROL.subn("", lines)
            self.removed["control characters"] += n
        kept = lines.split("\n")[:-1]
        if self.drop:
            kept = self._counted("dropped lines", kept, [line for line in kept if not self.drop.search(line)])
        if self.options.clean:
            ends = [line.rstrip(BLANKS) for line in kept]
            self.removed["blanks at line ends"] += sum(map(ne, kept, ends))
            kept = [line.lstrip(BLANKS) for line in ends]
            self.removed["indents"] += sum(map(ne, kept, ends))
            kept = self._counted("blank lines", kept, list(filter(None, kept)))
        text = "\n".join([*kept, ""])
        return self.to_simplified(text) if self.options.simplify else text

    def _counted(self, name: str, lines: list[str], kept: list[str]) -> list[str]:
        self.removed[name] += len(lines) - len(kept)
        return kept


def regular_expression(setting: str, pattern: str) -> re.Pattern | None:
    """None for an empty one. Raises UserError, naming the setting, for a bad one."""
    try:
        return re.compile(pattern) if pattern else None
    except (re.error, RecursionError, OverflowError) as error:
        raise UserError(f"--{setting}={pattern}: not a regular expression: {error}") from None
