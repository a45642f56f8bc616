import importlib
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import pytest
from conftest import ROOT, script

from configurator import PathStr, UserError, help_text, parse, quote, run, select, with_setting

SCRIPTS = ["prepare.py", "train.py", "sample.py", "evaluate.py", "export.py"]


@dataclass
class Settings:
    inputs: list[str] = field(default_factory=list)  # files
    # numbers
    n_layer: int = 12  # how many
    dropout: float = 0.1  # a share
    resume: bool = False  # continue
    save: bool | str = False  # where
    optimizer: Literal["muon", "adamw"] = "muon"  # which
    start: list[str] = field(default_factory=list)  # prompts
    out_dir: PathStr = "out"  # a folder

    REPLACED: ClassVar[dict[str, str]] = {"max_tokens": "--max_iters"}


@dataclass(frozen=True)
class Options:
    dropout: float
    resume: bool


# -- command line ------------------------------------------------------------------------------------------------------


def test_parse_takes_key_and_value_with_or_without_an_equals_sign():
    s = parse(Settings, ["--n_layer=3", "--dropout", "0", "--start=甲", "--start", "乙"])
    assert (s.n_layer, s.dropout, s.start) == (3, 0.0, ["甲", "乙"])


@pytest.mark.parametrize(
    "arguments, value", [(["--save"], True), (["--save=x"], "x"), (["--save", "b.txt"], "b.txt"), ([], False)]
)
def test_parse_bare_flag_means_true(arguments, value):
    assert parse(Settings, arguments).save == value


def test_parse_flag_can_be_switched_off():
    assert parse(Settings, ["--resume", "False"]).resume is False


def test_parse_accepts_dashes_and_scientific_notation():
    assert parse(Settings, ["--n-layer=1e1"]).n_layer == 10


@pytest.mark.parametrize("arguments", [["--out_dir=~/x"], ["--out_dir", "~/x"]])
def test_parse_replaces_a_leading_tilde_in_paths(arguments):
    assert parse(Settings, arguments).out_dir == str(Path.home() / "x")


def test_parse_keeps_a_tilde_in_other_texts():
    assert parse(Settings, ["--start=~/x"]).start == ["~/x"]


@pytest.mark.skipif(os.name == "nt", reason="quoting of a POSIX shell")
@pytest.mark.parametrize("path", ["out/novel", "out/我的 书", "it's"])
def test_quote_gives_a_word_that_the_shell_reads_as_the_path(path):
    assert subprocess.run(f"printf %s {quote(path)}", shell=True, capture_output=True, text=True).stdout == path


def test_config_file_that_is_not_utf8_is_called_that(tmp_path):
    (tmp_path / "a.py").write_bytes('out_dir = "书"'.encode("gb18030"))
    with pytest.raises(UserError, match="a.py is not UTF-8"):
        parse(Settings, [str(tmp_path / "a.py")])


def test_parse_other_words_are_inputs():
    assert parse(Settings, ["a.txt", "--resume", "b.txt"]).inputs == ["a.txt", "b.txt"]


def test_parse_command_line_wins_over_config_file(tmp_path):
    (tmp_path / "a.py").write_text('"""doc"""\nn_layer = 4 * 3  # twelve\ndropout = -1 / 4\noptimizer = "adamw"\n')
    s = parse(Settings, ["--n_layer=2", str(tmp_path / "a.py")])
    assert (s.n_layer, s.dropout, s.optimizer) == (2, -0.25, "adamw")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--n_layers=3"], "did you mean n_layer"),
        (["--max_tokens=3"], "no setting 'max_tokens' any more; use --max_iters"),
        (["--n_layer=three"], "expected INTEGER"),
        (["--n_layer=1.5"], "expected INTEGER"),
        (["--resume=perhaps"], "expected True|False"),
        (["--optimizer=sgd"], r"expected muon\|adamw"),
        (["--n_layer"], "needs a value"),
        (["none.py"], "cannot read the config file"),
    ],
)
def test_parse_names_mistakes(arguments, message):
    with pytest.raises(UserError, match=message):
        parse(Settings, arguments)


@pytest.mark.parametrize("value, expected", [('"甲"', ["甲"]), ('["甲", "乙"]', ["甲", "乙"])])
def test_config_file_gives_a_list_or_one_value_of_it(tmp_path, value, expected):
    (tmp_path / "a.py").write_text(f"start = {value}\n", encoding="utf-8")
    assert parse(Settings, [str(tmp_path / "a.py")]).start == expected


def test_path_with_a_line_break_is_refused(tmp_path):
    (tmp_path / "a.py").write_text('out_dir = "data\\novel"\n')  # Windows' separator, and Python's line break
    with pytest.raises(UserError, match=r"out_dir.*'data\\novel' is no path; write / in paths"):
        parse(Settings, [str(tmp_path / "a.py")])


CODE = [
    "import os",
    "n_layer = print(1)",
    "n_layer = __import__('os').system('x')",
    "n_layer = 9 ** 9",
    "n_layer = x",
    "n_layer = 'a'",
    "n_layer = 1 / 0",
    "n_layer += 1",
    "n_layer =",
]


@pytest.mark.parametrize("line", CODE)
def test_config_file_is_never_executed(tmp_path, line):
    (tmp_path / "a.py").write_text(line + "\n")
    with pytest.raises(UserError, match="line 1"):
        parse(Settings, [str(tmp_path / "a.py")])


