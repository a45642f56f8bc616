import json
import math
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import script

import checkpoint
import evaluate
from configurator import UserError
from dataset import Corpus
from evaluate import (
    Settings,
    balanced,
    copied_share,
    held_out_losses,
    held_out_pieces,
    longest_copied_run,
    read_samples,
    standard_error,
    text_statistics,
)


def copied_by_brute_force(texts, training, n) -> float:
    inside = 0
    for text in texts:
        covered = [False] * len(text)
        for i in range(len(text) - n + 1):
            if text[i : i + n] in training:
                covered[i : i + n] = [True] * n
        inside += sum(covered)
    return inside / sum(map(len, texts))


@pytest.mark.parametrize("seed", range(8))
def test_copied_runs_equal_those_of_brute_force(seed):
    rng = random.Random(seed)
    training, texts = "".join(rng.choices("天地人", k=400)), []
    for _ in range(4):
        start = rng.randrange(350)
        copied = training[start : start + rng.randint(0, 40)]
        texts.append("".join(rng.choices("天地人", k=rng.randint(5, 40))) + copied)
    for n in (6, 9):
        assert copied_share(texts, training, n) == pytest.approx(copied_by_brute_force(texts, training, n))
    substrings = (text[i:j] for text in texts for i in range(len(text)) for j in range(i, len(text) + 1))
    assert longest_copied_run(texts, training) == max(len(gram) for gram in substrings if gram in training)


def test_text_statistics_of_a_small_text():
    figures = text_statistics(["天地天地", "人“”"], "天地玄黄")
    assert figures["distinct-1"] == 5 / 7 and figures["distinct-2"] == 4 / 5
    assert figures["longest copied run"] == 2 and figures["texts with unbalanced quotes"] == 0


@pytest.mark.parametrize(
    "text, good",
    [("“a‘b’”", True), ("“a", True), ("a”", False), ("“a“b”", False), ("“a）", False), ("《“a", True)],
)
def test_balanced_quotes(text, good):
    assert balanced(text) == good


