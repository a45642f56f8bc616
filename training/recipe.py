"""The settings of a run that follow from the length of its text, where they are "auto". docs/recipe.md says why."""

import math
from dataclasses import dataclass, replace
from typing import Literal

from configurator import UserError

MICRO_BATCH = 8  # windows, where batch_size is "auto"
WINDOWS_PER_STEP = 8, 32  # at least and at most; fewer use a GPU badly
STEPS_PER_EPOCH = 240  # wanted: fewer and larger steps learn less from the same text
STEPS = 600  # of a run, at least, however short the text
EPOCHS = 8  # of a long text
REMEMBERED_STEPS = 60  # at least: over fewer steps the average of the updates is noise
PRETRAINED_WEIGHT_DECAY = 0.1


@dataclass(frozen=True)
class Recipe:
    """The settings of train.py that can be "auto"."""

    batch_size: int | Literal["auto"] = "auto"
    gradient_accumulation_steps: int | Literal["auto"] = "auto"
    epochs: float | Literal["auto"] = "auto"
    learning_rate: float = 3e-3
    weight_decay: float | Literal["auto"] = "auto"
    decay_epochs: float = 0.5
    init_from: str = "scratch"

    def fit(self, windows_per_epoch: int, world_size: int = 1) -> "Recipe":
        """A copy with numbers for "auto".

        - batch_size: 8 (MemoryOptions changes it to what the memory allows). With several processes and
          gradient_accumulation_steps "auto" each one's part.
        - gradient_accumulation_steps: an epoch has about 240 steps, a step 8 to 32 windows (of all processes).
        - epochs: 8, or as many as make 600 steps.
        - weight_decay: a weight is a moving average of its updates over 1 / (learning_rate * weight_decay) steps. In
          epochs this number carries over between texts, batches and rates (Wang and Aitchison 2024, arXiv:2405.13698).
          It is decay_epochs, or 60 steps if that is more. 0 where decay_epochs or the learning rate is 0.
          0.1 for pretrained weights (init_from), which must not be forgotten.

        Raises UserError for a given gradient_accumulation_steps that is not a multiple of the processes.
        """
        batch_size = MICRO_BATCH if self.batch_size == "auto" else self.batch_size
        accumulation, epochs, weight_decay = self.gradient_accumulation_steps, self.epochs, self.weight_decay
        if accumulation == "auto":
            least, most = WINDOWS_PER_STEP
            windows = min(most, max(least, windows_per_epoch // STEPS_PER_EPOCH))
            windows = batch_size * max(1, round(windows / batch_size))  # those of a single process
            micro_steps = math.ceil(windows / (batch_size * world_size))  # of each process
            batch_size = max(1, round(windows / (world_size * micro_steps)))
            accumulation = world_size * micro_steps
        if accumulation % world_size:
            setting = f"--gradient_accumulation_steps={accumulation}"
            raise UserError(f"{setting} is not a multiple of the {world_size} processes")
        steps_per_epoch = windows_per_epoch / (batch_size * accumulation)
        if epochs == "auto":
            epochs = max(EPOCHS, math.ceil(STEPS / steps_per_epoch))
        if weight_decay == "auto" and self.init_from != "scratch":
            weight_decay = PRETRAINED_WEIGHT_DECAY
        elif weight_decay == "auto":
            remembered = self.learning_rate * max(REMEMBERED_STEPS, self.decay_epochs * steps_per_epoch)
            weight_decay = 1 / remembered if self.decay_epochs and remembered else 0.0
        return replace(
            self,
            batch_size=batch_size,
            gradient_accumulation_steps=accumulation,
            epochs=float(epochs),
            weight_decay=weight_decay,
        )
