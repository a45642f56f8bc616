import random
import re

import pytest
from test_chapters import find, prose

from text.book import BookFile
from text.copies import CopyFinder, sentence_hashes, without_known_lines

CHAPTERS = [f"第{n}章 山门\n{prose(n)}" for n in range(1, 11)]


def finder_of(chapters: list[str], tmp_path, book: BookFile | None = None) -> CopyFinder:
    with BookFile(tmp_path / "other.txt") as other:
        book, text = book or other, "".join(chapters)
        book.write(text)
        book.cut(find(text)[1])
        return CopyFinder(book)


def copies_of(chapters: list[str], tmp_path) -> list[int]:
    return sorted(finder_of(chapters, tmp_path).copies())


def renamed(chapter: str) -> str:
    return "第九十九章 灯火\n" + chapter.partition("\n")[2]


def rewrapped(chapter: str) -> str:
    heading, _, text = chapter.partition("\n")
    text = text.replace("\n", "")
    return heading + "\n" + "".join(text[i : i + 30] + "\n" for i in range(0, len(text), 30))


def with_advertisement(chapter: str) -> str:
    lines = chapter.split("\n")
    return "\n".join([*lines[:8], "看书就上某某网，最新章节等你来看。", *lines[8:]])


def edited(chapter: str) -> str:
    return chapter.replace("听见", "听到", 2)


@pytest.mark.parametrize(
    "change", [str, renamed, rewrapped, with_advertisement, edited], ids=lambda change: change.__name__
)
def test_copies_are_chapters_that_stand_in_the_text_before(change, tmp_path):
    copies = [change(chapter) for chapter in CHAPTERS[3:6]]
    assert copies_of([*CHAPTERS, *copies], tmp_path) == [10, 11, 12]


def quoting(chapter: str) -> str:
    """The chapter with speech, dashes and ellipses."""
    return chapter.replace("，天色已晚", "：“天色……已晚——”").replace("又听见", "又…听见")


def half_width(chapter: str) -> str:
    return chapter.translate(str.maketrans("，。！？：“”", ',.!?:""')).replace("……", "...").replace("——", "--")


def in_brackets(chapter: str) -> str:
    return chapter.translate(str.maketrans("“”", "「」")).replace("……", "。。。").replace("，", "， ")


def without_quotes(chapter: str) -> str:
    return chapter.translate(str.maketrans("", "", "“”…—"))


@pytest.mark.parametrize("change", [half_width, in_brackets, without_quotes], ids=lambda change: change.__name__)
@pytest.mark.parametrize("sentences", [3, 25], ids=["short", "long"])
def test_copies_may_differ_in_punctuation_and_white_space(change, sentences, tmp_path):
    chapters = [quoting(f"第{n}章 山门\n{prose(n, sentences)}") for n in range(1, 9)]
    copies = [change(chapter) for chapter in chapters[3:6]]
    assert copies_of([*chapters, *copies], tmp_path) == [8, 9, 10]


@pytest.mark.parametrize("change", [half_width, in_brackets], ids=lambda change: change.__name__)
def test_copies_without_full_stops_are_compared_by_clauses(change, tmp_path):
    chapters = [f"第{n}章 山门\n{quoting(prose(n, 60)).replace('。', '！')}" for n in range(1, 9)]
    edited = [change(chapter).replace("不说话", "没有说话", 5) for chapter in chapters[3:6]]
    assert copies_of([*chapters, *edited], tmp_path) == [8, 9, 10]


def test_copies_are_found_in_pieces_that_are_cut_elsewhere(tmp_path):
    text = prose(1, 4_000)
    with BookFile(tmp_path / "book.txt") as book:
        finder = finder_of(["楔子的夜\n" + text + prose(2, 50) + text], tmp_path, book)
        before = book.characters
        finder.remove()
        assert book.characters < 0.53 * before


def test_copies_leaves_a_book_of_few_words_alone(tmp_path):
    """Sentences come again; pairs of sentences hardly do."""
    assert copies_of([f"第{n}章 山门\n{prose(n)}" for n in range(300)], tmp_path) == []


def test_copies_does_not_take_short_chapters_for_copies(tmp_path):
    assert copies_of(["第1章 山门\n（本章未完）\n", "第2章 渡口\n（本章未完）\n"], tmp_path) == []


def test_copies_in_a_large_text_are_found_in_a_sample(tmp_path, monkeypatch):
    monkeypatch.setattr("text.copies.SAMPLE_ABOVE", 1_000)
    chapters = [f"第{n}章 山门\n{prose(n, 300)}" for n in range(1, 6)]
    assert copies_of([*chapters, *map(edited, chapters[3:])], tmp_path) == [5, 6]


