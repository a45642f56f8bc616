import json
import unicodedata
from collections import Counter

import numpy as np
import pytest
from conftest import ROOT, story
from hypothesis import given, settings
from hypothesis import strategies as st

from configurator import UserError
from tokenizer import BYTES, SPECIALS, Tokenizer
from vocab.make import gb2312, vocabulary

NATIVE = Tokenizer.build(Counter(story()), min_count=2)
BERT_TOKENS = [*SPECIALS, *"的一是，", "##a", "want", "\u2028"]
BERT = Tokenizer(BERT_TOKENS)


def byte_id(byte: int) -> int:
    return NATIVE.token_to_id(f"<0x{byte:02X}>")


# -- encode and decode -----------------------------------------------------------------------------------------------


@given(st.text())
@settings(max_examples=500, derandomize=True)
def test_decode_returns_any_encoded_text(text):
    assert NATIVE.decode(NATIVE.encode(text, allow_special=False)) == text


SPECIAL_TEXTS = st.text(alphabet="却说[]SEPCL\n\r\u2028<0xE4>中😀", max_size=30)


@given(SPECIAL_TEXTS)
@settings(max_examples=500, derandomize=True)
def test_encode_reads_special_tokens_in_the_text(text):
    ids = NATIVE.encode(text)
    assert NATIVE.decode(ids) == text.replace("[SEP]", "\n")
    assert (ids == NATIVE.cls).sum() == text.count("[CLS]")


@pytest.mark.parametrize("tokenizer", [NATIVE, BERT], ids=["native", "bert"])
@given(ids=st.lists(st.integers(-5, 70000)))
@settings(derandomize=True)
def test_decode_accepts_any_ids(tokenizer, ids):
    assert isinstance(tokenizer.decode(ids), str)


def test_encode_is_one_id_per_character_and_bytes_for_the_rest():
    ids = NATIVE.encode("却说\n龘")
    assert ids.dtype == np.uint16
    assert [NATIVE.tokens[i] for i in ids] == ["却", "说", "[SEP]", *(f"<0x{b:02X}>" for b in "龘".encode())]


def test_is_byte_marks_the_byte_tokens():
    assert NATIVE.is_byte[NATIVE.encode("却说\n龘")].tolist() == [False] * 3 + [True] * 3


def test_unknown_counts_characters_that_are_not_in_the_vocabulary():
    assert NATIVE.unknown("却龘龘") == {"龘": 2}


def test_encode_refuses_lone_surrogates():
    with pytest.raises(UnicodeEncodeError):
        NATIVE.encode("\ud800")


# -- vocabulary files ------------------------------------------------------------------------------------------------


def test_load_returns_what_save_wrote(tmp_path):
    saved = Tokenizer.build(Counter("甲\r\u2028"))  # two characters that other programs take for line ends
    saved.save(tmp_path / "vocab.txt")
    assert Tokenizer.load(tmp_path / "vocab.txt").tokens == [*SPECIALS, *BYTES, "\r", "\u2028", "甲"]


@pytest.mark.parametrize(
    "before, line_end, after", [("", "\n", ""), ("\ufeff", "\n", ""), ("", "\r\n", "\r\n"), ("", "\r\n", "")]
)
def test_load_accepts_byte_order_marks_and_windows_line_ends(tmp_path, before, line_end, after):
    (tmp_path / "bert.txt").write_bytes((before + line_end.join(BERT_TOKENS) + after).encode())
    loaded = Tokenizer.load(tmp_path / "bert.txt")
    assert loaded.tokens == BERT_TOKENS and not loaded.native


@pytest.mark.parametrize(
    "tokens, words",
    [
        (["a", "b"], r"\[PAD\] \[UNK\]"),
        ([*SPECIALS, "a", "b", "a"], "'a' stands on line 6 and on line 8"),
        ([*SPECIALS, *map(str, range(65536))], "65,536 at most"),
        ([*SPECIALS, *BYTES, "ab"], "line 262"),
    ],
)
def test_tokenizer_names_what_is_wrong_in_a_vocabulary(tokens, words):
    with pytest.raises(UserError, match=words):
        Tokenizer(tokens)


def test_load_names_a_missing_file(tmp_path):
    with pytest.raises(UserError, match="cannot read"):
        Tokenizer.load(tmp_path / "none.txt")


