import random
import re

import pytest
from conftest import NAMES, PLACES, story

from text.book import BookFile
from text.chapters import MAX_CHAPTER, HeadingFinder, find_headings, nearest_end, plan, split_by_size


def prose(seed: int, sentences: int = 25) -> str:
    """Paragraphs of which no two are the same."""
    rng = random.Random(seed)
    words = "听见 望见 走过 想起 守着 推开 离开 问起 提起 送走".split()
    lines = [
        f"{rng.choice(NAMES)}{rng.choice(words)}{rng.choice(PLACES)}，{rng.choice(NAMES)}不说话。"
        f"{rng.choice(NAMES)}又{rng.choice(words)}{rng.choice(PLACES)}，天色已晚{rng.choice('。！？')}"
        for _ in range(sentences)
    ]
    return "".join(line + "\n" for line in lines)


def book(*headings: str) -> str:
    """A book with prose under each heading."""
    return "".join(f"{heading}\n{prose(i)}" for i, heading in enumerate(headings))


def find(text: str, heading: str = "", documents: tuple = (), titles: set | None = None):
    """The headings and the parts of a text. documents: (line number, first of a file)."""
    finder = HeadingFinder(re.compile(heading) if heading else None)
    lines = text.splitlines(keepends=True)
    starts = dict(documents) or {0: True}
    cuts = sorted({0, *starts, len(lines)})
    for start, end in zip(cuts, cuts[1:]):
        finder.begin_document(starts.get(start, False))
        finder.feed("".join(lines[start:end]))
    if titles:
        finder.add_titles(0, text, titles)
    headings = find_headings(finder.lines, finder.size)
    return headings, plan(headings, finder.documents, finder.size)


def split(text: str, **options) -> list[str]:
    """The chapters, without the cutting of long ones."""
    data = text.encode()
    return [data[part.start : part.end].decode() for part in find(text, **options)[1]]


def chapters_of(text: str) -> list[str]:
    return [chapter.strip("\n") for chapter in split(text + "\n")]


def titles(text: str, **options) -> list[str]:
    return [line.text for line in find(text, **options)[0].lines]


def test_end_of_a_chapter_is_no_heading():
    ends = ["（第一章完）", "第二章完", "【第三章 终】", "----第四章完----", "（第五章·完）", "***第六章完***"]
    text = "".join(f"第{n}章 风起\n{prose(i)}{end}\n" for i, (n, end) in enumerate(zip("一二三四五六", ends)))
    assert titles(text) == [f"第{n}章 风起" for n in "一二三四五六"]


ENDS = """第{}章 完|第{}章·完|第{}章（完）|—— 第{}章 完 ——|第{}章 终|第{}章 结束|第{}章 少年 完
（第{}章 少年 完）|《第{}章》完|第{}章 少年（完）|第{}章 END|第{}章 完。|第{}章 未完待续|第{}卷 完|第{}卷 风云 完
第{}卷·完|第{}卷【完】|Chapter {} End"""


@pytest.mark.parametrize("end", re.split("[|\n]", ENDS))
@pytest.mark.parametrize("form", ["第{}章 少年", "{}、少年"])
def test_end_of_a_chapter_below_its_heading_is_no_heading(form, end):
    headings = [form.format(n) for n in range(1, 7)]
    text = "".join(f"{heading}\n{prose(n)}{end.format(n)}\n多谢。\n" for n, heading in enumerate(headings, 1))
    assert titles(text) == headings


@pytest.mark.parametrize("last", ["第七章 完", "第七章 未完", "第七章 大结局（完）", "第六章（完）", "第六章 风（完）"])
def test_heading_that_reads_as_an_end_is_a_heading_where_none_of_its_number_stands_above(last):
    headings = [*(f"第{n}章 山门" for n in "一二三四五"), "第六章 风（上）", last]
    assert titles(book(*headings)) == headings


@pytest.mark.parametrize(
    "form",
    ["{n:03}\xa0山门", "分节阅读_{n}", "第{n}至{n}章 山门", "第\xa0{n}\xa0章 山门", "Chapter\u2003{n}", "番外\xa0{n}"],
)
def test_blanks_of_web_pages_in_headings_are_spaces(form):
    headings = ["楔子\xa0风", *(form.format(n=n) for n in range(1, 9))]
    assert titles(book(*headings)) == headings


