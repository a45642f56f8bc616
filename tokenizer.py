"""
Text <-> ids, by a vocabulary file: vocab.txt, UTF-8, one token a line, id = line number from 0.

Two kinds of vocabulary, told apart by what they hold:
    native  the five special tokens, the 256 bytes <0x00>..<0xFF>, and single characters. A character that is
            not in it is spelled in its UTF-8 bytes, so every text comes back exactly as it went in.
    BERT    words, ##pieces and characters, no bytes (the GPT2-Chinese line's vocab_small.txt, bert-base-chinese).
            Gives the ids of the reference BERT tokenizer; what it cannot spell becomes [UNK].

    tok = Tokenizer.load("data/novel/vocab.txt")
    ids = tok.encode("话说天下大势")      # numpy uint16; one table look-up a character
    tok.decode(ids)                      # "话说天下大势"
"""

import re
import unicodedata
from collections import Counter
from functools import lru_cache
from itertools import groupby

import numpy as np

from configurator import UserError

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")  # [CLS] starts a chapter, [SEP] is the line break
BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))
MAX_SIZE = 65536  # ids are stored as uint16

# What a character does in encode: ALONE is a token by itself, SPACE is none, a run of WORD characters is spelled out.
ALONE, SPACE, WORD = 0, 1, 2

CJK = ((0x3400, 0x4DC0), (0x4E00, 0xA000), (0xF900, 0xFB00), (0x20000, 0x2A6E0), (0x2A700, 0x2B740),
       (0x2B740, 0x2B820), (0x2B920, 0x2CEB0), (0x2F800, 0x2FA20))  # fmt: skip


