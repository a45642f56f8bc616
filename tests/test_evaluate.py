import json
import math
import random

import numpy as np
import pytest
import torch
from conftest import script

import checkpoint
from dataset import Corpus
from evaluate import balanced, copied_runs, held_out_nats, judge, read_samples
from sample import Settings, record


def brute_force(texts, training, n):
    inside = 0
    for text in texts:
        covered = [False] * len(text)
        for i in range(len(text) - n + 1):
            if text[i : i + n] in training:
                covered[i : i + n] = [True] * n
        inside += sum(covered)
    return inside / sum(map(len, texts))


@pytest.mark.parametrize("seed", range(8))
def test_copying_is_what_brute_force_finds(seed):
    rng = random.Random(seed)
    training = "".join(rng.choices("天地人", k=400))
    texts = ["".join(rng.choices("天地人", k=rng.randint(5, 40))) + training[(at := rng.randrange(350)) : at + rng.randint(0, 40)] for _ in range(4)]
    found = copied_runs(texts, training, (6, 9))
    for n in (6, 9):
        assert found[n] == pytest.approx(brute_force(texts, training, n))
    longest = max(n for text in texts for i in range(len(text)) for n in range(len(text) - i + 1) if text[i : i + n] in training)
    assert found["longest"] == longest


def test_figures_of_a_small_text():
    figures = judge(["天地天地", "人“”"], "天地玄黄")
    assert figures["distinct-1"] == 5 / 7 and figures["distinct-2"] == 4 / 5
    assert figures["longest copied run"] == 2 and figures["texts with unbalanced quotes"] == 0


@pytest.mark.parametrize("text, good", [("“a‘b’”", True), ("“a", True), ("a”", False), ("“a“b”", False), ("“a）", False), ("《“a", True)])
def test_quotes(text, good):
    assert balanced(text) == good


@pytest.mark.parametrize("length", [2, 31, 32, 33, 48, 49, 100, 333])
def test_held_out_nats_are_those_of_the_plain_loop(workplace, length):
    model = checkpoint.load_pretrained(workplace / "out/tiny")
    ids = Corpus.open(workplace / "data/novel").train[:length]
    total, block = 0.0, 32
    for target in range(1, length):
        start = 0 if target <= block else ((target - 1) // 16 - 1) * 16  # windows start half a block apart
        logits = model(torch.tensor(ids[None, start:target].astype(np.int64)))[0][0, -1].log_softmax(-1)
        total -= logits[int(ids[target])].item()
    assert held_out_nats(model, ids, "cpu", batch_size=3) == pytest.approx(total, rel=1e-4)


def test_the_table_and_the_json(workplace, tmp_path):
    base = ["--model=out/tiny", "--device=cpu", "--max_new_tokens=40", "--num_samples=2"]
    assert "held-out text" in script("evaluate.py", *base, cwd=workplace).stdout
    book = Corpus.open(workplace / "data/novel")
    copied = book.tokenizer.decode(book.train[1:60])
    (tmp_path / "s.txt").write_text(f"==== SAMPLE 1 ====\n{copied}\n==== SAMPLE 2 ====\n不相干的话\n", encoding="utf-8")
    lines = [json.dumps({"text": text}, ensure_ascii=False) for text in (copied, "不相干的话")]
    (tmp_path / "s.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert read_samples(tmp_path / "s.jsonl") == [text.strip() for text in read_samples(tmp_path / "s.txt")] == [copied, "不相干的话"]
    (tmp_path / "odd.jsonl").write_text(record("", "一\u2028二\x85三", 1, Settings(), 1, tmp_path, "odd.jsonl"), encoding="utf-8")
    assert read_samples(tmp_path / "odd.jsonl") == ["一\u2028二\x85三"], "line breaks of which JSON knows nothing"
    result = json.loads(script("evaluate.py", *base, f"--samples={tmp_path / 's.txt'}", "--json", cwd=workplace).stdout)
    assert result["samples"]["texts"] == 2 and result["samples"]["longest copied run"] >= 58
    assert 0 < result["bits_per_char"] < math.log2(book.tokenizer.vocab_size)
