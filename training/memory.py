"""How much memory training takes, and the largest micro-batch that fits."""

import torch

from model import GPTConfig, plain_is_faster
from training.recipe import MICRO_BATCH


def expected_memory(
    config: GPTConfig,
    batch_size: int,
    dtype: torch.dtype,
    optimizer: str = "muon",
    checkpoint_activations: bool = False,
    device_type: str = "cuda",
) -> int:
    """Peak bytes of training in eager mode (torch.compile needs less). Counted from the shapes, not measured.

    Weights, gradients and optimizer moments in fp32; a copy of the weights in `dtype`; the activations that the
    backward pass needs (inputs of LayerNorms, linear layers and GELU); one chunk of logits.
    """
    C, L, itemsize = config.n_embd, config.n_layer, dtype.itemsize
    embeddings = config.padded_vocab_size * C
    matrices = 12 * L * C**2
    parameters = matrices + embeddings + config.block_size * C
    moments = 4 * matrices + 8 * (parameters - matrices) if optimizer == "muon" else 8 * parameters
    # Per position and block: two fp32 inputs of LayerNorms, 14 C activations in dtype, the masks of dropout.
    per_block = 8 * C + 14 * itemsize * C + (2 * C if config.dropout else 0)
    per_position = 4 * C * L + per_block if checkpoint_activations else per_block * L
    activations = batch_size * config.block_size * (per_position + 20 * C)
    scores = batch_size * config.n_head * config.block_size**2
    if plain_is_faster(device_type, dtype, scores):  # its softmax, the mask of dropout and what that leaves
        activations += (1 if checkpoint_activations else L) * scores * (5 if config.dropout else 2)
    logits = 1024 * config.padded_vocab_size * (8 + itemsize) + 8 * embeddings
    return parameters * (8 + (itemsize if itemsize < 4 else 0)) + moments + activations + logits


def auto_batch_size(
    config: GPTConfig,
    dtype: torch.dtype,
    optimizer: str,
    checkpoint_activations: bool,
    gradient_accumulation_steps: int,
    free_bytes: float,
    world_size: int,
    device_type: str = "cuda",
) -> tuple[int, int]:
    """--batch_size=auto: the largest micro-batch that is expected to fit into 90% of free_bytes (0: unknown).

    Returns (batch_size, gradient_accumulation_steps). The windows per step stay those of a batch_size of 8.
    """
    windows_per_step = MICRO_BATCH * gradient_accumulation_steps
    per_process = windows_per_step // world_size
    sizes = [n for n in range(1, per_process + 1) if per_process % n == 0]

    def fits(n: int) -> bool:
        if not free_bytes:
            return n <= MICRO_BATCH
        return expected_memory(config, n, dtype, optimizer, checkpoint_activations, device_type) <= 0.9 * free_bytes

    batch_size = max((n for n in sizes if fits(n)), default=1)
    return batch_size, windows_per_step // batch_size
