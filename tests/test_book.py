import numpy as np
import pytest
from conftest import story
from test_chapters import find, prose

from text.book import BookFile

CHAPTERS = ["第一回 甲\n甲甲甲乙", "第二回 乙\n乙乙丙", "第三回 丁\n甲丁丁"]


def counted(book: BookFile) -> dict[str, int]:
    return {chr(code): int(book.counts[code]) for code in np.flatnonzero(book.counts)}


@pytest.fixture
def book(tmp_path):
    """A book of three chapters."""
    with BookFile(tmp_path / "book.txt") as book:
        text = "".join(chapter + "\n" for chapter in CHAPTERS)
        book.write(text)
        book.cut(find(text)[1])
        yield book


def test_read_gives_any_chapter(book):
    assert [book.read(i) for i in (2, 0, 1)] == [CHAPTERS[2], CHAPTERS[0], CHAPTERS[1]]


def test_cut_knows_lengths_titles_and_headings(book):
    assert book.lengths == list(map(len, CHAPTERS))
    assert [chapter.title for chapter in book.chapters] == ["第一回 甲", "第二回 乙", "第三回 丁"]
    assert all(chapter.headings == [chapter.title] for chapter in book.chapters)


def test_counts_are_of_the_chapters(book):
    assert counted(book)["甲"] == 5 and sum(counted(book).values()) == book.characters


def test_add_leaves_out_outer_line_breaks_and_blank_text(tmp_path):
    with BookFile(tmp_path / "book.txt") as book:
        book.write("\n\n戊\n\n")
        book.add(["\n\n", "戊\n\n"], 0, [])
        assert book.lengths == [1]
        assert book.read(0) == "戊"


def test_counts_are_not_of_chapters_that_are_left_out(book):
    del book.chapters[1]
    assert [book.read(0), book.read(1)] == [CHAPTERS[0], CHAPTERS[2]]
    assert "丙" not in counted(book)


def test_cut_single_cuts_a_chapter_into_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr("text.book.PIECES", 5)
    text = prose(1)
    with BookFile(tmp_path / "book.txt") as book:
        book.write(text)
        book.cut(find(text)[1])
        book.cut_single()
        assert 3 <= len(book.chapters) <= 7
        assert "\n".join(map(book.read, range(len(book.chapters)))) == text.strip("\n")
        assert book.counts.sum() == book.characters


def test_cut_end_makes_the_end_of_a_chapter_the_next_one(tmp_path):
    text = f"第一章 山门\n{prose(1, 100)}第二章 渡口\n{prose(2)}"
    with BookFile(tmp_path / "book.txt") as book:
        book.write(text)
        book.cut(find(text)[1])
        assert book.cut_end(0, 300)
        assert 200 < book.chapters[1].length < 400
        assert "\n".join(map(book.read, range(3))) == text.strip("\n")
        assert [chapter.begins for chapter in book.chapters] == [True, False, True]
        assert book.counts.sum() == book.characters


def test_cut_end_refuses_a_chapter_that_is_too_short(tmp_path):
    with BookFile(tmp_path / "book.txt") as book:
        book.write("甲")
        book.add(["甲"], 0, [])
        assert not book.cut_end(0, 1)


def test_replace_puts_another_text_in_a_chapters_place(book):
    book.replace(1, "第二回 乙\n戊")
    assert [book.read(i) for i in range(3)] == [CHAPTERS[0], "第二回 乙\n戊", CHAPTERS[2]]
    assert "丙" not in counted(book)


def test_pieces_do_not_depend_on_the_chunks(tmp_path, monkeypatch):
    text = prose(1, 5_000)
    pieces = []
    for chunk in (2**22, 2**16):
        monkeypatch.setattr("text.book.CHUNK", chunk)
        with BookFile(tmp_path / "book.txt") as book:
            book.write(text)
            pieces.append([piece for part in find(text)[1] for piece in book.pieces(part)])
    assert "".join(pieces[0]) == "".join(pieces[1]) == text
    assert max(map(len, pieces[1])) < 10_001


def test_book_file_is_deleted_at_the_end(tmp_path):
    with BookFile(tmp_path / "book.txt") as book:
        book.write(story())
    assert not list(tmp_path.iterdir())
