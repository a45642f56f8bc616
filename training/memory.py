"""How much memory training takes, and the largest micro-batch that fits."""

import math
from dataclasses import dataclass, replace

import torch

from machine import free_memory
from model import GPTConfig, plain_is_faster
from training.distributed import all_reduce_min
from training.recipe import MICRO_BATCH


@dataclass(frozen=True)
class MemoryOptions:
    """The settings of train.py that decide how much memory it takes."""

    batch_size: int = 8
    gradient_accumulation_steps: int = 4
    optimizer: str = "muon"
    checkpoint_activations: bool = False
    gpu_memory: float = 0.0  # GB

    def expected(self, config: GPTConfig, dtype: torch.dtype, device: torch.device) -> int:
        """Peak bytes of training in eager mode, counted from the shapes. (Measured: 2 to 4% more, docs/memory.md.)

        Weights, gradients and optimizer moments in fp32; a copy of the weights in `dtype`; the activations that the
        backward pass needs (inputs of LayerNorms, linear layers and GELU); one chunk of logits.
        """
        C, L, itemsize = config.n_embd, config.n_layer, dtype.itemsize
        embeddings = config.padded_vocab_size * C
        matrices = 12 * L * C**2 // config.members
        parameters = matrices + embeddings + config.block_size * C
        moments = 4 * matrices + 8 * (parameters - matrices) if self.optimizer == "muon" else 8 * parameters
        # Per position and block: two fp32 inputs of LayerNorms, 14 C activations in dtype, the masks of dropout.
        per_block = 8 * C + 14 * itemsize * C + (2 * C if config.dropout else 0)
        per_position = 4 * C * L + per_block if self.checkpoint_activations else per_block * L
        activations = self.batch_size * config.block_size * (per_position + 20 * C)
        scores = self.batch_size * config.n_head * config.block_size**2
        if plain_is_faster(device.type, dtype, scores):  # its softmax, the mask of dropout and what that leaves
            activations += (1 if self.checkpoint_activations else L) * scores * (5 if config.dropout else 2)
        logits = 1024 * config.padded_vocab_size * (8 + itemsize) + 8 * embeddings
        return parameters * (8 + (itemsize if itemsize < 4 else 0)) + moments + activations + logits

    def fit(self, config: GPTConfig, dtype: torch.dtype, device: torch.device, world_size: int) -> "MemoryOptions":
        """A copy with the largest batch_size for which 90% of every process's memory suffices.

        The windows per step stay the same. batch_size is 8 at most where the system does not say what is free.
        """
        free = all_reduce_min(min(free_memory(device), self.gpu_memory * 1e9 or math.inf))
        if device.type == "cpu":
            free /= world_size  # they share it
        windows_per_step = self.batch_size * self.gradient_accumulation_steps
        per_process = windows_per_step // world_size

        def with_batch(n: int) -> MemoryOptions:
            return replace(self, batch_size=n, gradient_accumulation_steps=windows_per_step // n)

        def fits(n: int) -> bool:
            return with_batch(n).expected(config, dtype, device) <= 0.9 * free if free else n <= MICRO_BATCH

        divisors = [n for n in range(1, per_process + 1) if per_process % n == 0]
        return with_batch(max(filter(fits, divisors), default=1))
