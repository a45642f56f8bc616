"""The settings of a run that follow from the length of its text, where they are "auto". docs/recipe.md says why."""

import math
from dataclasses import dataclass, replace
from typing import Literal

MICRO_BATCH = 8  # windows, where batch_size is "auto"; fewer at once use a GPU badly
MOST_WINDOWS = 32  # per step
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
        """A copy with numbers for "auto" (but batch_size, which depends on the memory: MemoryOptions).

        - batch_size: with several processes and gradient_accumulation_steps "auto" each one's part of a micro-batch.
        - gradient_accumulation_steps: an epoch has about 240 steps, a step 8 to 32 windows (of all processes).
        - epochs: 8, or as many as make 600 steps.
        - weight_decay: a weight is a moving average of its updates over 1 / (learning_rate * weight_decay) steps. In
          epochs this number carries over between texts, batches and rates (Wang and Aitchison 2024, arXiv:2405.13698).
          It is decay_epochs, or 60 steps if that is more. 0 where decay_epochs or the learning rate is 0.
          0.1 for pretrained weights (init_from), which must not be forgotten.
        """
        auto = self.batch_size == "auto"
        batch_size = MICRO_BATCH if auto else self.batch_size
        accumulation, epochs, weight_decay = self.gradient_accumulation_steps, self.epochs, self.weight_decay
        if accumulation == "auto":
            windows = min(MOST_WINDOWS, max(MICRO_BATCH, windows_per_epoch // STEPS_PER_EPOCH))
            windows = batch_size * max(1, round(windows / batch_size))  # those of a single process
            accumulation = windows // batch_size
            if not auto or MICRO_BATCH % world_size:  # else MemoryOptions divides them
                auto = False
                micro_steps = math.ceil(windows / (batch_size * world_size))  # of each process
                batch_size = max(1, round(windows / (world_size * micro_steps)))
                accumulation = world_size * micro_steps
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
            batch_size="auto" if auto else batch_size,
            gradient_accumulation_steps=accumulation,
            epochs=float(epochs),
            weight_decay=weight_decay,
        )
