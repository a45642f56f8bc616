"""
The forms that headings have: 第N章, N、, 卷N, Chapter N, and parts without a number, such as 楔子 and 番外.

Here is what a line alone can say. Which of the forms the headings of a book have is decided in text/chapters.py.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from text.natural import number

# -- what is a heading for certain: matched against a whole line ------------------------------------------------------

CHINESE = "零〇○一二三四五六七八九十百千万两廿卅卌壹贰叁肆伍陆柒捌玖拾佰仟兩貳貮參叄陸萬"
NUMBER = f"[0-9０-９{CHINESE}]+"  # 12, １２, 一百二十, 廿三, 壹佰, 兩百
ENCLOSED = "①-⒛㈠-㈩❶-❿"  # each a number by itself
LETTER = "A-Za-zÀ-ỿ가-힣Ａ-Ｚａ-ｚ"  # of Latin, Greek, Cyrillic, Korean and others
SPACE = "[ \u3000]*"  # 第 1 章, 楔　子
SPACED = f"[0-9０-９{CHINESE}](?:{SPACE}[0-9０-９{CHINESE}])*"  # 第 十 二 章
OF = f"(?:[/／.．~～-][0-9０-９]+|[至到]{NUMBER})?"  # 第1/12章, 第3.5章, 第1-3章, 第三至四章
GAP = "[ \t\u3000:：、.．·・—–|｜_-]"  # between number and title: 第一回 宴桃园, 第一卷：风起
TITLE = "[^\n]{0,40}[^\n。，、；：]"  # the rest of the line, which does not end as prose does
SHORT = "[^\n。！？；，、：…”]{1,24}"  # a title that nothing separates from what is before it
CHAPTER_UNITS = "章回节節话話集篇"
VOLUME_UNITS = "卷部季册冊编編"
ENDED = "(?:完[结結毕畢]?|[结結]束|[终終])"
NOT_PROSE = "(?![里裡裏中的上下内內是有我你他她它这這那已就才又也见見])"  # not 第一章里说过的话, 第一回见面

# 第一回 宴桃园豪杰三结义, 第 1 章 风起, 第一章】风起, 第三章
AFTER = f"(?:{GAP}+{TITLE}|[】〕\\]）)》][^\n]{{0,40}})?"
NUMBERED = f"第{SPACE}{SPACED}{OF}{SPACE}[章回节節话話卷集部篇]{AFTER}|卷{NUMBER}{AFTER}"

# 第一章初入江湖: number and title are not separated. Not 第三回合, 第一集团, 第三节课, and no end of a sentence.
UNIT = "(?:章|回(?![合来去头])|卷|集(?!团|團)|[节節](?![课課目车車])|[话話](?![题題]))"
NUMBERED_WITHOUT_GAP = f"第{NUMBER}{UNIT}{NOT_PROSE}[^\n]{{0,24}}[^\n。！？；，、：…”]"

# 楔子, 序章 天下, 番外, 番外一, 番外篇 结婚, 番外（一）, 番外第一章 灰猫, 番外之三, 大结局（上）
ORDINAL = (
    f"(?:[之·・-]?(?:{NUMBER}|[{ENCLOSED}])|第{SPACE}{NUMBER}{SPACE}[章回节節话話卷集部篇]|[（(【\\[][^\n]{{1,5}}[）)】\\]]"
    "|[上中下])"
)
WORDS = (
    f"楔{SPACE}子|[自代总總原译譯]?序[章言幕曲篇文]?|(?:推[荐薦]|再版)序|前言|前[记記]|引{SPACE}[子言]|凡例|[导導][读讀]"
    f"|尾{SPACE}[声聲]|尾[章记記]|[译譯]?[后後]{SPACE}[记記序]|[后後]日[谈談]|[终終][章卷回曲幕]|最[终終][章回话話卷]"
    "|最[后後]一?章|(?:大|最[终終])[结結]局|[结結]局(?=[（(【上下])|完[结結][章篇]|完[本结結]感言|[上新][架书書]感言"
    "|[结結][语語]|[结結]束[语語]|[写寫]在(?:最[后後]|前面|[后後]面)(?:的[话話])?|[跋]|卷首[语語]|[题題][记記词詞]"
    "|幕[间間]|[间間][章幕]|附章|附[录錄]|特[别別](?:篇|番外)|特典|[内內]容[简簡]介|作品相[关關]|作者(?:后[记記]|的[话話])"
    "|[上中下][卷册冊部编編篇]"
)
PART_BEGINNINGS = "楔自代总總原译譯序推再前引凡导導尾後后終终最大完本上中下新结結跋卷题題幕间間附特内內作写寫番外"
ENGLISH_WORDS = "(?:[Pp]ro|[Ee]pi)logue|(?:PRO|EPI)LOGUE|(?:[Ff]ore|[Aa]fter)word|(?:FORE|AFTER)WORD|[Ss]ide [Ss]tory"
IN_BRACKETS = "[（(【][^\n]{1,5}[）)】]"
OF_WHOM = "(?:[A-Za-z一-鿿]{2,6}?(?<![是有没沒看写寫更章天下面个個的篇部求想要发發]))?"  # 婚后番外, IF线番外1
EXTRA = f"(?:{OF_WHOM}番外[卷传傳]?|[外前后後][传傳])篇?(?:{ORDINAL}|之(?![后後前中]){SHORT}|{IN_BRACKETS}{SHORT})?"
UNNUMBERED = f"(?:(?:{WORDS}){ORDINAL}?[！!]?|{EXTRA}){AFTER}|(?:{ENGLISH_WORDS})(?:[:：.—-][^\n]{{0,60}})?"

# Chapter 1 The Road, CHAPTER XII, chapter.844, Chapter Twenty: Snow. Not: Chapter 1 of the book
SPELLED = (
    "(?i:(?:(?:twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety)[ -]?)?"
    "(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve)|[a-z]{2,5}teen|[a-z]{2,5}ty)"
)
ENGLISH = (
    f"(?:[Cc]hapter|CHAPTER)[ .:#_-]*(?:[0-9０-９]+|(?<=[ .])(?:[IVXLCivxlc]+|{SPELLED}))"
    "(?:[:：.、—-][^\n]{0,60}|[ \u3000]+(?![a-z])[^\n]{0,60}|[】\\])][^\n]{0,60})?"
)

# ☆、第1章, # 第一章, 【第一章】风起, 正文 第一章 少年, ==第一章==; ☆、风起
DECORATION = "[ \t\u3000☆★◆◇○●◎■□▲△▼※＊*#＃=＝~～—–_|｜+<>《》〈〉【】〔〕\\[\\]（）()·•§№▪-]"
FILLER = f"(?:(?:正文卷?|VIP章[节節]|VIP卷|作品正文|免[费費]章[节節]|公[众眾]章[节節]){GAP}+)?"
START = f"{DECORATION}{{0,12}}[、.．]?{FILLER}{DECORATION}{{0,12}}"
AT_START = re.compile(START)
STARRED = f"(?<=[☆★]、){TITLE}"
PART = re.compile(f"(?:{UNNUMBERED}|{STARRED}){DECORATION}*")
HEADING = re.compile(f"(?:{NUMBERED}|{NUMBERED_WITHOUT_GAP}|{ENGLISH}){DECORATION}*")

# -- what may be one, if the numbers of such lines count up -----------------------------------------------------------

MAX_LINE = 100  # characters
BLANK = re.compile("[\xa0\u2000-\u200a\u202f\u205f]")  # is read as a space
LIKE_ORDINAL = re.compile(f"[笫苐弟](?<![一-鿿].)(?={SPACE}{NUMBER}{SPACE}[章回节節话話])")  # is read as 第
WORD_NUMBERS = {
    word: value
    for value, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
        " seventeen eighteen nineteen".split()
    )
} | {word: 10 * value for value, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), 2)}
NUMERAL = {*CHINESE, *"0123456789"}
ROMAN = {"i": 1, "v": 5, "x": 10, "l": 50, "c": 100, "d": 500, "m": 1000}

# 第N章, wherever it stands in the line: 书名 第一章, 第一卷 风起 第三章 雨
ORDINAL_FORM = re.compile(
    f"第{SPACE}({SPACED}){OF}(?:[ \u3000]+(?=[{CHAPTER_UNITS}{VOLUME_UNITS}]))?([^\\W0-9_{CHINESE}])"
)
# 第三章完, （第一卷 完）: they end a chapter
END_OF_CHAPTER = re.compile(
    f"{DECORATION}*(?:第{SPACE}{SPACED}{SPACE}[章回节節话話卷集部篇]|卷{NUMBER}){ENDED}{DECORATION}*"
    f"|[（(【\\[].{{0,12}}[章回节節话話卷集部篇]{GAP}*{ENDED}[）)】\\]]"
)
# 第三章 完, 第三章 少年（完）, 第一卷【完】, Chapter 3 END: they end a chapter whose heading stands before them
ENDING = re.compile(
    f"{START}(?:第{SPACE}{SPACED}{SPACE}[{CHAPTER_UNITS}{VOLUME_UNITS}]|卷{NUMBER}|[Cc]hapter {NUMBER})([^\n]*?)"
    f"(?:{ENDED}|全[书書文本]完|未完待[续續]|(?i:the end|end))[。.]?{DECORATION}*"
)
IN_PARTS = re.compile(f"[（(【\\[](?:[上中下]|{NUMBER})[）)】\\]]$")
# 第九节, 第九张, 第九, 九章, 章九: what 第九章 may be by mistake, if 第九章 is missing there
MISSPELLED = re.compile(
    f"{START}(?:第{SPACE}{SPACED}{SPACE}(?:[{CHAPTER_UNITS}张張彰障掌]|{GAP}|$)|{SPACED}{SPACE}(?:章|回(?![合来去头]))"
    f"|[章回]{NUMBER}(?:{GAP}|$))"
)
# 第一章：, 一、, 1、
NUMBER_ALONE = re.compile(f"{START}(?:第{SPACE}{SPACED}{SPACE}[章回节節话話卷集部篇]|{NUMBER})[、：:]")
END_OF_LEAD = re.compile(f"(?:(?![:：]){GAP}|[》】\\])）])$")
ONE_ENCLOSED = re.compile(f"[{ENCLOSED}]")
# 第一 风起, 学而第一
ORDINAL_ALONE = re.compile(f"[^，。！？；：“”]{{0,8}}第({NUMBER})(?:$|{GAP})")
ENGLISH_FORM = re.compile(
    f"(?:(?i:vol|volume|book|part)[ .]*[0-9]+[ ,.:：·-]+)?"  # Vol.1 Ch.3
    f"([{LETTER}]{{1,12}}?)([ \u3000.:#_-]*)([0-9０-９]+|(?<=[ .])(?:[IVXLCivxlc]+|{SPELLED}))(?![A-Za-z0-9])(.?)"
)
# 卷一, 卷之一, 章十二
UNIT_FORM = re.compile(f"([{CHAPTER_UNITS}{VOLUME_UNITS}]){SPACE}[之第]?({NUMBER})(?:{GAP}|$)")
# 1-12, 1.1.12, S01E12
NESTED_FORM = re.compile(
    "([A-Za-z]?[0-9]{1,3}(?:[.–—-][0-9]{1,3})*?)([.–—-]|[eExX])([0-9]{1,4})(?:$|[^\\W0-9]|[^\\w.:/])"
)
BARE_FORM = re.compile(
    f"(?:([0-9０-９]+|[{ENCLOSED}])|([{CHINESE}]+)|([IVXLCⅠ-ⅿ]+)(?=$|[^A-Za-z0-9])|({SPELLED})(?=$|[.:：]))"
    f"([ \\t\u3000]*)($|之?[章回节節话話]|[^\\w\\s%％℃，]|[^\\W0-9A-Za-z_])"
)
# 山门（三）, of which each part has its own title
IN_BRACKETS = re.compile(f"[^，。！？；：“”]{{1,16}}?[（(]({NUMBER})[）)]")
# 山门12, 山门（12）; 其一
PREFIX_FORM = re.compile(
    f"(?:([^\\W0-9_]{{1,8}})([ \u3000_]?[（(]?)([0-9０-９]+)|([^\\W0-9_]{{1,4}}?)([（(]?)([{CHINESE}]+))"
    f"[）)]?(?:$|{GAP}+{TITLE}$)"
)

OTHER_WORD = re.compile("回[合来去头]|集[团團]|[节節][课課目车車]|[话話][题題]|封[信]|本书")

# Lines to look at, found fast: those with an ordinal, and those that begin with a number or with a part's name.
WITH_ORDINAL = re.compile(f"第{SPACE}{NUMBER}")
LATIN = (
    f"[{LETTER}]{{1,12}}[ \u3000.:#_-]*[0-9０-９]|[A-Za-z]{{1,12}}[ .]+(?:[IVXLCivxlc]+|{SPELLED})(?![A-Za-z])"
    f"|[IVXLC]{{1,6}}[\n 、.．:：]|{SPELLED}[\n.:：]|{ENGLISH_WORDS}"
)
HAN = (
    f"[{CHINESE}]{{1,9}}(?:之?[章回节節话話]|[ \u3000]|[^\\w，])|[{CHAPTER_UNITS}{VOLUME_UNITS}]{SPACE}[之第]?{NUMBER}"
    f"|(?=[{PART_BEGINNINGS}])(?:{WORDS}|番外|[外前后後][传傳])"
    f"|[一-鿿]{{1,8}}(?:[ \u3000_（(]?[0-9０-９]|[（(][{CHINESE}]{{1,9}}[）)])"
    f"|[一-鿿]{{1,4}}?[{CHINESE}]{{1,9}}(?:{DECORATION}{{0,5}}\n|[：: \u3000])"
)
FIRST = f"[0-9０-９Ⅰ-ⅿ{ENCLOSED}]|(?=[{LETTER}])(?:{LATIN})|(?=[一-鿿〇○])(?:{HAN})|{OF_WHOM}番外|(?<=[☆★]、)."
WITH_START = re.compile(f"\n(?={START}(?:{FIRST}))")


@dataclass
class Line:
    """A line that may be a heading. Its place is counted in bytes of the book's file."""

    start: int
    end: int  # behind its line break
    text: str
    form: str  # "第N章", "N、", ...; "" for a part without a number
    value: int | None  # what its number is
    certain: bool  # a heading whatever the others are
    is_marked: bool = False  # does the file itself, or the user, say that it is a heading?
    has_text_before: bool = True  # is there text between it and the line before it in the list?


