"""The learning-rate schedule, and the limits at which a run ends."""

import math
from dataclasses import dataclass

from training.trainer_state import TrainerState


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up to the highest rate, then decay until the end of the run, as in nanoGPT and transformers."""

    warmup_iters: int  # 0: warmup_share
    warmup_share: float  # from 0 to 1
    lr_decay: str  # linear, cosine or constant
    min_lr: float  # the end of the decay, as a fraction of the highest learning rate

    def lr_scale(self, step: int, progress: float) -> float:
        """The learning rate of a step (from 0) as a fraction of the highest. progress: from 0 (start) to 1 (end)."""
        warmup_share = self.warmup_share
        warmup = max(progress, 0.001) / max(warmup_share, 0.001)  # the first step has a progress of 0
        if self.warmup_iters:
            warmup = (step + 1) / self.warmup_iters
            warmup_share = self.warmup_iters * progress / max(step, 1)  # of the run, by its progress per step so far
        decayed = max(0.0, progress - warmup_share) / max(1 - warmup_share, 1e-9)  # from 0 to 1
        decay = {
            "linear": 1 - decayed,
            "cosine": 0.5 * (1 + math.cos(math.pi * decayed)),
            "constant": 1.0,
        }[self.lr_decay]
        return min(1.0, warmup) * (self.min_lr + (1 - self.min_lr) * decay)


class Limits:
    """A run ends after max_iters steps, `epochs` epochs or max_minutes minutes, whichever comes first. 0: no limit."""

    def __init__(self, max_iters: int, epochs: float, max_minutes: float, windows_per_epoch: int):
        self.steps = max_iters or math.inf
        self.windows = math.ceil(epochs * windows_per_epoch) or math.inf
        self.seconds = 60 * max_minutes or math.inf

    def used(self, state: TrainerState) -> dict[str, float]:
        """The used fraction of each limit, by the name of its setting."""
        return {
            "max_iters": state.step / self.steps,
            "epochs": state.windows_seen / self.windows,
            "max_minutes": state.seconds / self.seconds,
        }

    def progress(self, state: TrainerState) -> float:
        """From 0 at the start of the run to 1 at its end."""
        return max(self.used(state).values())

    def reached(self, state: TrainerState) -> str:
        """The name of the setting that ends the run."""
        used = self.used(state)
        return max(used, key=used.get)
