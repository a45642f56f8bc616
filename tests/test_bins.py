from collections import Counter

import numpy as np
import pytest
from conftest import story

from dataset import FILES
from text.bins import ChapterFile, build_vocabulary, split_validation, staging_folder, write_bins
from tokenizer import Tokenizer

CHAPTERS = ["第一回 甲\n甲甲甲乙", "乙乙丙", "第二回 丁\n甲丁丁"]
LENGTHS = [100, 120, 80, 110, 90] * 20


@pytest.fixture
def book(tmp_path):
    with ChapterFile(tmp_path / "chapters.txt") as book:
        book.add(CHAPTERS)
        yield book


def test_chapter_file_reads_back_what_was_added(book):
    assert [book.read(i) for i in (2, 0, 1)] == [CHAPTERS[2], CHAPTERS[0], CHAPTERS[1]]


def test_chapter_file_knows_lengths_titles_and_headings(book):
    assert book.lengths == list(map(len, CHAPTERS))
    assert book.titles == ["第一回 甲", "乙乙丙", "第二回 丁"]
    assert book.headings == 2


def test_chapter_file_leaves_out_outer_line_breaks_and_empty_chapters(book):
    book.add(["\n\n", "", "\n戊\n\n"])
    assert book.lengths[3:] == [1] and book.read(3) == "戊"


def test_chapter_file_cuts_a_single_chapter(tmp_path):
    text = story(1)
    with ChapterFile(tmp_path / "chapters.txt") as book:
        book.add([text])
        book.cut_single(pieces=5)
        assert 3 <= len(book.lengths) <= 7
        assert "\n".join(map(book.read, range(len(book.lengths)))) == text.strip("\n")
        assert book.counts.sum() == sum(book.lengths)


def test_chapter_file_is_deleted_at_the_end(tmp_path):
    with ChapterFile(tmp_path / "chapters.txt") as book:
        book.add(CHAPTERS)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("seed", range(5))
def test_split_validation_draws_the_fraction_from_the_whole_book(seed):
    chosen = split_validation(LENGTHS, 0.1, seed)
    assert abs(sum(LENGTHS[i] for i in chosen) / sum(LENGTHS) - 0.1) < 0.02
    assert chosen == sorted(set(chosen)) and max(chosen) - min(chosen) > 30


def test_split_validation_depends_on_the_seed_alone():
    assert split_validation(LENGTHS, 0.1, 1) == split_validation(LENGTHS, 0.1, 1) != split_validation(LENGTHS, 0.1, 2)


def test_split_validation_chooses_at_least_one_and_leaves_at_least_one():
    assert len(split_validation([1, 1], 0.001, 0)) == len(split_validation([1, 1], 0.999, 0)) == 1


def test_build_vocabulary_counts_training_chapters_only(book):
    tokenizer = build_vocabulary(book, validation=[1], min_count=2)
    assert tokenizer.tokens[261:] == list("甲丁 回第")  # by count, then by code point


def test_write_bins_starts_each_chapter_with_cls(book, tmp_path):
    tokenizer = Tokenizer.build(Counter("".join(CHAPTERS)))
    write_bins(tmp_path, book, [1], tokenizer)
    train, val = (np.fromfile(tmp_path / f"{part}.bin", dtype="<u2") for part in ("train", "val"))
    assert tokenizer.decode(train) == f"[CLS]{CHAPTERS[0]}[CLS]{CHAPTERS[2]}"
    assert tokenizer.decode(val) == f"[CLS]{CHAPTERS[1]}"


def test_write_bins_counts_tokens_characters_and_unknowns(book, tmp_path):
    meta = write_bins(tmp_path, book, [1], Tokenizer.build(Counter("第一二回甲乙丁 ")))
    assert (meta["val_characters"], meta["val_tokens"]) == (3, 1 + 2 + 3)  # 丙 is three bytes
    assert (meta["unknown_characters"], meta["unknown"]) == (1, {"丙": 1})
    assert meta["held_out"] == ["乙乙丙"]


@pytest.fixture
def prepared(tmp_path):
    """A folder with an old set of files."""
    for name in FILES:
        (tmp_path / name).write_text("old")
    return tmp_path


def test_staging_folder_moves_a_complete_set(prepared):
    with staging_folder(prepared) as staging:
        for name in FILES:
            (staging / name).write_text("new")
        assert (prepared / "meta.json").read_text() == "old"
    assert {path.name: path.read_text() for path in prepared.iterdir()} == dict.fromkeys(FILES, "new")


def test_staging_folder_keeps_the_old_set_after_an_error(prepared):
    with pytest.raises(KeyboardInterrupt):
        with staging_folder(prepared) as staging:
            (staging / "train.bin").write_text("new")
            raise KeyboardInterrupt
    assert {path.name: path.read_text() for path in prepared.iterdir()} == dict.fromkeys(FILES, "old")


def test_staging_folder_finishes_the_move_of_a_killed_call(prepared):
    (prepared / ".next").mkdir()
    (prepared / ".next/meta.json").write_text("new")
    with pytest.raises(KeyboardInterrupt):
        with staging_folder(prepared):
            raise KeyboardInterrupt
    assert (prepared / "meta.json").read_text() == "new"