@pytest.mark.parametrize(
    "heading",
    """婚后番外 IF线番外1 顾衍番外三 现代番外：重逢
    番外（1）重逢 番外（一） 番外之重逢 外传之剑 番外篇一 番外篇1：婚礼 番外篇（一） 番外篇之婚礼 番外① 特别番外
    结局（上） 大结局！ 最后一章 完结章 写在最后 作品相关 附录 附录一：年表 后传 完本感言！""".split(),
)
def test_extra_with_a_number_or_title_behind_it_is_a_heading(heading):
    assert titles(book("第一章 山", "第二章 风", "第三章 雨", heading))[3:] == [heading]


@pytest.mark.parametrize(
    "line",
    [
        "这是番外",
        "下章番外",
        "想看番外",
        "前传之后的故事就这样开始了……",
        "外传（一）说的是什么？",
        "番外之人，听我一言！",
        "番外篇一共三章",
        "后传来笑声",
    ],
)
def test_sentence_about_an_extra_is_no_heading(line):
    assert len(titles(book("第一章 山", "第二章 风", "第三章 雨", line))) == 3


@pytest.mark.parametrize("form", ["{}", "- {} -", "第{}页", "{}/160", "Page {}", "[{}]", "凡人修仙传 {}"])
def test_page_numbers_do_not_replace_chapters(form):
    text = ""
    for chapter in range(20):
        text += f"第{chapter + 1}章 山门\n"
        text += "".join(prose(10 * chapter + i, 8) + form.format(8 * chapter + i + 1) + "\n" for i in range(8))
    assert titles(text) == [f"第{n}章 山门" for n in range(1, 21)]


@pytest.mark.parametrize("form", ["第{}章：", "{}、", "{}："])
def test_number_alone_with_a_mark_is_a_heading(form):
    headings = [form.format(n) for n in "一二三四五六七八"]
    assert titles(book(*headings)) == headings


def test_numbers_in_mixed_digits_are_read():
    assert titles(book("第二十2章 山", "第二十3章 风", "第貮拾肆章 雨")) == [
        "第二十2章 山",
        "第二十3章 风",
        "第貮拾肆章 雨",
    ]


# -- lines that are headings wherever they stand ----------------------------------------------------------------------

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
    "第1话 山门",
    "☆、第1章",
    "# 第一章",
    "## 第一章 风起 ##",
    "[第一章]",
    "==第一章 风起==",
    "第兩百章 歸來",
    "第一節 風起",
    "第貳拾參章",
    "第二百話",
    "chapter.844",
    "楔子",
    "楔　子",
    "序章 天下",
    "前言",
    "尾声",
    "尾聲",
    "後記",
    "终章 归来",
    "大结局（上）",
    "完本感言",
    "外传",
    "番外 一",
    "番外一",
    "番外篇 结婚",
    "番外（一）",
    "番外1：后来",
    "番外第一章 灰猫",
    "番外之三",
    "后 记",
    "译后记",
    "下卷 归来",
    "作者的话",
    "Chapter 1 The Road",
    "CHAPTER XII",
    "Chapter Twenty: Snow",
    "Epilogue",
]
PROSE = [
    "第一次见面时他笑了。",
    "第三回合，两人又斗在一处。",
    "第六回合",
    "第四本书",
    "第一封信",
    "第二章里说过的话，他都记得。",
    "第一章里说过",
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
    "12、十二个人都走了",
    "一九八四年",
    "2003年",
    "12:30",
    "“1、你先走。”",
]


@pytest.mark.parametrize("line", HEADINGS)
def test_plan_cuts_before_a_heading(line):
    assert len(split(f"开头。\n结束。\n{line}\n正文。\n正文。\n")) == 2


@pytest.mark.parametrize("line", PROSE)
def test_plan_does_not_cut_before_prose(line):
    assert len(split(f"开头。\n结束。\n{line}\n正文。\n正文。\n")) == 1


# -- lines that count ------------------------------------------------------------------------------------------------

