import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch
from conftest import ENVIRONMENT, ROOT, TINY, script, story

import checkpoint
import train
from configurator import UserError, parse
from dataset import Corpus
from training.runlog import read_metrics
from training.trainer_state import load_state

RUN = [*TINY, "--max_iters=40", "--eval_interval=10", "--dropout=0.1", "--seed=1"]
ENSEMBLE = ["--members=2", "--residual_multiplier=0.25", "--logit_scale=1.1"]


def losses(run) -> dict[int, dict[str, float]]:
    """step -> its training loss and validation loss, those that a run's metrics have."""
    found = {}
    for record in read_metrics(run):
        both = {name: record[name] for name in ("loss", "val_loss") if name in record}
        found.setdefault(record["step"], {}).update(both)
    return found


def weights(run) -> bytes:
    """The weights of a run's last checkpoint."""
    return (checkpoint.checkpoints(run)[-1] / "model.safetensors").read_bytes()


def curve(run, name) -> list[tuple[int, float]]:
    """A curve as TensorBoard shows it: (step, value)."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


@pytest.fixture(scope="session")  # once per process, whatever the order of the tests
def whole(workplace):
    """A run that was not interrupted."""
    script("train.py", *RUN, "--out_dir=out/whole", cwd=workplace)
    return workplace / "out/whole"


@pytest.fixture(scope="session")
def ensemble(workplace):
    """A run of two members, with the settings whose effect is in the saved weights."""
    script("train.py", *RUN, *ENSEMBLE, "--out_dir=out/ensemble", cwd=workplace)
    return workplace / "out/ensemble"


def start(command, cwd, **environment) -> subprocess.Popen:
    """Start a command in the background."""
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "encoding": "utf-8"}
    return subprocess.Popen([sys.executable, *map(str, command)], cwd=cwd, env={**ENVIRONMENT, **environment}, **output)


def start_training(workplace, name, *arguments) -> subprocess.Popen:
    return start([ROOT / "train.py", *RUN, f"--out_dir=out/{name}", *arguments], workplace)


def wait_for_checkpoint(run, step) -> None:
    """Wait until a run has a checkpoint of this step or a later one."""
    deadline = time.monotonic() + 120
    while not any(int(c.name[5:]) >= step for c in checkpoint.checkpoints(run)):
        assert time.monotonic() < deadline
        time.sleep(0.005)


# -- what a run leaves -------------------------------------------------------------------------------------------------


def test_run_folder_holds_log_curves_and_samples(whole):
    names = {path.name for path in whole.iterdir()}
    assert {"log.txt", "metrics.jsonl", "tensorboard", "loss.png", "samples"} <= names
    assert "step 40 | validation" in (whole / "log.txt").read_text(encoding="utf-8")
    assert (whole / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert len(list((whole / "samples").iterdir())) == 4


def test_run_keeps_the_best_and_the_last_checkpoint(whole):
    kept = checkpoint.checkpoints(whole)
    assert kept[-1].name == "ckpt-00000040" and {*kept} == {kept[-1], checkpoint.find_checkpoint(whole)}


def test_checkpoint_holds_model_tokenizer_and_state(whole):
    last = checkpoint.checkpoints(whole)[-1]
    model = {"config.json", "model.safetensors", "generation_config.json"}
    tokenizer = {"tokenizer.json", "tokenizer_config.json", "vocab.txt"}
    assert {path.name for path in last.iterdir()} == model | tokenizer | {"trainer_state.pt", "trainer.json"}
    assert json.loads((last / "trainer.json").read_text())["step"] == 40


def test_metrics_have_training_figures_at_each_log_interval(whole):
    logged = [m for m in read_metrics(whole) if "loss" in m]
    assert [m["step"] for m in logged] == [1, *range(5, 41, 5)]
    assert {"step", "tokens", "loss", "lr", "grad_norm", "tokens_per_s"} <= logged[0].keys()
    assert logged[-1]["loss"] < logged[0]["loss"] - 1


def test_metrics_have_validation_figures_at_each_eval_interval(whole):
    validated = [m for m in read_metrics(whole) if "val_loss" in m]
    assert [m["step"] for m in validated] == list(range(10, 41, 10))
    assert {"val_loss", "bits_per_char"} <= validated[0].keys()


def test_tensorboard_has_the_curves_and_the_samples(whole):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(whole / "tensorboard"))
    events.Reload()
    assert {"loss", "lr", "grad_norm", "tokens_per_s", "val_loss", "bits_per_char"} <= set(events.Tags()["scalars"])
    assert [step for step, _ in curve(whole, "val_loss")] == list(range(10, 41, 10))
    assert events.Tags()["tensors"] == ["sample/text_summary"]


@pytest.mark.parametrize("fixture", ["whole", "ensemble"])
def test_validation_loss_equals_that_of_a_plain_loop(request, workplace, fixture):
    run = request.getfixturevalue(fixture)
    corpus = Corpus.open(workplace / "data/novel")
    model = checkpoint.load_pretrained(checkpoint.checkpoints(run)[-1])
    ids = torch.tensor(corpus.val.astype(int))
    total = 0.0
    for begin in range(0, len(ids) - 1, 32):
        window = ids[begin : begin + 33]
        total += model(window[None, :-1], window[None, 1:])[1].item() * (len(window) - 1)
    logged = [m["val_loss"] for m in read_metrics(run) if "val_loss" in m][-1]
    assert logged == pytest.approx(total / (len(ids) - 1), abs=0.03)  # bfloat16 where the CPU has it


# -- resume ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fixture, options", [("whole", []), ("ensemble", ENSEMBLE)])
def test_resume_after_a_kill_continues_to_the_bit(request, workplace, fixture, options):
    run, expected = workplace / f"out/killed-{fixture}", request.getfixturevalue(fixture)
    process = start_training(workplace, run.name, *options)
    wait_for_checkpoint(run, 20)
    process.kill()
    process.communicate()
    assert checkpoint.checkpoints(run)[-1].name < "ckpt-00000040"
    script("train.py", *RUN, *options, f"--out_dir={run}", "--resume", cwd=workplace)
    assert losses(run) == losses(expected)
    assert weights(run) == weights(expected)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals to send")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_resume_after_a_signal_continues_to_the_bit(whole, workplace, number):
    run = workplace / f"out/stopped-{int(number)}"
    process = start_training(workplace, run.name)
    wait_for_checkpoint(run, 10)
    process.send_signal(number)
    output, _ = process.communicate()
    assert process.returncode == 128 + number and "--resume" in output, output
    script("train.py", *RUN, f"--out_dir={run}", "--resume", cwd=workplace)
    assert losses(run) == losses(whole)
    assert weights(run) == weights(whole)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_resume_after_twenty_kills_continues_to_the_bit(workplace):
    """A checkpoint at every step, so that many kills come while saving; dropout on; old checkpoints are deleted."""
    often = [*RUN, "--max_iters=20", "--eval_interval=1", "--block_size=8"]
    script("train.py", *often, "--out_dir=out/calm", cwd=workplace)
    done = script("tests/kill_training.py", 1, 20, *often, "--out_dir=out/kills", cwd=workplace)
    assert int(done.stdout.split("killed ")[-1].split()[0]) >= 18, "the kills came before the end of the run"
    calm, kills = workplace / "out/calm", workplace / "out/kills"
    assert losses(kills) == losses(calm)
    assert [c.name for c in checkpoint.checkpoints(kills)] == [c.name for c in checkpoint.checkpoints(calm)]
    assert weights(kills) == weights(calm)
    states = [checkpoint.load_trainer_state(checkpoint.checkpoints(run)[-1]) for run in (calm, kills)]
    for state in states:
        del state["seconds"], state["settings"]
    assert equal(*states)
    assert curve(kills, "val_loss") == curve(calm, "val_loss") and len(curve(calm, "val_loss")) == 20
    assert not list(kills.glob(".ckpt*")), "temporary folders of killed processes are deleted"


def equal(a, b) -> bool:
    """Are two nested structures of tensors and plain values equal to the bit?"""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(equal, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def test_load_state_refuses_an_unknown_format(tmp_path):
    torch.save({"format": 99}, tmp_path / "trainer_state.pt")
    with pytest.raises(UserError, match="another version.*--init_from"):
        load_state(tmp_path)


def test_resume_of_a_finished_run_changes_nothing(whole, workplace):
    before = weights(whole), losses(whole)
    done = script("train.py", *RUN, "--out_dir=out/whole", "--resume", cwd=workplace)
    assert "has reached its end" in done.stdout
    assert (weights(whole), losses(whole)) == before


def test_resume_uses_and_logs_changed_settings(whole, workplace):
    shutil.copytree(whole, workplace / "out/longer")
    changed = [*RUN, "--max_iters=50", "--learning_rate=0.001"]
    out = script("train.py", *changed, "--out_dir=out/longer", "--resume", cwd=workplace).stdout
    assert "now max_iters 40 -> 50" in out and "now learning_rate 0.003 -> 0.001" in out
    assert max(losses(workplace / "out/longer")) == 50


def test_resume_on_another_machine_continues_and_says_what_changed(whole, workplace):
    run = workplace / "out/moved"
    shutil.copytree(whole, run)
    moved = [*RUN, "--max_iters=45", "--dtype=float32", "--resume", f"--out_dir={run}"]
    last = checkpoint.checkpoints(run)[-1]
    saved = checkpoint.load_trainer_state(last)
    torch.save(
        {**saved, "machine": {**saved["machine"], "device": "NVIDIA GeForce RTX 4060"}}, last / "trainer_state.pt"
    )
    out = script("train.py", *moved, cwd=workplace).stdout
    assert "the machine has changed (device NVIDIA GeForce RTX 4060 -> cpu with 1 threads" in out
    assert "done (max_iters): 45 steps" in out


def test_machine_is_saved_as_plain_types_for_any_version_of_torch(tmp_path, monkeypatch):
    """torch.__version__ is not a str itself, and torch.load refuses its type. On macOS it has no "+cpu" to cut off."""
    monkeypatch.setattr(torch, "__version__", torch.torch_version.TorchVersion("2.13.0"))
    trainer = SimpleNamespace(device=torch.device("cpu"), dtype=torch.float32, world_size=1)
    torch.save(train.Trainer.machine(trainer), tmp_path / "trainer_state.pt")
    assert checkpoint.load_trainer_state(tmp_path)["torch"] == "2.13.0"


def test_resume_refuses_another_text(whole, workplace):
    (workplace / "other.txt").write_text(story(20), encoding="utf-8")
    vocab = workplace / "data/novel/vocab.txt"
    script("prepare.py", "other.txt", "--out_dir=data/other", f"--vocab={vocab}", cwd=workplace)
    check_mistake(workplace, [*RUN, "--out_dir=out/whole", "--resume", "--data_dir=data/other"], "another text")


@pytest.mark.parametrize("name", ["model.safetensors", "trainer_state.pt"])
def test_resume_names_a_damaged_checkpoint_and_the_one_before(whole, workplace, name):
    run = workplace / f"out/damaged-{name}"
    shutil.copytree(whole, run)
    shutil.copytree(checkpoint.checkpoints(run)[-1], run / "ckpt-00000001")
    (checkpoint.checkpoints(run)[-1] / name).write_bytes(b"noise")
    arguments = [*RUN, f"--out_dir={run}", "--resume", "--max_iters=1000"]
    check_mistake(workplace, arguments, rf"{name}(.|\n)*resume from ckpt-00000001 instead, move")


def test_resume_names_damaged_metadata_that_the_next_save_would_read(whole, workplace):
    run = workplace / "out/damaged-metadata"
    shutil.copytree(whole, run)
    shutil.copytree(checkpoint.checkpoints(run)[-1], run / "ckpt-00000001")
    (run / "ckpt-00000001/trainer.json").write_bytes(b"noise")
    check_mistake(workplace, [*RUN, f"--out_dir={run}", "--resume"], "trainer.json is not JSON")


# -- torch.compile, without a compiler ---------------------------------------------------------------------------------


@pytest.fixture
def instant_compiler(workplace, monkeypatch):
    """torch.compile that returns the model as it is, in the tests' own process."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.setattr(train, "compile_error", lambda device: "")
    monkeypatch.setattr(torch, "compile", lambda model: model)
    monkeypatch.chdir(workplace)
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_compilation_changes_nothing(whole, workplace, instant_compiler):
    train.main(parse(train.Settings, [*RUN, "--compile=True", "--out_dir=out/compiled"]))
    assert losses(workplace / "out/compiled") == losses(whole)
    assert weights(workplace / "out/compiled") == weights(whole)


