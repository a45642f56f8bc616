"""Small models for the tests."""

import torch

from model import GPT, GPTConfig


def lively_model(block_size: int, width: int = 32) -> GPT:
    """A model with large weights, so that attention and position decide what it generates."""
    torch.manual_seed(0)
    model = GPT(GPTConfig(64, block_size, 2, 2, width)).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(8 if p.dim() > 1 else 1)
    return model


def random_ids(*shape: int, seed: int = 0) -> torch.Tensor:
    """Random ids of lively_model's vocabulary."""
    return torch.randint(0, 64, shape, generator=torch.Generator().manual_seed(seed))