FORMS = {
    "dun": "{n}、山门",
    "dot": "{n}.山门",
    "dot and space": "{n}. 山门",
    "padded": "{n:03d} 山门",
    "padded, attached": "{n:03d}山门",
    "number alone": "{n}",
    "brackets": "（{n}）",
    "brackets and title": "【{n}】山门",
    "hash": "#{n}",
    "Chinese number alone": "{c}",
    "Chinese number and title": "{c}、山门",
    "Chinese number, space": "{c} 山门",
    "unit without 第": "{n}章 山门",
    "unit before": "章{c} 山门",
    "night": "第{c}夜",
    "full stop": "第{c}章 他来到了山门。",
    "exclamation": "第{c}章他来到了山门！",
    "long": "第{c}章 " + "他来到了山门，" * 8 + "天就亮了",
    "book's name": "山门记 第{n}章 灯火",
    "book's name, attached": "山门记第{n}章",
    "volume in the line": "第一卷 山门 第{n}章 灯火",
    "VIP": "VIP章节 第{n}章 灯火",
    "episode": "Episode {n}",
    "ep": "EP{n:02d} 山门",
    "part": "Part {n}: The Gate",
    "day": "Day {n}",
    "word and number": "山门{n}",
    "act": "第{c}幕 山门",
    "of how many": "第{n}/12章 山门",
    "part of a number": "第1.{n}章 山门",
    "three levels": "1.1.{n} 山门",
    "label": "标题：第{n}章 山门",
    "word, Chinese number, title": "其之{c} 山门",
    "full-width letters": "ＣＨＡＰＴＥＲ　{n}",
    "spaces in the number": "第 {s} 章 山门",
    "no unit": "第{c} 山门",
    "number last": "山门篇第{c}",
    "of a number": "{c}之章 山门",
    "before the unit": "卷第{c} 山门",
    "word, colon": "故事{c}：山门",
    "tab": "{n}\t山门",
    "circled": "{o}山门",
    "Korean": "제{n}장 山门",
    "Russian": "Глава {n}. 山门",
    "volume and chapter": "Vol.1 Ch.{n} 山门",
    "full width": "第{f}章　山门",
}
CHINESE = "一 二 三 四 五 六 七 八 九 十 十一 十二".split()


def numbered(form: str, n: int) -> str:
    full_width = "".join(chr(ord(d) + 0xFEE0) for d in str(n))
    return form.format(n=n, c=CHINESE[n - 1], f=full_width, s=" ".join(CHINESE[n - 1]), o=chr(ord("①") + n - 1))


@pytest.mark.parametrize("name", FORMS)
def test_find_headings_finds_lines_that_count(name):
    headings = [numbered(FORMS[name], n) for n in range(1, 13)]
    assert titles(book(*headings)) == headings


@pytest.mark.parametrize("name", ["dun", "padded", "full stop", "number alone", "night"])
def test_find_headings_allows_missing_and_doubled_numbers(name):
    headings = [numbered(FORMS[name], n) for n in (1, 2, 3, 5, 6, 7, 8, 8, 9, 10, 12)]
    found, _ = find(book(*headings))
    assert [line.text for line in found.lines] == headings
    assert (found.counts[0].missing, found.counts[0].doubled) == ([4, 11], [8])


@pytest.mark.parametrize("name", ["dun", "padded", "full stop", "Chinese number alone"])
def test_find_headings_allows_a_count_for_each_volume(name):
    headings = [
        line for v in range(3) for line in (f"第{CHINESE[v]}卷 风", *(numbered(FORMS[name], n) for n in range(1, 8)))
    ]
    assert titles(book(*headings)) == headings


@pytest.mark.parametrize(
    "form", ["第{}节 渡口", "第{}回", "第{}张 渡口", "第{} 渡口", "{}章 渡口", "笫{}章 渡口", "弟{}章 渡口"]
)
@pytest.mark.parametrize("at", [(4,), (4, 5), (4, 9)])
def test_find_headings_takes_a_misspelled_heading_where_its_number_is_missing(form, at):
    headings = [form.format(CHINESE[n]) if n in at else f"第{CHINESE[n]}章 山门" for n in range(12)]
    assert titles(book(*headings)) == headings


@pytest.mark.parametrize(
    "line", ["第五天", "第五次见面", "第五节课", "他说到第五章", "五个人", "第六节 渡口", "5", "五回合"]
)
def test_find_headings_takes_no_other_line_where_a_number_is_missing(line):
    headings = [f"第{CHINESE[n]}章 山门" for n in range(12) if n != 4]
    parts = [f"{heading}\n{prose(i)}" for i, heading in enumerate(headings)]
    parts[3] += f"{line}\n" + prose(99)
    assert titles("".join(parts)) == headings


