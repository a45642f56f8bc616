"""The layout of the project, held over the syntax trees: imports go one way, functions and lines are short."""

import ast
from pathlib import Path

import pytest
from conftest import ROOT

FOLDERS = ("text", "training", "generation")
LAYERS = [
    ("configurator", "wordpiece", "model"),
    ("tokenizer", "machine", "files"),
    ("dataset", "checkpoint"),
    FOLDERS,
    ("prepare", "train", "sample", "serve", "evaluate", "export"),
]
"""A module imports modules of lower layers only, and those of its own folder."""
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
MODULES = [ROOT / f"{name}.py" for name in RANK if name not in FOLDERS]
MODULES += sorted(path for folder in FOLDERS for path in (ROOT / folder).glob("*.py"))
SOURCES = [path for pattern in ("*.py", "*/*.py") for path in sorted(ROOT.glob(pattern)) if ".venv" not in path.parts]


def unit(path: Path) -> str:
    """The name under which a file is imported: its folder's for files in text/, training/ and generation/."""
    return path.parent.name if path.parent != ROOT else path.stem


def imported(path: Path) -> set[str]:
    """The project's modules and folders that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").partition(".")[0])
    return names & RANK.keys()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_go_one_way(path):
    own = unit(path)
    for name in imported(path) - {own}:
        assert RANK[name] < RANK[own], f"{path.name} imports {name}"


def test_model_imports_nothing_of_the_project():
    assert not imported(ROOT / "model.py")


@pytest.mark.parametrize("folder", FOLDERS)
def test_init_files_are_empty(folder):
    assert (ROOT / folder / "__init__.py").read_bytes() == b""


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_functions_have_at_most_60_lines(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno - node.lineno < 60, f"{node.name} is too long"


def test_training_loop_has_at_most_50_lines():
    tree = ast.parse((ROOT / "train.py").read_text(encoding="utf-8"))
    loops = [node for node in ast.walk(tree) if isinstance(node, ast.While)]
    assert len(loops) == 1 and loops[0].end_lineno - loops[0].lineno < 50
