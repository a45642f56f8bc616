import random

import pytest
from test_chapters import find, prose

from text.book import BookFile
from text.copies import CopyFinder, sentence_hashes, without_known_lines

CHAPTERS = [f"第{n}章 山门\n{prose(n)}" for n in range(1, 11)]


def finder_of(chapters: list[str], tmp_path, book: BookFile | None = None) -> CopyFinder:
    with BookFile(tmp_path / "other.txt") as other:
        book, text = book or other, "".join(chapters)
        book.write(text)
        finder = CopyFinder(book.size)
        for chapter, part in book.cut(find(text)[1]):
            finder.add(chapter, part)
    return finder


def copies_of(chapters: list[str], tmp_path) -> list[int]:
    return finder_of(chapters, tmp_path).copies()


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


def test_copies_are_found_in_pieces_that_are_cut_elsewhere(tmp_path):
    text = prose(1, 4_000)
    with BookFile(tmp_path / "book.txt") as book:
        finder = finder_of(["楔子的夜\n" + text + prose(2, 50) + text], tmp_path, book)
        before = book.characters
        finder.remove(book)
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


@pytest.fixture
def book(tmp_path):
    with BookFile(tmp_path / "book.txt") as book:
        yield book


def test_remove_leaves_copies_out_of_the_book(book, tmp_path):
    finder = finder_of([*CHAPTERS, *map(renamed, CHAPTERS)], tmp_path, book)
    finder.remove(book)
    assert [book.read(i) + "\n" for i in range(len(book.chapters))] == CHAPTERS
    assert finder.removed == ["第九十九章 灯火"] * 10


def test_remove_keeps_a_single_copy_in_a_long_book(book, tmp_path):
    chapters = [f"第{n}章 山门\n{prose(n)}" for n in range(600)]
    finder = finder_of([*chapters, renamed(chapters[5])], tmp_path, book)
    finder.remove(book)
    assert finder.removed == [] and len(book.chapters) == 601


def test_overlaps_is_the_share_of_pairs_that_stand_in_other_chapters(tmp_path):
    half = "第11章 灯火\n" + "".join(line + "\n" for line in CHAPTERS[0].split("\n")[1:13]) + prose(99, 13)
    shares = finder_of([*CHAPTERS, half], tmp_path).overlaps([3, 10])
    assert shares[0] == 0 and 0.35 < shares[1] < 0.55


def test_without_known_lines_leaves_out_what_is_known():
    rng = random.Random(1)
    lines = prose(1).split("\n")
    known = sentence_hashes("\n".join(lines[:20]))
    mixed = lines[:]
    rng.shuffle(mixed)
    assert without_known_lines("\n".join(mixed), known) == "\n".join(line for line in mixed if line in lines[20:])
