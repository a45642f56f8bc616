"""Training speed: tokens per second, model FLOPs utilization (MFU), time left."""

import time
from contextlib import contextmanager


class Throughput:
    """Measures training speed between log lines."""

    def __init__(self, tokens_per_step: int, peak_speed: float, step: int, progress: float):
        """peak_speed: tokens per second at an MFU of 1. step, progress: where the run begins (not 0 after a resume)."""
        self.tokens_per_step, self.peak_speed = tokens_per_step, peak_speed
        self.start_progress, self.last_step = progress, step
        self.start()

    def start(self) -> None:
        """Training begins now."""
        self.started = self.last_time = time.perf_counter()

    def seconds(self) -> float:
        """Since this process began to train."""
        return time.perf_counter() - self.started

    def measure(self, step: int) -> tuple[float, float]:
        """Tokens per second since the last call, and the MFU: the fraction of the machine's FLOP/s that is used."""
        now = time.perf_counter()
        speed = (step - self.last_step) * self.tokens_per_step / (now - self.last_time)
        self.last_time, self.last_step = now, step
        return speed, speed / self.peak_speed

    def seconds_left(self, progress: float) -> float:
        """Until progress is 1, at the speed so far."""
        return self.seconds() * (1 - progress) / max(1e-9, progress - self.start_progress)

    @contextmanager
    def paused(self):
        """Leave the time of validation and saving out of the tokens per second."""
        began = time.perf_counter()
        yield
        self.last_time += time.perf_counter() - began
