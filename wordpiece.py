"""
BERT's tokenizer rules: text -> words -> the longest matching pieces of a vocabulary, and back.

The reference is transformers' BertTokenizer, and its rules are those of google-research/bert, tokenization.py: clean,
put a space around each CJK character, strip accents, lower-case, split at spaces and punctuation, then take the longest
matching ##pieces (WordPiece). The ids are the reference's for text of Unicode 8 and for everything that a novel holds.
The reference's character tables are of Unicode 8 and Python's are newer: ids may differ for marks and punctuation
that Unicode added later.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np

# What a character does: ALONE is a token by itself, SPACE is none, a run of WORD characters is spelled.
ALONE, SPACE, WORD = 0, 1, 2

MAX_WORD = 100  # characters: a longer word is [UNK]

CJK = (  # first code point, last code point + 1
    (0x3400, 0x4DC0),  # extension A
    (0x4E00, 0xA000),  # unified ideographs
    (0xF900, 0xFB00),  # compatibility ideographs
    (0x20000, 0x2A6E0),  # extension B
    (0x2A700, 0x2B740),  # extension C
    (0x2B740, 0x2B820),  # extension D
    (0x2B920, 0x2CEB0),  # extension E, as the reference has it (the block begins at 0x2B820)
    (0x2F800, 0x2FA20),  # compatibility ideographs, supplement
)

# A decoder of the `tokenizers` library: [SEP] is the line break.
SEP_TO_NEWLINE = {"type": "Replace", "pattern": {"String": "[SEP]"}, "content": "\n"}


class WordPiece:
    """The rules for one vocabulary."""

    def __init__(self, ids: dict[str, int], unk: int, split_digits: bool = False):
        """ids: token -> id. unk: the id of [UNK]. split_digits: each digit is a word of its own."""
        self.ids, self.unk, self.split_digits = ids, unk, split_digits
        self.spell = lru_cache(maxsize=2**16)(self._spell)

    def kinds(self) -> np.ndarray:
        """Code point -> ALONE, SPACE or WORD, (0x110000,) uint8.

        ALONE are the characters that the rules leave as they are and separate from their neighbours: their ids can be
        looked up. What stands between them has to be spelled.
        """
        kind = np.full(0x110000, WORD, dtype=np.uint8)
        for start, end in CJK:
            kind[start:end] = ALONE
        for code in range(0x10000):
            character = chr(code)
            if is_space(character):
                kind[code] = SPACE
            elif is_punctuation(character) or (self.split_digits and character.isdigit()):
                kind[code] = ALONE
            if kind[code] == ALONE and unicodedata.normalize("NFD", character) != character:
                kind[code] = WORD
        kind[0x2F800:0x2FA20] = WORD  # compatibility ideographs: NFD changes all of them
        return kind

    def _spell(self, run: str) -> list[int]:
        """A piece of text -> ids, by all rules."""
        kept = (c for c in run if not is_removed(c))
        spaced = "".join(f" {c} " if self._is_word(c) else " " if is_space(c) else c for c in kept)
        bare = (c for c in unicodedata.normalize("NFD", spaced) if unicodedata.category(c) != "Mn")
        lower = "".join(c.lower() for c in bare)  # one by one: the reference has no final sigma
        words = "".join(f" {c} " if is_punctuation(c) else c for c in lower).split(" ")
        return [i for word in words if word for i in self._longest_pieces(word)]

    def _is_word(self, character: str) -> bool:
        """Is it a word by itself: a CJK character, or a digit where those are split?"""
        return (self.split_digits and character.isdigit()) or any(a <= ord(character) < b for a, b in CJK)

    def _longest_pieces(self, word: str) -> list[int]:
        """The longest token that starts the word, then the longest ##token that continues it, ...; or [UNK]."""
        ids, start = [], 0
        while start < len(word) <= MAX_WORD:
            for end in range(len(word), start, -1):
                piece = self.ids.get(("##" if start else "") + word[start:end])
                if piece is not None:
                    ids.append(piece)
                    start = end
                    break
            else:
                return [self.unk]
        return ids or [self.unk]

    def pipeline(self) -> dict:
        """These rules in the format of the `tokenizers` library: the parts of a tokenizer.json."""
        pre_tokenizer = {"type": "BertPreTokenizer"}
        if self.split_digits:
            digits = "".join(re.escape(chr(code)) for code in range(0x110000) if chr(code).isdigit())
            split = {"type": "Split", "pattern": {"Regex": f"[{digits}]"}, "behavior": "Isolated", "invert": False}
            pre_tokenizer = {"type": "Sequence", "pretokenizers": [pre_tokenizer, split]}
        pieces = {"type": "WordPiece", "prefix": "##", "cleanup": False}
        space = {"Regex": " (?![0-9A-Za-z])|(?<![0-9A-Za-z]) "}  # one that does not separate two ASCII words
        unspace = {"type": "Replace", "pattern": space, "content": ""}
        return {
            "normalizer": {
                "type": "BertNormalizer",
                "clean_text": True,
                "handle_chinese_chars": True,
                "strip_accents": None,
                "lowercase": True,
            },
            "pre_tokenizer": pre_tokenizer,
            "post_processor": None,
            "decoder": {"type": "Sequence", "decoders": [SEP_TO_NEWLINE, pieces, {"type": "Fuse"}, unspace]},
            "model": {
                "type": "WordPiece",
                "vocab": dict(self.ids),
                "unk_token": "[UNK]",
                "continuing_subword_prefix": "##",
                "max_input_chars_per_word": MAX_WORD,
            },
        }


def join_pieces(tokens: Iterable[str]) -> Iterator[str]:
    """Tokens -> parts of the text: ##pieces are joined to the token before.

    BERT drops spaces. One is put back between two words of ASCII letters or digits.
    """
    before = ""
    for token in tokens:
        if token.startswith("##") and len(token) > 2:
            token = token[2:]
        elif before[-1:].isalnum() and before[-1:].isascii() and token[:1].isalnum() and token[:1].isascii():
            yield " "
        yield token
        before = token


def is_space(character: str) -> bool:
    return character in "\t\n\r\u2028\u2029" or unicodedata.category(character) == "Zs"


def is_removed(character: str) -> bool:
    """Does the reference's clean-up remove it: NUL, U+FFFD and control, format and private characters?"""
    return character in "\0\ufffd" or (
        character not in "\t\n\r" and unicodedata.category(character) in ("Cc", "Cf", "Co")
    )


def is_punctuation(character: str) -> bool:
    """Unicode punctuation, and all ASCII that is neither letter, digit, space nor control."""
    symbol = character.isascii() and character.isprintable() and not character.isalnum() and character != " "
    return symbol or unicodedata.category(character)[0] == "P"
