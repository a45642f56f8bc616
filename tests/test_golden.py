"""The whole program: text -> bins -> training -> checkpoint -> generation, against a known continuation."""

import re

import pytest
import torch
from conftest import ROOT, script, story

import checkpoint

PASSAGE = """却说阿青行至山门，天色已晚，望见灯火，便上前叩门。
老道开门道：“你从何处来？”
阿青答道：“自渡口来，欲往古寺去……”
老道笑道：“古寺早已不在了——不如且住一宿。”
是夜大雨，二人围炉说剑，直到钟声响起。
"""


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """A folder with a model that has memorised the passage."""
    folder = tmp_path_factory.mktemp("golden")
    # Chapters must differ, or they are dropped as copies: each has a last line of its own.
    chapters = (f"第{n}回 夜宿\n{PASSAGE}这是第{n}夜的事。" for n in range(1, 13))
    (folder / "book.txt").write_text("\n".join(chapters), encoding="utf-8")
    script("prepare.py", "book.txt", "--out_dir=data/golden", cwd=folder)
    model = "--n_layer=2 --n_head=2 --n_embd=64 --block_size=64 --batch_size=8 --gradient_accumulation_steps=1"
    schedule = "--weight_decay=0.1 --dropout=0 --max_iters=250 --eval_interval=250 --warmup_iters=20"
    folders = ["--data_dir=data/golden", "--out_dir=out/golden", "--seed=1", "--compile=False", "--device=cpu"]
    script("train.py", *folders, *model.split(), *schedule.split(), cwd=folder)
    return folder


@pytest.mark.parametrize(
    "settings, texts",
    [
        (["--dtype=float32"], 1),
        (["--dtype=bfloat16"], 1),
        (["--quantize=int8"], 1),
        (["--temperature=1", "--top_k=1", "--num_samples=2", "--seed=1"], 2),
    ],
)
def test_golden_continuation_is_the_passage(learned, settings, texts):
    """122 tokens, with a context window of 64."""
    base = ["--start=却说阿青行至", "--temperature=0", "--stop=钟声响起。", "--device=cpu"]
    done = script("sample.py", *base, *settings, cwd=learned)
    assert done.stdout.count(PASSAGE.strip()) == texts


def test_golden_continuation_is_the_same_in_transformers(learned):
    from transformers import pipeline

    folder = checkpoint.find_checkpoint(learned / "out/golden")
    generator = pipeline("text-generation", model=str(folder))
    text = generator("却说阿青行至", max_new_tokens=50, do_sample=False)[0]["generated_text"]
    assert PASSAGE.startswith(text.strip()) and len(text) > 50


def test_walkthrough_runs_and_what_it_calls_true_is_true(tmp_path, monkeypatch):
    """docs/WALK.md line by line, on another text and a model of one training step."""
    (tmp_path / "data/novel").mkdir(parents=True)
    (tmp_path / "data/novel/book.txt").write_text(story() + "却说孔明曰" * 5, encoding="utf-8")
    script("prepare.py", cwd=tmp_path)
    short = ["--max_minutes=0", "--epochs=0", "--max_iters=1", "--batch_size=1", "--device=cpu", "--seed=1"]
    script("train.py", ROOT / "config/laptop.py", *short, cwd=tmp_path)
    monkeypatch.chdir(tmp_path)
    lines = r"^    >>> (.*(?:\n    \.\.\. .*)*)(?:\n    (?!>>>)(.*))?"
    blocks = re.findall(lines, (ROOT / "docs/WALK.md").read_text(encoding="utf-8"), re.MULTILINE)
    names, truths = {}, 0
    with torch.no_grad():  # restores what the text turns off
        for code, shown in blocks:
            code = code.replace("\n    ... ", "\n")
            try:
                value = eval(code, names)
            except SyntaxError:
                exec(code, names)
                continue
            assert shown != "True" or value is True, code
            truths += shown == "True"
    assert truths == 3