def test_find_headings_takes_a_count_whose_form_changes_in_the_middle():
    headings = [f"第{n}章 山门" for n in range(1, 9)] + [f"{n}、山门" for n in range(9, 17)]
    assert titles(book(*headings)) == headings


OTHER = [f"{n}、渡口" for n in range(1, 16)]


@pytest.mark.parametrize(
    "headings",
    [
        [*(f"第{n}章 山门" for n in range(1, 9)), *(f"{n}、渡口" for n in range(10, 26))],
        [*(f"第{n}章 山门" for n in range(1, 9)), *(f"{n}、渡口" for n in range(8, 24))],
        [*(f"第{n}章 山门" for n in range(1, 30)), *(f"{n}、渡口" for n in range(31, 35))],
        [*(f"第{n}章 山门" for n in range(1, 9)), *OTHER],
        [*(f"第{n}章 山门" for n in range(1, 9)), "第二卷 风", *OTHER],
        ["第一卷 风", *(f"第{n}章 山门" for n in range(1, 9)), "第二卷 风", *OTHER],
        [*OTHER, *(f"第{n}章 山门" for n in range(1, 30))],
        [*OTHER, *(f"第{n}章 山门" for n in range(16, 40)), *(f"{n:03} 竹林" for n in range(40, 50))],
        [*(f"{n} 竹林" for n in range(1, 50)), *(f"第{n}章 山门" for n in range(1, 30)), *OTHER],
    ],
    ids=["missing", "doubled", "few", "restart", "volume", "volumes", "before", "three", "two books"],
)
def test_find_headings_takes_another_form_where_the_first_is_not_used(headings):
    lines = [heading + "\n" + prose(i) * ("卷" not in heading) for i, heading in enumerate(headings)]
    assert titles("".join(lines)) == headings


@pytest.mark.parametrize("form", ["{}", "- {} -", "（{}）", "{}、不得说谎"])
def test_find_headings_takes_no_other_form_in_a_long_chapter(form):
    """A form that is used in the other chapters, too, is no chapter's."""
    chapters = [
        f"第{n}章 山门\n" + "".join(prose(20 * n + i) + form.format(i + 1) + "\n" for i in range(4)) for n in range(20)
    ]
    chapters[12] += "".join(prose(800 + i) + form.format(i + 5) + "\n" for i in range(30))
    assert titles("".join(chapters)) == [f"第{n}章 山门" for n in range(20)]


def test_find_headings_takes_a_number_behind_titles_that_differ():
    headings = [f"{name}（{c}）" for name, c in zip([*NAMES, *PLACES], CHINESE)]
    assert titles(book(*headings)) == headings


@pytest.mark.parametrize("step", [1, -1])
def test_count_says_whether_the_book_is_backwards(step):
    (count,) = find(book(*[f"第{n}章 山门" for n in range(1, 13)][::step]))[0].counts
    assert count.is_backwards == (step < 0)


def test_find_headings_takes_parts_without_a_number_beside_the_form():
    headings = ["楔子", *(f"{n}、山门" for n in range(1, 9)), "番外 灯火", "完本感言"]
    assert titles(book(*headings)) == headings


@pytest.mark.parametrize(
    "lines",
    [
        "第六回合，两人又斗在一处。\n",
        "第四本书\n",
        "第一封信写着：\n第二封信写着：\n第三封信写着：\n第四封信写着：\n",
        "第三章里说过的话，他都记得。\n",
        "第三章的结尾他没有看。\n",
        "“1、你先走。”\n“2、我后走。”\n",
        "规矩有三条：\n1、不得说谎\n2、不得偷盗\n3、不得夜行\n4、不得饮酒\n5、不得欠账\n6、不得回头\n",
        "一、不得说谎。\n二、不得偷盗。\n三、不得夜行。\n",
        "一九八四年\n1984年的冬天\n",
        "12:30\n3个人走了\n",
        "第二回 他赢了\n",
        "第五节 车厢里没有人\n",
    ],
    ids=lambda lines: lines.split("\n")[0],
)
@pytest.mark.parametrize("form", ["第{n}章 山门", "{n}、山门", "第{c}章 他来到了山门。"])
def test_find_headings_leaves_prose_alone(form, lines):
    headings = [numbered(form, n) for n in range(1, 13)]
    parts = [f"{heading}\n{prose(i)}" for i, heading in enumerate(headings)]
    for i in (1, 5, 9):
        parts[i] += lines + prose(100 + i)
    assert titles("".join(parts)) == headings


