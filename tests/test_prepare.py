import os
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from conftest import ROOT, script, story

from configurator import UserError
from dataset import Corpus
from prepare import LONGEST, Cleaner, Settings, hold_out, split_by_size, split_chapters
from tokenizer import Tokenizer

BOOK = story()


def clean(text: str, **settings) -> str:
    return "".join(Cleaner(Settings(**settings)).blocks([text]))


def chapters_of(text: str) -> list[str]:
    return [chapter.strip("\n") for chapter in split_chapters([text])]


CHAPTERS = chapters_of(clean(BOOK))


def run(folder, *arguments, **kwargs):
    return script("prepare.py", *arguments, cwd=folder, **kwargs)


def text_of(corpus) -> Counter:
    """The chapters of both bins, in no order."""
    both = np.concatenate((corpus.train, corpus.val))
    return Counter(corpus.tokenizer.decode(both).split("[CLS]")[1:])


def test_nothing_but_the_named_is_lost(tmp_path):
    (tmp_path / "book.txt").write_text("\ufeff\u3000\u3000" + BOOK.replace("\n", "\r\n\r\n\u3000\u3000") + "\x07\u200b", encoding="utf-8", newline="")
    done = run(tmp_path, "book.txt", "--out_dir=data/x")
    corpus = Corpus.open(tmp_path / "data/x")
    assert text_of(corpus) == Counter(CHAPTERS)
    assert "12, 12 of them with a heading: 第1回" in done.stdout and "held out   1 chapters" in done.stdout
    meta = corpus.meta
    assert meta["train_characters"] + meta["val_characters"] == sum(len(c) for c in text_of(corpus).elements())
    assert meta["sources"][0]["encoding"] == "utf-8-sig" and meta["settings"]["seed"] == 1337


def test_several_files_and_folders(tmp_path):
    (tmp_path / "more").mkdir()
    (tmp_path / "a.txt").write_text(BOOK, encoding="utf-8")
    (tmp_path / "more/b.txt").write_text(story(3), encoding="gb18030")
    run(tmp_path, "a.txt", "more")
    corpus = Corpus.open(tmp_path / "data/novel")
    assert corpus.meta["chapters"] == 15
    assert [source["encoding"] for source in corpus.meta["sources"]] == ["utf-8", "gb18030"]


def test_a_vocabulary_of_one_s_own(tmp_path):
    (tmp_path / "a.txt").write_text(BOOK, encoding="utf-8")
    done = run(tmp_path, "a.txt", f"--vocab={ROOT / 'vocab/chinese.txt'}")
    assert Corpus.open(tmp_path / "data/novel").tokenizer.vocab_size == Tokenizer.load(ROOT / "vocab/chinese.txt").vocab_size
    assert "0.000% of the characters are spelled in bytes" in done.stdout


def test_a_bert_vocabulary_keeps_paragraphs_and_counts_unknowns(tmp_path):
    characters = sorted(set(BOOK) - set("\n 樵"))
    (tmp_path / "bert.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "##a", *characters]), encoding="utf-8")
    (tmp_path / "a.txt").write_text(BOOK, encoding="utf-8")
    done = run(tmp_path, "a.txt", "--vocab=bert.txt")
    assert "[UNK]: 樵" in done.stdout
    corpus = Corpus.open(tmp_path / "data/novel")
    assert (corpus.train == corpus.tokenizer.sep).sum() + (corpus.val == corpus.tokenizer.sep).sum() == sum(chapter.count("\n") for chapter in CHAPTERS)


def test_no_arguments_takes_the_user_s_novel_before_the_classic(tmp_path):
    (tmp_path / "data/novel").mkdir(parents=True)
    (tmp_path / "data/novel/mine.txt").write_text(BOOK, encoding="utf-8")
    run(tmp_path)
    assert Corpus.open(tmp_path / "data/novel").meta["sources"][0]["path"] == "data/novel/mine.txt"


def test_without_the_package_index_it_says_what_to_do(tmp_path):
    environment = {**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": os.devnull}
    done = subprocess.run([sys.executable, str(ROOT / "prepare.py")], cwd=tmp_path, env=environment, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 2 and "data/novel/" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("none.txt", None, "does not exist"),
        ("empty.txt", b"", "empty"),
        ("blank.txt", b" \n\r\n", "empty"),
        ("bad.txt", b"abc\xff\xff\xff", "byte 3"),
        ("folder/none.txt", None, "does not exist"),
        ("book.PDF", b"%PDF-1.7", "save it as .txt"),
        ("a.txt --drop_lines=(", b"abc", "not a regular expression"),
        ("bad.json", b"[1, 2]", "a string or"),
        ("bad.json", b"{}", "list of strings"),
        ("bad.jsonl", b'{"x": 1}', "bad.jsonl"),
        ("a.txt --encoding=klingon", b"abc", "no such encoding"),
        ("a.txt --vocab=none", b"abc\n" * 9, "cannot read the vocabulary"),
        ("a.txt --val_fraction=2", b"abc", "between 0 and 1"),
    ],
)
def test_mistakes_leave_with_2_and_a_line(tmp_path, name, content, words):
    name, *arguments = name.split()
    if content is not None:
        (tmp_path / name).write_bytes(content)
    done = run(tmp_path, name, *arguments, check=2)
    assert words in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "data/novel/train.bin").exists()


