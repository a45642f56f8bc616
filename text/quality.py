"""Signs that a text is not what a reader of Chinese novels would see: one sentence for each that is found."""

import os
import re
from collections import Counter
from collections.abc import Iterator

import numpy as np

from text.book import BookFile
from text.frequencies import COMMON, FREQUENT
from text.wrapping import wrap_width

SAMPLE = 40  # chapters, from the whole book, in which lines are looked at
STRANGE = (  # ranges of characters, what they are, and why they are there
    (
        ((0xE000, 0xF900), (0xF0000, 0x10FFFE)),
        "are private-use characters",
        "the site shows its commonest characters in a font of its own, and without that font they are lost. Get the"
        " text from another place",
    ),
    (
        ((0x2E80, 0x2FE0), (0xF900, 0xFA0E)),  # radicals, and characters that Unicode has twice
        "only look like common characters",
        "programs that read .pdf write such radicals. Get the text from another place, or normalize it (NFKC)",
    ),
)
HAN = ((0x3400, 0x4DC0), (0x4E00, 0xA000), (0xF900, 0xFB00), (0x20000, 0x32000))
LATIN_1 = (0xA1, 0x100)

MIN_STRANGE = 5e-5  # a few private-use characters are rare characters that an old font had there
MIN_HAN = 0.6  # of the letters; Chinese prose with Latin names has more
MIN_COMMON = 0.35  # of the Chinese characters; 0.6 and more in novels of all kinds
MAX_SPACES = 0.1  # of the characters
STAND_INS = {"□": 0.002, "?": 0.03}  # what programs write for characters that they do not know; prose has fewer
REPEATS = ((20, 0.2), (6, 0.5))  # a line that stands so often, in such a part of the chapters, is hardly the novel's
MAX_LENGTHS, MAX_SHARE = 10, 0.1  # a chapter so many times as long as others, and such a part of the text, is doubtful
ADDRESS = re.compile(r"(?i)(?:https?://|www[.．])[^\s一-鿿]{3,40}|[a-z0-9-]{2,30}\.(?:com|net|org|cc|cn)(?![a-z])")
ESCAPES = {
    "\\u escapes": r"\\u[0-9a-fA-F]{4}",
    "in web addresses": "%[0-9A-F]{2}",
    "in e-mails": "=[0-9A-F]{2}",
    "base64 or UTF-7": r"(?m)^[0-9A-Za-z+/]{50,}=*$|\+[0-9A-Za-z/]{3,}",
}


def warnings(book: BookFile) -> list[str]:
    """What is doubtful in a book: each a sentence with the share and an example."""
    checks = (
        strange_characters,
        lost_characters,
        stand_ins,
        mojibake_words,
        wrong_encoding,
        escapes,
        not_chinese,
        spaced_out,
        wrapped_lines,
        doubled_lines,
        page_numbers,
        addresses,
        repeated_lines,
        long_chapter,
    )
    return [warning for check in checks for warning in check(book)]


def strange_characters(book: BookFile) -> Iterator[str]:
    for ranges, what, reason in STRANGE:
        n = in_ranges(book.counts, *ranges)
        if n >= max(5, MIN_STRANGE * book.characters):
            pattern = "[" + "".join(f"{chr(start)}-{chr(end - 1)}" for start, end in ranges) + "]"
            yield f"{share(n, book)} {what}, as in {example(book, pattern)}: {reason}"


def lost_characters(book: BookFile) -> Iterator[str]:
    if n := int(book.counts[0xFFFD]):
        yield (
            f"{share(n, book)} are U+FFFD, as in {example(book, chr(0xFFFD))}: they were lost when the text was"
            " converted. Get the text from another place, or convert the original again"
        )


def stand_ins(book: BookFile) -> Iterator[str]:
    for c, limit in STAND_INS.items():
        if (n := int(book.counts[ord(c)])) > limit * book.characters:
            place = example(book, f"[一-鿿]{re.escape(c)}+[一-鿿]")
            yield f"{share(n, book)} are {c}, as in {place}: perhaps lost characters. Get the text from another place"


