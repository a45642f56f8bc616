"""Linear layers for generation on a CPU, where the time of a token is the time to read all weights once."""

from functools import lru_cache

import torch
import torch.nn as nn
import torch.nn.functional as F

from machine import pick_dtype
from model import GPT

PROMPT = 64  # positions
PRODUCT = pick_dtype("auto", torch.device("cpu"))


class PackedLinear(nn.Module):
    """y = x Wᵀ + b with W in oneDNN's own memory layout, which is read twice as fast as rows.

    The two operations are those that torch.compile's CPU backend uses for a linear layer. They have no public name.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None):
        """weight: (out, in), fp32 or bf16. bias: (out,)."""
        super().__init__()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), 1)
        self.bias = bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")


class Int8Linear(nn.Module):
    """y = x Wᵀ + b with W ≈ scale * int8, one scale per row (output channel). x stays in bf16.

    torch's product for int8 weights is made for few positions. From PROMPT positions on, the weights are converted, and
    the product is the processor's fastest: bf16 where it has that, else fp32.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None):
        """weight: (out, in), any floating-point type. bias: (out,)."""
        super().__init__()
        weight = weight.float().contiguous()
        if weight.size(1) % 16:  # torch's product reads 16 columns at a time, also past the end of a row
            weight = F.pad(weight, (0, -weight.size(1) % 16))
        # The scale is rounded to bf16 first, so that its rounding error does not count.
        self.scale = (weight.abs().amax(1) / 127).clamp(min=1e-12).bfloat16()
        self.weight = (weight / self.scale[:, None].float()).round_().to(torch.int8)  # -127 to 127
        self.bias = None if bias is None else bias.bfloat16()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.size(-2) >= PROMPT:
            y = F.linear(x.to(PRODUCT), self.weight[:, : x.size(-1)].to(PRODUCT)).to(x.dtype) * self.scale
        else:
            if x.size(-1) < self.weight.size(1):
                x = F.pad(x, (0, self.weight.size(1) - x.size(-1)))
            y = torch._weight_int8pack_mm(x.reshape(-1, x.size(-1)), self.weight, self.scale).view(*x.shape[:-1], -1)
        return y if self.bias is None else y + self.bias


def replace_linears(model: GPT, linear_class: type[nn.Module]) -> GPT:
    """Replace the linear layers of the blocks and the output head. The model can generate and score, but not train."""
    for block in model.transformer.h:
        for parent, name in (
            (block.attn, "c_attn"),
            (block.attn, "c_proj"),
            (block.mlp, "c_fc"),
            (block.mlp, "c_proj"),
        ):
            linear = getattr(parent, name)
            setattr(parent, name, linear_class(linear.weight.detach(), linear.bias.detach()))
    model.lm_head = linear_class(model.lm_head.weight.detach())
    return model


@lru_cache
def can_pack(dtype: torch.dtype) -> bool:
    """Does PackedLinear give the result of nn.Linear here?"""
    try:
        generator = torch.Generator().manual_seed(0)
        weight, bias = (torch.randn(*shape, generator=generator).to(dtype) for shape in ((32, 64), (32,)))
        x = torch.ones(3, 64, dtype=dtype)
        with torch.inference_mode():
            return torch.allclose(PackedLinear(weight, bias)(x), F.linear(x, weight, bias), rtol=0.02, atol=0.02)
    except (RuntimeError, AttributeError):  # a torch without oneDNN, or a processor that it does not support
        return False
