"""
Cut a text into chapters, before each heading.

    splitter = ChapterSplitter()
    for block in blocks:                  # each holds whole lines
        chapters = splitter.feed(block)   # those that are finished
    chapters = splitter.flush()           # the rest

What is too long to be a chapter has no headings in it, and is cut into pieces of about the same size.
"""

import re

# -- the heading pattern, matched against a whole line ----------------------------------------------------------------

NUMBER = "[0-9０-９零〇○一二三四五六七八九十百千两廿卅卌壹贰叁肆伍陆柒捌玖拾佰仟]+"  # 12, １２, 一百二十, 廿三, 壹佰
SPACE = "[ \u3000]*"  # 第 1 章, 楔　子
GAP = "[ \t\u3000:：、.．·]"  # between number and title: 第一回 宴桃园, 第一卷：风起
TITLE = "[^\n]{0,40}[^\n。，、；：]"  # the rest of the line, which does not end as prose does
NOT_PROSE = "(?![里中的上下内是有我你他她它这那已就才又也见])"  # not 第一章里说过的话, 第一回见面

# 第一回 宴桃园豪杰三结义, 第 1 章 风起, 第一章】风起, 第三章
NUMBERED = f"第{SPACE}{NUMBER}{SPACE}[章回节卷集部篇](?:{GAP}+{TITLE}|[】〕][^\n]{{0,40}})?"

# 第一章初入江湖: number and title are not separated. Not 第三回合, 第一集团, 第三节课, and no end of a sentence.
UNIT = "(?:章|回(?!合)|卷|集(?!团)|节(?![课目车]))"
NUMBERED_WITHOUT_GAP = f"第{NUMBER}{UNIT}{NOT_PROSE}[^\n]{{0,24}}[^\n。！？；，、：…”]"

# 楔子, 序章 天下, 前言, 引子, 尾声, 后记, 卷一 风起, 番外, 番外一, 番外篇 结婚, 番外（一）
EXTRA = f"番外(?:篇|{NUMBER}|[（(][^\n]{{1,5}}[）)])?"
UNNUMBERED = f"(?:楔{SPACE}子|序[章言幕]?|前言|引[子言]|尾{SPACE}声|后记|卷{NUMBER}|{EXTRA})(?:{GAP}+{TITLE})?"

# Chapter 1 The Road, CHAPTER XII, Chapter Twenty: Snow. Not: Chapter 1 of the book
SPELLED = (
    "[A-Za-z]*(?:[Oo]ne|[Tt]wo|[Tt]hree|[Ff]our|[Ff]ive|[Ss]ix|[Ss]even|[Ee]ight|[Nn]ine|[Tt]en|[Ee]leven|[Tt]welve"
    "|teen|ty)"
)
ENGLISH = (
    f"(?:[Cc]hapter|CHAPTER) +(?:[0-9]+|[IVXLCivxlc]+|{SPELLED})(?:[:：.、—-][^\n]{{0,60}}| +(?![a-z])[^\n]{{0,60}})?"
)

# 【第一章】风起 and 正文 第一章 少年 are headings too
HEADING = re.compile(
    f"^[【〔]?(?:正文{GAP}*)?(?:{NUMBERED}|{NUMBERED_WITHOUT_GAP}|{UNNUMBERED}|{ENGLISH})[ \t\u3000]*$", re.MULTILINE
)

# -- chapters ---------------------------------------------------------------------------------------------------------

MIN_CONTENTS = 5  # so many headings in a row with no text between them are a table of contents
MAX_CHAPTER = 30_000  # characters: what is longer is no chapter
PIECE = 5_000  # characters: the size of the pieces into which it is cut
MAX_BUFFER = 2_000_000  # characters: after so many without a heading, finished pieces are given out


class ChapterSplitter:
    """Cuts a text, fed in blocks of whole lines, before each heading.

    A heading with no text under it (a volume's) begins the next chapter. Many in a row, a table of contents, are a
    chapter of their own.
    """

    def __init__(self):
        self.headings = []  # earlier headings with no text under them, which begin the chapter
        self.chapter = []  # the parts of the chapter: its heading and what follows
        self.has_body = False  # is there text under the heading?

    def feed(self, block: str) -> list[str]:
        """Take in a block. Returns the chapters that are finished."""
        finished = []
        starts = {match.start() for match in HEADING.finditer(block)}
        cuts = sorted({0, *starts, len(block)})
        for start, end in zip(cuts, cuts[1:]):
            part, is_heading = block[start:end], start in starts
            if is_heading:
                finished += self._begin_chapter()
            self.chapter.append(part)
            self.has_body |= "\n" in part.strip("\n") or (not is_heading and part.strip() != "")
        if sum(map(len, self.chapter)) > MAX_BUFFER:
            *pieces, last = cut_long("".join(self.headings + self.chapter))
            self.headings, self.chapter = [], [last]
            finished += pieces
        return finished

    def flush(self) -> list[str]:
        """The chapters that are left at the end of the text."""
        contents = []
        if len(self.headings) >= MIN_CONTENTS and self.has_body:
            contents, self.headings = ["".join(self.headings)], []
        chapter = "".join(self.headings + self.chapter)
        self.headings, self.chapter, self.has_body = [], [], False
        return contents + cut_long(chapter)

    def _begin_chapter(self) -> list[str]:
        """A heading comes: finish the chapter before it, unless that is only a heading itself."""
        if self.has_body:
            return self.flush()
        self.headings += self.chapter
        self.chapter = []
        return []


def cut_long(text: str) -> list[str]:
    """The text itself, or pieces of it when it is too long to be a chapter."""
    return [text] if len(text) <= MAX_CHAPTER else split_by_size(text, PIECE)


def split_by_size(text: str, size: int) -> list[str]:
    """Pieces of about `size` characters, cut after line breaks where there are any."""
    pieces, start = [], 0
    while start < len(text):
        end = text.find("\n", start + size, start + 2 * size) + 1 or start + 2 * size
        if len(text) - end < size // 2:
            end = len(text)
        pieces.append(text[start:end])
        start = end
    return pieces
