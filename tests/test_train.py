import json
import math
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from conftest import ROOT, TINY, script, story

import checkpoint
import train
from dataset import Corpus
from model import GPT, GPTConfig
from runlog import read_metrics
from train import Limits, Optimizers, Settings, learning_rate

LONG = [*TINY, "--max_iters=60", "--eval_interval=10", "--dropout=0.1"]


def losses(run):
    return {m["step"]: (m.get("loss"), m.get("val_loss")) for m in read_metrics(run) if "loss" in m or "val_loss" in m}


def weights(run):
    return (checkpoint.checkpoints(run)[-1] / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def whole(workplace):
    """A run that nothing stopped."""
    script("train.py", *LONG, "--out_dir=out/whole", cwd=workplace)
    return workplace / "out/whole"


def start(workplace, name, *arguments):
    command = [sys.executable, str(ROOT / "train.py"), *LONG, f"--out_dir=out/{name}", *arguments]
    return subprocess.Popen(command, cwd=workplace, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for_checkpoint(run, step):
    deadline = time.monotonic() + 120
    while not any(int(c.name[5:]) >= step for c in checkpoint.checkpoints(run)):
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_run_leaves_what_it_promises(whole):
    names = {path.name for path in whole.iterdir()}
    assert {"log.txt", "metrics.jsonl", "tensorboard", "loss.png", "samples"} <= names
    last = checkpoint.checkpoints(whole)[-1]
    assert {path.name for path in last.iterdir()} == {
        "config.json", "model.safetensors", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt",
        "trainer_state.pt", "trainer.json",
    }  # fmt: skip
    metrics = read_metrics(whole)
    logged = [m for m in metrics if "loss" in m]
    assert [m["step"] for m in logged] == [1, *range(5, 61, 5)]
    assert {"step", "tokens", "loss", "lr", "grad_norm", "tokens_per_s"} <= logged[0].keys()
    assert logged[-1]["loss"] < logged[0]["loss"] - 1
    validated = [m for m in metrics if "val_loss" in m]
    assert [m["step"] for m in validated] == list(range(10, 61, 10))
    assert {"val_loss", "bits_per_char"} <= validated[0].keys()
    assert "step 60 | validation" in (whole / "log.txt").read_text(encoding="utf-8")
    assert (whole / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert len(list((whole / "samples").iterdir())) == 6
    assert json.loads((last / "trainer.json").read_text())["step"] == 60
    assert len(checkpoint.checkpoints(whole)) <= 2, "the last and the best"


def test_tensorboard_has_the_curves_and_the_samples(whole):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(whole / "tensorboard"))
    events.Reload()
    assert {"loss", "lr", "grad_norm", "tokens_per_s", "val_loss", "bits_per_char"} <= set(events.Tags()["scalars"])
    assert [e.step for e in events.Scalars("val_loss")] == list(range(10, 61, 10))
    assert events.Tags()["tensors"] == ["sample/text_summary"]


def test_validation_loss_is_the_plain_one(whole, workplace):
    corpus = Corpus.open(workplace / "data/novel")
    model = checkpoint.load_pretrained(whole, "last")
    ids = torch.tensor(corpus.val.astype(int))
    total = 0.0
    for begin in range(0, len(ids) - 1, 32):
        window = ids[begin : begin + 33]
        total += model(window[None, :-1], window[None, 1:])[1].item() * (len(window) - 1)
    logged = [m["val_loss"] for m in read_metrics(whole) if "val_loss" in m][-1]
    assert logged == pytest.approx(total / (len(ids) - 1), abs=0.03)  # bfloat16 where the CPU has it


def test_killed_and_resumed_is_the_same_to_the_bit(whole, workplace):
    process = start(workplace, "killed")
    wait_for_checkpoint(workplace / "out/killed", 20)
    process.kill()
    process.communicate()
    assert checkpoint.checkpoints(workplace / "out/killed")[-1].name < "ckpt-00000060"
    script("train.py", *LONG, "--out_dir=out/killed", "--resume", cwd=workplace)
    assert losses(workplace / "out/killed") == losses(whole)
    assert weights(workplace / "out/killed") == weights(whole)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_asked_to_stop_it_saves_and_goes_on_later(whole, workplace, number):
    name = f"stopped-{int(number)}"
    process = start(workplace, name)
    wait_for_checkpoint(workplace / f"out/{name}", 10)
    process.send_signal(number)
    output, _ = process.communicate()
    assert process.returncode == 128 + number, output
    assert "--resume" in output
    script("train.py", *LONG, f"--out_dir=out/{name}", "--resume", cwd=workplace)
    assert losses(workplace / f"out/{name}") == losses(whole)
    assert weights(workplace / f"out/{name}") == weights(whole)


def test_resuming_a_finished_run_does_nothing(whole, workplace):
    before = weights(whole), losses(whole)
    assert "done" in script("train.py", *LONG, "--out_dir=out/whole", "--resume", cwd=workplace).stdout
    assert (weights(whole), losses(whole)) == before


def test_two_processes_train_as_one(whole, workplace):
    arguments = [*LONG, "--out_dir=out/two", "--gradient_accumulation_steps=2", "--batch_size=4", "--dropout=0", "--dtype=float32", "--max_iters=10"]
    one = [argument.replace("out/two", "out/one") for argument in arguments]
    script("train.py", *one, cwd=workplace)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(ROOT / "train.py"), *arguments]
    done = subprocess.run(command, cwd=workplace, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert list(losses(workplace / "out/two")) == list(losses(workplace / "out/one")) == [1, 5, 10]
    for (loss, val), (loss_one, val_one) in zip(losses(workplace / "out/two").values(), losses(workplace / "out/one").values()):
        assert loss == loss_one or abs(loss - loss_one) < 1e-5
        assert val == val_one or abs(val - val_one) < 1e-5


def test_fine_tuning_from_a_folder_with_a_shorter_block(whole, workplace):
    done = script("train.py", *TINY, "--out_dir=out/tuned", f"--init_from={whole}", "--block_size=16", "--max_iters=5", "--eval_interval=5", cwd=workplace)
    assert "context 16" in done.stdout
    first = [m["val_loss"] for m in read_metrics(workplace / "out/tuned") if "val_loss" in m][0]
    assert first < 4, "it starts from what the other had learned, not from chance (5.9)"


def test_the_original_s_model_json(workplace):
    """GPT2-Chinese's config/model_config_small.json in small: its shape is taken, its vocabulary size is the text's."""
    shape = {"initializer_range": 0.02, "layer_norm_epsilon": 1e-05, "n_ctx": 24, "n_embd": 24, "n_head": 3, "n_layer": 1,
             "n_positions": 24, "vocab_size": 13317}  # fmt: skip
    (workplace / "shape.json").write_text(json.dumps(shape))
    arguments = [*TINY, "--out_dir=out/shaped", "--model_config=shape.json", "--max_iters=5"]
    assert "1 layers, 3 heads, width 24, context 24" in script("train.py", *arguments, cwd=workplace).stdout
    assert checkpoint.load_pretrained(workplace / "out/shaped").config.vocab_size == Corpus.open(workplace / "data/novel").tokenizer.vocab_size
    (workplace / "shape.json").write_text(json.dumps({**shape, "activation_function": "relu"}))
    assert "activation_function" in script("train.py", *arguments, cwd=workplace, check=2).stderr


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--data_dir=none"], "no prepared text in none"),
        (["--device=cuda"], "no CUDA GPU"),
        (["--device=gpu"], "there is cpu"),
        (["--out_dir=out/tiny"], "--resume"),
        (["--out_dir=out/tiny", "--resume", "--n_layer=3"], "n_layer=2, the settings say 3"),
        (["--init_from=data"], "not a model folder"),
        (["--block_size=100000"], "less than one window"),
        (["--n_embd=33"], "not a multiple"),
        (["--max_iters=0"], "when should training end"),
        (["--batch_size=0"], "at least 1"),
        (["--keep_last=0"], "at least 1"),
        (["--seed=-1"], "0 or more"),
        (["--learning_rate=-1"], "0 or more"),
        (["--beta1=1.5"], "from 0 up to 1"),
        (["--max_minutes=-1"], "0 or more"),
    ],
)
def test_mistakes_leave_with_2_and_a_line_or_two(workplace, arguments, words):
    if arguments == ["--device=cuda"] and torch.cuda.is_available():
        pytest.skip("there is a CUDA GPU here")
    done = script("train.py", *TINY, "--out_dir=out/mistake", "--max_iters=5", *arguments, cwd=workplace, check=2)
    assert words in done.stderr and len(done.stderr.strip().splitlines()) <= 2


