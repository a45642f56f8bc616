import importlib
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Literal

import pytest
from conftest import ROOT, script

from configurator import UserError, help_text, parse, run


@dataclass
class Settings:
    inputs: list[str] = field(default_factory=list)  # files
    # numbers
    n_layer: int = 12  # how many
    dropout: float = 0.1  # a share
    resume: bool = False  # go on
    save: bool | str = False  # where
    optimizer: Literal["muon", "adamw"] = "muon"  # which
    start: list[str] = field(default_factory=list)  # prompts


def test_forms():
    s = parse(Settings, ["a.txt", "--n_layer=3", "--dropout", "0", "--resume", "--start=甲", "--start", "乙", "--save", "b.txt"])
    assert (s.inputs, s.save) == (["a.txt"], "b.txt")
    assert (s.n_layer, s.dropout, s.resume, s.start) == (3, 0.0, True, ["甲", "乙"])
    assert parse(Settings, ["--save"]).save is True
    assert parse(Settings, ["--save=x"]).save == "x"
    assert parse(Settings, ["--resume", "False"]).resume is False
    assert parse(Settings, ["--n-layer=1e1"]).n_layer == 10


def test_command_line_wins_over_config(tmp_path):
    (tmp_path / "a.py").write_text('"""doc"""\nn_layer = 4 * 3  # twelve\ndropout = -1 / 4\noptimizer = "adamw"\n')
    s = parse(Settings, ["--n_layer=2", str(tmp_path / "a.py")])
    assert (s.n_layer, s.dropout, s.optimizer) == (2, -0.25, "adamw")


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--n_layers=3"], "did you mean n_layer"),
        (["--n_layer=three"], "expected INTEGER"),
        (["--n_layer=1.5"], "expected INTEGER"),
        (["--resume=perhaps"], "expected True|False"),
        (["--optimizer=sgd"], r"expected muon\|adamw"),
        (["--n_layer"], "needs a value"),
        (["none.py"], "cannot read the config file"),
    ],
)
def test_mistakes(arguments, words):
    with pytest.raises(UserError, match=words):
        parse(Settings, arguments)


@pytest.mark.parametrize(
    "line",
    ["import os", "n_layer = print(1)", "n_layer = __import__('os').system('x')", "n_layer = 9 ** 9", "n_layer = x", "n_layer = 'a'",
     "n_layer = 1 / 0", "n_layer += 1", "n_layer ="],
)  # fmt: skip
def test_config_is_never_executed(tmp_path, line):
    (tmp_path / "a.py").write_text(line + "\n")
    with pytest.raises(UserError, match="line 1"):
        parse(Settings, [str(tmp_path / "a.py")])


@pytest.mark.parametrize(
    "error, status, words",
    [
        (UserError("so not"), 2, "so not"),
        (KeyboardInterrupt(), 130, ""),
        (OSError(28, "No space left on device", "a/b"), 2, "a/b: No space left on device"),
        (MemoryError(), 2, "MemoryError"),
        (RuntimeError("CUDA out of memory. Tried to allocate 9 GiB\nmore"), 2, "9 GiB)"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 2, "out of memory"),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried"), 2, "out of memory"),
        (RuntimeError("Invalid buffer size: 36.00 GiB"), 2, "out of memory"),
    ],
)
def test_how_a_script_ends(error, status, words, capsys):
    def main(settings):
        raise error

    with pytest.raises(SystemExit) as end:
        run(main, None)
    message = capsys.readouterr().err
    assert end.value.code == status and words in message and len(message.splitlines()) <= 2


@pytest.mark.parametrize(
    "name, told, not_told",
    [("train", ["batch_size", "block_size", "checkpoint_activations"], ["num_samples"]), ("sample", ["num_samples", "quantize"], ["batch_size"]), ("prepare", [], ["batch_size"])],
)
def test_out_of_memory_advises_what_the_script_has(name, told, not_told, capsys):
    def main(settings):
        raise MemoryError

    with pytest.raises(SystemExit):
        run(main, importlib.import_module(name).Settings)
    message = capsys.readouterr().err
    assert all(f"--{word}" in message for word in told) and not any(f"--{word}" in message for word in not_told), message
    assert len(message.splitlines()) <= 2


def test_a_bug_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run(lambda s: 1 / 0, None)


def test_help_has_every_setting_with_its_comment():
    text = help_text(Settings)
    assert "numbers" in text
    for name, comment in (("n_layer=12", "how many"), ("optimizer=muon", "which"), ("start", "prompts")):
        assert any(f"--{name}" in line and comment in line for line in text.splitlines())


@pytest.mark.parametrize("name", ["prepare.py", "train.py", "sample.py", "evaluate.py"])
def test_help_of_each_script_needs_no_heavy_import(name, tmp_path):
    code = f"import sys, runpy; sys.argv = [{name!r}, '--help']\ntry: runpy.run_path({str(ROOT / name)!r}, run_name='__main__')\n" \
           "except SystemExit as end: assert not end.code\nassert not {'torch', 'numpy'} & set(sys.modules)"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, encoding="utf-8", cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "--device" in done.stdout or "--vocab" in done.stdout
    assert all("[" in line for line in done.stdout.splitlines() if line.startswith("  --")), "each setting has its type"


@pytest.mark.parametrize("name", ["config/novel.py", "config/laptop.py", "config/original.py"])
def test_shipped_configs_are_valid(name):
    import train

    parse(train.Settings, [str(ROOT / name)])


@pytest.mark.parametrize("name", ["prepare.py", "train.py", "sample.py", "evaluate.py"])
def test_unknown_setting_leaves_with_2(name, tmp_path):
    done = script(name, "--devise=cpu", cwd=tmp_path, check=2)
    assert len(done.stderr.strip().splitlines()) == 1 and "there is no setting" in done.stderr
