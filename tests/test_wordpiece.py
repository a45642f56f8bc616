"""BERT's rules, compared with transformers' BertTokenizer, the reference."""

import json
import sys
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenizer import SPECIALS, Tokenizer
from wordpiece import CJK

TOKENS = [
    *SPECIALS,
    *"的一是不了人。，“！a#1",
    *"un ##aff ##able ##ab want ##ed runn ##ing , . ##s e ##1".split(),
    "\u2028",
    "hello",
    "##é",
]
BERT = Tokenizer(TOKENS)
DIGITS = Tokenizer([*TOKENS, "11"], split_digits=True)

# Their category has changed since Unicode 8: Canadian Syllabics chi sign, Hanunoo pamudpod, Mongolian baluda (two).
CHANGED = "\u166d\u1734\u1885\u1886"
CHARACTERS = [
    character
    for character in map(chr, range(sys.maxunicode + 1))
    if unicodedata.ucd_3_2_0.category(character) not in ("Cn", "Cs") and character not in CHANGED
]
"""All characters of Unicode 3.2, which the reference's Unicode 8 and every newer one have alike."""


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """Text -> the reference's ids."""
    from transformers import BertTokenizer

    path = tmp_path_factory.mktemp("bert") / "vocab.txt"
    path.write_bytes("\n".join(TOKENS).encode())
    tokenizer = BertTokenizer(str(path))
    return lambda text: tokenizer(text, add_special_tokens=False).input_ids


HARD = [
    "unaffable wanted，running。",
    "Ünäffable É HELLO",
    "的a一1是 不\u3000了\u2028人",
    "a\u200bb\x00c\ufffdd",
    "##s #",
    "[SEP]的[CLS] [MASK]x[UNK]",
    "ΑΣ Σ",
    "İ ﬁ ½ ①",
    "豈\U0002f800",
    "한국어 カナ ไทย",
    "e\u0301\u0301",
    "的\u0301一",
    "a" * 101,
    "\t\r\n",
    "x\ue000y",
    "«“”‘’…—」",
]


@pytest.mark.parametrize("text", HARD)
def test_wordpiece_gives_the_reference_ids(reference, text):
    assert BERT.encode(text).tolist() == reference(text)


TEXTS = st.text(st.one_of(st.sampled_from("un affable,.的一é[SEP]#1\u200b"), st.sampled_from(CHARACTERS)))


@given(text=TEXTS)
@settings(max_examples=500, deadline=None, derandomize=True)
def test_wordpiece_gives_the_reference_ids_for_random_text(reference, text):
    assert BERT.encode(text).tolist() == reference(text)


def test_wordpiece_treats_every_character_as_the_reference(reference):
    """A letter, a space, punctuation or nothing: each character between two letters."""
    cjk = [chr(code) for first, end in CJK for code in range(first, end)]
    texts = [f"e{character}s" for character in [*CHARACTERS, *cjk]]
    for first in range(0, len(texts), 1000):
        batch = " ".join(texts[first : first + 1000])
        if BERT.encode(batch).tolist() != reference(batch):
            different = [text for text in batch.split(" ") if BERT.encode(text).tolist() != reference(text)]
            pytest.fail(f"other ids for {different or batch!r}")


def test_wordpiece_split_digits_makes_each_digit_a_word():
    assert [DIGITS.tokens[i] for i in DIGITS.encode("的11一a1 1")] == ["的", "1", "1", "一", "a", "1", "1"]


def test_wordpiece_keeps_digits_in_words_by_default():
    assert [BERT.tokens[i] for i in BERT.encode("a11")] == ["a", "##1", "##1"]


def test_wordpiece_line_breaks_become_sep():
    assert [BERT.tokens[i] for i in BERT.encode_lines("的一\n\n是")] == ["的", "一", "[SEP]", "[SEP]", "是"]


def test_wordpiece_decode_restores_spaces_between_words():
    assert BERT.decode(BERT.encode_lines("hello want的\n是")) == "hello want的\n是"


def test_wordpiece_unknown_counts_characters_without_a_token():
    assert BERT.unknown("的龘") == {"龘": 1}


@pytest.mark.parametrize("tokenizer", [BERT, DIGITS], ids=["plain", "split_digits"])
def test_wordpiece_pipeline_gives_the_same_ids(tokenizer):
    from tokenizers import Tokenizer as HuggingFaceTokenizer

    other = HuggingFaceTokenizer.from_str(json.dumps(tokenizer.to_huggingface()))
    for text in ("的11一a1 1", "unaffable wanted，running。", "[SEP]的[CLS]"):
        assert other.encode(text, add_special_tokens=False).ids == tokenizer.encode(text).tolist()