HEADINGS = ["第一回 宴桃园豪杰三结义　斩黄巾英雄首立功", "第一章初入江湖", "第１２章 夜雨", "第100节 归来", "第一卷：风起", "楔子", "序章 天下", "尾声", "番外 一",
            "Chapter 1 The Road", "CHAPTER XII", "Chapter Twenty: Snow", "第一章 你是谁？", "第一章 他说：“走！”", "第一章风起，云涌", "第一卷七玄门风云",
            "番外一", "番外篇 结婚", "番外（一）", "番外1：后来", "第 1 章 风起", "【第一章】风起", "正文 第一章 少年", "第廿三回", "第壹佰章", "卷一 风起", "楔　子", "前言", "第一百二十回 荐杜预老将献新谋，降孙皓三分归一统", "第三章"]  # fmt: skip
PROSE = ["第一次见面时他笑了。", "第三回合，两人又斗在一处。", "第二章里说过的话，他都记得。", "序幕拉开了", "他在第一章写道", "第一章说的是什么？", "番外来的客人", "第一回见面就吵架", "第三章我们已经讲过了", "第一集团军出发", "第三节课上他睡着了",
         "Chapter 1 of the book was long", "chapter i love", "第一回 他输了，"]


@pytest.mark.parametrize("line", HEADINGS)
def test_headings(line):
    assert len(chapters_of(f"开头。\n结束。\n{line}\n正文。\n正文。")) == 2


@pytest.mark.parametrize("line", PROSE)
def test_prose_is_no_heading(line):
    assert len(chapters_of(f"开头。\n结束。\n{line}\n正文。\n正文。")) == 1


def test_a_heading_without_text_goes_to_the_next_chapter():
    assert chapters_of("第一卷 风\n第一章 雨\n正文。\n第二章 雪\n正文。") == ["第一卷 风\n第一章 雨\n正文。", "第二章 雪\n正文。"]


def test_a_table_of_contents_is_one_document():
    contents = "\n".join(f"第{i}章 题目" for i in range(1, 41))
    text = f"书名\n{contents}\n" + "\n".join(f"第{i}章 题目\n正文。" for i in range(1, 41))
    assert chapters_of("第一章 雨\n正文。\n" + contents) == ["第一章 雨\n正文。", contents]
    assert chapters_of(text)[:3] == ["书名", contents, "第1章 题目\n正文。"] and len(chapters_of(text)) == 42


@pytest.mark.parametrize("size", [1, 7, 100, 10**6])
def test_blocks_do_not_matter(size):
    """A file that comes in pieces is cleaned and cut as one that comes whole."""
    text = "\ufeff" + BOOK.replace("\n", "\r\n\r\n\u3000") + "\r第一卷\r\r" + BOOK
    pieces = [text[i : i + size] for i in range(0, len(text), size)]
    cleaner = Cleaner(Settings())
    assert list(split_chapters(cleaner.blocks(pieces))) == list(split_chapters([clean(text)]))
    whole = Cleaner(Settings())
    "".join(whole.blocks([text]))
    assert cleaner.removed == whole.removed


def test_a_long_text_without_headings_is_cut_at_paragraphs(tmp_path):
    text = "".join(f"这是第{i}段的文字，没有标题。\n" for i in range(300_000))
    pieces = list(split_chapters([text[i : i + 10**5] for i in range(0, len(text), 10**5)]))
    assert "".join(pieces) == text and max(map(len, pieces)) < LONGEST and all(piece.endswith("\n") for piece in pieces)
    assert "".join(split_by_size("字" * 20001, 5000)) == "字" * 20001
    (tmp_path / "a.txt").write_text(text[:4000], encoding="utf-8")
    assert "no headings found, so the text was cut into" in run(tmp_path, "a.txt").stdout
    assert 15 <= Corpus.open(tmp_path / "data/novel").meta["chapters"] <= 25


