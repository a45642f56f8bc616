"""
Train in child processes that are killed, until one comes to the end: python tests/kill.py SEED COUNT ARGUMENTS-OF-TRAIN...

Half of the kills are at a moment: after a random time. The others are at a deed: when the process is about to do the n-th thing to a file
of the run (make, open, rename, delete), so between any two parts of a save. The imports are done once, before forking.
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

DEEDS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "os.scandir"}


def child(arguments: list[str], deed: int) -> None:
    settings = parse(train.Settings, [*arguments, "--resume"])
    left = deed

    def hook(event, values):
        nonlocal left
        if event in DEEDS and settings.out_dir in str(values[0]):
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    run(train.main, settings)


def life(arguments: list[str], deed: int = 0, seconds: float = 0.0) -> bool:
    """One process, to its end or its killing. Was it killed?"""
    pid = os.fork()
    if not pid:
        status = 1
        try:
            child(arguments, deed)
            status = 0
        except SystemExit as leaving:
            status = leaving.code
        finally:
            sys.stdout.flush()
            os._exit(status)
    if seconds:
        time.sleep(seconds)
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    if not os.WIFSIGNALED(status):
        assert os.WEXITSTATUS(status) == 0, f"left with {os.WEXITSTATUS(status)}"
    return os.WIFSIGNALED(status)


if __name__ == "__main__":
    assert tensorboard  # imported once for all
    rng, count = random.Random(int(sys.argv[1])), int(sys.argv[2])
    kills = 0
    for number in range(count):
        how = {"deed": rng.randint(1, 100)} if number % 2 else {"seconds": rng.uniform(0.05, 1.0)}
        kills += life(sys.argv[3:], **how)
    assert not life(sys.argv[3:])
    print(f"killed {kills} times")