def test_find_headings_takes_levels_that_do_not_count_for_a_status_line():
    """A number that rises in the story is no chapter."""
    parts = [f"第{n}章 山门\n{prose(n)}" + (f"等级：{n}\n{prose(50 + n)}" if n % 2 else "") for n in range(1, 25)]
    assert titles("".join(parts)) == [f"第{n}章 山门" for n in range(1, 25)]


def test_find_headings_does_not_count_a_heading_twice_that_stands_there_twice():
    (count,) = find("".join(f"第{n}章 山门\n第{n}章 山门\n{prose(n)}" for n in range(1, 9)))[0].counts
    assert (count.doubled, count.missing, count.regularity) == ([], [], 1.0)


def test_find_headings_takes_a_volume_that_stands_above_every_chapter():
    headings = [line for n in range(1, 13) for line in (f"第{CHINESE[n // 5]}卷 风", f"第{n}章 山门")]
    found, parts = find("".join(line + "\n" + prose(i) * (i % 2) for i, line in enumerate(headings)))
    assert [line.text for line in found.lines] == headings and len(parts) == 12
    assert [count.form for count in found.counts] == ["第N章", "第N卷"]


def test_find_headings_finds_nothing_in_prose():
    assert find(prose(1, 200))[0].lines == []


def test_find_headings_by_a_regular_expression():
    headings = [f"※ 夜 {place} ※" for place in PLACES]
    assert titles(book("第一章 风", *headings), heading="^※.*※$") == headings


def test_add_titles_takes_lines_that_the_file_marks():
    headings = ["山门的夜", "渡口", "尾声"]
    assert titles(book(*headings), titles={"山门的夜", "渡口"}) == headings


def test_add_titles_takes_a_marked_line_with_a_number_that_does_not_count():
    headings = ["夜之三", "渡口", "夜之一"]
    assert titles(book(*headings), titles=set(headings)) == headings


def test_add_titles_ignores_a_book_in_which_everything_is_marked():
    text = prose(1)
    assert titles(text, titles=set(text.split("\n"))) == []


# -- chapters --------------------------------------------------------------------------------------------------------


def test_plan_joins_a_heading_without_text_to_the_next_chapter():
    chapters = chapters_of("第一卷 风\n第一章 雨\n正文。\n第二章 雪\n正文。")
    assert chapters == ["第一卷 风\n第一章 雨\n正文。", "第二章 雪\n正文。"]


CONTENTS = "\n".join(f"第{i}章 题目" for i in range(1, 41))


def test_plan_finds_the_chapters_after_a_table_of_contents():
    chapters = [f"第{i}章 题目\n正文。" for i in range(1, 41)]
    assert chapters_of("\n".join(["书名", CONTENTS, *chapters])) == ["书名", CONTENTS, *chapters]


def test_find_headings_does_not_count_a_table_of_contents_before_an_introduction():
    headings = [f"第{n}章 {name}" for n, name in zip(range(1, 10), "甲乙丙丁戊己庚辛壬")]
    found = find("\n".join(headings) + "\n作者是谁，无人知道。\n" + book(*headings))[0]
    assert [count.form for count in found.counts] == ["第N章"] and len(found.counts[0].lines) == 9


def test_notes_of_the_author_under_each_chapter_are_text():
    text = "".join(f"第{n}章 山门\n{prose(n)}作者的话\n今天三更。\n" for n in range(1, 9))
    assert titles(text) == [f"第{n}章 山门" for n in range(1, 9)]


def test_find_headings_does_not_count_a_table_of_contents():
    chapters = [f"第{i}章 题目\n{prose(i)}" for i in range(1, 41)]
    count = find(CONTENTS + "\n" + "".join(chapters))[0].counts[0]
    assert (len(count.lines), count.missing, count.doubled) == (40, [], [])


@pytest.mark.parametrize("lines", [1, 2, 7])
def test_finder_gives_the_same_for_any_blocks(lines):
    text = story() + "第一卷\n" + story()
    parts = text.splitlines(keepends=True)
    finder, whole = HeadingFinder(), HeadingFinder()
    for i in range(0, len(parts), lines):
        finder.feed("".join(parts[i : i + lines]))
    whole.feed(text)
    assert finder.lines == whole.lines and finder.size == whole.size == len(text.encode())