def test_copies_are_the_parts_of_a_chapter_that_comes_again_in_full(tmp_path):
    lines = prose(99).splitlines(keepends=True)
    *parts, whole = ("第11章 灯火\n" + "".join(lines[:n]) for n in (16, 20, 25))
    assert copies_of([*CHAPTERS, *parts, whole], tmp_path) == [10, 11]
    assert copies_of([*CHAPTERS, whole, *parts], tmp_path) == [11, 12]
    assert copies_of([*CHAPTERS, *parts, *CHAPTERS, whole, whole], tmp_path) == [10, 11, *range(12, 22), 23]


def test_copies_are_beginnings_of_a_chapter_that_comes_again_in_full(tmp_path):
    lines = prose(99, 60).splitlines(keepends=True)
    beginning, whole = ("第11章 灯火\n" + "".join(part) for part in (lines[:20], lines))
    assert copies_of([*CHAPTERS, beginning, whole], tmp_path) == [10]
    assert copies_of([*CHAPTERS, whole, beginning], tmp_path) == [11]


def test_copies_without_any_punctuation_are_compared_by_lines(tmp_path):
    bare = [re.sub("[，。！？；：“”]", "", chapter) for chapter in CHAPTERS]
    assert copies_of([*bare, bare[3] + "多了一行\n"], tmp_path) == [10]


def test_copies_of_pieces_that_are_cut_elsewhere_lose_nothing(tmp_path):
    """A short chapter stands in a piece, and the rest of the piece in a long chapter: one of each stays."""
    lines = prose(99, 60).splitlines(keepends=True)
    pieces = [f"第{n}章 灯火\n{''.join(part)}" for n, part in ((11, lines[:28]), (12, lines[28:]))]
    chapters = [f"第{n}章 灯火\n{''.join(part)}" for n, part in ((13, lines[:6]), (14, lines[6:]))]
    copies, book = copies_of([*CHAPTERS, *pieces, *chapters], tmp_path), [*CHAPTERS, *pieces, *chapters]
    left = "".join(chapter for i, chapter in enumerate(book) if i not in copies)
    assert all(line in left for line in lines)


@pytest.fixture
def book(tmp_path):
    with BookFile(tmp_path / "book.txt") as book:
        yield book


def test_remove_leaves_copies_out_of_the_book(book, tmp_path):
    finder = finder_of([*CHAPTERS, *map(renamed, CHAPTERS)], tmp_path, book)
    finder.remove()
    assert [book.read(i) + "\n" for i in range(len(book.chapters))] == CHAPTERS
    assert finder.removed == ["第九十九章 灯火"] * 10


def test_remove_keeps_a_single_copy_in_a_long_book(book, tmp_path):
    chapters = [f"第{n}章 山门\n{prose(n)}" for n in range(600)]
    finder = finder_of([*chapters, renamed(chapters[5])], tmp_path, book)
    finder.remove()
    assert finder.removed == [] and len(book.chapters) == 601


def test_overlaps_is_the_share_of_pairs_that_stand_in_other_chapters(tmp_path):
    half = "第11章 灯火\n" + "".join(line + "\n" for line in CHAPTERS[0].split("\n")[1:13]) + prose(99, 13)
    shares = finder_of([*CHAPTERS, half], tmp_path).overlaps([3, 10])
    assert shares[0] == 0 and 0.35 < shares[1] < 0.55


def test_overlaps_does_not_look_at_punctuation(tmp_path):
    shares = finder_of([*map(quoting, CHAPTERS), half_width(quoting(CHAPTERS[3]))], tmp_path).overlaps([3, 4])
    assert shares[0] > 0.95 and shares[1] == 0


def test_without_known_lines_leaves_out_what_is_known_in_other_punctuation():
    text = quoting(prose(1))
    assert without_known_lines(text, sentence_hashes(half_width(text))) == ""
    assert without_known_lines("————————————————————————", sentence_hashes(text)) == "————————————————————————"


def test_without_known_lines_leaves_out_what_is_known():
    rng = random.Random(1)
    lines = prose(1).split("\n")
    known = sentence_hashes("\n".join(lines[:20]))
    mixed = lines[:]
    rng.shuffle(mixed)
    assert without_known_lines("\n".join(mixed), known) == "\n".join(line for line in mixed if line in lines[20:])
