"""
Bytes -> text. Encodings are recognised by evidence, bytes that do not fit are counted.

    encoding = detect_encoding(first_bytes)
    decoder = Decoder(encoding, errors="replace")
    text = decoder.decode(chunk) + ... + decoder.decode(b"", final=True)
    decoder.notes()                        # what was replaced, in sentences

GB18030 stands for GBK and GB 2312 too, and cp950, which is Windows' Big5, for the other forms of Big5.
"""

import codecs
import re
from collections import Counter
from contextlib import suppress

from configurator import UserError
from text import frequencies
from text.frequencies import MIXED

SAMPLE = 2**18  # bytes that are checked for UTF-8
SCORED = 2**14  # bytes that are read in each encoding
MARKS = {  # byte order marks. UTF-32's begins with UTF-16's
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    b"\x84\x31\x95\x33": "gb18030",
}
CHINESE = ("utf-8", "gb18030", "cp950", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")
FOREIGN = {  # other encodings, which must not be taken for these: the language, and how likely a character is in it
    "euc_jp": ("Japanese", frequencies.japanese),
    "cp932": ("Japanese", frequencies.japanese),
    "cp949": ("Korean", frequencies.korean),
    "cp1251": ("Cyrillic", frequencies.russian),
    "koi8_r": ("Cyrillic", frequencies.russian),
    "cp1253": ("Greek", frequencies.greek),
    "cp874": ("Thai", frequencies.thai),
    "cp1255": ("Hebrew", frequencies.hebrew),
    "cp1256": ("Arabic", frequencies.arabic),
}
MODELS = {
    **dict.fromkeys(CHINESE, frequencies.chinese),
    **{name: model for name, (_, model) in FOREIGN.items()},
    "cp1252": frequencies.latin,
}
PRIORS = {  # log likelihoods before anything is read: files are mostly Chinese, and UTF-16 mostly has a mark
    **dict.fromkeys(("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be", "cp1252"), -4.0),
    **dict.fromkeys(FOREIGN, -12.0),
}
MIN_FOREIGN = 6  # bytes beyond ASCII: fewer show no language
# encodings in seven bits, and how they begin
IN_ASCII = {"hz": b"~{", "iso2022_jp": b"\x1b$B", "iso2022_kr": b"\x1b$)C"}
SUPERSETS = {
    **dict.fromkeys(("gb2312", "gbk", "cp936"), "gb18030"),
    **dict.fromkeys(("big5", "big5hkscs"), "cp950"),
    **{"shift_jis": "cp932", "euc_kr": "cp949"},
}
SURELY_CHINESE = -8.5  # log likelihood of a character, on average. Chinese prose has -7.5
MIN_MEAN = -13.5  # what is less likely is no text
# a line of ASCII and characters in UTF-8, two or more
UTF8_LINE = re.compile(
    rb"(?m)^[\t\r -~]*"
    rb"(?:(?:[\xc2-\xdf]|[\xe0-\xef][\x80-\xbf]|[\xf0-\xf4][\x80-\xbf]{2})[\x80-\xbf][\t\r -~]*){2,}$"
)
MARGIN = 12.0  # so much more likely than a declared encoding is another that is taken instead of it


class NotText(ValueError):
    """The encoding is not known. The message is a sentence without its beginning, the file's name."""


def counted(n: int, noun: str) -> str:
    """1 byte, 2 bytes"""
    return f"{n:,} {noun}" + ("" if n == 1 else "s")


def noted(notes: dict[str, int]) -> list[str]:
    """Of notes and what each counts, those that count anything."""
    return [note for note, n in notes.items() if n]


def superset(name: str) -> str:
    """The encoding in which files that name another are written: gb18030 for gb2312. Raises LookupError."""
    name = codecs.lookup(name).name
    return SUPERSETS.get(name, name)


def check_encoding(name: str) -> None:
    """Raises UserError when Python has no text encoding of this name."""
    with suppress(LookupError, ValueError, TypeError):
        if isinstance(codecs.getincrementaldecoder(name)().decode(b""), str):  # "hex" gives bytes
            return
    raise UserError(f"--encoding={name}: there is no such encoding; try utf-8, gb18030 or big5")


# -- detection --------------------------------------------------------------------------------------------------------


def detect_encoding(data: bytes, declared: str = "") -> str:
    """The encoding of a text, from its first bytes. declared: what the text itself says, true or not.

    A byte order mark decides, then valid UTF-8: text in other encodings is hardly ever that. The others can often be
    read as each other, so the one wins in which the text is the most likely one, character by character.
    Raises NotText for bytes that are no text, and for other languages unless their encoding is declared.
    """
    for mark, name in MARKS.items():
        if data.startswith(mark) and fits(data[:SCORED], name):
            return name
    data = data.removeprefix(codecs.BOM_UTF8).rstrip(b"\0")  # zeros: the end of a file that was not written
    found = re.search(rb"[\0\x80-\xff]", data)
    if not found:
        sample = data[:SAMPLE]
        return next((name for name, start in IN_ASCII.items() if start in sample and fits(sample, name)), "utf-8")
    start = found.start() // 4 * 4  # what begins at a multiple of four is right for UTF-32 as well
    if is_utf8(data[start : start + SAMPLE]):
        return "utf-8"
    return likeliest(data[start : start + SCORED], declared)


def likeliest(data: bytes, declared: str) -> str:
    """The encoding in which the bytes are the most likely text. Raises NotText as detect_encoding does."""
    scores = {name: likelihood(data, name) for name in CHINESE}
    best = max(scores, key=scores.get)
    if mean_likelihood(data, best) < SURELY_CHINESE and len(re.findall(rb"[\x80-\xff]", data)) >= MIN_FOREIGN:
        scores |= {name: likelihood(data, name) for name in FOREIGN}
    if is_latin(data):
        scores["cp1252"] = likelihood(data, "cp1252")
    best = max(scores, key=scores.get)
    if declared and declared not in scores:
        scores[declared] = likelihood(data, declared)
    if declared in scores and scores[declared] > scores[best] - MARGIN:
        return declared
    if mean_likelihood(data, best) < MIN_MEAN or is_binary(data, best):
        raise NotText(
            f"its bytes are no likely text in any encoding. If they are text, name it: --encoding={best}, say"
        )
    if best in FOREIGN:
        raise NotText(f"it is most likely {FOREIGN[best][0]} text in {best}. If that is right, add --encoding={best}")
    return best


def is_utf8(sample: bytes) -> bool:
    """Is it UTF-8 beyond doubt? A few characters of two bytes each may be GBK too."""
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(sample)  # the last character may be cut
    except UnicodeDecodeError:
        return False
    beyond_ascii = [c for c in text if c > "\x7f"][:20] if len(text) < 1000 else ["\uffff"]
    return "\0" not in text and (len(beyond_ascii) == 20 or any(c > "\u07ff" for c in beyond_ascii))


def fits(data: bytes, encoding: str) -> bool:
    """Can nearly all of it be decoded?"""
    decoder = Decoder(encoding, errors="replace")
    decoder.decode(data)
    return decoder.replaced + decoder.zeros <= len(data) / 50


def likelihood(data: bytes, encoding: str) -> float:
    """The log probability of the bytes in an encoding, each character by itself."""
    decoder = Decoder(encoding, errors="replace")
    text = decoder.decode(data)
    model = MODELS.get(encoding, frequencies.any_alphabet)
    undecoded = len(decoder.decoder.getstate()[0])
    total = PRIORS.get(encoding, 0.0) + sum(n * model(c) for c, n in Counter(text.replace("\ufffd", "")).items())
    return total - 6.0 * len(MIXED.findall(text)) - 12.0 * decoder.replaced - 20.0 * decoder.zeros - 5.0 * undecoded


def is_latin(data: bytes) -> bool:
    """Can it be Latin text as Windows writes it: mostly ASCII, with letters and punctuation that are not rare?"""
    return (
        len(re.findall(rb"[\x80-\xff]", data)) < 0.4 * len(data)
        and not re.search(rb"[\x81\x8d\x8f\x90\x9d]", data)
        and mean_likelihood(data, "cp1252") > -9.0
    )


def mean_likelihood(data: bytes, encoding: str) -> float:
    """The log probability of a character that is not ASCII, on average."""
    characters = re.sub("[\t\n\r -~\ufffd]", "", Decoder(encoding, errors="replace").decode(data))
    model = MODELS.get(encoding, frequencies.any_alphabet)
    return sum(n * model(c) for c, n in Counter(characters).items()) / max(1, len(characters))


def is_binary(data: bytes, encoding: str) -> bool:
    """Is more than one character in 100 a control character, or do many bytes not fit?"""
    decoder = Decoder(encoding, errors="replace")
    text = decoder.decode(data)
    controls = len(re.findall("[\x01-\x08\x0e-\x19\x7f]", text)) + decoder.zeros
    return controls > max(1, len(text) / 100) or decoder.replaced > max(4, 0.3 * len(data))


def other_encoding(data: bytes, encoding: str) -> str:
    """Another Chinese encoding in which the bytes are much likelier text; "" for none. Files are put together so.

    A line shows what is not UTF-8. The others are known apart by longer texts.
    """
    encoding = encoding.removesuffix("-sig")
    if (len(data) < 1000 and encoding != "utf-8") or encoding not in CHINESE:
        return ""
    scores = {name: likelihood(data, name) for name in CHINESE[:3]}
    best = max(scores, key=scores.get)
    return best if scores[best] > scores.get(encoding, -1e9) + max(MARGIN, len(data) / 4) else ""


def utf8_line(data: bytes, encoding: str) -> int:
    """Where the first line begins that is UTF-8 in a text of GBK or Big5, in which it may be valid too; -1: nowhere."""
    lines = ((match[0], match.start()) for match in UTF8_LINE.finditer(data))
    return next((at for s, at in lines if likelihood(s, "utf-8") > likelihood(s, encoding) + MARGIN), -1)


def end_of_part(data: bytes, encoding: str, other: str) -> int:
    """Where the lines end that are in the other encoding. 0: none of these lines is in the first encoding."""
    end = at = 0
    for line in data.splitlines(keepends=True):
        at += len(line)
        if not line.isascii():
            if likelihood(line, encoding) >= likelihood(line, other):
                return end
            end = at
    return 0


# -- decoding ---------------------------------------------------------------------------------------------------------


def decoded(code: bytes, encoding: str) -> str:
    """The character of a code; "" for none."""
    try:
        return code.decode(encoding)
    except UnicodeDecodeError:
        return ""


def eten() -> dict[str, str]:
    """What Python's cp950 reads from 0xC6A1 to 0xC8FE, by an old table -> what files mean: the ETEN extension.

    big5hkscs has that, as WHATWG's encoding standard does.
    """
    table = dict(zip("にはぱびぺほ", "廴无癶隶〃仝"))  # not in Python's big5hkscs
    for code in (code.to_bytes(2, "big") for code in range(0xC6A1, 0xC8FF)):
        if (old := decoded(code, "cp950")) and (new := decoded(code, "big5hkscs")):
            table[old] = new
    return table


ETEN = eten()
KEPT = "\uffff"  # before a character that is not from cp950
OLD = re.compile(f"{KEPT}.|[{''.join(ETEN)}]")


class Decoder:
    """Decodes a file that comes in chunks.

    errors: "strict" raises NotText at the first byte that does not fit; "replace" puts U+FFFD there and counts it. Read
    in either case are Windows' byte 0x80 for the euro sign in GBK, Hong Kong's characters in Big5, and a last character
    that is cut.
    """

    def __init__(self, encoding: str, errors: str = "strict"):
        self.encoding, self.errors = encoding, errors
        name = "utf-8-sig" if encoding == "utf-8" else encoding  # which leaves a byte order mark out, too
        self.decoder = codecs.getincrementaldecoder(name)("repair")
        self.offset = self.lines = 0  # bytes and line breaks of earlier chunks
        self.replaced = self.zeros = self.euros = 0
        self.final = self.cut = self.ended = False  # ended: the last chunk ended in zeros

    def decode(self, chunk: bytes, final: bool = False) -> str:
        """The text of the next chunk. Characters may be cut by its end, unless it is the final one."""
        if not self.offset and self.encoding in ("gb18030", "cp950") and chunk.startswith(codecs.BOM_UTF8):
            chunk, self.offset = chunk[3:], 3  # some programs put it before any text
        self.end = self.offset + len(chunk)
        if self.encoding in ("gb18030", "cp950") and self.errors == "strict":
            if (start := utf8_line(chunk, self.encoding)) >= 0:
                raise self.refusal(chunk, start, self.encoding, "utf-8")
        codecs.register_error("repair", self.repair)  # the name stands for the decoder at work
        self.final = final
        text = self.decoder.decode(chunk, final)
        if self.encoding == "cp950":
            text = OLD.sub(lambda match: match[0][1:] or ETEN[match[0]], text)
        if "\0" in text or (self.ended and text):
            text = self.without_zeros(text, chunk)
        self.offset += len(chunk)
        self.lines += text.count("\n")
        return text

    def without_zeros(self, text: str, chunk: bytes) -> str:
        """Zero bytes stand in no text, but at the end of some files that were not written to the end."""
        goes_on = (self.ended and text.strip("\0")) or "\0" in text.rstrip("\0")
        if self.errors == "strict" and goes_on:
            at = self.offset + max(0, chunk.find(b"\0"))
            raise NotText(
                f"byte {at:,} is zero, so this is no text file, or a damaged one. --errors=replace leaves zeros out and"
                " counts them"
            )
        self.ended = True
        self.zeros += text.count("\0")
        return text.replace("\0", "")

    def repair(self, error: UnicodeDecodeError) -> tuple[str, int]:
        """The error handler for codecs: what to read at error.start, and where to go on."""
        data, start = error.object, error.start
        if self.encoding == "gb18030" and data[start] == 0x80:
            self.euros += 1
            return "€", start + 1
        if self.final and error.end == len(data) and re.search("incomplete|unexpected end|truncated", error.reason):
            self.cut = True
            return "", len(data)
        if self.encoding == "cp950" and (text := decoded(data[start : start + 2], "big5hkscs")):
            return KEPT + text, min(start + 2, len(data))
        if self.errors == "replace":
            self.replaced += error.end - start
            return "\ufffd", error.end
        is_line = self.encoding.startswith("utf-8")
        stop = data.find(b"\n", start, start + SCORED) if is_line else -1
        other = other_encoding(data[start : stop if stop > 0 else start + SCORED], self.encoding)
        raise self.refusal(data, start, error.encoding, other)

    def refusal(self, data: bytes, start: int, encoding: str, other: str) -> NotText:
        """The error that names a place. data: ends with the chunk. other: the encoding of what is there; "" unknown."""
        before = self.end - len(data)
        line = self.lines + data[:start].decode(encoding, "replace").count("\n") + 1
        place = f"byte {before + start:,} is not {encoding} (line {line:,})"
        if not other:
            return NotText(
                f"{place}. --errors=replace reads on and counts what does not fit. If the file is in another encoding,"
                " name it: --encoding=big5, say"
            )
        if end := end_of_part(data[start : start + SCORED], encoding, other):
            line += data[start : start + end].rstrip(b"\r\n").count(b"\n")
            return NotText(f"{place}. It is {other} up to the end of line {line:,}: take this out, or convert it")
        if before <= len(codecs.BOM_UTF8) and data[:start].isascii():
            return NotText(f"{place}. The file is {other}: --encoding={other}, or no --encoding, reads it")
        return NotText(f"{place}. From there on it is {other}: split the file there, and give both parts")

    def notes(self) -> list[str]:
        """Sentences on what was repaired and replaced. Complete after the final chunk."""
        return noted(
            {
                f"not {self.encoding}, and replaced by U+FFFD: {counted(self.replaced, 'byte')}": self.replaced,
                f"left out: {counted(self.zeros, 'zero byte')}": self.zeros,
                f"read as €, as Windows does: {counted(self.euros, 'byte')} 0x80": self.euros,
                "its last character was cut, and left out": self.cut,
            }
        )
