from base64 import encodebytes
from urllib.parse import quote

import pytest
from conftest import story
from test_chapters import find, prose
from test_wrapping import wrapped

from text.book import BookFile
from text.quality import warnings


def warnings_of(text: str, tmp_path) -> list[str]:
    with BookFile(tmp_path / "book.txt") as book:
        book.write(text + "\n")
        book.cut(find(text + "\n")[1])
        return warnings(book)


NOVEL = "".join(f"第{n}章 山门\n{prose(n)}" for n in range(1, 25))
ADVERTISED = "".join(f"第{n}章 山门\n{prose(n)}看书就上某某网\n" for n in range(1, 25))


@pytest.mark.parametrize(
    "text",
    [NOVEL, story(), "第一章 山门\n他说：“锟铻之剑，烫烫烫！”\n" + prose(1), NOVEL + "\ue123"],
    ids=["novel", "story", "rare words", "one private-use character"],
)
def test_warnings_has_nothing_to_say_of_a_novel(text, tmp_path):
    assert warnings_of(text, tmp_path) == []


@pytest.mark.parametrize(
    "text, words",
    [
        (NOVEL.replace("不", "\ue3e8"), "private-use characters"),
        (NOVEL.replace("青", "\ufffd"), "U+FFFD"),
        (NOVEL + "锟斤拷锟斤拷\n", "锟斤拷 stands in the text 2 times"),
        (NOVEL.replace("山门\n", "山门\n锟斤拷锟锟斤拷\n"), "锟斤拷 stands in the text 48 times"),
        (NOVEL + "烫烫烫烫烫\n", "烫烫烫烫"),
        (NOVEL.encode().decode("gbk", "ignore"), "UTF-8 read as GBK"),
        (NOVEL.encode().decode("latin-1"), "read as Latin-1"),
        (NOVEL.encode("gbk").decode("latin-1"), "read as Latin-1"),
        ("The gate stood open. Nobody came.\n" * 100, "only 0% of the letters are Chinese"),
        ("吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。\n" * 50, "of the letters are Chinese"),
        (NOVEL.replace("一", "⼀").replace("不", "\uf967"), "only look like common characters"),
        (NOVEL.replace("不", "□"), "are □, as in"),
        (NOVEL.replace("不", "?").replace("听", "?"), "are ?, as in"),
        (" ".join(NOVEL), "are spaces"),
        (NOVEL.encode("unicode_escape").decode().replace("\\n", "\n"), "\\u escapes"),
        (quote(NOVEL), "in web addresses"),
        (encodebytes(NOVEL.encode()).decode(), "base64"),
        ("".join(chr(0x6000 + 37 * i % 5000) for i in range(4000)), "common ones of Chinese prose"),
        (wrapped("\u3000\u3000"), "--unwrap"),
        (ADVERTISED, "--drop_lines='看书就上某某网'"),
        ("".join(f"{line}\n{line}\n" for line in NOVEL.splitlines()), "are the line before again"),
        (
            "".join(f"第{n}章 山门\n{prose(n)}- {n} -\n{prose(99 + n)}" for n in range(1, 25)),
            "24 lines hold only a number",
        ),
        (NOVEL.replace("？\n", "？www.some-site.com看书\n"), "--drop_lines='(?i)www\\.some\\-site\\.com'"),
        (NOVEL + prose(99, 600), "“第24章 山门” has"),
        ("".join(ADVERTISED.partition("第9章")[:1]), "stands in 8 of 8 chapters"),
    ],
    ids=lambda value: value if len(value) < 60 else "",
)
def test_warnings_names_what_is_wrong(text, words, tmp_path):
    assert any(words in warning for warning in warnings_of(text, tmp_path))


def test_warnings_name_each_line_that_a_site_puts_into_every_chapter(tmp_path):
    text = ADVERTISED.replace("\n第", "\n（本章完）\n第")
    found = [warning for warning in warnings_of(text, tmp_path) if "--drop_lines" in warning]
    assert any("看书就上某某网" in warning for warning in found) and any("本章完" in warning for warning in found)


def test_warnings_gives_the_share_and_an_example(tmp_path):
    (warning,) = warnings_of(NOVEL.replace("不", "\ue3e8"), tmp_path)
    assert "%)" in warning and "\ue3e8" in warning and "\n" not in warning