def test_signal_during_compilation_stops_the_run_before_its_first_step(workplace, instant_compiler, monkeypatch):
    def forward_backward(trainer):
        os.kill(os.getpid(), signal.SIGINT)
        raise RuntimeError("the C++ compiler was stopped")  # Ctrl-C reaches it too

    monkeypatch.setattr(train.Trainer, "forward_backward", forward_backward)
    with pytest.raises(SystemExit) as stopped:
        train.main(parse(train.Settings, [*RUN, "--compile=True", "--out_dir=out/not-compiled"]))
    assert stopped.value.code == 128 + signal.SIGINT
    assert [c.name for c in checkpoint.checkpoints(workplace / "out/not-compiled")] == ["ckpt-00000000"]


# -- failures while training -------------------------------------------------------------------------------------------


def test_full_disk_leaves_the_checkpoints_before_and_resume_works(whole, workplace):
    resource = pytest.importorskip("resource")
    shutil.copytree(whole, workplace / "out/full")
    before = [c.name for c in checkpoint.checkpoints(workplace / "out/full")]
    arguments = [*RUN, "--out_dir=out/full", "--resume", "--max_iters=50"]

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # model.safetensors has 150 KB

    done = script("train.py", *arguments, cwd=workplace, check=2, preexec_fn=limit)
    assert "could not save step 50" in done.stderr and len(done.stderr.strip().splitlines()) <= 2
    assert [c.name for c in checkpoint.checkpoints(workplace / "out/full")] == before
    assert not list((workplace / "out/full").glob(".ckpt*"))
    assert "done" in script("train.py", *arguments, cwd=workplace).stdout


