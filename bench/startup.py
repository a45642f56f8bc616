"""Processor time of each script's --help, beyond that of Python itself: python bench/startup.py"""

import statistics

from measure import process, show


def rows(rounds: int = 5) -> list[dict]:
    seconds = {
        name: statistics.median(process(*command)[0] for _ in range(rounds)) for name, command in COMMANDS.items()
    }
    bare = seconds.pop("python")
    return [{"what": f"{name} --help", "ours": taken - bare, "unit": "s"} for name, taken in seconds.items()]


COMMANDS = {
    "python": ("-c", "pass"),
    **{
        name: (name, "--help")
        for name in ("prepare.py", "train.py", "sample.py", "serve.py", "evaluate.py", "export.py")
    },
}

if __name__ == "__main__":
    show(rows())