def test_another_text_is_refused(whole, workplace):
    (workplace / "other.txt").write_text(story(20), encoding="utf-8")
    vocab = workplace / "data/novel/vocab.txt"
    script("prepare.py", "other.txt", "--out_dir=data/other", f"--vocab={vocab}", cwd=workplace)
    done = script("train.py", *LONG, "--out_dir=out/whole", "--resume", "--data_dir=data/other", cwd=workplace, check=2)
    assert "another text" in done.stderr


def test_a_gpu_recipe_on_a_cpu_says_how_long_and_names_the_other(workplace):
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *TINY, "--epochs=1e7", "--out_dir=out/endless"],
        cwd=workplace, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    lines = [process.stdout.readline() for _ in range(6)]
    process.kill()
    process.communicate()
    assert "expected to take about" in lines[4] and "days" in lines[4]
    assert "config/laptop.py" in lines[5]


def make_optimizers(optimizer):
    torch.manual_seed(0)
    model = GPT(GPTConfig(64, 8, 1, 2, 8))
    return model, Optimizers(model, Settings(optimizer=optimizer, max_iters=1, learning_rate=0.1, weight_decay=0.0))


def test_muon_sees_query_key_and_value_as_three_matrices():
    """An orthogonal update of a square matrix has all singular values alike (within Newton-Schulz's 0.7 to 1.2)."""
    model, optimizers = make_optimizers("muon")
    weight = model.transformer.h[0].attn.c_attn.weight
    before = weight.detach().clone()
    idx = torch.randint(0, 64, (4, 8))
    model(idx, idx)[1].backward()
    optimizers.step(torch.amp.GradScaler("cpu", enabled=False), clip=1.0)
    scale = 0.1 * 0.2 * math.sqrt(8)  # learning rate, and Liu et al.'s factor
    for part in (weight.detach() - before).chunk(3):
        values = torch.linalg.svdvals(part) / scale
        assert values.max() < 1.3 and values[:4].min() > 0.5
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_fp16_overflow_skips_the_whole_step(clip):
    """One infinite gradient: no optimizer steps, the scale falls; then, without it, all do."""
    model, optimizers = make_optimizers("muon")
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    idx = torch.randint(0, 64, (4, 8))
    for harm in (True, False):
        before = [p.detach().clone() for p in model.parameters()]
        scaler.scale(model(idx, idx)[1]).backward()
        if harm:
            model.transformer.h[0].mlp.c_fc.weight.grad[0, 0] = math.inf
        optimizers.step(scaler, clip)
        changed = [bool((p != b).any()) for p, b in zip(model.parameters(), before)]
        assert not any(changed) if harm else all(changed)
    assert scaler.get_scale() == 2.0


