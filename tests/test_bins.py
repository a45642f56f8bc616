from collections import Counter

import numpy as np
import pytest
from test_chapters import find, prose

from dataset import FILES
from text.bins import build_vocabulary, hold_out, remove_overlap, split_validation, staging_folder, write_bins
from text.book import BookFile
from text.copies import CopyFinder
from tokenizer import Tokenizer

CHAPTERS = ["第一回 甲\n甲甲甲乙", "第二回 丙\n乙丙", "第三回 丁\n甲丁丁"]
LENGTHS = [100, 120, 80, 110, 90] * 20


def fill(book: BookFile, text: str) -> CopyFinder:
    """Put a text into a book."""
    book.write(text)
    book.cut(find(text)[1])
    return CopyFinder(book)


@pytest.fixture
def empty(tmp_path):
    with BookFile(tmp_path / "book.txt") as book:
        yield book


@pytest.fixture
def book(empty):
    fill(empty, "".join(chapter + "\n" for chapter in CHAPTERS))
    return empty


@pytest.mark.parametrize("seed", range(5))
def test_split_validation_draws_the_fraction_from_the_whole_book(seed):
    chosen = split_validation(LENGTHS, 0.1, seed)
    assert abs(sum(LENGTHS[i] for i in chosen) / sum(LENGTHS) - 0.1) < 0.02
    assert chosen == sorted(set(chosen)) and max(chosen) - min(chosen) > 30


def test_split_validation_depends_on_the_seed_alone():
    assert split_validation(LENGTHS, 0.1, 1) == split_validation(LENGTHS, 0.1, 1) != split_validation(LENGTHS, 0.1, 2)


def test_split_validation_chooses_at_least_one_and_leaves_at_least_one():
    assert len(split_validation([1, 1], 0.001, 0)) == len(split_validation([1, 1], 0.999, 0)) == 1


def held_out(book: BookFile, text: str, fraction: float = 0.05) -> list[int]:
    finder = fill(book, text)
    finder.remove()
    return hold_out(book, finder, fraction, seed=1337)


@pytest.mark.parametrize("chapters", [1, 2, 3])
def test_hold_out_cuts_the_end_of_a_long_chapter(empty, chapters):
    chosen = held_out(empty, "".join(f"第{n}章 山门\n{prose(n, 400)}" for n in range(1, chapters + 1)))
    assert 0.03 < sum(empty.lengths[i] for i in chosen) / empty.characters < 0.07
    assert [empty.chapters[i].begins for i in chosen] == [False]


@pytest.mark.parametrize("seed", range(4))
def test_hold_out_is_not_a_title_page(empty, seed):
    finder = fill(empty, "书名\n作者\n第一章 山门\n" + prose(1, 400))
    chosen = hold_out(empty, finder, 0.05, seed)
    assert 0.03 < sum(empty.lengths[i] for i in chosen) / empty.characters < 0.07


def test_hold_out_holds_out_whole_chapters_where_they_are_short(empty):
    chosen = held_out(empty, "".join(f"第{n}章 山门\n{prose(n)}" for n in range(1, 7)))
    assert len(chosen) == 1 and all(chapter.begins for chapter in empty.chapters)


def test_hold_out_returns_nothing_for_a_text_that_is_too_short(empty):
    assert held_out(empty, "甲\n") == []


def test_hold_out_leaves_a_chapter_whose_copy_stays_to_train_on(empty):
    """Few copies stay in a long book."""
    chapters = [f"第{n}章 山门\n{prose(n)}" for n in range(600)]
    chosen = held_out(empty, "".join(chapters))
    i = chosen[10]
    with BookFile(empty.path.with_name("other.txt")) as other:
        again = held_out(other, "".join(chapters[:600]) + chapters[i])
        assert i not in again or 600 in again


def test_remove_overlap_takes_known_sentences_out_of_what_is_held_out(empty):
    half = "第11章 灯火\n" + "".join(line + "\n" for line in prose(1).split("\n")[:10]) + prose(99, 15)
    finder = fill(empty, "".join(f"第{n}章 山门\n{prose(n)}" for n in range(1, 11)) + half)
    removed = remove_overlap(empty, finder, [10])
    assert removed == sum(len(line) + 1 for line in prose(1).split("\n")[:10])
    assert empty.read(10) == "第11章 灯火\n" + prose(99, 15).strip("\n")


