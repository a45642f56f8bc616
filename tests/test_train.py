import json
import os
import shutil
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
from training.runlog import read_metrics
from train import Limits, Settings, StopSignal, expected_memory, largest_batch, learning_rate

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
    return subprocess.Popen(command, cwd=workplace, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8")


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
    assert [step for step, _ in curve(whole, "val_loss")] == list(range(10, 61, 10))
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


@pytest.mark.skipif(os.name == "nt", reason="signals")
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


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_killed_at_twenty_random_moments_it_is_the_same_to_the_bit(workplace):
    """A checkpoint at every step, so that many of the kills fall into the saving; dropout on; old checkpoints deleted."""
    often = [*LONG, "--max_iters=30", "--eval_interval=1", "--sample_tokens=2"]
    script("train.py", *often, "--out_dir=out/often", cwd=workplace)
    done = script("tests/kill.py", 1, 20, *often, "--out_dir=out/unlucky", cwd=workplace)
    assert int(done.stdout.split("killed ")[-1].split()[0]) >= 18, "the kills came before the run's end"
    calm, unlucky = workplace / "out/often", workplace / "out/unlucky"
    assert losses(unlucky) == losses(calm)
    assert [c.name for c in checkpoint.checkpoints(unlucky)] == [c.name for c in checkpoint.checkpoints(calm)]
    assert weights(unlucky) == weights(calm)
    states = [checkpoint.load_trainer_state(checkpoint.checkpoints(run)[-1]) for run in (calm, unlucky)]
    for state in states:
        del state["seconds"], state["settings"]
    assert same(*states)
    assert curve(unlucky, "val_loss") == curve(calm, "val_loss") and len(curve(calm, "val_loss")) == 30
    assert not [path for path in unlucky.iterdir() if path.name.startswith(".ckpt")], "what kills left half done is gone"


def same(a, b) -> bool:
    """Equal to the bit, in all their parts."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def curve(run, name) -> list:
    """A curve as TensorBoard shows it: [(step, value), ...]."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def test_resuming_a_finished_run_does_nothing(whole, workplace):
    before = weights(whole), losses(whole)
    assert "had come to its end" in script("train.py", *LONG, "--out_dir=out/whole", "--resume", cwd=workplace).stdout
    assert (weights(whole), losses(whole)) == before


def test_settings_that_change_at_a_resume_count_and_are_logged(whole, workplace):
    shutil.copytree(whole, workplace / "out/longer")
    changed = [argument.replace("--max_iters=60", "--max_iters=70") for argument in LONG] + ["--learning_rate=0.001"]
    out = script("train.py", *changed, "--out_dir=out/longer", "--resume", cwd=workplace).stdout
    assert "now max_iters 60 -> 70" in out and "now learning_rate 0.003 -> 0.001" in out
    assert max(losses(workplace / "out/longer")) == 70


def test_a_full_disk_leaves_the_checkpoints_before(whole, workplace):
    resource = pytest.importorskip("resource")
    shutil.copytree(whole, workplace / "out/full")
    before = [c.name for c in checkpoint.checkpoints(workplace / "out/full")]
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # noqa: E731  (model.safetensors has 150 KB)
    arguments = [*LONG, "--out_dir=out/full", "--resume", "--max_iters=70"]
    done = script("train.py", *arguments, cwd=workplace, check=2, preexec_fn=limit)
    assert "could not save step 70" in done.stderr and len(done.stderr.strip().splitlines()) <= 2
    assert [c.name for c in checkpoint.checkpoints(workplace / "out/full")] == before
    assert not list((workplace / "out/full").glob(".ckpt*"))
    assert "done" in script("train.py", *arguments, cwd=workplace).stdout, "and it goes on when there is room again"


def test_a_text_that_changes_meanwhile_is_noticed(workplace):
    shutil.copytree(workplace / "data/novel", workplace / "data/moving")
    process = start(workplace, "moving", "--data_dir=data/moving", "--max_iters=100000")
    wait_for_checkpoint(workplace / "out/moving", 10)
    with open(workplace / "data/moving/val.bin", "r+b") as file:
        file.write(b"\1\0")
    output, _ = process.communicate()
    assert process.returncode == 2 and "val.bin was changed" in output


def test_a_run_that_comes_apart_stops_with_its_checkpoints_whole(workplace):
    arguments = [*TINY, "--out_dir=out/apart", "--max_iters=200", "--eval_interval=100", "--optimizer=adamw"]
    done = script("train.py", *arguments, "--learning_rate=1e30", cwd=workplace, check=2)
    assert "step 11 was skipped: loss nan" in done.stdout and "ten steps in a row" in done.stderr and "--learning_rate" in done.stderr
    assert not checkpoint.checkpoints(workplace / "out/apart"), "nothing bad was saved"


def test_patience_ends_a_run_that_gets_no_better(workplace):
    arguments = [*TINY, "--out_dir=out/patient", "--max_iters=100", "--eval_interval=2", "--patience=3", "--learning_rate=0", "--adamw_learning_rate=0"]
    script("train.py", *arguments, cwd=workplace)
    assert max(losses(workplace / "out/patient")) == 8, "the first is the best, the three after it are not"
    assert "had come to its end" in script("train.py", *arguments, "--resume", cwd=workplace).stdout


def test_without_tensorboard_matplotlib_and_a_compiler_it_trains_all_the_same(workplace, tmp_path):
    for name in ("tensorboard", "matplotlib"):
        (tmp_path / f"{name}.py").write_text("raise ImportError")
    environment = {"PYTHONPATH": str(tmp_path), "CXX": "no-such-compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    out = script("train.py", *TINY, "--out_dir=out/bare", "--max_iters=5", "--compile", cwd=workplace, environment=environment).stdout
    for words in ("TensorBoard is not installed", "matplotlib is not installed", "torch.compile does not work here", "done (max_iters): 5 steps"):
        assert out.count(words) == 1, out


SHARED = [*LONG, "--gradient_accumulation_steps=2", "--batch_size=4", "--dropout=0", "--dtype=float32"]


def torchrun(workplace, *arguments):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(ROOT / "train.py"), *arguments]
    return subprocess.Popen(command, cwd=workplace, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8")


def test_two_processes_train_as_one_and_either_goes_on_where_the_other_stopped(workplace):
    script("train.py", *SHARED, "--out_dir=out/one", "--max_iters=30", "--lr_decay=constant", cwd=workplace)
    for name, first_two in (("two-one", True), ("one-two", False)):
        for two, steps in ((first_two, 10), (not first_two, 30)):
            arguments = [*SHARED, f"--out_dir=out/{name}", f"--max_iters={steps}", "--lr_decay=constant", "--resume"]
            if two:
                process = torchrun(workplace, *arguments)
                output, _ = process.communicate(timeout=300)
                assert process.returncode == 0, output
            else:
                script("train.py", *arguments, cwd=workplace)
        one, other = losses(workplace / "out/one"), losses(workplace / f"out/{name}")
        assert list(one) == list(other) and max(one) == 30
        for figures_one, figures_other in zip(one.values(), other.values()):
            assert figures_one == pytest.approx(figures_other, abs=1e-5)


@pytest.mark.skipif(os.name == "nt", reason="kills by signal")
def test_one_process_s_death_ends_all(workplace):
    process = torchrun(workplace, *SHARED, "--out_dir=out/mortal", "--max_iters=100000")
    wait_for_checkpoint(workplace / "out/mortal", 10)
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    os.kill(int(children[-1]), signal.SIGKILL)
    output, _ = process.communicate(timeout=120)
    assert process.returncode and "SIGKILL" in output
    assert checkpoint.checkpoints(workplace / "out/mortal")


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
        (["--batch_size=many"], "a number or auto"),
        (["--cooldown=0"], "share above 0"),
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


def test_a_damaged_checkpoint_is_named_before_training_goes_on(whole, workplace):
    """The newest one with how to go on from the one before; that of another with a trainer.json that the next save would need."""
    for name, words in (("model.safetensors", "move"), ("trainer_state.pt", "move"), ("trainer.json", "no JSON")):
        run = workplace / f"out/damaged-{name}"
        shutil.copytree(whole, run)
        first, last = run / "ckpt-00000001", checkpoint.checkpoints(run)[-1]
        shutil.copytree(last, first)
        ((first if name == "trainer.json" else last) / name).write_bytes(b"noise")
        done = script("train.py", *LONG, f"--out_dir={run}", "--resume", "--max_iters=1000", cwd=workplace, check=2)
        assert name in done.stderr and words in done.stderr and "Traceback" not in done.stderr and "step" not in done.stdout
        assert words != "move" or f"go on from {first.name} instead" in done.stderr


def test_a_gpu_recipe_on_a_cpu_says_how_long_and_names_the_other(workplace):
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *TINY, "--epochs=1e10", "--out_dir=out/endless"],
        cwd=workplace, stdout=subprocess.PIPE, encoding="utf-8", env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    lines = [process.stdout.readline() for _ in range(6)]
    process.kill()
    process.communicate()
    assert "GB of memory" in lines[4] and "days" in lines[4]
    assert "config/laptop.py" in lines[5]


def test_the_schedule_warms_up_and_ends_where_the_run_ends():
    for decay in ("linear", "cosine"):
        s = Settings(max_iters=100, max_minutes=1, warmup_iters=10, lr_decay=decay, min_lr=0.1)
        limits = Limits(s, windows_per_epoch=7)
        rates = [learning_rate(s, step, limits.progress(step, 0, seconds=0)) for step in range(101)]
        assert rates[0] < 0.2 and max(rates) == max(rates[8:12]) and rates[-1] == pytest.approx(0.1)
        assert learning_rate(s, 50, limits.progress(50, 0, seconds=60)) == pytest.approx(0.1), "time is up"
    limits = Limits(Settings(epochs=2), windows_per_epoch=75)
    assert limits.progress(10, 149, 0) < 1 == limits.progress(10, 150, 0)
    limits = Limits(Settings(epochs=2, max_tokens=64 * 100, block_size=64), windows_per_epoch=75)
    assert limits.progress(10, 99, 0) < 1 == limits.progress(10, 100, 0) and limits.reached(10, 100, 0) == "max_tokens"


def test_warm_up_stable_decay():
    s = Settings(max_iters=100, warmup_iters=10, lr_decay="wsd", cooldown=0.25, min_lr=0.0)
    rates = [learning_rate(s, step, step / 100) for step in range(101)]
    assert set(rates[10:76]) == {1.0} and rates[-1] == 0.0 and rates[88] == pytest.approx(0.48)


def test_a_second_ctrl_c_leaves_at_once(monkeypatch):
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    left = []
    monkeypatch.setattr(os, "_exit", left.append)
    try:
        stop = StopSignal()
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)  # torchrun's second
        assert stop.number == signal.SIGINT and not left
        stop.when -= 2
        signal.raise_signal(signal.SIGINT)
        assert left == [130]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