def line_numeral(text: str) -> int | None:
    """12, １２, ⑫, 十二, XII, Twenty-One -> an integer, or None."""
    if ONE_ENCLOSED.fullmatch(text):
        return int(unicodedata.numeric(text))
    text = unicodedata.normalize("NFKC", text).lower().replace(" ", "")
    if text.isdecimal():
        return int(text) if len(text) <= 6 else None
    if text[:1] in CHINESE:
        return number(text) if len(text) <= 12 and set(text) <= NUMERAL else None
    if set(text) <= set(ROMAN):
        values = [ROMAN[c] for c in text]
        return sum(-a if a < b else a for a, b in zip(values, values[1:] + [0]))
    words = re.findall("|".join(sorted(WORD_NUMBERS, key=len, reverse=True)), text)
    return sum(WORD_NUMBERS[word] for word in words) if words and "".join(words) == text.replace("-", "") else None


def plain(text: str) -> str:
    """The text, of the same length, with usual spaces and a usual 第."""
    return LIKE_ORDINAL.sub("第", BLANK.sub(" ", text))


def parse(text: str) -> tuple[str, int | None, bool] | None:
    """A line -> its form, its number, and whether it is a heading for certain. None: it can be none."""
    text = plain(text)
    if END_OF_CHAPTER.fullmatch(text.strip()):
        return None
    start = AT_START.match(text).end()
    if PART.fullmatch(text, start):
        return "", None, True
    form, value = form_of(text, start)
    return None if value is None else (form, value, HEADING.fullmatch(text, start) is not None)


