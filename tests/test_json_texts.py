import json

import pytest

from configurator import UserError
from text.readers import find_sources

CHAPTERS = [
    {"title": "第一章 风起", "content": "甲说。", "id": 1},
    {"title": "第二章 雨落", "content": "乙说。", "id": 2},
]


def read(tmp_path, content, name: str = "a.json"):
    """The documents, their titles, and the notes."""
    content = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    (tmp_path / name).write_text(content, encoding="utf-8")
    (source,) = find_sources([str(tmp_path / name)])
    documents = [("".join(document), *document.titles) for document in source.documents()]
    return documents, source.notes


@pytest.mark.parametrize(
    "content",
    [
        ["甲", "乙"],
        [{"text": "甲"}, {"text": "乙"}],
        [["甲"], ["乙"]],
        {"data": ["甲", "乙"]},
        {"name": "书", "count": 2, "chapters": [{"text": "甲"}, {"text": "乙"}]},
        '"甲"\n"乙"\n',
        '{"text": "甲"}\n\n{"text": "乙"}',
        '["甲", "乙",\n]',
        '\ufeff["甲", null, "", "乙"]',
    ],
)
def test_json_texts_are_documents(tmp_path, content):
    assert read(tmp_path, content)[0] == [("甲",), ("乙",)]


@pytest.mark.parametrize(
    "wrap", [lambda c: c, lambda c: {"书名": "书", "chapters": c}, lambda c: "\n".join(map(json.dumps, c))]
)
def test_json_chapters_have_their_titles(tmp_path, wrap):
    documents, notes = read(tmp_path, wrap(CHAPTERS))
    assert documents == [("第一章 风起\n甲说。", "第一章 风起"), ("第二章 雨落\n乙说。", "第二章 雨落")]
    assert notes == ['the text was taken from the fields "content", "title"', 'not read: 1 other field: "id"']


@pytest.mark.parametrize("field", ["body", "正文", "paragraphs", "anything"])
def test_json_text_stands_in_another_field(tmp_path, field):
    value = ["甲", "乙"] if field == "paragraphs" else "甲\n乙"
    assert read(tmp_path, [{"title": "第一章", field: value}])[0] == [("第一章\n甲\n乙", "第一章")]


def test_json_title_that_begins_the_text_is_not_repeated(tmp_path):
    assert read(tmp_path, [{"title": "第一章", "text": "第一章\n甲"}])[0] == [("第一章\n甲", "第一章")]


def test_json_title_that_all_items_share_is_the_books(tmp_path):
    assert read(tmp_path, [{"title": "书", "text": "甲"}, {"title": "书", "text": "乙"}])[0] == [
        ("书\n甲", "书"),
        ("乙",),
    ]


@pytest.mark.parametrize(
    "text, expected",
    [
        ("第一章 风起 他走了。" + "甲" * 200, "第一章 风起\n他走了。" + "甲" * 200),  # the chapter is one line
        ("第一章　风起\n甲", "第一章　风起\n甲"),
        ("第一章风起云涌\n甲", "第一章风起云涌\n甲"),
        ("第一章 风起了。\n甲", "第一章 风起\n第一章 风起了。\n甲"),  # a sentence that begins like the title
    ],
)
def test_json_title_ends_where_the_text_begins(tmp_path, text, expected):
    ((found, title),) = read(tmp_path, [{"title": "第一章 风起", "text": text}])[0]
    assert found == expected and title == expected.split("\n")[0]


def test_json_chapter_has_its_own_title_next_to_the_books(tmp_path):
    items = [
        {"title": "斗破苍穹", "chapter": f"第{n}章 {name}", "text": "甲"} for n, name in ((1, "陨落"), (2, "测试"))
    ]
    assert read(tmp_path, items)[0] == [("第1章 陨落\n甲", "第1章 陨落"), ("第2章 测试\n甲", "第2章 测试")]
    items = [{"title": "书", "chapter": f"第{n}章", "text": "甲"} for n in (1, 2)]
    assert read(tmp_path, items)[0][1] == ("第2章\n甲", "第2章")


def test_json_parts_of_a_chapter_have_its_title_once(tmp_path):
    items = [{"title": "第一章", "name": f"p{n}", "text": "甲"} for n in (1, 2)]
    assert read(tmp_path, items)[0] == [("第一章\n甲", "第一章"), ("甲",)]