@pytest.mark.parametrize("length", [2, 31, 32, 33, 48, 49, 100, 333])
def test_held_out_losses_equal_those_of_a_plain_loop(workplace, length):
    model = checkpoint.load_pretrained(workplace / "out/tiny")
    ids = Corpus.open(workplace / "data/novel").train[:length]
    expected, block = [], 32
    for target in range(1, length):
        start = 0 if target <= block else ((target - 1) // 16 - 1) * 16  # windows overlap by half a block
        logits = model(torch.tensor(ids[None, start:target].astype(np.int64)))[0][0, -1].log_softmax(-1)
        expected.append(-logits[int(ids[target])].item())
    assert held_out_losses(model, ids, "cpu", batch_size=3) == pytest.approx(expected, rel=1e-3)


def chapters_of(*lengths: int, tokenizer) -> SimpleNamespace:
    """A stand-in for a Corpus whose held-out text has chapters of these lengths in tokens, a character each."""
    val = np.concatenate([[tokenizer.cls] + [300] * (n - 1) for n in lengths]).astype(np.uint16)
    return SimpleNamespace(val=val, tokenizer=tokenizer, bits_per_char=lambda nats: nats / math.log(2))


def test_standard_error_is_the_spread_of_means_over_drawn_chapters():
    """Against the bootstrap (Efron 1979): chapters drawn with replacement, 4,000 times."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(50, 150, size=40)
    corpus = chapters_of(*lengths, tokenizer=SimpleNamespace(cls=2))
    losses = np.concatenate([rng.normal(rng.normal(4, 0.5), 1, n) for n in lengths])[1:]
    parts = np.split(losses, np.cumsum(lengths)[:-1] - 1)
    drawn = [rng.integers(len(parts), size=len(parts)) for _ in range(4000)]
    sums, counts = np.array([part.sum() for part in parts]), np.array([len(part) for part in parts])
    means = [sums[d].sum() / counts[d].sum() for d in drawn]
    assert standard_error(losses, corpus) == pytest.approx(np.std(means) / math.log(2), rel=0.05)


def test_standard_error_of_one_chapter_is_unknown():
    assert standard_error(np.ones(9), chapters_of(10, tokenizer=SimpleNamespace(cls=2))) is None


def test_standard_error_of_a_constant_difference_is_zero():
    corpus = chapters_of(10, 20, 30, tokenizer=SimpleNamespace(cls=2))
    assert standard_error(np.full(59, -0.1), corpus) == pytest.approx(0, abs=1e-9)


def test_evaluate_compares_with_a_baseline(workplace, tmp_path):
    run = workplace / "out/tiny"
    other = checkpoint.load_pretrained(run)
    other.transformer.wpe.weight.data.zero_()
    checkpoint.save_pretrained(other, tmp_path / "other", checkpoint.load_tokenizer(checkpoint.find_checkpoint(run)))
    small = ["--num_samples=1", "--max_new_tokens=5", "--device=cpu", "--data_dir=data/novel", "--json"]
    compared, alone = (
        json.loads(script("evaluate.py", *arguments, *small, cwd=workplace).stdout)
        for arguments in ([f"--model={run}", f"--baseline={tmp_path / 'other'}"], [f"--model={tmp_path / 'other'}"])
    )
    assert compared["difference"] == pytest.approx(compared["bits_per_char"] - alone["bits_per_char"], abs=1e-6)
    assert compared["difference"] < 0


def test_held_out_pieces_are_as_many_and_as_long_as_asked(workplace):
    pieces = held_out_pieces(Corpus.open(workplace / "data/novel"), 2, 100)
    assert [len(piece) for piece in pieces] == [100, 100]


def test_samples_are_compared_with_pieces_of_their_lengths(workplace, monkeypatch):
    compared = []
    monkeypatch.setattr(evaluate, "text_statistics", lambda texts, training: compared.append(texts) or {})
    samples = "==== SAMPLE 1 ====\n甲乙丙\n==== SAMPLE 2 ====\n甲乙丙丁戊\n"
    (workplace / "short.txt").write_text(samples, encoding="utf-8")
    monkeypatch.chdir(workplace)
    evaluate.main(evaluate.Settings(model="out/tiny", samples="short.txt", json=True))
    samples, pieces = compared
    assert len(samples) == 2 and all(len(piece) == len(sample) for piece, sample in zip(pieces, samples))


def test_held_out_pieces_begin_with_a_paragraph_where_one_is_near():
    paragraphs = [f"第{n}人道：“{'甲乙丙丁' * (3 + n)}。”\n" for n in range(30)]
    corpus = SimpleNamespace(val=None, tokenizer=SimpleNamespace(decode=lambda ids: "[CLS]" + "".join(paragraphs)))
    pieces = held_out_pieces(corpus, 5, 150)
    assert len(pieces) == 5 and all(len(piece) == 150 and piece.startswith("第") for piece in pieces)
    corpus.tokenizer.decode = lambda ids: "[CLS]" + "甲" * 1000  # a chapter in one line
    assert held_out_pieces(corpus, 5, 150) == ["甲" * 150] * 5


COPIED, OWN = "却说阿青行至山门", "不相干的话"


def test_read_samples_reads_headings_and_json_lines(tmp_path):
    (tmp_path / "s.txt").write_text(f"==== SAMPLE 1 ====\n{COPIED}\n==== SAMPLE 2 ====\n{OWN}\n", encoding="utf-8")
    lines = [json.dumps({"text": text}, ensure_ascii=False) for text in (COPIED, OWN)]
    (tmp_path / "s.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert read_samples(tmp_path / "s.jsonl") == read_samples(tmp_path / "s.txt") == [COPIED, OWN]


def test_read_samples_leaves_out_the_prompt_that_json_lines_name(tmp_path):
    line = {"prompt": "[CLS]第一回[SEP]却说", "text": "第一回\n却说" + OWN}
    (tmp_path / "s.jsonl").write_text(json.dumps(line), encoding="utf-8")
    assert read_samples(tmp_path / "s.jsonl") == [OWN]


def test_text_statistics_of_empty_texts_are_numbers():
    statistics = text_statistics(["", ""], COPIED)
    assert statistics.pop("texts") == 2 and statistics.pop("distinct-1") == 1 and statistics["characters"] == 0


def test_read_samples_splits_json_lines_at_line_feeds_only(tmp_path):
    (tmp_path / "s.jsonl").write_text(json.dumps({"text": "一\u2028二\x85三"}, ensure_ascii=False), encoding="utf-8")
    assert read_samples(tmp_path / "s.jsonl") == ["一\u2028二\x85三"]


@pytest.mark.parametrize(
    "name, content", [("none.txt", None), ("s.txt", ""), ("s.jsonl", "{}"), ("s.jsonl", ""), ("s.jsonl", '{"text": 5}')]
)
def test_read_samples_names_a_file_without_samples(tmp_path, name, content):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=name):
        read_samples(tmp_path / name)


BASE = ["--model=out/tiny", "--device=cpu", "--max_new_tokens=40", "--num_samples=2", "--seed=1"]


@pytest.mark.parametrize("name, lowest", [("num_samples", 1), ("max_new_tokens", 1), ("seed", 0)])
def test_evaluate_names_a_number_that_is_too_small(name, lowest):
    with pytest.raises(UserError, match=f"--{name}={lowest - 1}: at least {lowest}"):
        Settings(**{name: lowest - 1})


def test_evaluate_prints_a_table(workplace):
    assert "held-out text" in script("evaluate.py", *BASE, cwd=workplace).stdout


def test_evaluate_prints_json_with_bits_and_copied_runs(workplace, tmp_path):
    book = Corpus.open(workplace / "data/novel")
    copied = book.tokenizer.decode(book.train[1:60])
    (tmp_path / "s.txt").write_text(f"==== SAMPLE 1 ====\n{copied}\n==== SAMPLE 2 ====\n{OWN}\n", encoding="utf-8")
    samples = f"--samples={tmp_path / 's.txt'}"
    result = json.loads(script("evaluate.py", *BASE, samples, "--json", cwd=workplace).stdout)
    assert result["samples"]["texts"] == 2 and result["samples"]["longest copied run"] >= 58
    assert 0 < result["bits_per_char"] < math.log2(book.tokenizer.vocab_size)
