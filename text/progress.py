"""A progress bar over what takes long."""

import time
from collections.abc import Iterator, Sequence

DELAY = 1.0  # seconds after which the bar appears


def progress(items: Sequence, description: str, unit: str) -> Iterator:
    """The items. tqdm is imported only when its bar is shown."""
    began = time.monotonic()
    for i, item in enumerate(items):
        if time.monotonic() - began > DELAY:
            from tqdm import tqdm

            yield from tqdm(items[i:], description, len(items), initial=i, unit=f" {unit}", leave=False)
            return
        yield item
