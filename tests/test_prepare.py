import json
import os
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from conftest import ROOT, script, story

import prepare
from dataset import Corpus
from prepare import clean, hold_out, split_by_size, split_chapters
from tokenizer import Tokenizer

BOOK = story()


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
    assert text_of(corpus) == Counter(chapter.strip() for chapter in split_chapters(clean(BOOK)[0]))
    assert "12, from 第1回" in done.stdout and "held out   1 chapters" in done.stdout
    meta = corpus.meta
    assert meta["train_characters"] + meta["val_characters"] == sum(len(c) for c in text_of(corpus).elements())
    assert meta["sources"][0]["encoding"] == "utf-8-sig" and meta["settings"]["seed"] == 1337


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gb18030", "gbk"])
def test_encodings_are_told_apart(tmp_path, encoding):
    (tmp_path / "book.txt").write_text(BOOK, encoding=encoding)
    run(tmp_path, "book.txt")
    assert text_of(Corpus.open(tmp_path / "data/novel")) == Counter(split_chapters(clean(BOOK)[0]))


def test_all_formats_give_the_same_bins(tmp_path):
    chapters = split_chapters(clean(BOOK)[0])
    (tmp_path / "a.txt").write_text(BOOK, encoding="utf-8")
    (tmp_path / "b.json").write_text(json.dumps(chapters), encoding="utf-8")
    (tmp_path / "c.json").write_text("[" + ",".join(f'"{chapter}"' for chapter in chapters) + "]", encoding="utf-8")  # raw line breaks
    (tmp_path / "d.jsonl").write_text("\n".join(json.dumps({"text": chapter}) for chapter in chapters), encoding="utf-8")
    bins = set()
    for name in ("a.txt", "b.json", "c.json", "d.jsonl"):
        run(tmp_path, name)
        bins.add((tmp_path / "data/novel/train.bin").read_bytes())
    assert len(bins) == 1


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
    assert (corpus.train == corpus.tokenizer.sep).sum() + (corpus.val == corpus.tokenizer.sep).sum() == clean(BOOK)[0].count("\n") - 11


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
        ("bad.json", b"[1, 2]", "list of strings"),
        ("bad.json", b"{", "bad.json"),
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
            "Chapter 1 The Road", "CHAPTER XII", "第一百二十回 荐杜预老将献新谋，降孙皓三分归一统", "第三章"]  # fmt: skip
PROSE = ["第一次见面时他笑了。", "第三回合，两人又斗在一处。", "第二章里说过的话，他都记得。", "序幕拉开了", "他在第一章写道", "第一章说的是什么？", "番外来的客人"]


@pytest.mark.parametrize("line", HEADINGS)
def test_headings(line):
    assert len(split_chapters(f"开头。\n结束。\n{line}\n正文。\n正文。")) == 2


@pytest.mark.parametrize("line", PROSE)
def test_prose_is_no_heading(line):
    assert len(split_chapters(f"开头。\n结束。\n{line}\n正文。\n正文。")) == 1


def test_a_heading_without_text_goes_to_the_next_chapter():
    assert split_chapters("第一卷 风\n第一章 雨\n正文。\n第二章 雪\n正文。") == ["第一卷 风\n第一章 雨\n正文。", "第二章 雪\n正文。"]


def test_without_headings_the_text_is_cut_at_paragraphs(tmp_path):
    text = "\n".join(f"这是第{i}段的文字，没有标题。" for i in range(2000))
    pieces = split_by_size(text)
    assert "\n".join(pieces) == text and max(map(len, pieces)) <= 10000
    assert "".join(split_by_size("字" * 20001)) == "字" * 20001
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    assert "no headings found" in run(tmp_path, "a.txt").stdout


def test_hold_out_is_whole_chapters_from_all_over():
    chapters = ["字" * n for n in (100, 120, 80, 110, 90) * 20]
    for seed in range(5):
        chosen = hold_out(chapters, 0.1, seed)
        assert abs(sum(len(chapters[i]) for i in chosen) / sum(map(len, chapters)) - 0.1) < 0.02
        assert max(chosen) - min(chosen) > 30
    assert hold_out(chapters, 0.1, 1) == hold_out(chapters, 0.1, 1) != hold_out(chapters, 0.1, 2)
    assert len(hold_out(["a", "b"], 0.05, 0)) == 1


def test_counts():
    assert prepare.count_characters(["aab", "b\n"]) == {"a": 2, "b": 2, "\n": 1}