def test_text_that_changes_during_training_is_noticed_before_saving(workplace):
    shutil.copytree(workplace / "data/novel", workplace / "data/changing")
    process = start_training(workplace, "changing", "--data_dir=data/changing", "--max_iters=100000")
    wait_for_checkpoint(workplace / "out/changing", 10)
    with open(workplace / "data/changing/val.bin", "r+b") as file:
        file.write(b"\1\0")
    output, _ = process.communicate()
    assert process.returncode == 2 and "val.bin was changed" in output


def test_ten_steps_without_finite_numbers_end_the_run_and_save_nothing(workplace):
    arguments = [*TINY, "--out_dir=out/nan", "--max_iters=200", "--eval_interval=100", "--optimizer=adamw"]
    done = script("train.py", *arguments, "--learning_rate=1e30", cwd=workplace, check=2)
    assert "was skipped: loss nan" in done.stdout
    assert "ten steps in a row" in done.stderr and "--learning_rate" in done.stderr
    assert not checkpoint.checkpoints(workplace / "out/nan")


def test_patience_ends_a_run_without_a_new_best(workplace):
    frozen = ["--learning_rate=0", "--adamw_learning_rate=0"]
    arguments = [*TINY, "--out_dir=out/patience", "--max_iters=100", "--eval_interval=2", "--patience=3", *frozen]
    script("train.py", *arguments, cwd=workplace)
    assert max(losses(workplace / "out/patience")) == 8, "the first validation is the best, three later ones are not"
    assert "has reached its end" in script("train.py", *arguments, "--resume", cwd=workplace).stdout


