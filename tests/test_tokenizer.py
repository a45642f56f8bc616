import sys
import unicodedata
from collections import Counter

import numpy as np
import pytest
from conftest import ROOT, story
from hypothesis import given, settings
from hypothesis import strategies as st

from configurator import UserError
from tokenizer import BYTES, SPECIALS, Tokenizer

NATIVE = Tokenizer.build(Counter(story() + "\r\u2028"), min_count=2)
BERT_WORDS = [*SPECIALS, *"的一是不了人。，“！a#1", *"un ##aff ##able ##ab want ##ed runn ##ing , . ##s e ##1".split(), "\u2028", "hello", "##é"]
BERT = Tokenizer(BERT_WORDS)


@given(st.text())
@settings(max_examples=500)
def test_round_trip_of_any_text(text):
    assert NATIVE.decode(NATIVE.encode(text, allow_special=False)) == text


@given(st.text(alphabet="却说[]SEPCL\n\r\u2028<0xE4>中😀", max_size=30))
@settings(max_examples=500)
def test_specials_in_the_text_are_read_as_tokens(text):
    ids = NATIVE.encode(text)
    assert NATIVE.decode(ids) == text.replace("[SEP]", "\n")
    assert (ids == NATIVE.cls).sum() == text.count("[CLS]")


@given(st.lists(st.integers(-5, 70000)))
def test_decoding_never_raises(ids):
    assert isinstance(NATIVE.decode(ids), str)
    assert isinstance(BERT.decode(ids), str)


def test_ids_are_one_look_up_a_character_or_bytes():
    ids = NATIVE.encode("却说\n龘")
    assert ids.dtype == np.uint16
    assert [NATIVE.tokens[i] for i in ids] == ["却", "说", "[SEP]", *(f"<0x{b:02X}>" for b in "龘".encode())]
    assert NATIVE.is_byte[ids].tolist() == [False] * 3 + [True] * 3
    assert NATIVE.unknown("却龘龘") == {"龘": 2}
    with pytest.raises(UnicodeEncodeError):
        NATIVE.encode("\ud800")


def test_file_round_trip_and_its_traps(tmp_path):
    NATIVE.save(tmp_path / "vocab.txt")
    assert Tokenizer.load(tmp_path / "vocab.txt").tokens == NATIVE.tokens  # with U+2028 and "\r" in it
    text = "\n".join(BERT_WORDS)
    for data in (text, "\ufeff" + text, text.replace("\n", "\r\n") + "\r\n"):
        (tmp_path / "bert.txt").write_bytes(data.encode())
        loaded = Tokenizer.load(tmp_path / "bert.txt")
        assert loaded.tokens == BERT_WORDS and not loaded.native


@pytest.mark.parametrize(
    "tokens, words",
    [
        (["a", "b"], r"\[PAD\] \[UNK\]"),
        ([*SPECIALS, "a", "b", "a"], "'a' stands on line 6 and on line 8"),
        ([*SPECIALS, *map(str, range(65536))], "65,536 at most"),
        ([*SPECIALS, *BYTES, "ab"], "line 262"),
    ],
)
def test_what_is_no_vocabulary_is_named(tokens, words):
    with pytest.raises(UserError, match=words):
        Tokenizer(tokens)


def test_missing_and_binary_files_are_named(tmp_path):
    with pytest.raises(UserError, match="cannot read"):
        Tokenizer.load(tmp_path / "none.txt")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not UTF-8"):
        Tokenizer.load(tmp_path / "binary")


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    from transformers import BertTokenizer

    path = tmp_path_factory.mktemp("bert") / "vocab.txt"
    path.write_bytes("\n".join(BERT_WORDS).encode())
    return BertTokenizer(str(path))


HARD = [
    "unaffable wanted，running。", "Ünäffable É HELLO", "的a一1是 不\u3000了\u2028人", "a\u200bb\x00c\ufffdd", "##s #", "[SEP]的[CLS] [MASK]x[UNK]",
    "ΑΣ Σ", "İ ﬁ ½ ①", "豈\U0002f800", "한국어 カナ ไทย", "e\u0301\u0301", "的\u0301一", "a" * 101, "\t\r\n", "x\ue000y", "«“”‘’…—」",
]  # fmt: skip


