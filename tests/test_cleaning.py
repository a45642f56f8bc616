import sys

import pytest
from conftest import story

from configurator import UserError
from text.cleaning import Cleaner, CleaningOptions

DIRTY = "\ufeff第一章\r\n\r\n\u3000\u3000甲\u200b“Ａ” \x07乙…—\r\n看书就上某网\r\n"


def clean(text: str, **options) -> str:
    return "".join(Cleaner(CleaningOptions(**options)).blocks([text]))


def test_clean_removes_control_characters_indents_and_blank_lines():
    assert clean(DIRTY) == "第一章\n甲“Ａ” 乙…—\n看书就上某网\n"


def test_clean_false_changes_line_ends_only():
    assert clean(DIRTY, clean=False) == DIRTY.replace("\r\n", "\n") + "\n"


@pytest.mark.parametrize("switch", [True, False])
def test_drop_lines_removes_the_lines_that_match(switch):
    dropped = clean(DIRTY, clean=switch, drop_lines="就上.*网$")
    assert dropped.strip("\n") == clean(DIRTY.replace("看书就上某网", ""), clean=switch).strip("\n")


def test_drop_lines_names_a_bad_regular_expression():
    with pytest.raises(UserError, match="not a regular expression"):
        Cleaner(CleaningOptions(drop_lines="("))


def test_removed_counts_each_step():
    cleaner = Cleaner(CleaningOptions(drop_lines="就上.*网$"))
    list(cleaner.blocks([DIRTY]))
    assert dict(cleaner.removed) == {
        "carriage returns": 4,
        "control characters": 3,
        "dropped lines": 1,
        "line ends": 0,
        "indents": 1,
        "blank lines": 2,
    }


@pytest.mark.parametrize("options", [{}, {"clean": False}, {"drop_lines": "回"}], ids=["default", "off", "drop_lines"])
@pytest.mark.parametrize("size", [1, 7, 100])
def test_blocks_give_the_same_for_any_size(size, options):
    text = "\ufeff" + story().replace("\n", "\r\n\r\n\u3000") + "\r第一卷\r\r" + story(2)
    whole, parts = (Cleaner(CleaningOptions(**options)) for _ in range(2))
    expected = "".join(whole.blocks([text]))
    assert "".join(parts.blocks(text[i : i + size] for i in range(0, len(text), size))) == expected
    assert parts.removed == whole.removed


def test_simplify_turns_traditional_characters_into_simplified_ones():
    pytest.importorskip("opencc")
    assert clean("風雲際會，“愛”", simplify=True) == "风云际会，“爱”\n"


def test_simplify_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "opencc", None)
    with pytest.raises(UserError, match="pip install opencc"):
        Cleaner(CleaningOptions(simplify=True))