def test_training_works_without_tensorboard_matplotlib_and_a_compiler(workplace, tmp_path):
    for name in ("tensorboard", "matplotlib"):
        (tmp_path / f"{name}.py").write_text("raise ImportError")
    cache = str(tmp_path / "cache")
    environment = {"PYTHONPATH": str(tmp_path), "CXX": "no-such-compiler", "TORCHINDUCTOR_CACHE_DIR": cache}
    arguments = [*TINY, "--out_dir=out/bare", "--max_iters=5", "--compile"]
    out = script("train.py", *arguments, cwd=workplace, environment=environment).stdout
    assert out.count("TensorBoard is not installed") == out.count("matplotlib is not installed") == 1
    assert out.count("torch.compile does not work here") == 1 and "done (max_iters): 5 steps" in out


# -- several processes -------------------------------------------------------------------------------------------------

SHARED = [*RUN, "--gradient_accumulation_steps=2", "--batch_size=4", "--dropout=0", "--dtype=float32"]


def torchrun(workplace, *arguments) -> subprocess.Popen:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    return start([*launcher, ROOT / "train.py", *arguments], workplace)


@pytest.mark.slow
def test_two_processes_train_like_one_and_resume_each_other(workplace):
    """One run by a single process; another by one, then two, then one process."""
    constant = [*SHARED, "--lr_decay=constant", "--resume"]
    script("train.py", *constant, "--out_dir=out/one", "--max_iters=30", cwd=workplace)
    mixed = [*constant, "--out_dir=out/mixed"]
    script("train.py", *mixed, "--max_iters=10", cwd=workplace)
    process = torchrun(workplace, *mixed, "--max_iters=20")
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    script("train.py", *mixed, "--max_iters=30", cwd=workplace)
    one, other = losses(workplace / "out/one"), losses(workplace / "out/mixed")
    assert list(one) == list(other) and max(one) == 30
    for figures_one, figures_other in zip(one.values(), other.values()):
        assert figures_one == pytest.approx(figures_other, abs=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="kills by signal")
