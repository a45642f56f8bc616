"""The interactive session, through sample.py."""

import errno
import json
import os
import re
import subprocess
import sys

import pytest
from conftest import ENVIRONMENT, ROOT, WHOLE, script

import sample
from configurator import UserError
from generation import interactive


def talk(workplace, *lines, arguments=(), **kwargs):
    """A session in which these lines are typed."""
    command = ["--model=out/tiny", "--interactive", "--seed=3", "--max_new_tokens=30", "--device=cpu"]
    command += [f"--temperature={WHOLE}", *arguments]
    return script("sample.py", *command, cwd=workplace, input="\n".join(lines) + "\n", **kwargs)


@pytest.fixture
def session(workplace, tmp_path, monkeypatch):
    """A function that runs a session in this process with these lines, and returns the text of its file."""
    monkeypatch.chdir(tmp_path)

    def run(*lines, save="s.txt", start="却说老道", **settings):
        typed = iter([*lines, "/quit"])

        def read(prompt=""):
            if (line := next(typed)) is KeyboardInterrupt:
                raise KeyboardInterrupt
            return line

        monkeypatch.setattr("builtins.input", read)
        settings = {"max_new_tokens": 30, "seed": 3, "temperature": WHOLE, "device": "cpu", **settings}
        model = str(workplace / "out/tiny")
        sample.main(sample.Settings(model=model, interactive=True, start=[start], save=save, **settings))
        return (tmp_path / save).read_text(encoding="utf-8") if isinstance(save, str) else ""

    return run


def test_session_generates_and_adds_typed_text(workplace):
    out = talk(workplace, "", "却说白狐", arguments=["--start=却说老道"]).stdout
    assert out.startswith("却说老道") and "却说白狐" not in out.partition("> ")[0] and len(out) > 60


def test_session_undo_removes_the_last_segments(session):
    text = session("", "却说白狐", "/undo", "/undo")
    assert text.startswith("却说老道") and "白狐" not in text and len(text) > 30


def test_session_goes_on_after_ctrl_c_at_the_prompt(session, capsys):
    assert "却说白狐" in session(KeyboardInterrupt, "却说白狐")
    assert "/quit or Ctrl-D ends the session" in capsys.readouterr().err


def test_session_retry_keeps_what_was_typed(session):
    text = session("却说白狐", "/undo", "/retry", start="阿青")
    assert text.startswith("阿青却说白狐") and len(text) > 10


def test_session_retry_generates_another_text(session, capsys):
    session("", "/retry", start="却说")
    first, second = (piece.strip() for piece in re.split("却说", capsys.readouterr().out)[2:4])
    assert first != second


def test_session_retry_at_temperature_0_generates_the_same(session, capsys):
    session("", "/retry", start="却说", temperature=0.0)
    first, second = (piece.strip() for piece in re.split("却说", capsys.readouterr().out)[2:4])
    assert first == second


def test_session_backslash_n_is_a_line_break(session):
    assert session("却说白狐\\n", "/undo").startswith("却说老道却说白狐\n")


def test_session_set_changes_a_setting_for_the_next_turn(session, capsys):
    session("/set top_p 0.5", "/set temperature=0", "/set max_new_tokens 5", "")
    out = capsys.readouterr().out
    assert "top_p is 0.5" in out and "temperature is 0.0" in out and "max_new_tokens is 5" in out


@pytest.mark.parametrize(
    "line, message",
    [
        ("/set top_p 7", "probability above 0"),
        ("/set no 1", "settings that can be changed here: max_new_tokens"),
        ("/nothing", "there is no command /nothing"),
        ("/undo", "nothing to undo"),
        ("/save no/such/folder.txt", "cannot write no/such/folder.txt: No such file"),
    ],
)
def test_session_continues_after_a_mistake(session, capsys, line, message):
    text = session(line, "")
    assert message in capsys.readouterr().err and len(text) > 30


@pytest.mark.parametrize("line", ["／save other.txt", "、save\u3000other.txt"])
def test_session_takes_the_slash_of_a_chinese_keyboard(session, tmp_path, line):
    session(line)
    assert (tmp_path / "other.txt").read_text(encoding="utf-8") == "却说老道\n"


def test_session_without_save_writes_no_file(session, tmp_path):
    session("", save=False)
    assert not list(tmp_path.iterdir())


def test_session_keeps_its_story_in_a_file_of_its_own(session, tmp_path):
    """Written whole after each turn, however often it is saved."""
    text = session("", "/save s.txt", "", "/undo", "/undo")
    assert text == "却说老道\n" and [path.name for path in tmp_path.iterdir()] == ["s.txt"]


def test_session_json_line_has_prompt_text_and_settings(session):
    record = json.loads(session("", "/undo", save="s.jsonl"))
    assert record["prompt"] == record["text"] == "却说老道" and record["seed"] == 3
    assert record["settings"]["max_new_tokens"] == 30