def mojibake_words(book: BookFile) -> Iterator[str]:
    for word, meaning in (
        ("锟斤拷", "characters that were lost, read as GBK"),
        ("烫烫烫烫", "memory that was never written"),
        ("屯屯屯屯", "memory that was never written"),
        ("锘縚", "a byte order mark read as GBK"),
    ):
        if min(book.counts[ord(c)] for c in word) and (n := book.count(word)):
            yield f"{word} stands in the text {n:,} times ({meaning}), as in {example(book, word)}"


def wrong_encoding(book: BookFile) -> Iterator[str]:
    """UTF-8 that was read as GBK or Latin-1, GBK that was read as Latin-1."""
    han, letters = in_ranges(book.counts, *HAN), letter_count(book)
    as_gbk = int(book.counts[utf8_as_gbk()].sum())
    latin = in_ranges(book.counts, LATIN_1)
    for n, of, limit, what in (
        (as_gbk, han, 0.2, "UTF-8 read as GBK"),
        (latin, letters, 0.3, "UTF-8 or GBK read as Latin-1"),
    ):
        if n > 20 and n > limit * of:
            yield (
                f"{min(1, n / max(1, of)):.0%} of the letters look like {what}: {first_line(book)}."
                " Give the original file, with --encoding=utf-8 or --encoding=gb18030"
            )


def not_chinese(book: BookFile) -> Iterator[str]:
    han, letters = in_ranges(book.counts, *HAN), letter_count(book)
    common = int(book.counts[[ord(c) for c in COMMON | FREQUENT if c.isalpha()]].sum())
    if han < MIN_HAN * letters:
        yield (
            f"only {han / max(1, letters):.0%} of the letters are Chinese, as in {first_line(book)}:"
            " this program is made for Chinese, so other languages are learned character by character"
        )
    elif common < MIN_COMMON * han:
        yield (
            f"only {common / han:.0%} of the characters are among the common ones of Chinese prose, as in"
            f" {first_line(book)}: it may be in another encoding (--encoding=...), or no prose"
        )


def escapes(book: BookFile) -> Iterator[str]:
    """Characters that are spelled out in ASCII."""
    text = "\n".join(sample_lines(book))[: 10**5]
    for name, pattern in ESCAPES.items():
        if sum(map(len, re.findall(pattern, text))) > 0.3 * len(text):
            yield f"the characters are written as {name}, as in {first_line(book)}. Decode the file first"


def spaced_out(book: BookFile) -> Iterator[str]:
    n = int(book.counts[[ord(" "), ord("\u3000")]].sum())
    if n > MAX_SPACES * book.characters and in_ranges(book.counts, *HAN) > MIN_HAN * letter_count(book):
        place = example(book, "[ \u3000]")
        yield f"{share(n, book)} are spaces, as in {place}: they are learned as characters. Take them out"


def wrapped_lines(book: BookFile) -> Iterator[str]:
    lines = sample_lines(book)
    if width := wrap_width(lines):
        cut = [line for line in lines if width - 5 <= len(line.rstrip()) * 2 <= width + 5]
        yield (
            f"most lines are cut at {width // 2} characters, in the middle of sentences, as in"
            f" {quote(cut[0]) if cut else quote(lines[0])}. --unwrap joins them"
        )


def doubled_lines(book: BookFile) -> Iterator[str]:
    lines = [line for line in sample_lines(book) if len(line) > 8]
    doubled = [a for a, b in zip(lines, lines[1:]) if a == b]
    if len(doubled) > max(3, 0.1 * len(lines)):
        yield f"{len(doubled) / len(lines):.0%} of the lines are the line before again, such as {quote(doubled[0])}"


def page_numbers(book: BookFile) -> Iterator[str]:
    pattern = "^[-—–~·. ]*[0-9]+[-—–~·. ]*$"
    chapters = list(texts(book, SAMPLE))
    found = [line for text in chapters for line in text.split("\n")[1:] if re.search(pattern, line)]
    if len(found) > max(3, 0.3 * len(chapters)):
        yield (
            f"{len(found):,} lines hold only a number, such as {quote(found[0])}: page numbers, perhaps."
            f" {drop_lines(pattern)} removes them"
        )


