"""Generated text on the terminal, as it comes."""

import sys

from tqdm import tqdm

from generation.batching import Continuation
from generation.saving import heading


class ConsoleStreamer:
    """Prints a batch: the first continuation that is not done as it grows, then the next. For generate's on_update."""

    def __init__(self, max_new_tokens: int, stream: bool = True, first: int = 0, count: int = 1):
        """stream=False: print each batch when it is done. first: continuations before this batch. count: of all."""
        self.stream, self.first, self.show_headings = stream, first, count > 1
        self.row, self.printed = 0, None  # the continuation that is being printed, and how much of it is
        visible = stream and sys.stdout.isatty()  # the text itself shows the progress
        self.bar = tqdm(total=max_new_tokens, unit=" tokens each", leave=False, disable=True if visible else None)

    def __call__(self, batch: list[Continuation]) -> None:
        """Print what is new."""
        self.bar.update(max(continuation.new_tokens for continuation in batch) - self.bar.n)
        if not self.stream and not all(continuation.done for continuation in batch):
            return
        while self.row < len(batch):
            continuation = batch[self.row]
            if self.printed is None and self.show_headings:
                print(heading(self.first + self.row + 1))
            print(continuation.text[self.printed :], end="\n" if continuation.done else "", flush=True)
            self.printed = len(continuation.text)
            if not continuation.done:
                return
            self.row, self.printed = self.row + 1, None
        self.bar.close()