def test_json_text_that_is_null_is_no_other_field(tmp_path):
    items = [{"title": "第一章", "content": "甲"}, {"title": "第二章", "content": None, "url": "http://example.com/2"}]
    assert read(tmp_path, items)[0] == [("第一章\n甲", "第一章"), ("第二章\n", "第二章")]
    assert read(tmp_path, [{"text": "", "content": "甲"}])[0] == [("甲",)]


def test_json_short_list_of_long_texts_is_read(tmp_path):
    book = {"train": ["甲" * 100] * 100, "validation": ["乙" * 100], "tags": ["玄幻"]}
    assert [text for (text,) in read(tmp_path, book)[0]] == ["甲" * 100] * 100 + ["乙" * 100]


@pytest.mark.parametrize(
    "table, expected",
    [
        (",text\n0,甲\n1,乙\n", [("甲",), ("乙",)]),  # the index that pandas writes
        ("id,content\n1,他说:好,走吧\n", [("他说:好,走吧",)]),
    ],
)
def test_csv_columns(tmp_path, table, expected):
    assert read(tmp_path, table, "book.csv")[0] == expected


def test_json_object_may_have_titles_for_keys(tmp_path):
    assert read(tmp_path, {"第一章": "甲", "第二章": "乙"})[0] == [("第一章\n甲", "第一章"), ("第二章\n乙", "第二章")]


def test_json_titles_may_have_lists_of_paragraphs(tmp_path):
    book = {"书名": "书", "chapters": {"第一章": ["甲", "丙"], "第二章": ["乙"]}}
    assert read(tmp_path, book)[0] == [("第一章\n甲\n丙", "第一章"), ("第二章\n乙", "第二章")]


@pytest.mark.parametrize("wrap", [lambda volumes: volumes, lambda volumes: {"书名": "书", "volumes": volumes}])
def test_json_volumes_hold_chapters(tmp_path, wrap):
    volumes = [{"name": f"第{n}卷", "chapters": [{"title": f"第{n}章", "text": "甲"}]} for n in (1, 2)]
    documents = read(tmp_path, wrap(volumes))[0]
    assert documents == [("第1卷",), ("第1章\n甲", "第1章"), ("第2卷",), ("第2章\n甲", "第2章")]


def test_json_lists_are_all_read(tmp_path):
    assert read(tmp_path, {"train": ["甲", "乙"], "test": ["丙"]})[0] == [("甲",), ("乙",), ("丙",)]


def test_json_string_is_a_book(tmp_path):
    assert read(tmp_path, '"甲\\n乙"')[0] == [("甲\n乙",)]


def test_json_title_that_is_left_out_is_counted(tmp_path):
    items = [{"chapter": "第一章", "paragraph": "甲"}, {"chapter": "第一章", "paragraph": "乙"}]
    documents, notes = read(tmp_path, items)
    assert documents == [("第一章\n甲", "第一章"), ("乙",)]
    assert "left out: 1 title that the item before has, too" in notes


def test_json_object_may_be_one_chapter(tmp_path):
    assert read(tmp_path, CHAPTERS[0])[0] == [("第一章 风起\n甲说。", "第一章 风起")]


def test_json_lines_may_be_a_list(tmp_path):
    assert read(tmp_path, '[\n"甲",\n"乙"\n]', "a.jsonl")[0] == [("甲",), ("乙",)]


def test_json_text_with_tags_is_prose(tmp_path):
    assert read(tmp_path, [{"text": "<p>甲</p><p>乙&nbsp;</p>"}])[0] == [("\n甲\n\n乙 \n",)]


def test_json_with_halves_of_characters_is_text(tmp_path):
    assert read(tmp_path, '["a\\ud800b"]')[0] == [("a\ufffdb",)]


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("a.json", "[1]", "item 1: a string"),
        ("a.json", '{"a": 1}', "list of strings"),
        ("a.json", '["a", "b]', "a.json: "),
        ("a.json", "[" * 100000, "a.json: nested"),
        ("a.json", '[{"x": "a", "y": "b"}]', "its fields are x, y"),
        ("a.json", '[{"x\\n\\u2028": "a", "y": "b"}]', r"its fields are x\?\?, y"),
        ("a.jsonl", '{"text": "a"}\n{"n": 1}', "line 2: a string"),
        ("a.jsonl", '{"text": "a"}\nb', "line 2: "),
    ],
)
def test_json_mistake_is_named_with_its_place(tmp_path, name, content, words):
    with pytest.raises(UserError, match=words):
        read(tmp_path, content, name)
