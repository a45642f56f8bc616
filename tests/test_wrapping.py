import textwrap

import pytest
from test_chapters import prose

from text.cleaning import Cleaner, CleaningOptions
from text.wrapping import wrap_width

PARAGRAPHS = [(first + second).replace("\n", "") for first, second in zip(*[iter(prose(1, 60).split("\n")[:-1])] * 2)]
HEADINGS = [f"第{i}章 山门" for i in range(1, 4)]
LINES = [line for i in range(3) for line in (HEADINGS[i], *PARAGRAPHS[10 * i : 10 * i + 10])]


def cut(line: str, width: int, indent: str) -> str:
    """Cut a line at so many characters, the first of which are an indent."""
    return "".join(piece + "\n" for piece in textwrap.wrap(line, width, initial_indent=indent))


def wrapped(indent: str = "", blank_lines: bool = False) -> str:
    pieces = [line + "\n" if line in HEADINGS else cut(line, 20, indent) for line in LINES]
    return ("\n" if blank_lines else "").join(pieces)


def unwrap(text: str) -> tuple[list[str], int]:
    cleaner = Cleaner(CleaningOptions(unwrap=True))
    lines = "".join(cleaner.blocks([text])).split("\n")[:-1]
    return lines, cleaner.removed["line breaks inside paragraphs"]


@pytest.mark.parametrize("blank_lines", [True, False])
def test_unwrap_joins_the_lines_of_indented_paragraphs(blank_lines):
    assert unwrap(wrapped("\u3000\u3000", blank_lines))[0] == LINES


def test_unwrap_without_indents_ends_a_paragraph_where_a_line_is_short():
    lines, joined = unwrap(wrapped())
    assert joined > 30 and not [line for line in lines if line[-1] not in "。！？门"]


def test_unwrap_leaves_a_text_that_is_not_wrapped():
    text = "".join(line + "\n" for line in LINES)
    assert unwrap(text) == (LINES, 0)


def test_unwrap_puts_a_space_between_latin_words():
    text = textwrap.fill("The old gate stood open and nobody had come to close it since the winter. " * 30, 60) + "\n"
    assert unwrap(text)[0] == [text.replace("\n", " ").strip()]


@pytest.mark.parametrize("indent", ["", "\u3000\u3000"])
def test_wrap_width_is_the_width_of_cut_lines(indent):
    assert wrap_width(wrapped(indent).split("\n")) in (38, 39, 40)


@pytest.mark.parametrize(
    "lines",
    [LINES, prose(2, 200).split("\n"), ["白日依山尽，黄河入海流。欲穷千里目，更上一层楼。"] * 50, []],
    ids=["paragraphs", "sentences", "verse", "nothing"],
)
def test_wrap_width_is_zero_for_lines_that_are_not_cut(lines):
    assert wrap_width(lines) == 0