def test_death_of_one_process_ends_the_others(workplace):
    process = torchrun(workplace, *SHARED, "--out_dir=out/mortal", "--max_iters=100000")
    wait_for_checkpoint(workplace / "out/mortal", 10)
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    os.kill(int(children[-1]), signal.SIGKILL)
    output, _ = process.communicate(timeout=120)
    assert process.returncode and "SIGKILL" in output
    assert checkpoint.checkpoints(workplace / "out/mortal")


@pytest.mark.skipif(os.name == "nt", reason="ends by a signal")
def test_signal_to_a_process_of_torchrun_saves_and_exits_with_its_number(workplace):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    torchrun = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    command = [ROOT / "train.py", *RUN, "--out_dir=out/signalled", "--max_iters=100000"]
    process = start(command, workplace, **torchrun)
    wait_for_checkpoint(workplace / "out/signalled", 10)
    process.terminate()
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM
    assert "and saved. Continue with the same command and --resume" in output.splitlines()[-1]
    assert output.splitlines()[-1] in (workplace / "out/signalled/log.txt").read_text(encoding="utf-8")


# -- on a GPU ----------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")
@pytest.mark.parametrize("compile", [False, True])
def test_cuda_run_is_resumed_learns_like_a_cpu_and_generates(workplace, compile):
    """In fp32 on a CPU, in 16 bits on the GPU."""
    cpu = [*RUN, "--dropout=0", "--lr_decay=constant", "--dtype=float32", f"--out_dir=out/cpu{compile}"]
    script("train.py", *cpu, cwd=workplace)
    gpu = [*cpu, "--device=cuda", "--dtype=auto", f"--compile={compile}", f"--out_dir=out/gpu{compile}"]
    script("train.py", *gpu, "--max_iters=20", cwd=workplace)
    out = script("train.py", *gpu, "--resume", cwd=workplace).stdout
    assert "resumed" in out and "GB used at most" in out and ("compiling the model" in out) == compile
    expected, got = (losses(workplace / f"out/{device}{compile}")[40] for device in ("cpu", "gpu"))
    assert got == pytest.approx(expected, abs=0.05)
    done = script("sample.py", f"--model=out/gpu{compile}", "--start=却说", "--device=cuda", "--seed=1", cwd=workplace)
    assert done.stdout.startswith("却说") and "without CUDA graphs" not in done.stderr


# -- the model that a run begins with ----------------------------------------------------------------------------------


def test_init_from_a_folder_fine_tunes_with_a_shorter_block(whole, workplace):
    # The shape is that of the folder, not of the settings.
    arguments = [*TINY, "--out_dir=out/tuned", f"--init_from={whole}", "--block_size=16", "--n_layer=3", "--n_embd=64"]
    done = script("train.py", *arguments, "--max_iters=5", "--eval_interval=5", cwd=workplace)
    assert "context 16" in done.stdout
    first = [m["val_loss"] for m in read_metrics(workplace / "out/tuned") if "val_loss" in m][0]
    assert first < 4, "an untrained model starts at 5.9"
    assert "resumed" in script("train.py", *arguments, "--max_iters=8", "--resume", cwd=workplace).stdout


def test_init_from_refuses_a_model_without_some_ids_of_its_vocabulary(whole, workplace):
    folder = shutil.copytree(checkpoint.find_checkpoint(whole), workplace / "more-words")
    (folder / "tokenizer.json").unlink()
    with open(folder / "vocab.txt", "a", encoding="utf-8") as file:
        file.write("龘\n")
    arguments = [*TINY, "--out_dir=out/mistake", "--max_iters=5", f"--init_from={folder}"]
    check_mistake(workplace, arguments, "the vocabulary has")