@pytest.mark.parametrize("text", HARD)
def test_bert_ids_are_the_reference_s(reference, text):
    assert BERT.encode(text).tolist() == reference(text, add_special_tokens=False).input_ids


@given(st.text(alphabet=st.one_of(st.sampled_from("un affable,.的一é[SEP]#1\u200b"), st.characters(exclude_categories=["Cs"]))))
@settings(max_examples=500, deadline=None)
def test_bert_ids_are_the_reference_s_on_random_text(reference, text):
    assert BERT.encode(text).tolist() == reference(text, add_special_tokens=False).input_ids


def test_every_character_is_a_letter_a_space_punctuation_or_nothing_as_in_the_reference(reference):
    """Between two letters; every 7th of all code points, and all of the planes' first 0x3000."""
    codes = [c for c in range(0x110000) if (c % 7 == 0 or c % 0x10000 < 0x3000) and not 0xD800 <= c < 0xE000]
    texts = [f"e{chr(code)}s" for code in codes]
    for begin in range(0, len(texts), 10_000):
        expected = reference(texts[begin : begin + 10_000], add_special_tokens=False).input_ids
        for text, ids in zip(texts[begin:], expected):
            assert BERT.encode(text).tolist() == ids, repr(text)


def test_split_digits():
    tokenizer = Tokenizer([*BERT_WORDS, "11"], split_digits=True)
    assert [tokenizer.tokens[i] for i in tokenizer.encode("的11一a1 1")] == ["的", "1", "1", "一", "a", "1", "1"]
    assert [BERT.tokens[i] for i in BERT.encode("a11")] == ["a", "##1", "##1"]
    assert tokenizer != BERT and tokenizer == Tokenizer(tokenizer.tokens, split_digits=True)


def test_bert_keeps_line_breaks_when_asked():
    assert [BERT.tokens[i] for i in BERT.encode_lines("的一\n\n是")] == ["的", "一", "[SEP]", "[SEP]", "是"]
    assert BERT.decode(BERT.encode_lines("hello want的\n是")) == "hello want的\n是"
    assert BERT.unknown("的龘") == {"龘": 1}


def test_shipped_vocabulary_is_what_its_command_makes():
    sys.path.insert(0, str(ROOT / "vocab"))
    import make

    shipped = Tokenizer.load(ROOT / "vocab/chinese.txt")
    assert len(make.gb2312()) == 7445
    assert shipped == make.vocabulary() and shipped.native
    assert set("…—“”‘’abc龙") < set(shipped.tokens)


def test_the_grammar_lets_whole_characters_through_and_nothing_else():
    """Every character's bytes are allowed one after the other; and whatever is allowed, drawn at random, is UTF-8."""
    allowed, following = NATIVE.grammar()
    byte = lambda b: NATIVE.token_to_id(f"<0x{b:02X}>")  # noqa: E731
    for code in [*range(0x20, 0x7F), *range(0xA0, 0xD800, 7), *range(0xE000, 0x110000, 97), 0xFFFF, 0x10FFFF]:
        state = 0
        for b in chr(code).encode():
            assert allowed[state, byte(b)], hex(code)
            state = following[state, byte(b)]
        assert state == 0
    rng, state, written = np.random.default_rng(0), 0, b""
    for _ in range(20000):
        b = int(rng.choice([b for b in range(256) if allowed[state, byte(b)]]))
        state, written = following[state, byte(b)], written + bytes([b])
        if state == 0:
            assert written == b"\t" or unicodedata.category(written.decode()) != "Cc"
            written = b""
    assert not allowed[:, NATIVE.banned].any() and allowed[0, NATIVE.cls] and not allowed[1:, NATIVE.cls].any()
    assert not allowed[0, [byte(b) for b in (0x00, 0x1B, 0x0A, 0x7F, 0x80, 0xC0, 0xFF)]].any()


def test_the_grammar_of_a_bert_vocabulary_and_a_larger_model():
    allowed, following = BERT.grammar(BERT.vocab_size + 3)
    assert allowed.shape == following.shape == (1, BERT.vocab_size + 3) and not following.any()
    assert set(np.flatnonzero(~allowed[0])) == {*BERT.banned.tolist(), *range(BERT.vocab_size, BERT.vocab_size + 3)}