NOVEL = Settings(max_iters=1, dropout=0.2)
SMALL = GPTConfig(13317)  # GPT-2 small with the original's vocabulary


def test_expected_memory_keeps_the_promises_for_8_gb():
    assert expected_memory(NOVEL, SMALL, torch.bfloat16, 8) < 5e9
    assert expected_memory(NOVEL, SMALL, torch.bfloat16, 16) < 8e9


@pytest.mark.parametrize("again", [False, True])
def test_expected_memory_counts_what_autograd_keeps(again):
    """The part that grows with the batch, against the bytes that the graph of a real forward pass holds."""
    config = GPTConfig(500, 64, 3, 4, 64)
    model = GPT(config).train()
    model.checkpoint_activations = again
    s = Settings(max_iters=1, block_size=64, dropout=0.0, checkpoint_activations=again)
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    sizes = []
    for batch_size in (8, 16):
        kept.clear()
        idx = torch.randint(0, 500, (batch_size, 64))
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), torch.autocast("cpu", torch.bfloat16):
            loss = model(idx, idx, keep_logits=False)[1]
        sizes.append(sum(kept.values()))
        del loss
    counted = expected_memory(s, config, torch.bfloat16, 16) - expected_memory(s, config, torch.bfloat16, 8)
    unseen = 8 * 64 * 64 * (36 + 3 * 4) if again else 0  # the blocks' inputs, and in the backward pass one block again
    assert counted - unseen == pytest.approx(sizes[1] - sizes[0], rel=0.15)


@pytest.mark.parametrize("gigabytes, batch_size", [(2, 1), (3, 2), (5.2, 8), (24, 32), (0, 8)])
def test_the_largest_batch_that_fits_keeps_the_step(monkeypatch, gigabytes, batch_size):
    monkeypatch.setattr(train, "free_memory", lambda device: int(gigabytes * 1e9))
    monkeypatch.setattr(train, "agree", lambda value, world: value)
    s = largest_batch(Settings(max_iters=1, batch_size="auto"), SMALL, torch.bfloat16, torch.device("cuda"), world=1)
    assert s.batch_size == batch_size and s.batch_size * s.gradient_accumulation_steps == 32
    two = largest_batch(Settings(max_iters=1, batch_size="auto"), SMALL, torch.bfloat16, torch.device("cuda"), world=2)
    assert two.batch_size == min(batch_size, 16) and two.gradient_accumulation_steps % 2 == 0


def test_clock():
    assert [train.clock(s) for s in (5, 65, 4000, 10**6)] == ["0:05", "1:05", "1 h 06 min", "11.6 days"]
