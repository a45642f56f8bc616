"""
Settings: a typed block at the top of each script, then config files, then --key=value.

    @dataclass
    class Settings:
        # data
        data_dir: str = "data/novel"  # the prepared folder
        batch_size: int = 16  # windows in a micro-batch

    settings = configure(Settings) if __name__ == "__main__" else None   # before the heavy imports

A setting's comment is its line in --help; a comment on a line of its own is a heading there. A config file holds
`name = literal` lines (arithmetic on numbers allowed); it is parsed, never executed. What is on the command
line wins over what is in a file; a later file wins over an earlier one. Standard library only.
"""

import ast
import inspect
import operator
import os
import re
import signal
import sys
import types
import typing
from dataclasses import MISSING, fields, replace
from typing import Literal


class UserError(ValueError):
    """A mistake of the user's: `run` prints its text, one or two plain lines, and leaves with status 2."""


def configure(Settings: type, argv: list[str] | None = None):
    """The settings of a script's command line. Answers --help itself; leaves with status 2 on a mistake."""
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # until `run`: there is nothing to save yet
    for stream in (sys.stdout, sys.stderr):  # Chinese text on a Windows console, whatever its code page
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    argv = sys.argv[1:] if argv is None else argv
    if "--help" in argv or "-h" in argv:
        print(help_text(Settings))
        sys.exit(0)
    try:
        return parse(Settings, argv)
    except UserError as error:
        _fail(error)


def run(main, settings) -> None:
    """Call main(settings); a mistake, an interrupt or a failing disk ends in plain words instead of a traceback."""
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        main(settings)
    except UserError as error:
        _fail(error)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output has left (| head)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}" if error.filename else error.strerror or error)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        ways = ", or ".join(way for name, way in LESS_MEMORY.items() if hasattr(settings, name))
        _fail(f"out of memory ({first_line(error)})." + (f"\nLess is needed with {ways}." if ways else ""))


def first_line(error: Exception) -> str:
    """The beginning of an error's text, or its kind where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:150]


def is_out_of_memory(error: Exception) -> bool:
    """torch.OutOfMemoryError on a GPU, a RuntimeError on a CPU: known by their words (Linux, Windows, mps), for torch may not be loaded here."""
    words = "out of memory|can't allocate memory|not enough memory|Invalid buffer size"
    return isinstance(error, MemoryError) or re.search(words, str(error)) is not None


LESS_MEMORY = {
    "batch_size": "a smaller --batch_size (raise --gradient_accumulation_steps to match)",
    "block_size": "a smaller --block_size",
    "checkpoint_activations": "--checkpoint_activations",
    "num_samples": "a smaller --num_samples",
    "max_new_tokens": "a smaller --max_new_tokens",
    "quantize": "--quantize=int8 on a CPU",
}
"""What a user can do where memory is short, by the setting that the script must have for it."""


def _fail(message) -> typing.NoReturn:
    sys.stdout.flush()
    print(f"{os.path.basename(sys.argv[0])}: {message}", file=sys.stderr)
    sys.exit(2)


def parse(Settings: type, argv: list[str]):
    """Command line -> Settings. Raises UserError for what it does not understand.

    --key=value and --key value; a bare --flag is True; NAME.py is a config file; anything else goes to the
    block's list named `inputs`, if it has one.
    """
    for word in argv:
        if not word.isprintable() and re.search("[\ud800-\udfff]", word):
            raise UserError(f"{word!r} is not valid UTF-8")
    known = {field.name: field for field in fields(Settings)}
    values, overrides, rest = {}, {}, list(argv)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            if word.endswith(".py"):
                values.update(read_config(word, known))
            elif "inputs" in known:
                overrides.setdefault("inputs", []).append(word)
            else:
                raise UserError(f"what is {word!r}? Settings are --key=value, config files end in .py; --help lists all")
            continue
        key, equals, text = word[2:].partition("=")
        key = key.replace("-", "_")
        kind = _field(known, key, f"--{key}").type
        if not equals:
            if rest and (rest[0].lower() in _BOOL if kind is bool else not rest[0].startswith("--")):
                text = rest.pop(0)
            elif bool in (kind, *typing.get_args(kind)):
                text = "True"
            else:
                raise UserError(f"--{key} needs a value: --{key}={_show_type(kind)}")
        value = _from_text(text, kind, f"--{key}={text}")
        if typing.get_origin(kind) is list:
            overrides.setdefault(key, []).append(value)
        else:
            overrides[key] = value
    return Settings(**{**values, **overrides})


def with_setting(settings, name: str, text: str):
    """The settings with one more, given as text. Raises UserError for an unknown name, or a value that does not fit."""
    kind = _field({field.name: field for field in fields(settings)}, name, f"{name}={text}").type
    return replace(settings, **{name: _from_text(text, kind, f"{name}={text}")})


def read_config(path: str, known: dict) -> dict:
    """A config file's settings, each checked against the type it has in `known`."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            tree = ast.parse(file.read(), path)
            values = _read_lines(tree, path, known)
    except OSError as error:
        here = os.path.dirname(path) or "."
        there = sorted(n for n in os.listdir(here) if n.endswith(".py")) if os.path.isdir(here) else []
        hint = f". {here} has {', '.join(there)}" if there else ""
        raise UserError(f"cannot read the config file {path}: {error.strerror}{hint}") from None
    except UserError:
        raise
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as error:
        raise UserError(f"{path}, line {getattr(error, 'lineno', '?')}: not a `name = value` line") from None
    return values