# GPT2-Chinese's config/model_config_small.json, smaller
MODEL_CONFIG = {
    "initializer_range": 0.02,
    "layer_norm_epsilon": 1e-05,
    "n_ctx": 24,
    "n_embd": 24,
    "n_head": 3,
    "n_layer": 1,
    "n_positions": 24,
    "vocab_size": 13317,
}


def test_model_config_sets_the_shape_but_not_the_vocabulary(workplace):
    (workplace / "shape.json").write_text(json.dumps(MODEL_CONFIG))
    arguments = [*TINY, "--out_dir=out/shaped", "--model_config=shape.json", "--max_iters=5"]
    assert "1 layers, 3 heads, width 24, context 24" in script("train.py", *arguments, cwd=workplace).stdout
    vocab_size = Corpus.open(workplace / "data/novel").tokenizer.vocab_size
    assert checkpoint.load_pretrained(workplace / "out/shaped").config.vocab_size == vocab_size


def test_model_config_of_another_architecture_is_refused(workplace):
    (workplace / "relu.json").write_text(json.dumps({**MODEL_CONFIG, "activation_function": "relu"}))
    check_mistake(workplace, [*TINY, "--model_config=relu.json", "--max_iters=5"], "activation_function")


# -- mistakes ----------------------------------------------------------------------------------------------------------


def check_mistake(workplace, arguments, message) -> None:
    """train.py, called in this process, must raise a UserError of at most two lines."""
    before = os.getcwd()
    os.chdir(workplace)
    try:
        with pytest.raises(UserError, match=message) as error:
            train.main(parse(train.Settings, arguments))
    finally:
        os.chdir(before)
    assert len(str(error.value).splitlines()) <= 2


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--data_dir=none"], "no prepared text in none"),
        (["--device=cuda"], "no CUDA GPU"),
        (["--device=gpu"], "use cpu, cuda"),
        (["--out_dir=out/tiny"], "--resume"),
        (["--out_dir=model"], "model is a model, not a run"),
        (["--out_dir=out/tiny", "--resume", "--n_layer=3"], "was trained with --n_layer=2. Continue"),
        (["--init_from=data"], "not a model folder"),
        (["--block_size=100000"], "less than one window"),
        (["--n_embd=33"], "not a multiple"),
        (["--logit_scale=0"], "a number above 0 is needed"),
        (["--residual_multiplier=0.1"], "a power of two is needed"),
        (["--out_dir="], "a folder is needed"),
        (["--members=3"], "n_head=2 is not a multiple of --members=3"),
        (["--members=2", "--init_from=out/tiny"], "--members is for new models"),
        (["--out_dir=out/tiny", "--resume", "--members=2"], "was trained with --members=1. Continue"),
        (["--max_iters=0"], "no limit is set"),
        (["--batch_size=0"], "at least 1"),
        (["--batch_size=many"], "INTEGER|auto"),
        (["--cooldown=0.2"], "use --lr_decay=linear"),
        (["--seed=-1"], "from 0 up to"),
        (["--seed=99999999999999999999"], "from 0 up to"),
        (["--learning_rate=-1"], "0 or more"),
        (["--beta1=1.5"], "from 0 up to 1"),
        (["--max_minutes=-1"], "0 or more"),
        (["--min_lr=6"], "from 0 up to 1"),
        (["--init_from=resume"], "use --resume"),
        (["--init_from=gpt2-medium"], "nothing is downloaded"),
    ],
)
def test_mistakes_are_named_in_a_line_or_two(workplace, arguments, message):
    if arguments == ["--device=cuda"] and torch.cuda.is_available():
        pytest.skip("there is a CUDA GPU here")
    (workplace / "model").mkdir(exist_ok=True)
    (workplace / "model/config.json").write_text("{}")
    check_mistake(workplace, [*TINY, "--out_dir=out/mistake", "--max_iters=5", *arguments], message)


def test_mistake_exits_with_status_2_and_no_traceback(workplace):
    done = script("train.py", *TINY, "--out_dir=out/tiny", "--max_iters=5", cwd=workplace, check=2)
    assert "--resume" in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_forecast_on_a_cpu_names_the_laptop_config(workplace):
    process = start([ROOT / "train.py", *TINY, "--epochs=1e10", "--out_dir=out/endless"], workplace)
    lines = [process.stdout.readline() for _ in range(7)]
    process.kill()
    process.communicate()
    assert "GB of memory" in lines[5] and "days" in lines[5]
    assert "config/laptop.py" in lines[6]
