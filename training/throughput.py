"""Training speed: tokens per second, model FLOPs utilization (MFU), time left."""

import time
from contextlib import contextmanager


class Throughput:
    """Measures training speed between log lines."""

    def __init__(self, tokens_per_step: int, flops_per_step: int, peak_flops: float, step: int, progress: float):
        """peak_flops: FLOP/s of all processes. step, progress: where the run begins now (not 0 when it was resumed)."""
        self.tokens_per_step, self.flops_per_step, self.peak_flops = tokens_per_step, flops_per_step, peak_flops
        self.start_progress, self.last_step = progress, step
        self.start()

    def start(self) -> None:
        """Training begins now."""
        self.started = self.last_time = time.perf_counter()

    def seconds(self) -> float:
        """Since this process began to train."""
        return time.perf_counter() - self.started

    def measure(self, step: int) -> tuple[float, float]:
        """Tokens per second since the last call, and the MFU: the fraction of peak_flops used."""
        now = time.perf_counter()
        steps_per_s = (step - self.last_step) / (now - self.last_time)
        self.last_time, self.last_step = now, step
        return steps_per_s * self.tokens_per_step, steps_per_s * self.flops_per_step / self.peak_flops

    def seconds_left(self, progress: float) -> float:
        """Until progress is 1, at the speed so far."""
        return self.seconds() * (1 - progress) / max(1e-9, progress - self.start_progress)

    @contextmanager
    def paused(self):
        """Leave the time of validation and saving out of the tokens per second."""
        began = time.perf_counter()
        yield
        self.last_time += time.perf_counter() - began