def addresses(book: BookFile) -> Iterator[str]:
    found = [match[0] for text in texts(book, SAMPLE) if (match := ADDRESS.search(text))]
    if len(found) > max(2, 0.1 * min(SAMPLE, len(book.chapters))):
        pattern = "(?i)" + re.escape(found[0])
        yield (
            f"web addresses stand in many chapters, such as {quote(found[0])}: advertisements, perhaps."
            f" {drop_lines(pattern)} removes the lines with this one"
        )


def repeated_lines(book: BookFile) -> Iterator[str]:
    """Lines that a site puts into every chapter."""
    chapters = list(texts(book, SAMPLE))
    counts = Counter(line for text in chapters for line in dict.fromkeys(text.split("\n")[1:]) if 4 <= len(line) <= 100)
    for line, n in counts.most_common(3):
        if any(n >= max(least, part * len(chapters)) for least, part in REPEATS):
            setting = drop_lines(re.escape(line))
            yield f"the line {quote(line)} stands in {n} of {len(chapters)} chapters. {setting} removes it"


def long_chapter(book: BookFile) -> Iterator[str]:
    """A chapter in which there are perhaps others, whose headings were not found."""
    median = sorted(book.lengths)[len(book.chapters) // 2]
    longest = max(book.chapters, key=lambda chapter: chapter.length)
    if longest.length > max(MAX_LENGTHS * median, MAX_SHARE * book.characters):
        yield (
            f"{quote(longest.title)} has {share(longest.length, book)}, more than {MAX_LENGTHS} times as many as other"
            " chapters: headings in it were not found, perhaps. --heading=REGEX says which lines are headings"
        )


def drop_lines(pattern: str) -> str:
    """The setting as it can be pasted into a shell."""
    mark = '"' if os.name == "nt" else "'"
    return f"--drop_lines={mark}{pattern.replace(mark, '.')}{mark}"


# -- counting ---------------------------------------------------------------------------------------------------------


def in_ranges(counts: np.ndarray, *ranges: tuple[int, int]) -> int:
    return int(sum(counts[start:end].sum() for start, end in ranges))


def letter_count(book: BookFile) -> int:
    return int(sum(book.counts[code] for code in np.flatnonzero(book.counts).tolist() if chr(code).isalpha()))


def utf8_as_gbk() -> list[int]:
    """The characters that GBK makes of the first two bytes of Chinese characters in UTF-8, without the common ones."""
    pairs = (bytes([first, second]) for first in range(0xE4, 0xEA) for second in range(0x80, 0xC0))
    known = COMMON | FREQUENT | {"\ufffd"}
    return [ord(c) for pair in pairs for c in pair.decode("gbk", "replace") if c not in known]


# -- examples ---------------------------------------------------------------------------------------------------------


def texts(book: BookFile, at_most: int = 0) -> Iterator[str]:
    """The chapters, or so many of them from the whole book."""
    step = max(1, len(book.chapters) // at_most) if at_most else 1
    return map(book.read, range(0, len(book.chapters), step))


def sample_lines(book: BookFile) -> list[str]:
    return [line for text in texts(book, SAMPLE) for line in text.split("\n")]


def share(n: int, book: BookFile) -> str:
    return f"{n:,} of {book.characters:,} characters ({n / book.characters:.2%})"


def example(book: BookFile, pattern: str) -> str:
    """What stands around the first place where a pattern is found."""
    for text in texts(book):
        if match := re.search(pattern, text):
            return quote(text[max(0, match.start() - 8) : match.end() + 8].replace("\n", " "))
    return "the headings"


def first_line(book: BookFile) -> str:
    return quote(next((line for line in sample_lines(book) if len(line) > 8), book.chapters[0].title))


def quote(line: str) -> str:
    return f"“{line[:24]}{'…' if len(line) > 24 else ''}”"
