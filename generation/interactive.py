"""Write a story with the model in the terminal: generate, add text, undo, retry, save."""

import os
import sys
import time
from dataclasses import asdict, dataclass, fields
from itertools import count
from pathlib import Path

from configurator import UserError, first_line, is_out_of_memory, with_setting
from files import write_atomic
from generation.batching import Continuation, generate
from generation.console import ConsoleStreamer
from generation.sampling import SamplingParams
from generation.saving import SampleFile, name_file
from model import GPT
from tokenizer import Tokenizer

HELP = """Enter generates more; typed text is added to the story (\\n: a line break); Ctrl-C stops generating.
/undo removes the last segment   /retry generates it again   /save [FILE] saves the story ({file})
/set top_p 0.9 changes a setting   /help shows this   /quit or Ctrl-D ends the session"""


@dataclass
class Segment:
    """A part of the story: its ids, and its text as it was typed or shown."""

    ids: list[int]
    text: str
    generated: bool = False


def story_file(save: bool | str) -> str:
    """The file for a story: the one that --save names, or the first free name of story.txt, story-2.txt, ...

    Raises UserError when the named file exists: it may hold another story.
    """
    if isinstance(save, str) and save:
        if Path(save).exists():
            raise UserError(f"{save} exists already; choose another name")
        return save
    names = (f"story-{number}.txt" if number > 1 else "story.txt" for number in count(1))
    return next(name for name in names if not Path(name).exists())


def read_pasted(prompt: str) -> str:
    """Read a line. On a terminal, lines that were pasted after it are added, so that they are one segment."""
    lines = [input(prompt)]
    while sys.stdin.isatty() and input_is_waiting():
        lines.append(input())
    return "\n".join(lines)


def input_is_waiting() -> bool:
    """Has the terminal more input? Lines that are typed by hand come more slowly than the 0.05 s of waiting."""
    if os.name == "nt":
        import msvcrt

        time.sleep(0.05)
        return msvcrt.kbhit()
    import select

    return bool(select.select([sys.stdin], [], [], 0.05)[0])


class InteractiveSession:
    """The loop and its commands. With `autosave` the story is saved after each turn."""

    def __init__(
        self, model: GPT, tokenizer: Tokenizer, params: SamplingParams, prompt: str, file: SampleFile, autosave: bool
    ):
        """file: the story's own file, which this session writes as a whole; its seed is used for generation."""
        self.model, self.tokenizer, self.params = model, tokenizer, params
        self.file, self.autosave, self.prompt = file, autosave, prompt
        self.own_files = set()  # paths that this session has written
        first = Continuation(tokenizer, prompt, params)
        self.segments, self.turn = [Segment(first.ids, first.text)], 0
        self.commands = {
            "/undo": self.undo,
            "/retry": self.retry,
            "/save": self.save,
            "/set": self.set,
            "/help": lambda rest: print(HELP.format(file=self.file.path)),
        }

    @property
    def text(self) -> str:
        """The story so far."""
        return "".join(segment.text for segment in self.segments)

    def run(self) -> None:
        """Read lines and run them, until /quit or the end of the input."""
        if hasattr(sys.stdin, "reconfigure"):
            sys.stdin.reconfigure(encoding="utf-8", errors="replace")
        print(HELP.format(file=self.file.path), file=sys.stderr)
        print(self.text, end="", flush=True)
        while True:
            try:
                line = read_pasted("\n> ")
            except KeyboardInterrupt:  # perhaps meant for the text that has just ended
                print("\n/quit or Ctrl-D ends the session", file=sys.stderr)
                continue
            except EOFError:
                print()
                break
            command, rest = self.parse(line)
            if command in ("/quit", "/exit"):
                break
            self.run_command(command, rest, line)
        if self.autosave:
            self.write(self.file.path)

    def parse(self, line: str) -> tuple[str, str]:
        """A line -> (command, the rest of the line). A Chinese keyboard writes ／ or 、 instead of the slash."""
        command, rest = (*line.strip().split(maxsplit=1), "", "")[:2]
        if command[:1] in ("／", "、") and "/" + command[1:] in (*self.commands, "/quit", "/exit"):
            command = "/" + command[1:]
        return command, rest

    def run_command(self, command: str, rest: str, line: str) -> None:
        """Run one line. Mistakes, a failing disk and lack of memory do not end the session."""
        try:
            if command in self.commands:
                self.commands[command](rest)
            elif command.startswith("/"):
                raise UserError(f"there is no command {command}; /help lists them")
            else:
                self.add(line)
            if self.autosave:
                self.write(self.file.path)
        except UserError as error:
            print(error, file=sys.stderr)
        except OSError as error:
            print(f"cannot write {error.filename}: {error.strerror or error}", file=sys.stderr)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            print(f"out of memory: {first_line(error)}", file=sys.stderr)

    # -- commands ------------------------------------------------------------------------------------------------------

    def add(self, line: str) -> None:
        """Add the typed text, if any, and generate."""
        if line.strip():
            text = line.replace("\\n", "\n")
            shown = text.replace("[CLS]", "\n\n").replace("[SEP]", "\n")
            self.segments.append(Segment(self.tokenizer.encode_lines(text).tolist(), shown))
        self.generate()

    def retry(self, rest: str) -> None:
        """Generate the last segment again."""
        if self.segments[-1].generated:
            self.segments.pop()
        self.generate()

    def undo(self, rest: str) -> None:
        """Remove the last segment."""
        if len(self.segments) == 1:
            raise UserError("there is nothing to undo")
        self.segments.pop()
        print(self.text[-300:], end="")

    def set(self, rest: str) -> None:
        name, _, value = rest.replace("=", " ").partition(" ")
        names = [field.name for field in fields(SamplingParams)]
        if name not in names:
            raise UserError(f"settings that can be changed here: {' '.join(names)}")
        self.params = with_setting(self.params, name, value.strip().replace("\\n", "\n"))
        print(f"{name} is {getattr(self.params, name)}")

    def save(self, rest: str) -> None:
        """Save the story, to another file if one is named."""
        path = os.path.expanduser(rest) or self.file.path
        self.write(path)
        print(f"{len(self.text):,} characters are in {path}")

    # -- generating and saving -----------------------------------------------------------------------------------------

    def generate(self) -> None:
        """Generate a segment and show it, after the end of the line before it. Ctrl-C stops it."""
        self.turn += 1
        ids = [i for segment in self.segments for i in segment.ids]
        line = self.text.rpartition("\n")[2][-100:]
        continuation = Continuation(self.tokenizer, line, self.params, ids)
        streamer = ConsoleStreamer(self.params.max_new_tokens)
        try:
            generate(self.model, self.tokenizer, [continuation], self.params, self.file.seed, self.turn, streamer)
        except KeyboardInterrupt:
            print()
        new_ids, text = continuation.ids[len(ids) :], continuation.new_text
        if self.params.stop in ("chapter", "paragraph") and new_ids[-1:] == [self.tokenizer.cls]:
            text += "\n\n"  # a chapter begins after it
        self.segments.append(Segment(new_ids, text, generated=True))

    def write(self, path: str) -> None:
        """Write the whole story. Raises UserError for a file that this session did not write, OSError."""
        if path not in self.own_files and Path(path).exists():
            raise UserError(f"{path} exists already; choose another name")
        text = self.text + "\n"
        if path.endswith(".jsonl"):
            text = self.file.json_line(self.prompt, self.text, {**self.file.settings, **asdict(self.params)})
        with name_file(path):
            write_atomic(os.path.realpath(path), text.encode())  # a link stays a link
        self.own_files.add(path)
