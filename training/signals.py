"""Ctrl-C, SIGTERM and a closed terminal: save and stop instead of dying in the middle of a step."""

import os
import signal
import sys
import time
from contextlib import suppress


class StopSignal:
    """Remembers the first SIGINT, SIGTERM or SIGHUP (a closed terminal). A second one, a second later, exits at once.

    (torchrun sends each signal twice.) `number` is the signal's number, 0 while there was none.
    """

    def __init__(self):
        self.number, self.received_at = 0, 0.0
        signal.signal(signal.SIGINT, self._receive)
        signal.signal(signal.SIGTERM, self._receive)
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # ignored: nohup
            signal.signal(signal.SIGHUP, self._receive)

    def _receive(self, number, frame):
        if self.number:
            if time.monotonic() - self.received_at > 1:
                os._exit(128 + number)
            return
        self.number, self.received_at = number, time.monotonic()
        with suppress(OSError):  # the terminal is gone, or tee, which received Ctrl-C too
            print("\nstopping and saving; Ctrl-C again exits at once", file=sys.stderr)
