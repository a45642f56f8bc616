"""
Feed random and damaged bytes to each reader: python tests/fuzz_readers.py [rounds per reader, 100000] [.epub .docx ...]

In every other round of an archive the damage is in one of its members, so that the reader behind it gets to see it.
"""

import io
import random
import sys
import tempfile
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from test_readers import TEMPLATES, damaged, read_or_refuse

rng = random.Random(0)


def damage(template: bytes) -> bytes:
    """The template with noise in it."""
    return damaged(template, rng.randbytes(rng.randrange(40)), where=rng.random(), insert=rng.random() < 0.5)


def damage_member(template: bytes) -> bytes:
    """A .zip with noise in one of its members."""
    buffer, source = io.BytesIO(), zipfile.ZipFile(io.BytesIO(template))
    chosen = rng.choice(source.namelist())
    with zipfile.ZipFile(buffer, "w") as target:
        for name in source.namelist():
            target.writestr(name, damage(source.read(name)) if name == chosen else source.read(name))
    return buffer.getvalue()


def main(rounds: int, suffixes: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for suffix in suffixes or TEMPLATES:
            path = Path(folder) / f"fuzz{suffix}"
            for i in range(rounds):
                template = rng.choice([b"", *TEMPLATES[suffix]])
                is_zip = template.startswith(b"PK") and i % 2
                path.unlink(missing_ok=True)  # a new file is not flushed to the disk, as a truncated one may be
                path.write_bytes(damage_member(template) if is_zip else damage(template))
                read_or_refuse(path)
            print(f"{suffix}: {rounds:,} byte strings, each was read or refused", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000, sys.argv[2:])