def _read_lines(tree: ast.Module, path: str, known: dict) -> dict:
    values = {}
    for node in tree.body:
        where = f"{path}, line {node.lineno}"
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue  # a docstring
        if not (isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name)):
            raise UserError(f"{where}: not a `name = value` line")
        key = node.targets[0].id
        kind = _field(known, key, where).type
        values[key] = _check(_literal(node.value, where), kind, f"{where}: {key} = {ast.unparse(node.value)}")
    return values


_ARITHMETIC = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
               ast.FloorDiv: operator.floordiv, ast.USub: operator.neg, ast.UAdd: operator.pos}  # fmt: skip


def _literal(node: ast.AST, where: str):
    """The value of a literal, or of arithmetic on numbers."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_literal(element, where) for element in node.elts]
    operation = _ARITHMETIC.get(type(getattr(node, "op", None)))
    sides = [_literal(getattr(node, s), where) for s in ("left", "right", "operand") if hasattr(node, s)]
    if operation is None or not all(type(side) in (int, float) for side in sides):
        raise UserError(f"{where}: a plain value is expected, not {ast.unparse(node)}")
    try:
        return operation(*sides)
    except ArithmeticError as error:
        raise UserError(f"{where}: {ast.unparse(node)}: {error}") from None


def _field(known: dict, key: str, where: str):
    if key in known:
        return known[key]
    import difflib

    close = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {close[0]}?" if close else "--help lists all"
    raise UserError(f"{where}: there is no setting {key!r}; {hint}")


_BOOL = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def _from_text(text: str, kind, where: str):
    """The command line's text as a value of the setting's type."""
    if typing.get_origin(kind) is list:
        return _from_text(text, typing.get_args(kind)[0], where)
    for option in typing.get_args(kind) if isinstance(kind, types.UnionType) else [kind]:
        try:
            if option is bool:
                return _BOOL[text.lower()]
            if option is int:
                return int(text) if text.strip("+-").isdigit() else _check(float(text), int, where)
            if option is float:
                return float(text)
            return _check(text, option, where)
        except (KeyError, ValueError):
            continue
    raise UserError(f"{where}: expected {_show_type(kind)}")


def _check(value, kind, where: str):
    """A value that has its type already (from a config file): is it the setting's?"""
    for option in typing.get_args(kind) if isinstance(kind, types.UnionType) else [kind]:
        if typing.get_origin(option) is Literal:
            if value in typing.get_args(option):
                return value
        elif typing.get_origin(option) is list:
            if isinstance(value, list):
                return [_check(element, typing.get_args(option)[0], where) for element in value]
        elif isinstance(value, bool) or option is bool:
            if isinstance(value, bool) and option is bool:
                return value
        elif option is float and isinstance(value, (int, float)):
            return float(value)
        elif option is int and isinstance(value, float) and value.is_integer():
            return int(value)  # 1e6, or 8 / 2
        elif isinstance(value, option):
            return value
    raise UserError(f"{where}: expected {_show_type(kind)}")


def _show_type(kind) -> str:
    if isinstance(kind, types.UnionType):
        return "|".join(_show_type(option) for option in typing.get_args(kind))
    if typing.get_origin(kind) is Literal:
        return "|".join(map(str, typing.get_args(kind)))
    if typing.get_origin(kind) is list:
        return _show_type(typing.get_args(kind)[0]) + ", as often as you like"
    return {bool: "True|False", int: "INTEGER", float: "NUMBER", str: "TEXT"}[kind]


def help_text(Settings: type) -> str:
    """The script's docstring, then every setting with its type, default and comment."""
    lines = [inspect.cleandoc(sys.modules[Settings.__module__].__doc__ or ""), ""]
    defaults = {f.name: f.default_factory() if f.default is MISSING else f.default for f in fields(Settings)}
    kinds = {f.name: f.type for f in fields(Settings)}
    for line in inspect.getsource(Settings).splitlines():
        code, _, comment = line.partition("  # ")
        name = code.strip().partition(":")[0]
        if name in kinds:
            default = "" if defaults[name] in ("", []) else f"={defaults[name]}"
            lines.append(f"  {f'--{name}{default}':36} {comment} [{_show_type(kinds[name])}]")
        elif line.strip().startswith("# "):
            lines += ["", line.strip()[2:]] if lines[-1] else [line.strip()[2:]]
    return "\n".join(lines)
