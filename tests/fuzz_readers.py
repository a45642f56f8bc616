"""Feed random and damaged bytes to each reader: python tests/fuzz_readers.py [rounds per reader, 100000]"""

import random
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from test_readers import TEMPLATES, damaged, read_or_refuse

rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
rng = random.Random(0)
with tempfile.TemporaryDirectory() as folder:
    for suffix, templates in TEMPLATES.items():
        path = Path(folder) / f"fuzz{suffix}"
        for _ in range(rounds):
            template, noise = rng.choice([b"", *templates]), rng.randbytes(rng.randrange(40))
            path.write_bytes(damaged(template, noise, where=rng.random(), insert=rng.random() < 0.5))
            read_or_refuse(path)
        print(f"{suffix}: {rounds:,} byte strings, each was read or refused", flush=True)