def test_load_names_a_file_that_is_not_utf8(tmp_path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not UTF-8"):
        Tokenizer.load(tmp_path / "binary")


def test_tokenizers_are_equal_when_they_give_the_same_ids():
    digits = Tokenizer(BERT_TOKENS, split_digits=True)
    assert digits != BERT and digits == Tokenizer(BERT_TOKENS, split_digits=True)


def test_shipped_vocabulary_is_what_its_command_makes():
    shipped = Tokenizer.load(ROOT / "vocab/chinese.txt")
    assert shipped == vocabulary() and shipped.native


def test_shipped_vocabulary_has_gb2312_and_the_punctuation_of_novels():
    characters = gb2312()
    assert len(characters) == 7445
    assert set(characters) | set("…—“”‘’abc龙") <= set(vocabulary().tokens)


# -- generation and other programs -----------------------------------------------------------------------------------


def spelled(character: str, allowed, next_state) -> bool:
    """Does the constraint allow the bytes of a character, one after the other?"""
    state = 0
    for byte in character.encode():
        if not allowed[state, byte_id(byte)]:
            return False
        state = next_state[state, byte_id(byte)]
    return state == 0


def test_utf8_constraint_allows_exactly_the_assigned_characters():
    """No control, format, private-use or unassigned characters. Every 3rd of all code points."""
    constraint = NATIVE.utf8_constraint()
    for code in [*range(0x3000), *range(0x3000, 0xD800, 3), *range(0xE000, 0x110000, 3), 0xFFFE, 0x10FFFF]:
        expected = chr(code) == "\t" or unicodedata.category(chr(code)) not in ("Cc", "Cf", "Co", "Cn")
        assert spelled(chr(code), *constraint) == expected, hex(code)


def test_utf8_constraint_random_bytes_are_whole_assigned_characters():
    allowed, next_state = NATIVE.utf8_constraint()
    choices = [[byte for byte in range(256) if allowed[state, byte_id(byte)]] for state in range(len(allowed))]
    rng, state, written = np.random.default_rng(0), 0, b""
    for _ in range(20_000):
        byte = choices[state][rng.integers(len(choices[state]))]
        state, written = next_state[state, byte_id(byte)], written + bytes([byte])
        if state == 0:
            assert written == b"\t" or unicodedata.category(written.decode())[0] != "C"
            written = b""


def test_utf8_constraint_refuses_private_use_tokens_of_the_vocabulary():
    tokenizer = Tokenizer.build(Counter("却说\ue001\u200d"))
    allowed = tokenizer.utf8_constraint()[0][0]
    assert not allowed[tokenizer.token_to_id("\ue001")]
    assert allowed[tokenizer.token_to_id("却")] and allowed[tokenizer.token_to_id("\u200d")], "the text has the joiner"


def test_utf8_constraint_allows_cls_between_characters_only():
    allowed, _ = NATIVE.utf8_constraint()
    assert allowed[0, NATIVE.cls] and not allowed[1:, NATIVE.cls].any()


def test_utf8_constraint_never_allows_pad_unk_mask():
    assert not NATIVE.utf8_constraint()[0][:, NATIVE.never_generated].any()


@pytest.mark.parametrize("byte", [0x00, 0x1B, 0x0A, 0x7F, 0x80, 0xC0, 0xFF])
def test_utf8_constraint_refuses_bytes_that_begin_no_character(byte):
    assert not NATIVE.utf8_constraint()[0][0, byte_id(byte)]


def test_utf8_constraint_of_a_bert_vocabulary_refuses_ids_without_a_token():
    size = BERT.vocab_size + 3
    allowed, next_state = BERT.utf8_constraint(size)
    assert allowed.shape == next_state.shape == (1, size) and not next_state.any()
    assert set(np.flatnonzero(~allowed[0])) == {*BERT.never_generated.tolist(), *range(BERT.vocab_size, size)}


def test_utf8_constraint_refuses_the_token_of_an_empty_line():
    tokenizer = Tokenizer([*BERT_TOKENS, ""])
    assert not tokenizer.utf8_constraint()[0][0, tokenizer.token_to_id("")]


@pytest.fixture(scope="module")
def huggingface():
    """The `tokenizers` library's tokenizer, made from ours."""
    from tokenizers import Tokenizer as HuggingFaceTokenizer

    return HuggingFaceTokenizer.from_str(json.dumps(NATIVE.to_huggingface()))


@given(text=SPECIAL_TEXTS)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_to_huggingface_gives_the_same_ids_and_text(huggingface, text):
    ids = huggingface.encode(text).ids
    assert ids == NATIVE.encode(text).tolist()
    assert huggingface.decode(ids, skip_special_tokens=False) == NATIVE.decode(ids)