def test_resuming_takes_new_settings_but_old_moments():
    model, optimizers = make_optimizers("muon")
    idx = torch.randint(0, 64, (4, 8))
    model(idx, idx)[1].backward()
    optimizers.step(torch.amp.GradScaler("cpu", enabled=False), 1.0)
    other = Optimizers(model, Settings(max_iters=1, weight_decay=0.5, beta1=0.7))
    other.load_state_dict(optimizers.state_dict())
    assert other.parts[0].param_groups[0]["weight_decay"] == 0.5 and other.parts[1].param_groups[0]["betas"][0] == 0.7
    assert len(other.parts[0].state) == len(optimizers.parts[0].state) > 0


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_every_parameter_is_trained_once(optimizer):
    model, optimizers = make_optimizers(optimizer)
    trained = [p for part in optimizers.parts for group in part.param_groups for p in group["params"]]
    assert sum(p.numel() for p in trained) == sum(p.numel() for p in model.parameters())
    before = [p.detach().clone() for p in model.parameters()]
    idx = torch.randint(0, 64, (4, 8))
    model(idx, idx)[1].backward()
    optimizers.step(torch.amp.GradScaler("cpu", enabled=False), clip=1.0)
    assert all((p != b).any() for p, b in zip(model.parameters(), before))


def test_the_schedule_warms_up_and_ends_where_the_run_ends():
    for decay in ("linear", "cosine"):
        s = Settings(max_iters=100, max_minutes=1, warmup_iters=10, lr_decay=decay, min_lr=0.1)
        limits = Limits(s, windows_per_epoch=7)
        rates = [learning_rate(s, step, limits.progress(step, 0, seconds=0)) for step in range(101)]
        assert rates[0] < 0.2 and max(rates) == max(rates[8:12]) and rates[-1] == pytest.approx(0.1)
        assert learning_rate(s, 50, limits.progress(50, 0, seconds=60)) == pytest.approx(0.1), "time is up"
    limits = Limits(Settings(epochs=2), windows_per_epoch=75)
    assert limits.progress(10, 149, 0) < 1 == limits.progress(10, 150, 0)


def test_clock():
    assert [train.clock(s) for s in (5, 65, 4000, 10**6)] == ["0:05", "1:05", "1 h 06 min", "11.6 days"]
