"""
Text <-> ids, by a vocabulary file: vocab.txt, UTF-8, one token per line, id = line number from 0.

There are two kinds of vocabulary. A file that holds the 256 bytes is native:
    native  the five special tokens, the 256 bytes <0x00>..<0xFF>, and single characters. A character that is
            not in it is spelled in its UTF-8 bytes, so every text comes back exactly as it went in.
    BERT    words, ##pieces and characters, no bytes (the GPT2-Chinese line's vocab_small.txt, bert-base-chinese).
            Gives the ids of the reference BERT tokenizer (see wordpiece.py); what it cannot spell becomes [UNK].

    tok = Tokenizer.load("data/novel/vocab.txt")
    ids = tok.encode("话说天下大势")      # numpy uint16; one table look-up per character
    tok.decode(ids)                      # "话说天下大势"
"""

import re
from collections import Counter
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from unicodedata import category

import numpy as np

from configurator import UserError
from wordpiece import ALONE, SEP_TO_NEWLINE, WORD, WordPiece, join_pieces

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")  # [CLS] starts a chapter, [SEP] is the line break
BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))
MAX_SIZE = 65536  # ids are stored as uint16


class Tokenizer:
    """A vocabulary, native or BERT. tokens[i] is the token with id i."""

    def __init__(self, tokens: list[str], split_digits: bool = False, name: str = "the vocabulary"):
        """split_digits: under BERT's rules, each digit is a word of its own, as in the GPT2-Chinese line.

        Raises UserError, saying which line of `name` is wrong, when the tokens are no vocabulary.
        """
        self.tokens, self.vocab_size, self.split_digits = list(tokens), len(tokens), split_digits
        self._ids = {token: i for i, token in enumerate(self.tokens)}
        self.native = set(BYTES) <= self._ids.keys()
        self._check(name)
        self.unk, self.cls, self.sep = (self._ids[token] for token in ("[UNK]", "[CLS]", "[SEP]"))
        self.never_generated = np.array([self._ids[token] for token in ("[PAD]", "[UNK]", "[MASK]")])
        self.is_byte = np.array([token in BYTES for token in self.tokens]) & self.native  # (vocab_size,) bool
        self._special = re.compile("(" + "|".join(map(re.escape, SPECIALS)) + ")")
        self._table = np.full(0x110000, self.unk, dtype=np.uint16)  # code point -> id
        for i, token in enumerate(self.tokens):
            if len(token) == 1:
                self._table[ord(token)] = i
        self._table[ord("\n")] = self.sep
        if self.native:
            self._byte_ids = np.array([self._ids[byte] for byte in BYTES], dtype=np.uint16)  # byte -> id
            self._spell = lambda run: self._byte_ids[np.frombuffer(run.encode(), dtype=np.uint8)]
            self._kind = np.where(self._table == self.unk, WORD, ALONE).astype(np.uint8)  # by code point
            spelled = {"[SEP]": b"\n", **{name: bytes([byte]) for byte, name in enumerate(BYTES)}}
            self._utf8 = [spelled.get(token, token.encode()) for token in self.tokens]  # by id
        else:
            self._wordpiece = WordPiece(self._ids, self.unk, split_digits)
            self._spell = self._wordpiece.spell
            self._kind = self._wordpiece.kinds()

    # -- making one --------------------------------------------------------------------------------------------------

    @classmethod
    def load(cls, path, split_digits: bool = False) -> "Tokenizer":
        """Read a vocabulary file. Raises UserError when it is missing, not UTF-8, or no vocabulary."""
        try:
            text = Path(path).read_bytes().decode("utf-8-sig")
        except OSError as error:
            raise UserError(f"cannot read the vocabulary {path}: {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise UserError(f"{path} is not a vocabulary: byte {error.start} is not UTF-8") from None
        if text.count("\r\n") == text.count("\n"):  # saved by an editor on Windows
            text = text.replace("\r\n", "\n")
        lines = text.removesuffix("\n").split("\n")  # not splitlines(): vocab_small.txt holds U+2028 as a token
        return cls(lines, split_digits, name=str(path))

    @classmethod
    def build(cls, counts: Counter, min_count: int = 1) -> "Tokenizer":
        """The native vocabulary of a text, from the counts of its characters: the most frequent first.

        Characters rarer than min_count are left out, and so are spelled in bytes.
        """
        characters = sorted((c for c in counts if counts[c] >= min_count and c != "\n"), key=lambda c: (-counts[c], c))
        return cls([*SPECIALS, *BYTES, *characters][:MAX_SIZE])

    def save(self, path) -> None:
        """Write the vocabulary file."""
        Path(path).write_bytes("".join(token + "\n" for token in self.tokens).encode())

    def _check(self, name: str) -> None:
        missing = [token for token in SPECIALS if token not in self._ids]
        if missing:
            raise UserError(f"{name} is not a vocabulary: {' '.join(missing)} missing (one token per line is expected)")
        if len(self.tokens) > MAX_SIZE:
            raise UserError(
                f"{name} has {len(self.tokens):,} tokens; ids are stored in 16 bits, so {MAX_SIZE:,} at most"
            )
        if len(self._ids) < len(self.tokens):
            first = next(i for i, token in enumerate(self.tokens) if self._ids[token] != i)
            again = self.tokens.index(self.tokens[first], first + 1)
            raise UserError(f"{name}: token {self.tokens[first]!r} stands on line {first + 1} and on line {again + 1}")
        known = {*SPECIALS, *BYTES}
        others = [token for token in self.tokens if len(token) != 1 and token not in known]
        if self.native and others:
            line = self._ids[others[0]] + 1
            raise UserError(f"{name}, line {line}: {others[0]!r}; with byte tokens, all others are one character each")

    # -- comparing and looking up -------------------------------------------------------------------------------------

    def __eq__(self, other) -> bool:
        """Do both give the same ids?"""
        return isinstance(other, Tokenizer) and (self.tokens, self.split_digits) == (other.tokens, other.split_digits)

    def __hash__(self) -> int:
        return hash((len(self.tokens), self.split_digits))

    def token_to_id(self, token: str) -> int:
        """The id of a token. Raises KeyError when there is none."""
        return self._ids[token]

    # -- text -> ids -------------------------------------------------------------------------------------------------

    def encode(self, text: str, allow_special: bool = True) -> np.ndarray:
        """Text -> ids, (n,) uint16.

        allow_special: "[CLS]", "[SEP]" and the like in the text are read as those tokens, not as characters.
        Raises UnicodeEncodeError for lone surrogates, which are not text.
        """
        pieces = self._special.split(text) if allow_special else [text]  # text, special, text, special, ..., text
        ids = [self._encode_plain(piece) for piece in pieces]
        ids[1::2] = [np.array([self._ids[special]], dtype=np.uint16) for special in pieces[1::2]]
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
        """Look up the characters that stand ALONE; spell each run of WORD characters; leave SPACE out."""
        codes = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)  # one number per character
        ids, kind = self._table[codes], self._kind[codes]
        if not kind.any():  # all ALONE, the common case
            return ids
        alone = kind == ALONE
        start, end = np.flatnonzero(np.diff(kind == WORD, prepend=False, append=False)).reshape(-1, 2).T
        spelled = [self._spell(text[a:b]) for a, b in zip(start.tolist(), end.tolist())]
        length = np.array([len(run) for run in spelled], dtype=np.intp)
        before = np.cumsum(alone)[start]  # how many characters stand alone before each run
        return np.insert(ids[alone], np.repeat(before, length), np.concatenate([ids[:0], *spelled]))

    # -- ids -> text -------------------------------------------------------------------------------------------------

    def decode(self, ids) -> str:
        """Ids -> text. [SEP] is a line break, other specials appear by name; bytes that are no UTF-8 become U+FFFD."""
        ids = np.asarray(ids, dtype=np.int64).ravel()
        ids = np.where((ids >= 0) & (ids < self.vocab_size), ids, self.unk)
        if not self.native:
            return "".join(join_pieces("\n" if i == self.sep else self.tokens[i] for i in ids.tolist()))
        runs = groupby(ids.tolist(), key=self.is_byte.__getitem__)
        return "".join(decode_utf8(b"".join(map(self._utf8.__getitem__, run))) for _, run in runs)

    # -- for generation and other programs ---------------------------------------------------------------------------

    def utf8_constraint(self, size: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Which ids may come next in generated text: allowed (S, V) bool, and the next state, (S, V) int16.

        Never [PAD], [UNK], [MASK], control characters other than the tab, private-use or unassigned characters. With a
        native vocabulary the bytes of a character come complete or not at all: the S states are `utf8_states`.
        size: the model's V, where that is larger; ids without a token are not allowed.
        """
        size = max(size, self.vocab_size)
        transitions = utf8_states() if self.native else [{}]
        allowed = np.zeros((len(transitions), size), dtype=bool)
        next_state = np.zeros((len(transitions), size), dtype=np.int16)
        allowed[0, : self.vocab_size] = [
            len(token) > 1 or any(is_generated(character) or category(character) == "Cf" for character in token)
            for token in self.tokens  # (a BERT vocabulary may have an empty line)
        ]
        allowed[0, self.never_generated] = False
        if self.native:
            allowed[0, self._byte_ids] = False
            for state, targets in enumerate(transitions):
                ids = self._byte_ids[list(targets)]
                allowed[state, ids] = True
                next_state[state, ids] = list(targets.values())
        return allowed, next_state

    def to_huggingface(self) -> dict:
        """The content of a tokenizer.json for the `tokenizers` library, which gives the same ids and the same text."""
        # [SEP] is an ordinary added token. transformers leaves special ones out of the text that it prints, and this
        # one is the line break. `normalized`: it is looked for after "\n" has become [SEP].
        added = [
            {
                "id": self._ids[token],
                "content": token,
                "special": token != "[SEP]",
                "normalized": token == "[SEP]" and self.native,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
            }
            for token in sorted(SPECIALS, key=self._ids.get)
        ]
        pipeline = self._native_pipeline() if self.native else self._wordpiece.pipeline()
        return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, **pipeline}

    def _native_pipeline(self) -> dict:
        """Characters, and bytes for the rest: a byte-fallback BPE without merges."""
        return {
            "normalizer": {"type": "Replace", "pattern": {"String": "\n"}, "content": "[SEP]"},
            "pre_tokenizer": None,
            "post_processor": None,
            "decoder": {"type": "Sequence", "decoders": [SEP_TO_NEWLINE, {"type": "ByteFallback"}, {"type": "Fuse"}]},
            "model": {
                "type": "BPE",
                "vocab": dict(self._ids),
                "merges": [],
                "unk_token": "[UNK]",
                "byte_fallback": True,
                "fuse_unk": False,
                "dropout": None,
                "continuing_subword_prefix": None,
                "end_of_word_suffix": None,
                "ignore_merges": False,
            },
        }


def is_generated(character: str) -> bool:
    """May a model spell this character? Assigned ones, but no control, format, surrogate or private-use characters."""
    return character == "\t" or category(character) not in ("Cc", "Cf", "Cn", "Co", "Cs")


@lru_cache
def utf8_states() -> list[dict[int, int]]:
    """The UTF-8 spellings of all characters that `is_generated` as a state machine: per state, byte -> next state.

    State 0 is between two characters. Equal states are merged: what defines a state is where each byte leads.
    """
    characters = np.zeros(5 * 2**18, dtype=bool)  # by code point, up to the last that 4 bytes could spell
    assigned = (*range(0x40000), *range(0xE0000, 0xE1000))  # the other planes have no assigned characters
    characters[list(assigned)] = [is_generated(chr(code)) for code in assigned]
    states: dict[bytes, int] = {}  # int16 targets of the bytes 0x80 .. 0xBF, -1 for none -> number of the state

    def merge(targets: list[int] | np.ndarray) -> list[int]:
        """The states that lead to each 64 targets in turn; -1 for those that lead nowhere."""
        groups = np.array(targets, dtype=np.int16).reshape(-1, 64)
        somewhere = (groups >= 0).any(1)
        return [states.setdefault(g.tobytes(), len(states) + 1) if s else -1 for g, s in zip(groups, somewhere)]

    one_more = merge(np.where(characters, 0, -1))  # for each 64 code points
    two_more = merge([-1] * 32 + one_more[32:])  # for each 4,096; not for those that two bytes can spell
    three_more = merge([-1] * 16 + two_more[16:])  # for each 262,144; not for those that three bytes can spell
    start = {code: 0 for code in range(0x80) if characters[code]}
    start |= {0xC0 + i: state for i, state in enumerate(one_more[:32]) if i >= 2 and state >= 0}
    start |= {0xE0 + i: state for i, state in enumerate(two_more[:16]) if state >= 0}
    start |= {0xF0 + i: state for i, state in enumerate(three_more) if state >= 0}
    targets = (np.frombuffer(state, dtype=np.int16).tolist() for state in states)
    return [start, *({0x80 + i: t for i, t in enumerate(row) if t >= 0} for row in targets)]


def decode_utf8(data: bytes) -> str:
    """UTF-8 -> text. Where that is not possible, each byte becomes U+FFFD (as in the `tokenizers` library)."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "\ufffd" * len(data)
