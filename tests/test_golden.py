"""The whole stack at once: text -> bins -> training -> checkpoint -> writing, against a continuation that is known."""

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
    """A model that has the passage by heart, as every chapter tells it."""
    folder = tmp_path_factory.mktemp("golden")
    (folder / "book.txt").write_text("\n".join(f"第{n}回 夜宿\n{PASSAGE}" for n in range(1, 13)), encoding="utf-8")
    script("prepare.py", "book.txt", "--out_dir=data/golden", cwd=folder)
    script("train.py", "--data_dir=data/golden", "--out_dir=out/golden", "--n_layer=2", "--n_head=2", "--n_embd=64", "--block_size=64",
           "--batch_size=8", "--gradient_accumulation_steps=1", "--dropout=0", "--max_iters=250", "--eval_interval=250", "--warmup_iters=20",
           "--compile=False", "--device=cpu", cwd=folder)  # fmt: skip
    return folder


def test_the_files_are_small_and_the_loss_is_that_of_a_text_known_by_heart(learned):
    folder = checkpoint.find_checkpoint(learned / "out/golden")
    assert (folder / "model.safetensors").stat().st_size < 1e6
    assert checkpoint.val_loss(folder) < 0.2


@pytest.mark.parametrize("how", [["--dtype=float32"], ["--dtype=bfloat16"], ["--quantize=int8"], ["--temperature=1", "--top_k=1", "--num_samples=2"]])
def test_it_goes_on_as_the_book_does(learned, how):
    """Past the end of the context, too: the passage has 122 tokens, the context 64."""
    done = script("sample.py", "--start=却说阿青行至", "--temperature=0", "--stop=钟声响起。", "--device=cpu", "--save=s.txt", *how, cwd=learned)
    assert done.stdout.count(PASSAGE.strip()) == (2 if "--num_samples=2" in how else 1)


def test_transformers_goes_on_in_the_same_words(learned):
    from transformers import pipeline

    folder = checkpoint.find_checkpoint(learned / "out/golden")
    text = pipeline("text-generation", model=str(folder))("却说阿青行至", max_new_tokens=50, do_sample=False)[0]["generated_text"]
    assert PASSAGE.startswith(text.strip()) and len(text) > 50


def test_the_walk_through_the_house_can_be_walked(tmp_path, monkeypatch):
    """docs/WALK.md, line by line, on another text and a model that has hardly learned: it runs, and what it says is True is."""
    (tmp_path / "data/novel").mkdir(parents=True)
    (tmp_path / "data/novel/book.txt").write_text(story() + "却说孔明曰" * 5, encoding="utf-8")
    script("prepare.py", cwd=tmp_path)
    script("train.py", ROOT / "config/laptop.py", "--max_minutes=0", "--epochs=0", "--max_iters=1", "--batch_size=1", "--device=cpu", "--sample_tokens=1", cwd=tmp_path)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^    >>> (.*(?:\n    \.\.\. .*)*)(?:\n    (?!>>>)(.*))?", (ROOT / "docs/WALK.md").read_text(encoding="utf-8"), re.MULTILINE)
    names, truths = {}, 0
    for code, shown in blocks:
        code = code.replace("\n    ... ", "\n")
        try:
            value = eval(code, names)
        except SyntaxError:
            exec(code, names)
            continue
        assert shown != "True" or value is True, code
        truths += shown == "True"
    torch.set_grad_enabled(True)
    assert truths == 3