def test_remove_overlap_takes_out_a_paragraph_that_the_next_chapter_begins_with(empty):
    paragraphs = [f"{prose(n)}{''.join(prose(100 + n, 3).splitlines())}\n" for n in range(12)]
    chapters = [f"第{n}章 山门\n{paragraphs[n - 1].splitlines()[-1]}\n{paragraphs[n]}" for n in range(1, 12)]
    finder = fill(empty, "".join(chapters))
    assert remove_overlap(empty, finder, [5]) > 0
    held_out = empty.read(5).split("\n")
    assert not any(len(line) > 30 and line in empty.read(i) for line in held_out for i in (4, 6))


def test_remove_overlap_lets_a_verse_stand(empty):
    finder = fill(empty, "".join(f"第{n}章 山门\n{prose(n, 300)}{prose(50, 1)}" for n in range(1, 11)))
    assert remove_overlap(empty, finder, [5]) == 0


def test_build_vocabulary_counts_training_chapters_only(book):
    tokenizer = build_vocabulary(book, validation=[1], min_count=2)
    assert tokenizer.tokens[261:] == list("甲丁 回第")  # by count, then by code point


def test_write_bins_starts_each_chapter_with_cls(book, tmp_path):
    tokenizer = Tokenizer.build(Counter("".join(CHAPTERS)))
    write_bins(tmp_path, book, [1], tokenizer)
    train, val = (np.fromfile(tmp_path / f"{part}.bin", dtype="<u2") for part in ("train", "val"))
    assert tokenizer.decode(train) == f"[CLS]{CHAPTERS[0]}[CLS]{CHAPTERS[2]}"
    assert tokenizer.decode(val) == f"[CLS]{CHAPTERS[1]}"


def test_write_bins_puts_no_cls_into_a_chapter_that_was_cut(empty, tmp_path):
    chosen = held_out(empty, "第一章 山门\n" + prose(1, 100))
    tokenizer = Tokenizer.build(Counter("第一章 山门\n" + prose(1, 100)))
    meta = write_bins(tmp_path, empty, chosen, tokenizer)
    val = np.fromfile(tmp_path / "val.bin", dtype="<u2")
    assert tokenizer.cls not in val and meta["chapters"] == 1


def test_write_bins_counts_tokens_characters_and_unknowns(book, tmp_path):
    meta = write_bins(tmp_path, book, [1], Tokenizer.build(Counter("第一二三回甲乙丁 ")))
    assert (meta["val_characters"], meta["val_tokens"]) == (8, 1 + 6 + 3 + 3)  # each 丙 is three bytes
    assert (meta["unknown_characters"], meta["unknown"]) == (2, {"丙": 2})
    assert meta["held_out"] == ["第二回 丙"]


@pytest.fixture
def prepared(tmp_path):
    """A folder with an old set of files."""
    for name in FILES:
        (tmp_path / name).write_text("old")
    return tmp_path


def contents(folder) -> dict:
    """Name -> text of a folder's files, without the lock."""
    return {path.name: path.read_text() for path in folder.iterdir() if path.name != ".lock"}


def test_staging_folder_moves_a_complete_set(prepared):
    with staging_folder(prepared) as staging:
        for name in FILES:
            (staging / name).write_text("new")
        assert (prepared / "meta.json").read_text() == "old"
    assert contents(prepared) == dict.fromkeys(FILES, "new")


def test_staging_folder_keeps_the_old_set_after_an_error(prepared):
    with pytest.raises(KeyboardInterrupt):
        with staging_folder(prepared) as staging:
            (staging / "train.bin").write_text("new")
            raise KeyboardInterrupt
    assert contents(prepared) == dict.fromkeys(FILES, "old")


def test_staging_folder_finishes_the_move_of_a_killed_call(prepared):
    (prepared / ".next").mkdir()
    (prepared / ".next/meta.json").write_text("new")
    with pytest.raises(KeyboardInterrupt):
        with staging_folder(prepared):
            raise KeyboardInterrupt
    assert (prepared / "meta.json").read_text() == "new"
