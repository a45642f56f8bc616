"""Remove what is not the novel's text, and count it. Case, width, punctuation and quotation marks are never changed."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import ne

from configurator import UserError

# vertical tab, form feed, file, group and record separator, next line, line and paragraph separator
LINE_ENDS = "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
# control characters but tab, soft hyphens, zero-width characters, marks of writing direction, byte order marks
CONTROLS = (
    "\x00-\x08\x0e-\x1b\x1f\x7f-\x84\x86-\x9f\xad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
)
LINE_END, CONTROL = re.compile(f"[{LINE_ENDS}]"), re.compile(f"[{CONTROLS}]")
# Unicode's white space, and the fillers that look like it: Hangul's and Braille's
BLANKS = " \t\xa0\u115f\u1160\u1680\u202f\u205f\u2800\u3000\u3164\uffa0" + "".join(map(chr, range(0x2000, 0x200B)))

LONG_LINE = 2**20  # characters: of a longer line, only parts are in memory


@dataclass(frozen=True)
class CleaningOptions:
    """The fields are settings of prepare.py."""

    clean: bool = True  # remove control characters, indents and blank lines
    unwrap: bool = False  # join the lines of texts that are wrapped at a fixed width
    drop_lines: Sequence[str] = ()  # remove lines in which one of these regular expressions is found
    simplify: bool = False  # traditional to simplified characters


class Cleaner:
    """Cleans documents. `removed` counts, for all of them, what each step took out."""

    def __init__(self, options: CleaningOptions):
        """Raises UserError for a bad regular expression, or when simplify's package is missing."""
        self.options, self.removed = options, Counter()
        self.drop = [regular_expression("drop_lines", pattern) for pattern in options.drop_lines if pattern]
        if options.simplify:
            try:
                from opencc import OpenCC  # an optional package
            except ImportError:
                raise UserError("--simplify needs a package: pip install opencc-python-reimplemented") from None
            self.to_simplified = OpenCC("t2s").convert

    def blocks(self, document: Iterable[str]) -> Iterator[str]:
        """A document's blocks, cleaned. Each holds whole lines, which end in "\\n", or a part of a very long one."""
        lines = map(self.without_dropped, self.whole_lines(document))
        if self.options.unwrap:
            from text.wrapping import unwrapped  # sample.py, which cleans prompts, does not need what it imports

            lines = unwrapped(lines, self.removed)
        yield from map(self.clean_lines, lines)

    def whole_lines(self, document: Iterable[str]) -> Iterator[str]:
        """A document's blocks with "\\n" as the only line end, each of whole lines or of a part of a very long one."""
        parts, held = [], ""  # what follows the last line break; a "\r", whose "\n" may come with the next block
        for block in document:
            block = held + block
            held = "\r" if block.endswith("\r") else ""
            block = self.without_special(block.removesuffix("\r"))
            end = block.rfind("\n") + 1
            if end:
                yield "".join(parts) + block[:end]
                parts.clear()
            parts.append(block[end:])
            if sum(map(len, parts)) > 2 * LONG_LINE and not self.options.unwrap:
                line = "".join(parts)
                end = part_end(line)
                yield line[:end]
                parts = [line[end:]]
        if held:
            self.removed["carriage returns"] += 1
        yield "".join(parts) + "\n"

    def without_special(self, block: str) -> str:
        """Every kind of line end -> "\\n"; no control characters."""
        if returns := block.count("\r"):
            self.removed["carriage returns"] += returns
            block = block.replace("\r\n", "\n").replace("\r", "\n")
        block, n = LINE_END.subn("\n", block)
        self.removed["other line ends"] += n
        if self.options.clean:
            block, n = CONTROL.subn("", block)
            self.removed["control characters"] += n
        return block

    def without_dropped(self, lines: str) -> str:
        """Whole lines without those that --drop_lines names. (Before lines are joined to paragraphs.)"""
        if not self.drop:
            return lines
        *kept, part = lines.split("\n")
        for pattern in self.drop:  # ^本章完$ is meant for an indented line, too
            others = [line for line in kept if not (pattern.search(line) or pattern.search(line.strip(BLANKS)))]
            kept = self._counted("dropped lines", kept, others)
        return "\n".join([*kept, part])

    def clean_lines(self, lines: str) -> str:
        """Whole lines, perhaps none, or a part of a very long one -> what is left of them."""
        *kept, part = lines.split("\n")
        if self.options.clean:
            ends = [line.rstrip(BLANKS) for line in kept]
            self.removed["blanks at line ends"] += sum(map(ne, kept, ends))
            kept = [line.lstrip(BLANKS) for line in ends]
            self.removed["indents"] += sum(map(ne, kept, ends))
            kept = self._counted("blank lines", kept, list(filter(None, kept)))
            part = part.lstrip(BLANKS)
        text = "\n".join([*kept, part])
        return self.to_simplified(text) if self.options.simplify else text

    def _counted(self, name: str, lines: list[str], kept: list[str]) -> list[str]:
        self.removed[name] += len(lines) - len(kept)
        return kept


def part_end(line: str) -> int:
    """Where to cut a very long line: LONG_LINE before its end, after a sentence where there is one, before no blank."""
    place = len(line) - LONG_LINE
    end = line.rfind("。", 0, place) + 1 or place
    return len(line) - len(line[end:].lstrip(BLANKS))


def regular_expression(setting: str, pattern: str) -> re.Pattern | None:
    """None for an empty one. Raises UserError, naming the setting, for a bad one."""
    try:
        return re.compile(pattern) if pattern else None
    except (re.error, RecursionError, OverflowError) as error:
        raise UserError(f"--{setting}={pattern}: not a regular expression: {error}") from None