class Tokenizer:
    """A vocabulary and the two ways through it. tokens[i] is the token with id i."""

    def __init__(self, tokens: list[str], split_digits: bool = False, name: str = "the vocabulary"):
        """split_digits: under BERT's rules, each digit is a word of its own, as in the GPT2-Chinese line.
        Raises UserError, saying which line of `name` is wrong, when the tokens are no vocabulary."""
        self.tokens, self.split_digits = list(tokens), split_digits
        self._ids = {token: i for i, token in enumerate(self.tokens)}
        self.native = set(BYTES) <= self._ids.keys()
        self._check(name)
        self.unk, self.cls, self.sep = (self._ids[token] for token in ("[UNK]", "[CLS]", "[SEP]"))
        self.banned = np.array([self._ids[token] for token in ("[PAD]", "[UNK]", "[MASK]")])  # never to be written
        self.is_byte = np.array([token in BYTES for token in self.tokens]) & self.native  # (vocab_size,) bool
        self.is_unknown = self.is_byte | (np.arange(self.vocab_size) == self.unk)  # what a character not held becomes
        self._special = re.compile("(" + "|".join(map(re.escape, SPECIALS)) + ")")
        if self.native:
            self._byte_ids = np.array([self._ids[byte] for byte in BYTES], dtype=np.uint16)  # byte -> id
            self._expand = lambda run: self._byte_ids[np.frombuffer(run.encode(), dtype=np.uint8)]
            self._table, self._kind = self._native_tables()
            self._codes, self._utf8 = self._decoder_tables()
        else:
            self._expand = lru_cache(maxsize=2**16)(self._spell_bert)
            self._table, self._kind = self._bert_tables()

    # -- making one --------------------------------------------------------------------------------------------------

    @classmethod
    def load(cls, path, split_digits: bool = False) -> "Tokenizer":
        """Read a vocabulary file. Raises UserError when it is missing, not UTF-8, or no vocabulary."""
        try:
            with open(path, "rb") as file:
                text = file.read().decode("utf-8-sig")
        except OSError as error:
            raise UserError(f"cannot read the vocabulary {path}: {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise UserError(f"{path} is not a vocabulary: byte {error.start} is not UTF-8") from None
        lines = text.split("\n")  # not splitlines(): vocab_small.txt holds U+2028 as a token
        if lines[-1] == "":
            lines.pop()
        if all(line.endswith("\r") for line in lines):  # an editor on Windows has been here
            lines = [line[:-1] for line in lines]
        return cls(lines, split_digits, name=str(path))

    @classmethod
    def build(cls, counts: Counter, min_count: int = 1) -> "Tokenizer":
        """The native vocabulary of a text: its characters by falling count, the ones rarer than min_count left to bytes."""
        characters = sorted((c for c in counts if counts[c] >= min_count and c != "\n"), key=lambda c: (-counts[c], c))
        return cls([*SPECIALS, *BYTES, *characters][:MAX_SIZE])

    def save(self, path) -> None:
        """Write the vocabulary file."""
        with open(path, "wb") as file:
            file.write("".join(token + "\n" for token in self.tokens).encode())

    def _check(self, name: str) -> None:
        missing = [token for token in SPECIALS if token not in self._ids]
        if missing:
            raise UserError(f"{name} is not a vocabulary: {' '.join(missing)} missing (one token a line is expected)")
        if len(self.tokens) > MAX_SIZE:
            raise UserError(f"{name} has {len(self.tokens):,} tokens; ids are stored in 16 bits, so {MAX_SIZE:,} at most")
        if len(self._ids) < len(self.tokens):
            first = next(i for i, token in enumerate(self.tokens) if self._ids[token] != i)
            again = self.tokens.index(self.tokens[first], first + 1)
            raise UserError(f"{name}: token {self.tokens[first]!r} stands on line {first + 1} and on line {again + 1}")
        if self.native:
            known = {*SPECIALS, *BYTES}
            for i, token in enumerate(self.tokens):
                if len(token) != 1 and token not in known:
                    raise UserError(f"{name}, line {i + 1}: {token!r}; with byte tokens, all others are one character each")

    # -- facts -------------------------------------------------------------------------------------------------------

    @property
    def vocab_size(self) -> int:
        return len(self.tokens)

    def __eq__(self, other) -> bool:
        """Do both give the same ids?"""
        return isinstance(other, Tokenizer) and (self.tokens, self.split_digits) == (other.tokens, other.split_digits)

    def token_to_id(self, token: str) -> int:
        """The id of a token. Raises KeyError when there is none."""
        return self._ids[token]

    # -- text -> ids -------------------------------------------------------------------------------------------------

    def encode(self, text: str, allow_special: bool = True) -> np.ndarray:
        """Text -> ids, (n,) uint16.

        allow_special: "[CLS]", "[SEP]" and the like in the text are read as those tokens, not as characters.
        Raises UnicodeEncodeError for lone surrogates, which are not text.
        """
        if not allow_special:
            return self._encode_plain(text)
        pieces = self._special.split(text)  # text, special, text, special, ..., text
        if len(pieces) == 1:
            return self._encode_plain(text)
        ids = [self._encode_plain(piece) for piece in pieces]
        for i in range(1, len(pieces), 2):
            ids[i] = np.array([self._ids[pieces[i]]], dtype=np.uint16)
        return np.concatenate(ids)

    def encode_lines(self, text: str, allow_special: bool = True) -> np.ndarray:
        """`encode` with every line break kept as [SEP]. (A native vocabulary always does; BERT's rules drop them.)"""
        if self.native:
            return self.encode(text, allow_special)
        sep = np.array([self.sep], dtype=np.uint16)
        first, *rest = (self.encode(line, allow_special) for line in text.split("\n"))
        return np.concatenate([first, *(ids for line in rest for ids in (sep, line))])

    def unknown(self, text: str) -> Counter:
        """The characters of a text that are not in the vocabulary, with their counts: spelled in bytes, or [UNK]."""
        codes = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
        suspects, counts = np.unique(codes[self._table[codes] == self.unk], return_counts=True)
        pairs = zip(map(chr, suspects.tolist()), counts.tolist())
        return Counter({c: n for c, n in pairs if self.native or self.unk in self._encode_plain(c)})

    def _encode_plain(self, text: str) -> np.ndarray:
        codes = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)  # one number a character
        ids, kind = self._table[codes], self._kind[codes]
        if not kind.any():  # all ALONE, the common case
            return ids
        alone = kind == ALONE
        start, end = np.flatnonzero(np.diff(kind == WORD, prepend=False, append=False)).reshape(-1, 2).T
        spelled = [self._expand(text[a:b]) for a, b in zip(start.tolist(), end.tolist())]
        length = alone.astype(np.intp)  # how many ids each character becomes; a run's all count for its first
        length[start] = [len(run) for run in spelled]
        out = np.empty(length.sum(), dtype=np.uint16)
        looked_up = np.repeat(alone, length)
        out[looked_up] = ids[alone]
        if spelled:
            out[~looked_up] = np.concatenate(spelled)
        return out

    def _native_tables(self) -> tuple[np.ndarray, np.ndarray]:
        """Code point -> id, and code point -> kind: in the vocabulary, or to be spelled in bytes."""
        table = np.full(0x110000, self.unk, dtype=np.uint16)
        for i, token in enumerate(self.tokens):
            if len(token) == 1:
                table[ord(token)] = i
        table[ord("\n")] = self.sep
        return table, np.where(table == self.unk, WORD, ALONE).astype(np.uint8)

    # The reference is transformers' BertTokenizer (the rules are those of google-research/bert, tokenization.py):
    # clean; a space around each CJK character; strip accents; lower-case; split at spaces and punctuation; then
    # the longest matching ##pieces. A character that these rules leave as it is and set apart from its neighbours is
    # looked up; what is between such characters goes through the rules, a run at a time.

    def _bert_tables(self) -> tuple[np.ndarray, np.ndarray]:
        table = np.full(0x110000, self.unk, dtype=np.uint16)
        kind = np.full(0x110000, WORD, dtype=np.uint8)
        for start, end in CJK:
            kind[start:end] = ALONE
        for code in range(0x10000):
            character = chr(code)
            if _is_space(character):
                kind[code] = SPACE
            elif _is_punctuation(character) or (self.split_digits and character.isdigit()):
                kind[code] = ALONE
            if kind[code] == ALONE and unicodedata.normalize("NFD", character) != character:
                kind[code] = WORD
        kind[0x2F800:0x2FA20] = WORD  # compatibility characters: all are changed by NFD
        for token, i in self._ids.items():
            if len(token) == 1:
                table[ord(token)] = i
        return table, kind

    def _spell_bert(self, run: str) -> list[int]:
        """The reference's rules for a piece of text -> ids."""
        kept = (c for c in run if not _is_removed(c))
        spaced = "".join(f" {c} " if self._stands_alone(c) else " " if _is_space(c) else c for c in kept)
        bare = (c for c in unicodedata.normalize("NFD", spaced) if _category(c) != "Mn")
        lower = "".join(c.lower() for c in bare)  # one by one: no final sigma in the reference
        words = "".join(f" {c} " if _is_punctuation(c) else c for c in lower).split(" ")
        return [i for word in words if word for i in self._pieces(word)]

    def _stands_alone(self, character: str) -> bool:
        return _is_cjk(character) or (self.split_digits and character.isdigit())

    def _pieces(self, word: str) -> list[int]:
        """The longest piece of the vocabulary that starts the word, then ##the longest that goes on, ...; or [UNK]."""
        ids, start = [], 0
        while start < len(word) <= 100:
            for end in range(len(word), start, -1):
                piece = self._ids.get(("##" if start else "") + word[start:end])
                if piece is not None:
                    ids.append(piece)
                    start = end
                    break
            else:
                return [self.unk]
        return ids or [self.unk]

    # -- ids -> text -------------------------------------------------------------------------------------------------

    def decode(self, ids) -> str:
        """Ids -> text. [SEP] is a line break, other specials stand by name; bytes that are no UTF-8 become U+FFFD."""
        ids = np.asarray(ids, dtype=np.int64).ravel()
        ids = np.where((ids >= 0) & (ids < self.vocab_size), ids, self.unk)
        if not self.native:
            return "".join(self._bert_words(ids.tolist()))
        codes = self._codes[ids]
        if codes.all():  # single characters only, the common case
            return codes.tobytes().decode("utf-32-le")
        runs = groupby(ids.tolist(), key=self.is_byte.__getitem__)
        return "".join(_from_bytes(b"".join(map(self._utf8.__getitem__, run))) for _, run in runs)

    def _decoder_tables(self) -> tuple[np.ndarray, list[bytes]]:
        """Id -> code point (0 where it is not one character), and id -> UTF-8."""
        codes = np.array([ord(token) if len(token) == 1 else 0 for token in self.tokens], dtype="<u4")
        codes[self.sep] = ord("\n")
        utf8 = [token.encode() for token in self.tokens]
        utf8[self.sep] = b"\n"
        for byte, i in enumerate(self._byte_ids.tolist()):
            utf8[i] = bytes([byte])
        return codes, utf8

    def grammar(self, size: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Which ids may follow which when text is written: allowed (S, V) bool, and the state after each id, (S, V) int64.

        Never [PAD], [UNK] and [MASK]. In a native vocabulary the bytes of a character come whole or not at all: S states say which
        bytes it still needs (The Unicode Standard, table 3-7), state 0 that it is complete; control characters are not begun.
        size: the model's V, where that is larger; the ids that no token has are not allowed.
        """
        size = max(size, self.vocab_size)
        states = [(0xC2, 0xC2, 8), (0xC3, 0xDF, 1), (0xE0, 0xE0, 4), (0xE1, 0xEF, 2), (0xED, 0xED, 5), (0xF0, 0xF0, 6), (0xF1, 0xF3, 3), (0xF4, 0xF4, 7)]
        followers = {1: (0x80, 0xBF, 0), 2: (0x80, 0xBF, 1), 3: (0x80, 0xBF, 2), 4: (0xA0, 0xBF, 1), 5: (0x80, 0x9F, 1), 6: (0x90, 0xBF, 2), 7: (0x80, 0x8F, 2), 8: (0xA0, 0xBF, 0)}
        allowed = np.zeros((len(followers) + 1 if self.native else 1, size), dtype=bool)
        following = np.zeros(allowed.shape, dtype=np.int64)
        allowed[0, : self.vocab_size] = True
        allowed[0, self.banned] = False
        if self.native:
            allowed[0, self._byte_ids] = False
            allowed[0, self._byte_ids[[0x09, *range(0x20, 0x7F)]]] = True
            for state, (first, last, after) in [*((0, step) for step in states), *followers.items()]:
                allowed[state, self._byte_ids[first : last + 1]] = True
                following[state, self._byte_ids[first : last + 1]] = after
        return allowed, following

    def _bert_words(self, ids: list[int]):
        """BERT drops spaces; put one back between two words of letters or digits, and join ##pieces."""
        before = ""
        for i in ids:
            token = "\n" if i == self.sep else self.tokens[i]
            if token.startswith("##") and len(token) > 2:
                token = token[2:]
            elif before[-1:].isalnum() and before[-1:].isascii() and token[:1].isalnum() and token[:1].isascii():
                yield " "
            yield token
            before = token


def _from_bytes(data: bytes) -> str:
    """UTF-8 -> text; bytes that are none become U+FFFD each (as in the `tokenizers` library)."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "\ufffd" * len(data)


# Python knows this year's Unicode, the reference that of 2015. These marks, format characters and punctuation have come
# since, and to the reference they are letters like any other; the kind of three more has changed.
_NEWER = """
5c8-5c9 61d 7fd 890-891 897-89f 8ca-8e2 9fd-9fe a76 afa-aff b53-b55 c04 c3c c77 c84 d00 d3b-d3c d81 eba ece 180f
1885-1886 1abf-1af0 1b4e-1b4f 1b7d-1b7f 1df6-1dfb 2e43-2e4f 2e52-2e5d 2e60-2e63 a82c a8c5 a8ff a9bd 10d24-10d27
10d69-10d6e 10eab-10ead 10ecb-10ed0 10ef0-10eff 10f46-10f50 10f55-10f59 10f82-10f89 11070 11073-11074 110c2
110cd 111cf 1123e 11241 1133b 113bb-113c0 113ce 113d0 113d2 113d4-113d5 113d7-113d8 113e1-113e2 11438-1143f
11442-11444 11446 1144b-1144f 1145a-1145b 1145d-1145e 11660-1166c 116b9 1182f-11837 11839-1183b 1193b-1193c
1193e 11943-11946 119d4-119d7 119da-119db 119e0 119e2 11a01-11a0a 11a33-11a38 11a3b-11a47 11a51-11a56
11a59-11a5b 11a8a-11a96 11a98-11a9c 11a9e-11aa2 11b00-11b09 11b60 11b62-11b64 11b66 11be1 11c30-11c36
11c38-11c3d 11c3f 11c41-11c45 11c70-11c71 11c92-11ca7 11caa-11cb0 11cb2-11cb3 11cb5-11cb6 11d31-11d36 11d3a
11d3c-11d3d 11d3f-11d45 11d47 11d90-11d91 11d95 11d97 11df0 11ef3-11ef4 11ef7-11ef8 11f00-11f01 11f36-11f3a
11f40 11f42-11f4f 11f5a 11fff 12ff1-12ff2 13430-13440 13447-13455 1611e-16129 1612d-1612f 16d6d-16d6f
16e97-16e9a 16f4f 16fe2 16fe4 1cf00-1cf2d 1cf30-1cf46 1d127-1d128 1d25b-1d25c 1e000-1e006 1e008-1e018
1e01b-1e021 1e023-1e024 1e026-1e02a 1e08f 1e130-1e136 1e2ae 1e2ec-1e2ef 1e4ec-1e4ef 1e5ee-1e5ef 1e5ff 1e6e3
1e6e6 1e6ee-1e6ef 1e6f5 1e944-1e94a 1e95e-1e95f
"""
_CHANGED = {"\u166d": "Po", "\u1734": "Mn", "\U000111c9": "Po"}


@lru_cache(maxsize=1)
def _newer() -> frozenset[str]:
    ranges = [[int(end, 16) for end in part.split("-")] for part in _NEWER.split()]
    return frozenset(chr(code) for part in ranges for code in range(part[0], part[-1] + 1))


def _category(character: str) -> str:
    """The character's general category in the reference's Unicode."""
    return _CHANGED.get(character) or ("Cn" if character in _newer() else unicodedata.category(character))


def _is_cjk(character: str) -> bool:
    return any(start <= ord(character) < end for start, end in CJK)


def _is_space(character: str) -> bool:
    return character in "\t\n\r\u2028\u2029" or _category(character) == "Zs"


def _is_removed(character: str) -> bool:
    """What the reference's clean-up drops: NUL, U+FFFD and control, format and private characters."""
    return character in "\0\ufffd" or (character not in "\t\n\r" and _category(character) in ("Cc", "Cf", "Co"))


def _is_punctuation(character: str) -> bool:
    """Unicode punctuation, and all ASCII that is neither letter, digit, space nor control."""
    symbol = character.isascii() and character.isprintable() and not character.isalnum() and character != " "
    return symbol or _category(character)[0] == "P"
