import numpy as np
import pytest
import torch
from conftest import TINY, script

import checkpoint
from configurator import UserError
from dataset import Corpus, Windows
from training.distillation import Teachers
from training.runlog import read_metrics

CPU = torch.device("cpu")
RUNS = ("tiny", "other")
RUN = [*TINY, "--dropout=0.1", "--max_iters=20", "--eval_interval=10", "--teachers=out/tiny,out/other"]


@pytest.fixture(scope="module")
def corpus(workplace):
    """The prepared text. Also trains a second run, out/other."""
    script("train.py", *TINY, "--seed=2", "--out_dir=out/other", "--max_iters=40", "--eval_interval=20", cwd=workplace)
    return Corpus.open(workplace / "data/novel")


def plain_probabilities(folder, idx: torch.Tensor) -> np.ndarray:
    """The softmax of transformers' logits, in float64."""
    from transformers import GPT2LMHeadModel

    with torch.no_grad():
        logits = GPT2LMHeadModel.from_pretrained(folder).double()(idx).logits.numpy()
    exp = np.exp(logits - logits.max(-1, keepdims=True))
    return exp / exp.sum(-1, keepdims=True)


def test_probabilities_are_the_mean_of_those_of_transformers(workplace, corpus):
    runs = [checkpoint.find_checkpoint(workplace / "out" / name) for name in RUNS]
    idx = torch.from_numpy(np.asarray(corpus.val[:64], dtype=np.int64)).view(2, 32)
    one, other = (plain_probabilities(run, idx) for run in runs)
    assert not np.allclose(one, other, atol=1e-3)
    got = Teachers(",".join(map(str, runs)), corpus, 32, CPU).probabilities(idx)
    assert np.allclose(got, (one + other) / 2, atol=1e-5)


def test_no_teachers_are_false_and_cost_nothing(corpus):
    teachers = Teachers("", corpus, 32, CPU)
    assert not teachers and teachers.flops_per_token() == 0


def test_first_loss_is_the_cross_entropy_with_the_teachers(workplace, corpus):
    arguments = [*RUN, "--init_from=out/other", "--dropout=0", "--dtype=float32", "--max_iters=1"]
    script("train.py", *arguments, "--out_dir=out/first", cwd=workplace)
    idx, ids = (torch.from_numpy(array) for array in Windows(corpus.train, 32, seed=1337).batch(0, 8))
    one, other = (plain_probabilities(checkpoint.find_checkpoint(workplace / f"out/{name}"), idx) for name in RUNS)
    expected = -((one + other) / 2 * np.log(other)).sum(-1).mean()
    assert read_metrics(workplace / "out/first")[0]["loss"] == pytest.approx(expected, abs=1e-4)
    assert abs(expected + np.log(np.take_along_axis(other, ids.numpy()[..., None], -1)).mean()) > 0.01  # without them


def test_run_with_teachers_resumes_to_the_bit(workplace, corpus):
    constant = [*RUN, "--lr_decay=constant"]
    script("train.py", *constant, "--out_dir=out/at_once", cwd=workplace)
    script("train.py", *constant, "--out_dir=out/halved", "--max_iters=10", cwd=workplace)
    script("train.py", *constant, "--out_dir=out/halved", "--resume", cwd=workplace)
    at_once, halved = (checkpoint.checkpoints(workplace / name)[-1] for name in ("out/at_once", "out/halved"))
    assert (at_once / "model.safetensors").read_bytes() == (halved / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    "folders, block_size, message",
    [
        ("out/none", 32, "does not exist"),
        ("out/tiny,data", 32, "not a model folder"),
        ("out/tiny", 64, "--block_size=32 at most"),
    ],
)
def test_teachers_that_do_not_fit_are_named(workplace, corpus, folders, block_size, message, monkeypatch):
    monkeypatch.chdir(workplace)
    with pytest.raises(UserError, match=message):
        Teachers(folders, corpus, block_size, CPU)


def test_teachers_with_another_vocabulary_are_refused(workplace, tmp_path, corpus):
    (tmp_path / "book.txt").write_text("天地玄黄，宇宙洪荒。\n" * 400, encoding="utf-8")
    script("prepare.py", tmp_path / "book.txt", f"--out_dir={tmp_path / 'data'}", cwd=workplace)
    with pytest.raises(UserError, match="another vocabulary"):
        Teachers(str(workplace / "out/tiny"), Corpus.open(tmp_path / "data"), 32, CPU)