def test_session_never_overwrites_a_file_that_existed_before(session, tmp_path, capsys):
    (tmp_path / "old.txt").write_text("从前", encoding="utf-8")
    session("/save old.txt")
    assert "old.txt exists already" in capsys.readouterr().err
    with pytest.raises(UserError, match="old.txt exists already"):
        session(save="old.txt")
    assert (tmp_path / "old.txt").read_text(encoding="utf-8") == "从前"


def test_story_file_default_is_the_next_free_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = []
    for _ in range(3):
        names.append(interactive.story_file(True))
        (tmp_path / names[-1]).touch()
    assert names == ["story.txt", "story-2.txt", "story-3.txt"]


def test_story_file_without_a_name_is_the_default(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert interactive.story_file("") == interactive.story_file(False) == "story.txt"


@pytest.mark.skipif(os.name == "nt", reason="links")
def test_session_writes_the_file_that_a_link_names(session, tmp_path):
    (tmp_path / "s.txt").symlink_to("target.txt")
    session()
    assert (tmp_path / "s.txt").is_symlink()
    assert (tmp_path / "target.txt").read_text(encoding="utf-8") == "却说老道\n"


def test_session_continues_at_a_full_disk_and_fails_at_the_end(session, monkeypatch, capsys):
    def full_disk(path, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(interactive, "write_atomic", full_disk)
    with pytest.raises(OSError) as failed:
        session("")
    assert failed.value.filename == "s.txt"
    assert capsys.readouterr().err.count("cannot write s.txt: No space left on device") == 1


def test_session_keeps_the_words_that_were_typed(tmp_path, monkeypatch, bert_folder):
    """A BERT vocabulary lower-cases and splits them."""
    script(
        "sample.py",
        f"--model={bert_folder}",
        "--interactive",
        "--start=Hello 的",
        "--save=s.jsonl",
        "--seed=1",
        "--max_new_tokens=30",
        cwd=tmp_path,
        input="龘 Want\n",
    )
    kept = json.loads((tmp_path / "s.jsonl").read_text(encoding="utf-8"))
    assert kept["text"].startswith("Hello 的龘 Want") and kept["prompt"] == "Hello 的" and len(kept["text"]) > 20


def test_session_after_the_end_of_a_chapter_continues_after_an_empty_line(session):
    settings = {"stop": "chapter", "temperature": 3.0, "top_p": 1.0, "max_new_tokens": 3000}
    before, *after = session("", "第二回", start="却说", **settings).split("\n\n第二回")
    assert before.startswith("却说") and len(after) == 1


def failing(monkeypatch, error: Exception, turn: int) -> None:
    """Make generation raise an error at this turn."""
    whole, turns = interactive.generate, []

    def generate(*arguments):
        turns.append(0)
        if len(turns) == turn:
            raise error
        whole(*arguments)

    monkeypatch.setattr(interactive, "generate", generate)


def test_session_continues_after_running_out_of_memory(session, monkeypatch, capsys):
    failing(monkeypatch, RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate"), turn=2)
    text = session("", "却说白狐", "", start="却说")
    assert text.startswith("却说") and "却说白狐" in text and "out of memory: " in capsys.readouterr().err


def test_session_has_saved_the_turns_before_a_bug(session, tmp_path, monkeypatch):
    failing(monkeypatch, RuntimeError("a bug"), turn=2)
    with pytest.raises(RuntimeError, match="a bug"):
        session("却说白狐", "却说阿青", start="却说")
    kept = (tmp_path / "s.txt").read_text(encoding="utf-8")
    assert kept.startswith("却说却说白狐") and "阿青" not in kept.rpartition("白狐")[2]


@pytest.mark.skipif(os.name == "nt", reason="needs a pseudo-terminal")
def test_session_on_a_terminal_takes_pasted_lines_as_one_segment(workplace, tmp_path):
    import pty

    arguments = ["--model=out/tiny", "--interactive", "--seed=3", "--max_new_tokens=5", "--device=cpu"]
    command = [sys.executable, str(ROOT / "sample.py"), *arguments, f"--save={tmp_path / 's.txt'}", "--start=阿青"]
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, cwd=workplace, env=ENVIRONMENT, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    while b"> " not in shown:
        shown += os.read(ours, 1000)
    os.write(ours, "却说白狐\n且说老道\n".encode())
    while not (tmp_path / "s.txt").exists():
        os.read(ours, 1000)
    os.write(ours, b"/quit\n")
    process.wait(timeout=60)
    os.close(ours)
    text = (tmp_path / "s.txt").read_text(encoding="utf-8")
    assert text.startswith("阿青却说白狐\n且说老道") and len(text) <= len("阿青却说白狐\n且说老道") + 7