def form_of(text: str, start: int) -> tuple[str, int | None]:
    """The form of a line with a number, and the number; ("", None) when there is none. start: behind its decoration."""
    ordinals = list(ORDINAL_FORM.finditer(text[:MAX_LINE]))
    if ordinals and (chosen := innermost(ordinals, text)):
        lead = text[: chosen.start()]
        known = not lead or ORDINAL_FORM.search(lead) or END_OF_LEAD.search(lead)
        return ("" if known or AT_START.fullmatch(lead) else lead) + f"第N{chosen[2]}", line_numeral(chosen[1])
    if match := ORDINAL_ALONE.match(text, start):
        return "第N", line_numeral(match[1])
    if match := UNIT_FORM.match(text, start):
        return f"{match[1]}N", line_numeral(match[2])
    if text[:1] in "“‘\"'「『…" or text[:2] == "——":
        return "", None  # speech
    if match := NESTED_FORM.match(text, start):
        return f"N{match[2]}N", line_numeral(match[3])
    if (match := BARE_FORM.match(text, start)) and (form := bare_form(match, text)):
        return form, line_numeral(match[1] or match[2] or match[3] or match[4])
    if match := ENGLISH_FORM.match(text, start):
        return f"{match[1].capitalize()} N", line_numeral(match[3])
    if match := IN_BRACKETS.fullmatch(text, start):
        return "（N）", line_numeral(match[1])
    if match := PREFIX_FORM.match(text, start):
        return f"{match[1] or match[4]}{match[2] or match[5] or ''}N", line_numeral(match[3] or match[6])
    return "", None


