import pytest
from conftest import story

from text.chapters import MAX_BUFFER, MAX_CHAPTER, ChapterSplitter, split_by_size


def split(*blocks: str) -> list[str]:
    splitter = ChapterSplitter()
    chapters = [chapter for block in blocks for chapter in splitter.feed(block)]
    return chapters + splitter.flush()


def chapters_of(text: str) -> list[str]:
    return [chapter.strip("\n") for chapter in split(text)]


HEADINGS = [
    "第一回 宴桃园豪杰三结义　斩黄巾英雄首立功",
    "第一百二十回 荐杜预老将献新谋，降孙皓三分归一统",
    "第１２章 夜雨",
    "第100节 归来",
    "第 1 章 风起",
    "第一卷：风起",
    "第一卷七玄门风云",
    "卷一 风起",
    "第廿三回",
    "第壹佰章",
    "第三章",
    "【第一章】风起",
    "正文 第一章 少年",
    "第一章初入江湖",
    "第一章 你是谁？",
    "第一章 他说：“走！”",
    "第一章风起，云涌",
    "楔子",
    "楔　子",
    "序章 天下",
    "前言",
    "尾声",
    "番外 一",
    "番外一",
    "番外篇 结婚",
    "番外（一）",
    "番外1：后来",
    "Chapter 1 The Road",
    "CHAPTER XII",
    "Chapter Twenty: Snow",
]
PROSE = [
    "第一次见面时他笑了。",
    "第三回合，两人又斗在一处。",
    "第二章里说过的话，他都记得。",
    "第一章说的是什么？",
    "第一回见面就吵架",
    "第三章我们已经讲过了",
    "第一回 他输了，",
    "第一集团军出发",
    "第三节课上他睡着了",
    "他在第一章写道",
    "序幕拉开了",
    "番外来的客人",
    "Chapter 1 of the book was long",
    "chapter i love",
]


@pytest.mark.parametrize("line", HEADINGS)
def test_splitter_cuts_before_a_heading(line):
    assert len(split(f"开头。\n结束。\n{line}\n正文。\n正文。")) == 2


@pytest.mark.parametrize("line", PROSE)
def test_splitter_does_not_cut_before_prose(line):
    assert len(split(f"开头。\n结束。\n{line}\n正文。\n正文。")) == 1


def test_splitter_joins_a_heading_without_text_to_the_next_chapter():
    chapters = chapters_of("第一卷 风\n第一章 雨\n正文。\n第二章 雪\n正文。")
    assert chapters == ["第一卷 风\n第一章 雨\n正文。", "第二章 雪\n正文。"]


CONTENTS = "\n".join(f"第{i}章 题目" for i in range(1, 41))


def test_splitter_makes_a_table_of_contents_a_chapter_of_its_own():
    assert chapters_of("第一章 雨\n正文。\n" + CONTENTS) == ["第一章 雨\n正文。", CONTENTS]


def test_splitter_finds_the_chapters_after_a_table_of_contents():
    chapters = [f"第{i}章 题目\n正文。" for i in range(1, 41)]
    assert chapters_of("\n".join(["书名", CONTENTS, *chapters])) == ["书名", CONTENTS, *chapters]


@pytest.mark.parametrize("lines", [1, 2, 7])
def test_splitter_gives_the_same_for_any_blocks(lines):
    parts = (story() + "第一卷\n" + story()).splitlines(keepends=True)
    blocks = ["".join(parts[i : i + lines]) for i in range(0, len(parts), lines)]
    assert split(*blocks) == split("".join(parts))


def test_splitter_feed_returns_a_chapter_when_the_next_begins():
    splitter = ChapterSplitter()
    assert splitter.feed("第一章 雨\n正文。\n") == []
    assert splitter.feed("第二章 雪\n正文。\n") == ["第一章 雨\n正文。\n"]
    assert splitter.flush() == ["第二章 雪\n正文。\n"]


def test_splitter_cuts_a_long_text_without_headings_at_paragraphs():
    text = "".join(f"这是第{i}段的文字，没有标题。\n" for i in range(MAX_BUFFER // 15))
    pieces = split(*(text[i : i + 10**5] for i in range(0, len(text), 10**5)))
    assert "".join(pieces) == text
    assert max(map(len, pieces)) < MAX_CHAPTER and all(piece.endswith("\n") for piece in pieces)


def test_split_by_size_keeps_a_text_without_line_breaks():
    assert "".join(split_by_size("字" * 20001, 5000)) == "字" * 20001
