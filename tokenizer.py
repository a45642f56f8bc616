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

    def __init__(self, tokens: list[str], name: str = "the vocabulary"):
        """Raises UserError, saying which line of `name` is wrong, when the tokens are no vocabulary."""
        self.tokens = list(tokens)
        self._ids = {token: i for i, token in enumerate(self.tokens)}
        self.native = set(BYTES) <= self._ids.keys()
        self._check(name)
        self.unk, self.cls, self.sep = (self._ids[token] for token in ("[UNK]", "[CLS]", "[SEP]"))
        self.banned = np.array([self._ids[token] for token in ("[PAD]", "[UNK]", "[MASK]")])  # never to be written
        self.is_byte = np.array([token in BYTES for token in self.tokens]) & self.native  # (vocab_size,) bool
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
    def load(cls, path) -> "Tokenizer":
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
        return cls(lines, name=str(path))

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
            elif _is_punctuation(character):
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
        spaced = "".join(f" {c} " if _is_cjk(c) else " " if _is_space(c) else c for c in kept)
        bare = (c for c in unicodedata.normalize("NFD", spaced) if unicodedata.category(c) != "Mn")
        lower = "".join(c.lower() for c in bare)  # one by one: no final sigma in the reference
        words = "".join(f" {c} " if _is_punctuation(c) else c for c in lower).split(" ")
        return [i for word in words if word for i in self._pieces(word)]

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
        return b"".join(map(self._utf8.__getitem__, ids.tolist())).decode("utf-8", errors="replace")

    def _decoder_tables(self) -> tuple[np.ndarray, list[bytes]]:
        """Id -> code point (0 where it is not one character), and id -> UTF-8."""
        codes = np.array([ord(token) if len(token) == 1 else 0 for token in self.tokens], dtype="<u4")
        codes[self.sep] = ord("\n")
        utf8 = [token.encode() for token in self.tokens]
        utf8[self.sep] = b"\n"
        for byte, i in enumerate(self._byte_ids.tolist()):
            utf8[i] = bytes([byte])
        return codes, utf8

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


def _is_cjk(character: str) -> bool:
    return any(start <= ord(character) < end for start, end in CJK)


def _is_space(character: str) -> bool:
    return character in "\t\n\r\u2028\u2029" or unicodedata.category(character) == "Zs"


def _is_removed(character: str) -> bool:
    """What the reference's clean-up drops: NUL, U+FFFD and control, format, private and unassigned characters."""
    return character in "\0\ufffd" or (character not in "\t\n\r" and unicodedata.category(character)[0] == "C")


def _is_punctuation(character: str) -> bool:
    """Unicode punctuation, and all ASCII that is neither letter, digit, space nor control."""
    return unicodedata.category(character)[0] == "P" or (character.isascii() and character.isprintable()
                                                         and not character.isalnum() and character != " ")  # fmt: skip