def test_cleaning_is_counted_and_can_be_switched_off():
    dirty = "\ufeff第一章\r\n\r\n\u3000\u3000甲\u200b“Ａ” \x07乙…—\r\n看书就上某网\r\n"
    assert clean(dirty) == "第一章\n甲“Ａ” 乙…—\n看书就上某网\n"
    assert clean(dirty, control=False) == "\ufeff第一章\n甲\u200b“Ａ” \x07乙…—\n看书就上某网\n"
    assert clean(dirty, indent=False) == "第一章\n\u3000\u3000甲“Ａ” 乙…—\n看书就上某网\n"
    assert clean(dirty, blank_lines=False) == "第一章\n\n甲“Ａ” 乙…—\n看书就上某网\n\n"
    assert clean(dirty, drop_lines="就上.*网$") == "第一章\n甲“Ａ” 乙…—\n"
    cleaner = Cleaner(Settings(drop_lines="就上.*网$"))
    "".join(cleaner.blocks([dirty]))
    assert dict(cleaner.removed) == {"carriage returns": 4, "control characters": 3, "dropped lines": 1, "line ends": 0, "indents": 1, "blank lines": 2}


def test_simplify(monkeypatch):
    pytest.importorskip("opencc")
    assert clean("風雲際會，“愛”", simplify=True).strip() == "风云际会，“爱”"


def test_simplify_without_its_package_is_a_clear_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "opencc", None)
    with pytest.raises(UserError, match="pip install opencc"):
        Cleaner(Settings(simplify=True))


def test_the_report_lists_the_headings(tmp_path):
    (tmp_path / "a.txt").write_text(BOOK, encoding="utf-8")
    report = run(tmp_path, "a.txt", "--report").stdout
    assert all(chapter.partition("\n")[0] in report for chapter in CHAPTERS)


def test_a_failed_call_leaves_the_old_set(tmp_path):
    (tmp_path / "a.txt").write_text(BOOK, encoding="utf-8")
    run(tmp_path, "a.txt")
    before = Corpus.open(tmp_path / "data/novel").fingerprint
    (tmp_path / "bad.txt").write_bytes(BOOK.encode() + b"\xff\xff")
    run(tmp_path, "a.txt", "bad.txt", check=2)
    assert Corpus.open(tmp_path / "data/novel").fingerprint == before
    assert not (tmp_path / "data/novel/.next").exists()


def test_hold_out_is_whole_chapters_from_all_over():
    lengths = [100, 120, 80, 110, 90] * 20
    for seed in range(5):
        chosen = hold_out(lengths, 0.1, seed)
        assert abs(sum(lengths[i] for i in chosen) / sum(lengths) - 0.1) < 0.02
        assert chosen == sorted(set(chosen)) and max(chosen) - min(chosen) > 30
    assert hold_out(lengths, 0.1, 1) == hold_out(lengths, 0.1, 1) != hold_out(lengths, 0.1, 2)
    assert len(hold_out([1, 1], 0.05, 0)) == 1


def test_the_vocabulary_is_the_training_chapters(tmp_path):
    """Held-out chapters are not looked at, not even for their characters."""
    (tmp_path / "a.txt").write_text(BOOK, encoding="utf-8")
    run(tmp_path, "a.txt", "--min_count=3")
    corpus = Corpus.open(tmp_path / "data/novel")
    counts = Counter(corpus.tokenizer.decode(corpus.train).replace("[CLS]", ""))
    assert set(corpus.tokenizer.tokens[261:]) == {c for c, n in counts.items() if n >= 3 and c != "\n"}


def test_digits_one_by_one(tmp_path):
    (tmp_path / "bert.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "12", "##2", "1", "2", *sorted(set(BOOK) - set("\n 12"))]), encoding="utf-8")
    (tmp_path / "a.txt").write_text(BOOK, encoding="utf-8")
    run(tmp_path, "a.txt", "--vocab=bert.txt", "--split_digits")
    corpus = Corpus.open(tmp_path / "data/novel")
    assert corpus.tokenizer.split_digits
    assert not np.isin(np.concatenate((corpus.train, corpus.val)), [5, 6]).any()
