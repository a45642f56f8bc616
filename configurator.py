"""
Typed settings for the scripts: defaults in a dataclass, then config files, then --key=value.

    @dataclass
    class Settings:
        # data
        data_dir: str = "data/novel"  # the prepared folder
        batch_size: int = 16  # windows per micro-batch

    settings = configure(Settings) if __name__ == "__main__" else None   # before the heavy imports

The comment behind a setting is its text in --help. A comment on a line of its own is a heading there.
A config file holds `name = literal` lines (arithmetic on numbers is allowed). It is parsed, never executed.
The command line wins over config files, and a later file wins over an earlier one. Standard library only.
"""

import ast
import difflib
import inspect
import operator
import os
import re
import shlex
import signal
import subprocess
import sys
import textwrap
import types
import typing
import warnings
from dataclasses import MISSING, fields, replace
from typing import Literal


class UserError(ValueError):
    """A user's mistake. `run` prints its message, one or two plain lines, and exits with status 2."""


class PathStr(str):
    """The type of settings that are paths. A leading ~ is replaced by the home folder; the values are plain strings."""


def configure(Settings: type):
    """Parse the script's command line. Prints --help and exits; exits with status 2 on a mistake."""
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # until `run` is called there is nothing to save
    warnings.formatwarning = lambda message, *_: f"{message}\n"  # without the line of code
    sys.excepthook = _report_missing_package  # the heavy imports follow
    for stream in (sys.stdout, sys.stderr):  # Windows consoles default to a code page without Chinese
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    argv = sys.argv[1:]
    if "--help" in argv or "-h" in argv:
        run(lambda _: print(help_text(Settings)), None)
        sys.exit(0)
    try:
        return parse(Settings, argv)
    except UserError as error:
        _fail(error)


def run(main, settings) -> None:
    """Call main(settings). Mistakes, Ctrl-C, disk errors and lack of memory end with a message, not a traceback."""
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        main(settings)
        print(end="", flush=True)  # what cannot be written is noticed here, not when Python exits
    except UserError as error:
        _fail(error)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # the program that reads our output has exited (| head)
        discard_output()
        sys.exit(1)
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}" if error.filename else error.strerror or error)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        advice = ", or ".join(text for name, text in LESS_MEMORY.items() if hasattr(settings, name))
        _fail(f"out of memory ({first_line(error)})." + (f"\nUse {advice}." if advice else ""))


def discard_output() -> None:
    """Send what is printed from now on nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def first_line(error: Exception) -> str:
    """The first line of an error's message, at most 150 characters; its class name where it has no message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:150]


def is_out_of_memory(error: Exception) -> bool:
    """Did memory run out: torch.OutOfMemoryError (GPU), RuntimeError (CPU on Linux and Windows, mps) or MemoryError?

    Recognised by the message, because torch may not be imported here.
    """
    words = "out of memory|can't allocate memory|not enough memory|Invalid buffer size|_STATUS_ALLOC_FAILED"
    return isinstance(error, MemoryError) or re.search(words, str(error)) is not None


# Setting -> advice against running out of memory. Only advice for settings that the script has is printed.
LESS_MEMORY = {
    "batch_size": "--batch_size=auto, or a smaller one (with more --gradient_accumulation_steps, unless that is auto)",
    "block_size": "a smaller --block_size",
    "checkpoint_activations": "--checkpoint_activations",
    "num_samples": "a smaller --num_samples",
    "max_new_tokens": "a smaller --max_new_tokens",
    "temperature": "--quantize=int8 on a CPU",  # sample.py; export.py has another --quantize
}


def _report_missing_package(kind: type, error: BaseException, traceback) -> None:
    """sys.excepthook: a package that is not installed ends with a message and status 2, anything else as usual."""
    if isinstance(error, ModuleNotFoundError):
        activate = r".venv\Scripts\activate" if os.name == "nt" else "source .venv/bin/activate"
        _fail(f"this Python has no package {error.name}. Run {activate}, or pip install -r requirements.txt")
    sys.__excepthook__(kind, error, traceback)


def _fail(message) -> typing.NoReturn:
    try:
        print(end="", flush=True)
    except OSError:
        discard_output()
    print(f"{os.path.basename(sys.argv[0])}: {message}", file=sys.stderr)
    sys.exit(2)


def parse(Settings: type, argv: list[str]):
    """Command line -> Settings. Raises UserError for anything that it does not understand.

    Accepts --key=value and --key value; a bare --flag means True. NAME.py is a config file. Any other word is
    appended to the setting `inputs`, where the script has one.
    """
    for word in argv:
        if re.search("[\ud800-\udfff]", word):
            raise UserError(f"{word!r} is not valid UTF-8")
    known = {field.name: field for field in fields(Settings)}
    values, overrides, rest = {}, {}, list(argv)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            if word.endswith(".py"):
                values.update(read_config(word, Settings))
            elif "inputs" in known:
                overrides.setdefault("inputs", []).append(_from_text(word, known["inputs"].type, word))
            else:
                raise UserError(
                    f"cannot use {word!r}: settings are --key=value, config files end in .py; --help lists all"
                )
            continue
        key, equals, text = word[2:].partition("=")
        key = key.replace("-", "_")
        kind = _field(Settings, key, f"--{key}").type
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
    """A copy of the settings with one value changed. Raises UserError for an unknown name or a wrong type."""
    kind = _field(type(settings), name, f"{name}={text}").type
    return replace(settings, **{name: _from_text(text, kind, f"{name}={text}")})


