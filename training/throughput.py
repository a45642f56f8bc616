"""Training speed: tokens per second, model FLOPs utilization (MFU), time left; and figures read without waiting."""

import time
from collections.abc import Callable
from contextlib import contextmanager

import torch


class Throughput:
    """Measures training speed between log lines, and holds a step's figures until the next step is queued.

    Reading a figure makes the host wait for a CUDA GPU. Read one step late, the GPU always has a step to compute.
    """

    def __init__(self, tokens_per_step: int, flops_per_step: int, peak_flops: float, step: int, progress: float):
        """peak_flops: FLOP/s of all processes. step, progress: where the run begins now (not 0 when it was resumed)."""
        self.tokens_per_step, self.flops_per_step, self.peak_flops = tokens_per_step, flops_per_step, peak_flops
        self.started, self.start_progress = time.perf_counter(), progress
        self.last_time, self.last_step = self.started, step
        self.pending = None

    def seconds(self) -> float:
        """Since this process began to train."""
        return time.perf_counter() - self.started

    def hold(self, values: torch.Tensor, **figures) -> None:
        """Keep a step's figures, of which `values` (n,) are still being computed on the device."""
        self.pending = figures, read_later(values)

    def take(self):
        """The figures held, as (figures, values), or None."""
        pending, self.pending = self.pending, None
        return pending and (pending[0], pending[1]())

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


def read_later(values: torch.Tensor) -> Callable[[], list[float]]:
    """Start copying to the host. Returns a function that gives the numbers, waiting for them but not for later work."""
    if values.device.type != "cuda":
        return values.tolist
    copy, arrived = values.to("cpu", non_blocking=True), torch.cuda.Event()
    arrived.record()

    def read() -> list[float]:
        arrived.synchronize()
        return copy.tolist()

    return read