def bare_form(match: re.Match, text: str) -> str:
    """The form of a line that begins with a number; "" when the number belongs to a sentence."""
    digits, chinese, roman, word, space, after = match.groups()
    after = after.removeprefix("之")
    if not digits and not space and after.isalpha() and after not in CHAPTER_UNITS:
        return ""  # 一个人
    if after and after in ".．:：-" and text[match.end() : match.end() + 1].isdigit():
        return ""  # 1.5, 12:30
    attached = "题" if after.isalpha() and not space else ""  # 001山门
    kind = "N" if digits else "一" if chinese else "I" if roman else "One"
    return kind + (after if after and after in CHAPTER_UNITS else attached)


def innermost(ordinals: list[re.Match], text: str) -> re.Match | None:
    """Of 第一卷 风起 第三章 雨 the 第三章. None when it stands in the middle of a sentence."""
    lead = text[: ordinals[0].start()]
    if len(lead) > 25 or re.search("[，。！？；“”…]|：.", lead):
        return None
    chapters = [m for m in ordinals if m[2] in CHAPTER_UNITS and m.start() <= 40]
    return chapters[-1] if chapters and ordinals[0][2] in VOLUME_UNITS + "集篇" else ordinals[0]


def is_prose(text: str) -> bool:
    """Does the line go on after its number as a sentence does?"""
    match = ORDINAL_FORM.search(text)
    if match is None:
        return re.match(f"{START}[A-Za-z]+[ .]+[0-9A-Za-z-]+ [a-z]", text) is not None  # Chapter 1 of the book
    return not re.match(NOT_PROSE, text[match.end() :])


