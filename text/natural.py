"""The natural order of names: 第2章 before 第10章, 第二章 before 第十章, a prologue first and an epilogue last."""

import re
import unicodedata

DIGITS = {
    c: n for n, cs in enumerate("零〇○ 一壹 二贰貳貮两兩 三叁參叄 四肆 五伍 六陆陸 七柒 八捌 九玖".split()) for c in cs
}
VALUES = DIGITS | {str(n): n for n in range(10)}  # 二十3, as somebody may have typed it
UNITS = {"十": 10, "拾": 10, "百": 100, "佰": 100, "千": 1000, "仟": 1000, "万": 10**4, "萬": 10**4}
TENS = {"廿": 20, "卅": 30, "卌": 40}
PARTS = {"上": 1, "中": 2, "下": 3}
NUMBER = re.compile(
    rf"([0-9]+|[{''.join(DIGITS)}{''.join(UNITS)}{''.join(TENS)}]+|(?<=[(\[【])[上中下](?=[)\]】])|[上中下](?=[卷册冊部篇集]|$))"
)
FIRST = re.compile(r"[\W_]*(?:内容简介|簡介|简介|自?序|楔子|前言|引[子言]|prologue|preface|foreword)", re.IGNORECASE)
LAST = re.compile(  # in this order
    r"[\W_]*(?:(终章|終章|大[结結]局)|(尾声|尾聲|epilogue)|(番外|外[传傳])|(后记|後記|完本感言|跋|附录|附錄|afterword))"
)


def natural_key(path: str) -> list:
    """The key for sorting paths."""
    return [part for name in path.replace("\\", "/").split("/") for part in name_key(name)]


def name_key(name: str) -> list:
    """A rank, then texts and numbers in turn, so that keys can be compared; the name itself decides between equals."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    last = LAST.match(folded)
    rank = 0 if FIRST.match(folded) else 1 + (last.lastindex if last else 0)
    parts = NUMBER.split(re.sub(r"\.(?![0-9]+$)[a-z0-9]{1,8}$", "", folded))
    return [rank, tuple((number(part), "") if i % 2 else (0, part) for i, part in enumerate(parts)), name]


def number(numeral: str) -> int:
    """12, 十二, 一二, 一百零二 -> an integer. Python has no limit to it, but int() has one to its digits."""
    if numeral.isascii():
        return int(numeral[:1000])
    if numeral in PARTS:
        return PARTS[numeral]
    if not any(c in UNITS or c in TENS for c in numeral):
        return int("".join(str(VALUES[c]) for c in numeral[:1000]))
    total = section = digit = 0
    for c in numeral:
        if c in VALUES:
            digit = VALUES[c]
        elif c in TENS:
            section, digit = section + TENS[c], 0
        elif UNITS[c] == 10**4:
            total, section, digit = total + (section + digit) * 10**4, 0, 0
        else:
            section, digit = section + (digit or 1) * UNITS[c], 0
    return total + section + digit
