"""docs/quickstart.ipynb: its form, single cells, and all cells run by nbclient on a tiny text on the CPU."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from types import SimpleNamespace

import pytest
from conftest import ROOT, TINY, story

from checkpoint import load_pretrained

NOTEBOOK = ROOT / "docs/quickstart.ipynb"
CELLS = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
CODE = {cell["id"]: "".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code"}
TEXT = {cell["id"]: "".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "markdown"}


# -- its form --------------------------------------------------------------------------------------------------------


def test_notebook_is_saved_without_outputs():
    assert not any(cell["outputs"] or cell["execution_count"] for cell in CELLS if cell["cell_type"] == "code")


@pytest.mark.parametrize("name", CODE)
def test_notebook_cell_is_plain_python(name):
    ast.parse(CODE[name])  # without ! and % lines: the notebook would go on after one that fails


@pytest.mark.parametrize("name", TEXT)
def test_notebook_text_ends_in_chinese(name):
    assert re.search("[一-龥]", TEXT[name].splitlines()[-1])


# -- single cells ----------------------------------------------------------------------------------------------------


def execute(*names: str, **variables) -> SimpleNamespace:
    """Execute code cells here, with these variables set before. Returns all variables."""
    for name in names:
        exec(compile(CODE[name], name, "exec"), variables)
    return SimpleNamespace(**variables)


@pytest.fixture
def helpers(monkeypatch):
    """What the set-up cell of a notebook in docs/ defines."""
    monkeypatch.chdir(ROOT / "docs")
    return execute("clone")


def test_clone_uses_the_checkout_that_the_notebook_is_in(helpers):
    assert helpers.PROJECT == ROOT


@pytest.mark.skipif(not shutil.which("git"), reason="git is not installed")
def test_clone_fetches_the_repository_elsewhere(tmp_path, monkeypatch):
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "first"], check=True)
    (tmp_path / "colab").mkdir()
    monkeypatch.chdir(tmp_path / "colab")
    project = execute("clone", REPOSITORY=tmp_path.as_uri()).PROJECT
    assert project == tmp_path / "colab/novel-gpt" and (project / ".git").exists()


def test_run_shows_the_programs_message_and_stops_the_notebook(helpers, capsys):
    with pytest.raises(helpers.CommandFailed, match=r"train\.py ended with exit status 2"):
        helpers.python("train.py", "--no_such=1")
    assert "there is no setting 'no_such'" in capsys.readouterr().out


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for a single process")
def test_run_passes_the_stop_button_on_and_waits(helpers, capsys):
    handle = "import signal, time; signal.signal(signal.SIGINT, signal.default_int_handler)"  # ignored in a background
    code = f"{handle}\ntry: print('begun'); time.sleep(60)\nexcept KeyboardInterrupt: print('saved'); exit(130)"
    presses = iter([KeyboardInterrupt])

    def press_stop():
        for error in presses:
            raise error

    with pytest.raises(helpers.CommandFailed, match="exit status 130"):
        helpers.run(sys.executable, "-c", code, on_line=press_stop)
    assert capsys.readouterr().out.split() == ["begun", "saved"]


@pytest.mark.parametrize(
    "versions, installed",
    [
        ({}, []),
        ({"torch": "2.11.0+cu128"}, []),
        ({"torch": "2.9.1"}, ["torch"]),
        ({"numpy": "1.26.4", "lxml": None, "gguf": None}, ["gguf", "lxml"]),
    ],
)
def test_install_takes_pinned_versions_of_what_is_missing(monkeypatch, versions, installed):
    def version(name):
        if versions.get(name, "") is None:
            raise metadata.PackageNotFoundError(name)
        return versions.get(name, "2.13.0")

    commands = []
    monkeypatch.setattr(metadata, "version", version)
    execute("install", PROJECT=ROOT, python=lambda *words: commands.append(words))
    packages = [word for words in commands for word in words if "==" in word]
    assert sorted({package.partition("==")[0] for package in packages}) == installed


# -- all cells -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """(folder, outputs): what the notebook left on the disk, and the outputs of each cell by the cell's name.

    Its settings are replaced. The cells that prepare and train are run twice.
    """
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    folder = tmp_path_factory.mktemp("notebook")
    (folder / "小说.txt").write_text(story(), encoding="utf-8")
    settings = {
        "NOVEL": str(folder / "小说.txt"),
        "NAME": "tiny",
        "KEEP": str(folder / "kept"),
        "TRAIN_SETTINGS": [*TINY, "--max_iters=10", "--eval_interval=5"],
        "START": "却说阿青",
    }
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    cells = {cell["id"]: cell for cell in notebook.cells}
    cells["parameters"].source = "\n".join(f"{name} = {value!r}" for name, value in settings.items())
    for name in ("prepare", "train"):
        again = nbformat.v4.new_code_cell(cells[name].source, id=f"{name}-again")
        notebook.cells.insert(notebook.cells.index(cells["sample"]), again)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR"):
            patch.setenv(name, str(folder / name))
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        place = {"metadata": {"path": str(NOTEBOOK.parent)}}
        nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources=place).execute()
    return folder / "kept", {cell["id"]: cell.get("outputs") for cell in notebook.cells}


def printed(outputs: list) -> str:
    return "".join(output["text"] for output in outputs if output["output_type"] == "stream")


def test_notebook_trains_a_checkpoint(executed):
    assert (executed[0] / "out/tiny-laptop/ckpt-00000010/model.safetensors").exists()


def test_notebook_shows_the_curve(executed):
    assert any("image/png" in output.get("data", ()) for output in executed[1]["train"])


def test_notebook_prepares_once(executed):
    assert "is prepared already" in printed(executed[1]["prepare-again"])


def test_notebook_resumes_the_run(executed):
    assert re.search(r"resumed .*ckpt-00000010 at step 10", printed(executed[1]["train-again"]))


def test_notebook_shows_samples_and_saves_them(executed):
    saved = (executed[0] / "tiny-samples.txt").read_text(encoding="utf-8")
    assert saved.count("却说阿青") >= 3 and "SAMPLE 3" in printed(executed[1]["sample"])


def test_notebook_exports_a_gguf_file(executed):
    assert (executed[0] / "tiny.gguf").read_bytes()[:4] == b"GGUF"


def test_notebook_zips_a_checkpoint_that_opens(executed, tmp_path):
    shutil.unpack_archive(executed[0] / "tiny.zip", tmp_path)
    assert load_pretrained(tmp_path / "tiny").config.n_layer == 2


def test_notebook_installs_nothing_that_is_there(executed):
    assert executed[1]["install"] == []
