"""
Train in child processes that are killed, until one finishes: python tests/kill_training.py SEED COUNT ARGUMENTS...

Half of the kills come after a random time. The other half come when the process is about to do its n-th file operation
(create, open, rename, delete) in the run's folder, so between any two parts of a save. Modules are imported once,
before forking.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from torch.utils import tensorboard

import train
from configurator import parse, run

FILE_OPERATIONS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "os.scandir"}


def train_and_die(arguments: list[str], operation: int) -> None:
    """Train; be killed at the n-th file operation (0: never)."""
    settings = parse(train.Settings, [*arguments, "--resume"])
    left = operation

    def hook(event, values):
        nonlocal left
        if event in FILE_OPERATIONS and settings.out_dir in str(values[0]):
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    run(train.main, settings)


def was_killed(arguments: list[str], operation: int = 0, seconds: float = 0.0) -> bool:
    """Run one child to its end or until it is killed. Returns whether it was killed."""
    pid = os.fork()
    if not pid:
        status = 1
        try:
            train_and_die(arguments, operation)
            status = 0
        except SystemExit as end:
            status = end.code
        finally:
            sys.stdout.flush()
            os._exit(status)
    if seconds:
        time.sleep(seconds)
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    if not os.WIFSIGNALED(status):
        assert os.WEXITSTATUS(status) == 0, f"exited with {os.WEXITSTATUS(status)}"
    return os.WIFSIGNALED(status)


if __name__ == "__main__":
    assert tensorboard  # imported before forking
    rng, count = random.Random(int(sys.argv[1])), int(sys.argv[2])
    kills = 0
    for number in range(count):
        when = {"operation": rng.randint(1, 100)} if number % 2 else {"seconds": rng.uniform(0.05, 1.0)}
        kills += was_killed(sys.argv[3:], **when)
    assert not was_killed(sys.argv[3:])
    print(f"killed {kills} times")