def test_with_setting_converts_and_checks_the_text():
    assert with_setting(Settings(), "dropout", "0.5").dropout == 0.5
    with pytest.raises(UserError, match="expected NUMBER"):
        with_setting(Settings(), "dropout", "much")


def test_select_takes_the_fields_of_the_same_name():
    assert select(Options, Settings(dropout=0.2)) == Options(0.2, False)


# -- how a script ends -------------------------------------------------------------------------------------------------


def end_of(error: Exception, settings=None) -> int:
    """The status with which `run` exits when main raises this error."""

    def main(settings):
        raise error

    with pytest.raises(SystemExit) as end:
        run(main, settings)
    return end.value.code


@pytest.mark.parametrize(
    "error, status, message",
    [
        (UserError("a mistake"), 2, "a mistake"),
        (KeyboardInterrupt(), 130, ""),
        (OSError(28, "No space left on device", "a/b"), 2, "a/b: No space left on device"),
        (MemoryError(), 2, "MemoryError"),
        (RuntimeError("CUDA out of memory. Tried to allocate 9 GiB\nmore"), 2, "9 GiB)"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 2, "out of memory"),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried"), 2, "out of memory"),
        (RuntimeError("Invalid buffer size: 36.00 GiB"), 2, "out of memory"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), 2, "out of memory"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), 2, "out of memory"),
    ],
)
def test_run_ends_expected_errors_with_a_short_message(error, status, message, capsys):
    assert end_of(error) == status
    printed = capsys.readouterr().err
    assert message in printed and len(printed.splitlines()) <= 2


@pytest.mark.parametrize(
    "name, advised, not_advised",
    [
        ("train", ["batch_size", "block_size", "checkpoint_activations"], ["num_samples"]),
        ("sample", ["num_samples", "quantize"], ["batch_size"]),
        ("prepare", [], ["batch_size"]),
    ],
)
def test_run_advises_settings_that_the_script_has_when_memory_runs_out(name, advised, not_advised, capsys):
    end_of(MemoryError(), importlib.import_module(name).Settings)
    printed = capsys.readouterr().err
    assert all(f"--{word}" in printed for word in advised) and not any(f"--{word}" in printed for word in not_advised)
    assert len(printed.splitlines()) <= 2


def test_run_keeps_the_traceback_of_a_bug():
    with pytest.raises(ZeroDivisionError):
        run(lambda s: 1 / 0, None)


# -- help --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "option, comment", [("--n_layer=12", "how many"), ("--optimizer=muon", "which"), ("--start", "prompts")]
)
def test_help_shows_each_setting_with_default_comment_and_type(option, comment):
    lines = [line for line in help_text(Settings).splitlines() if line.strip().startswith(option)]
    assert len(lines) == 1 and comment in lines[0] and lines[0].endswith("]")


def test_help_shows_headings():
    assert "numbers" in help_text(Settings).splitlines()


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_fits_100_columns_in_every_script(name):
    script = importlib.import_module(name.removesuffix(".py"))
    text = script.__doc__ + help_text(script.Settings)
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_imports_neither_torch_nor_numpy(name):
    code = (
        f"import sys, runpy; sys.argv = [{name!r}, '--help']\n"
        f"try: runpy.run_path({str(ROOT / name)!r}, run_name='__main__')\n"
        "except SystemExit as end: assert not end.code\n"
        "assert not {'torch', 'numpy'} & set(sys.modules)"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "  --" in done.stdout


# -- the scripts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "script, name, replacement",
    [
        ("train", "eval_iters", "--eval_windows"),
        ("train", "dataset", "--data_dir"),
        ("train", "lr", "--learning_rate"),
        ("sample", "nsamples", "--num_samples"),
    ],
)
def test_names_of_nanogpt_and_gpt2_chinese_get_the_new_name(script, name, replacement):
    with pytest.raises(UserError, match=f"use {replacement}"):
        parse(importlib.import_module(script).Settings, [f"--{name}=1"])


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "config").glob("*.py")))
def test_shipped_config_files_are_valid(name):
    import train

    parse(train.Settings, [str(ROOT / "config" / name)])


@pytest.mark.parametrize("name, package", [("prepare.py", "numpy"), ("sample.py", "torch"), ("serve.py", "torch")])
def test_missing_package_is_named_in_one_line(name, package, tmp_path):
    (tmp_path / f"{package}.py").write_text(f"raise ModuleNotFoundError(name={package!r})")
    done = script(name, cwd=tmp_path, check=2, environment={"PYTHONPATH": str(tmp_path)})
    assert len(done.stderr.strip().splitlines()) == 1 and f"no package {package}" in done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
@pytest.mark.parametrize("name", SCRIPTS)
def test_help_that_cannot_be_written_ends_without_a_traceback(name):
    read, write = os.pipe()
    os.close(read)
    with open(write, "wb") as closed_pipe:
        done = subprocess.run([sys.executable, ROOT / name, "--help"], stdout=closed_pipe, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (1, b"")
    with open("/dev/full", "wb") as full:
        done = subprocess.run([sys.executable, ROOT / name, "--help"], stdout=full, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (2, f"{name}: No space left on device\n".encode())


@pytest.mark.parametrize("name", SCRIPTS)
def test_unknown_setting_exits_with_status_2(name, tmp_path):
    done = script(name, "--devise=cpu", cwd=tmp_path, check=2)
    assert len(done.stderr.strip().splitlines()) == 1 and "there is no setting" in done.stderr
