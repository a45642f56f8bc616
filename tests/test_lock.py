"""One process per folder."""

import errno
import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext

import pytest
from conftest import ENVIRONMENT, ROOT, TINY, script

import files
from configurator import UserError
from files import FolderLock

HOLD = "import sys, time; sys.path.insert(0, sys.argv[1]); from pathlib import Path; from files import FolderLock\n"
HOLD += "lock = FolderLock(Path(sys.argv[2])); print('locked', flush=True); time.sleep(60)"


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of tmp_path."""
    command = [sys.executable, "-c", HOLD, str(ROOT), str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)
    assert process.stdout.readline() == "locked\n"
    yield process
    process.kill()
    process.communicate()


def test_folder_lock_names_the_process_that_holds_it(holder, tmp_path):
    with pytest.raises(UserError, match=rf"in use by pid {holder.pid} on .*, since 20"):
        FolderLock(tmp_path)


def test_folder_lock_ends_with_its_process(holder, tmp_path):
    holder.kill()
    holder.wait()
    with FolderLock(tmp_path):
        pass


def test_folder_lock_can_be_taken_again_after_release(tmp_path):
    with FolderLock(tmp_path):
        pass
    with FolderLock(tmp_path):
        pass


def test_folder_lock_warns_where_the_file_system_has_no_locks(tmp_path, monkeypatch):
    def no_locks(handle):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(files, "lock_file", no_locks)
    with pytest.warns(UserWarning, match="cannot be locked"), FolderLock(tmp_path):
        pass


@pytest.mark.parametrize("refusals", [2, 100])
def test_rename_is_tried_again_where_it_is_refused(tmp_path, monkeypatch, refusals):
    """As on Windows, where a virus scanner reads a new file."""
    replace, tries, slept = os.replace, [], []

    def refuse(source, target):
        tries.append(source)
        if len(tries) <= refusals:
            raise PermissionError(13, "Access is denied")
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    monkeypatch.setattr(time, "sleep", slept.append)
    (tmp_path / "new").write_text("text")
    with pytest.raises(PermissionError) if refusals == 100 else nullcontext():
        files.rename(tmp_path / "new", tmp_path / "old")
    assert (tmp_path / "old").exists() == (refusals == 2) and 0 < sum(slept) < 10


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_train_refuses_a_folder_that_another_run_uses(workplace):
    arguments = [*TINY, "--out_dir=out/shared", "--max_iters=100000", "--eval_interval=100000"]
    command = [sys.executable, str(ROOT / "train.py"), *arguments]
    first = subprocess.Popen(command, cwd=workplace, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
    log = workplace / "out/shared/log.txt"
    while not log.exists() or "step" not in log.read_text(encoding="utf-8"):
        time.sleep(0.02)
        assert first.poll() is None
    done = script("train.py", *arguments, cwd=workplace, check=2)
    assert f"pid {first.pid}" in done.stderr and len(done.stderr.strip().splitlines()) == 1
    first.send_signal(signal.SIGINT)
    first.communicate()
    assert first.returncode == 130 and list((workplace / "out/shared").glob("ckpt-*"))


def test_prepare_refuses_a_folder_that_another_one_writes(holder, tmp_path):
    (tmp_path / "book.txt").write_text("第一章\n正文。\n第二章\n正文。\n", encoding="utf-8")
    done = script("prepare.py", "book.txt", f"--out_dir={tmp_path}", cwd=tmp_path, check=2)
    assert f"pid {holder.pid}" in done.stderr