def quote(path: str) -> str:
    """A path as it can be pasted into a shell."""
    return subprocess.list2cmdline([path]) if os.name == "nt" else shlex.quote(path)


def select(Options: type, settings, **others):
    """The dataclass `Options`, filled with `others` and, for the rest, with the settings of the same names."""
    names = {field.name for field in fields(Options)} - others.keys()
    return Options(**others, **{name: getattr(settings, name) for name in names})


def read_config(path: str, Settings: type) -> dict:
    """The name -> value pairs of a config file, each checked against its type in Settings. Raises UserError."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            return _read_lines(ast.parse(file.read(), path), path, Settings)
    except OSError as error:
        here = os.path.dirname(path) or "."
        there = sorted(n for n in os.listdir(here) if n.endswith(".py")) if os.path.isdir(here) else []
        hint = f". {here} has {', '.join(there)}" if there else ""
        raise UserError(f"cannot read the config file {path}: {error.strerror}{hint}") from None
    except UserError:
        raise
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8") from None
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as error:
        raise UserError(f"{path}, line {getattr(error, 'lineno', '?')}: not a `name = value` line") from None


def _read_lines(tree: ast.Module, path: str, Settings: type) -> dict:
    values = {}
    for node in tree.body:
        where = f"{path}, line {node.lineno}"
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue  # a docstring
        if not (isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name)):
            raise UserError(f"{where}: not a `name = value` line")
        key = node.targets[0].id
        kind = _field(Settings, key, where).type
        values[key] = _check(_literal(node.value, where), kind, f"{where}: {key} = {ast.unparse(node.value)}")
    return values


_ARITHMETIC = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}


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


def _field(Settings: type, key: str, where: str):
    """The dataclass field of a setting. Raises UserError for an unknown name, with the new way for a name of before."""
    known = {field.name: field for field in fields(Settings)}
    if key in known:
        return known[key]
    if key in getattr(Settings, "REPLACED", ()):
        raise UserError(f"{where}: there is no setting {key!r} any more; use {Settings.REPLACED[key]}")
    close = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {close[0]}?" if close else "--help lists all"
    raise UserError(f"{where}: there is no setting {key!r}; {hint}")


_BOOL = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def _options(kind) -> tuple:
    """The types of a union, or the type itself."""
    return typing.get_args(kind) if typing.get_origin(kind) in (types.UnionType, typing.Union) else (kind,)


def _from_text(text: str, kind, where: str):
    """Convert text from the command line to the setting's type, or to that of a list's elements. Raises UserError."""
    kind = typing.get_args(kind)[0] if typing.get_origin(kind) is list else kind
    for option in _options(kind):
        value = text
        try:
            if option is bool:
                value = _BOOL[text.lower()]
            elif option is int and text.strip("+-").isdigit():
                value = int(text)  # all digits of a large number
            elif option in (int, float):
                value = float(text)
            elif typing.get_origin(option) is Literal:
                value = {str(choice): choice for choice in typing.get_args(option)}[text]
            return _check(value, option, where)
        except (KeyError, ValueError):
            continue
    raise UserError(f"{where}: expected {_show_type(kind)}")


def _check(value, kind, where: str):
    """Check a value against the setting's type. Raises UserError. A whole number may be a float: 1e6, or 8 / 2."""
    for option in _options(kind):
        origin, arguments = typing.get_origin(option), typing.get_args(option)
        if origin is list:  # one value stands for a list of it
            return [_check(element, arguments[0], where) for element in (value if type(value) is list else [value])]
        if type(value) is option or (origin is Literal and value in arguments):
            return value
        if option is float and type(value) is int:
            return float(value)
        if option is int and type(value) is float and value.is_integer():
            return int(value)
        if option is PathStr and type(value) is str:
            if re.search("[\0-\x1f]", value):  # data_dir = "data\novel" in a config file has a line break
                raise UserError(f"{where}: {value!r} is no path; write / in paths, not \\")
            return os.path.expanduser(value)
    raise UserError(f"{where}: expected {_show_type(kind)}")


def _show_type(kind) -> str:
    if len(_options(kind)) > 1:
        return "|".join(map(_show_type, _options(kind)))
    if typing.get_origin(kind) is Literal:
        return "|".join(map(str, typing.get_args(kind)))
    if typing.get_origin(kind) is list:
        return _show_type(typing.get_args(kind)[0]) + ", may be repeated"
    return {bool: "True|False", int: "INTEGER", float: "NUMBER", str: "TEXT", PathStr: "PATH"}[kind]


def help_text(Settings: type) -> str:
    """The script's docstring, then every setting with its default, comment and type, wrapped to 100 columns."""
    lines = [inspect.cleandoc(sys.modules[Settings.__module__].__doc__ or ""), ""]
    known = {field.name: field for field in fields(Settings)}
    for line in inspect.getsource(Settings).splitlines():
        code, _, comment = line.partition("  # ")
        name = code.strip().partition(":")[0]
        if name in known:
            default = known[name].default
            option = f"  --{name}" + ("" if default in ("", MISSING) else f"={default}")
            text = f"{option:38} {comment} [{_show_type(known[name].type)}]"
            lines.append(textwrap.fill(text, 100, subsequent_indent=" " * 39, break_on_hyphens=False))
        elif line.strip().startswith("# "):
            lines += ["", line.strip()[2:]] if lines[-1] else [line.strip()[2:]]
    return "\n".join(lines)
