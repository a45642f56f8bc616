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


def spaced(gap: str, indent: str, lines: list[str] = LINES, after: str = "\n") -> str:
    """The lines cut at 20 characters, with an ending after each piece and a gap after each line."""
    pieces = ([line] if line in HEADINGS else textwrap.wrap(line, 20, initial_indent=indent) for line in lines)
    return "".join("".join(piece + after for piece in line) + gap for line in pieces)


@pytest.mark.parametrize("indent", ["", "\u3000\u3000"])
def test_unwrap_joins_what_stands_between_blank_lines(indent):
    lines, _ = unwrap(spaced("\n", indent))
    assert lines == LINES


def test_unwrap_takes_no_notice_of_a_blank_line_after_each_line():
    assert unwrap(spaced("", "\u3000\u3000", after="\n\n"))[0] == LINES
    assert unwrap(spaced("\n", "", after="\n\n"))[0] == LINES
    assert unwrap(spaced("", "", after="\n\n")) == unwrap(wrapped())


def test_unwrap_joins_the_few_long_lines_among_much_dialogue():
    lines = [line for paragraph in PARAGRAPHS for line in (paragraph, *["“你来了。”他说。"] * 10)]
    text = spaced("", "\u3000\u3000", lines)
    assert wrap_width(text.split("\n")) == 0 and unwrap(text)[0] == lines


def test_unwrap_joins_the_paragraphs_of_english_books():
    words = "“The gate stood open,” he said. Nobody had come, not even the wife of the _well-known_ doctor."
    paragraphs = [" ".join([f"Number {i}:", *[words] * (i % 7 + 1)]) for i in range(60)]
    assert unwrap("\n\n".join(textwrap.fill(paragraph, 72) for paragraph in paragraphs) + "\n")[0] == paragraphs


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