# -- documents -------------------------------------------------------------------------------------------------------


def documents(*texts: str, files: bool) -> dict:
    ends = [0]
    for text in texts[:-1]:
        ends.append(ends[-1] + text.count("\n"))
    return {"text": "".join(texts), "documents": tuple((end, files or end == 0) for end in ends)}


@pytest.mark.parametrize("files", [True, False])
def test_plan_takes_documents_without_headings_as_chapters(files):
    texts = [prose(i) for i in range(5)]
    assert split(**documents(*texts, files=files)) == texts


def test_plan_takes_short_documents_of_a_file_for_paragraphs():
    assert split(**documents(*prose(1).splitlines(keepends=True), files=False)) == [prose(1)]


@pytest.mark.parametrize("files", [True, False])
def test_plan_lets_a_chapter_run_through_documents_when_the_count_goes_on(files):
    pages = [text for n in range(1, 7) for text in (f"第{n}章 山门\n{prose(n)}", prose(20 + n), prose(40 + n))]
    chapters = ["".join(pages[i : i + 3]) for i in range(0, 18, 3)]
    assert split(**documents(*pages, files=files)) == chapters


@pytest.mark.parametrize("files", [True, False])
def test_plan_takes_documents_without_headings_as_chapters_in_volumes(files):
    texts = [f"第{CHINESE[n // 3]}卷 风\n" * (n % 3 == 0) + prose(n) for n in range(12)]
    assert split(**documents(*texts, files=files)) == texts


def test_plan_begins_a_chapter_with_another_book():
    first, second = book("第一章 山门", "第二章 渡口"), "书名\n" + book("第一章 竹林", "第二章 井边")
    chapters = split(**documents(first, second, files=True))
    assert chapters[2:] == ["书名\n", *split(second)[1:]]


def test_plan_begins_a_chapter_where_a_document_stands_in_for_a_heading():
    texts = ["第一章 山门\n" + prose(1), prose(2), "第三章 渡口\n" + prose(3)]
    assert split(**documents(*texts, files=False)) == texts


# -- long chapters ---------------------------------------------------------------------------------------------------


def lengths(text: str, tmp_path, **options) -> list[int]:
    """Of the chapters in a book file, where long ones may be cut."""
    with BookFile(tmp_path / "book.txt") as file:
        file.write(text)
        parts = find(text, **options)[1]
        assert "".join(piece for part in parts for piece in file.pieces(part)) == text
        file.cut(parts)
        return file.lengths


def test_cut_leaves_a_long_chapter_whole(tmp_path):
    text = f"第一章 山门\n{prose(1, 4_000)}第二章 渡口\n{prose(2)}第三章 竹林\n{prose(3)}"
    assert lengths(text, tmp_path)[0] > 3 * MAX_CHAPTER and len(lengths(text, tmp_path)) == 3


def test_cut_cuts_a_long_text_without_headings_at_paragraphs(tmp_path):
    pieces = lengths(prose(1, 70_000), tmp_path)
    assert max(pieces) < 10_001 and min(pieces) > 2_000


def test_cut_cuts_a_long_text_without_line_breaks_at_sentences(tmp_path):
    text = prose(1, 4_000).replace("\n", "")
    with BookFile(tmp_path / "book.txt") as file:
        file.write(text + "\n")
        file.cut(find(text + "\n")[1])
        assert all(file.read(i)[-1] in "。！？" for i in range(len(file.chapters)))
        assert len(file.chapters) > 10


def test_plan_may_cut_a_long_part_before_the_count_begins_again():
    """The headings of another book may not be found there."""
    volume = book(*(f"第{n}章 山门" for n in range(1, 9)))
    parts = find(volume + prose(1, 3_000) + volume)[1]
    assert [part.may_cut for part in parts] == [False] * 7 + [True] + [False] * 8


def test_split_by_size_keeps_a_text_without_line_breaks():
    assert "".join(split_by_size("字" * 20001, 5000)) == "字" * 20001


@pytest.mark.parametrize(
    "text, place, end",
    [("甲。乙。\n丙丁。\n", 6, 5), ("甲乙丙。丁戊己。庚", 5, 4), ("甲" * 50, 20, 20)],
    ids=["paragraph", "sentence", "neither"],
)
def test_nearest_end_finds_the_end_of_a_paragraph_or_sentence(text, place, end):
    assert nearest_end(text, place) == end