def is_never(text: str) -> bool:
    """Is it no heading whatever its number: 第六回合, or the beginning of a sentence?"""
    match = ORDINAL_FORM.search(text)
    other = match is not None and OTHER_WORD.match(match[2] + text[match.end() :]) is not None
    return other or (text[-1] in "，、；：,;:" and not NUMBER_ALONE.fullmatch(text))


def may_be_misspelled(text: str) -> bool:
    """Is it perhaps the heading of a chapter whose number is missing?"""
    return bool(MISSPELLED.match(plain(text))) and not (is_prose(text) or is_never(text) or ends_as_prose(text))


def ends_as_prose(text: str) -> bool:
    return text.rstrip()[-1:] in "。！？；，、：…”’」』!?,;"


def letters(text: str) -> str:
    return re.sub(r"[\W_]+", "", text)


def ending_title(text: str) -> str | None:
    """The title in a line that may end a chapter: 少年 in 第三章 少年 完. None: it is no such line."""
    match = ENDING.fullmatch(text)
    return letters(match[1]) if match else None


def may_end(title: str, heading: str) -> bool:
    """May a line with this title end the chapter below a heading? 第三章（完） is a part itself below 第三章（上）."""
    return letters(heading).endswith(title) if title else not IN_PARTS.search(heading)


def candidates(block: str, heading: re.Pattern | None = None) -> Iterator[tuple[int, int]]:
    """Where the lines are, in a block of whole lines, that may be headings: (start, end without the line break)."""
    text = "\n" + block
    if heading:
        starts = {match.start() for match in re.finditer("\n(.*)", text) if heading.search(match[1])}
    else:
        text = plain(text)
        ordinals = [match.start() for match in WITH_ORDINAL.finditer(text)]
        starts = {text.rfind("\n", max(0, at - 30), at) for at in ordinals} - {-1}
        starts |= {match.start() for match in WITH_START.finditer(text)}
    for start in sorted(starts):
        end = text.find("\n", start + 1, start + 2 + (10**4 if heading else MAX_LINE))
        if end > 0:
            yield start, end - 1
