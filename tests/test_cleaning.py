import sys

import pytest
from conftest import story

from configurator import UserError
from text import cleaning
from text.cleaning import Cleaner, CleaningOptions, regular_expression

DIRTY = "\ufeff第一章\r\n\r\n\u3000\u3000甲\u200b“Ａ” \x07乙…—\r\n看书就上某网\r\n"


def clean(text: str, **options) -> str:
    return "".join(Cleaner(CleaningOptions(**options)).blocks([text]))


def test_clean_removes_control_characters_indents_and_blank_lines():
    assert clean(DIRTY) == "第一章\n甲“Ａ” 乙…—\n看书就上某网\n"


def test_clean_false_changes_line_ends_only():
    assert clean(DIRTY, clean=False) == DIRTY.replace("\r\n", "\n") + "\n"


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", *"\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"], ids=ascii)
@pytest.mark.parametrize("switch", [True, False])
def test_blocks_takes_every_line_end_of_unicode(end, switch):
    assert clean(f"甲{end}乙{end}", clean=switch).strip("\n") == "甲\n乙"


BLANKS = " \t\u3000\xa0\u1680\u2002\u2003\u2009\u200a\u202f\u205f\u3164\u2800"


@pytest.mark.parametrize("blank", BLANKS, ids=ascii)
def test_clean_removes_every_blank_of_unicode_around_lines(blank):
    assert clean(f"{blank}{blank}甲{blank}\n{blank}\n乙\n") == "甲\n乙\n"


@pytest.mark.parametrize("blank", " \u3000\u2003\xa0", ids=ascii)
def test_clean_leaves_blanks_inside_lines(blank):
    assert clean(f"甲{blank}乙\n") == f"甲{blank}乙\n"


@pytest.mark.parametrize("character", "\u200b\u200d\u2060\ufeff\xad\u202a\u2066\x07\x1f", ids=ascii)
def test_clean_removes_characters_without_width(character):
    assert clean(f"{character}甲{character}乙{character}\n") == "甲乙\n"


@pytest.mark.parametrize("switch", [True, False])
def test_drop_lines_removes_the_lines_that_match(switch):
    dropped = clean(DIRTY, clean=switch, drop_lines=["就上.*网$"])
    assert dropped.strip("\n") == clean(DIRTY.replace("看书就上某网", ""), clean=switch).strip("\n")


def test_drop_lines_takes_several_regular_expressions():
    assert clean("甲\nwww.x.com\n乙\n本章完\n", drop_lines=["(?i)WWW", "", "本章完"]) == "甲\n乙\n"


def test_drop_lines_takes_no_notice_of_indents():
    assert clean("\u3000\u300012\t\n甲12\n", drop_lines=["^[0-9]+$"]) == "甲12\n"


def test_drop_lines_removes_lines_before_they_are_joined():
    line = "他走过了长长的街道听见有人在身后叫着他的名字于是停了下来望着那条空空"
    text = f"{line}\n" * 12 + "最新章节www.x.com\n的街道。\n" + f"{line}\n" * 12
    cleaned = clean(text, unwrap=True, drop_lines=["www"])
    assert cleaned.count(line) == 24 and "空空的街道。" in cleaned and "www" not in cleaned


def test_drop_lines_names_a_bad_regular_expression():
    with pytest.raises(UserError, match="--drop_lines=.*not a regular expression"):
        Cleaner(CleaningOptions(drop_lines=["("]))


def test_regular_expression_is_none_for_an_empty_setting():
    assert regular_expression("heading", "") is None


def test_removed_counts_each_step():
    cleaner = Cleaner(CleaningOptions(drop_lines=["就上.*网$"]))
    list(cleaner.blocks([DIRTY + "\u2028\u2003丙\u2003"]))
    assert dict(cleaner.removed) == {
        "carriage returns": 4,
        "other line ends": 1,
        "control characters": 3,
        "dropped lines": 1,
        "blanks at line ends": 1,
        "indents": 2,
        "blank lines": 2,
    }


@pytest.mark.parametrize("options", [{}, {"clean": False}, {"drop_lines": ["回"]}], ids=["default", "off", "dropped"])
@pytest.mark.parametrize("size", [1, 7, 100])
def test_blocks_give_the_same_for_any_size(size, options):
    text = "\ufeff" + story().replace("\n", "\r\n\r\n\u3000") + "\r第一卷\r\r" + story(2) + "\r"
    whole, parts = (Cleaner(CleaningOptions(**options)) for _ in range(2))
    expected = "".join(whole.blocks([text]))
    assert "".join(parts.blocks(text[i : i + size] for i in range(0, len(text), size))) == expected
    assert parts.removed == whole.removed


@pytest.mark.parametrize("options", [{}, {"clean": False}, {"unwrap": True}], ids=["default", "off", "unwrap"])
@pytest.mark.parametrize(
    "line", ["\u3000" + "他来了。 " * 200, "a" * 999, "他来了。\u3000\u3000" * 99], ids=["。", "a", "blanks"]
)
def test_blocks_give_the_same_when_a_line_is_read_in_parts(line, options, monkeypatch):
    text = f"第一章\n{line}\n第二章\n"
    expected = clean(text, **options)
    monkeypatch.setattr(cleaning, "LONG_LINE", 50)
    assert (
        "".join(Cleaner(CleaningOptions(**options)).blocks(text[i : i + 9] for i in range(0, len(text), 9))) == expected
    )


def test_blocks_of_a_very_long_line_are_short(monkeypatch):
    monkeypatch.setattr(cleaning, "LONG_LINE", 50)
    blocks = Cleaner(CleaningOptions()).blocks("他来了。又走了。" for _ in range(500))
    assert max(map(len, blocks)) <= 110


def test_blocks_hold_whole_lines():
    text = story()
    blocks = Cleaner(CleaningOptions()).blocks(text[i : i + 50] for i in range(0, len(text), 50))
    assert all(block.endswith("\n") for block in blocks if block)


def test_simplify_turns_traditional_characters_into_simplified_ones():
    pytest.importorskip("opencc")
    assert clean("風雲際會，“愛”", simplify=True) == "风云际会，“爱”\n"


def test_simplify_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "opencc", None)
    with pytest.raises(UserError, match="pip install opencc"):
        Cleaner(CleaningOptions(simplify=True))
