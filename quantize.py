"""
A model whose weights are 8-bit numbers, for writing on a CPU, where the time of a token is the time to read all weights.

    model = quantize_int8(load_pretrained("out/novel"))

Weight-only: each row of a matrix (an output channel) has one scale, and the activations stay in bf16, so that a token reads
a quarter of the bytes of fp32. It can be sampled from and scored, but not trained.
"""

import torch
import torch.nn as nn
import torch.nn.functional as F

from model import GPT


class Int8Linear(nn.Module):
    """y = x Wᵀ + b with W ≈ scale * int8, row by row."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None):
        """weight: (out, in), of any floating-point type."""
        super().__init__()
        weight = weight.float().contiguous()
        scale = (weight.abs().amax(1) / 127).clamp(min=1e-12).bfloat16()  # rounded first, so that its rounding costs nothing
        self.register_buffer("weight", (weight / scale[:, None].float()).round().clamp(-127, 127).to(torch.int8))
        self.register_buffer("scale", scale)
        self.register_buffer("bias", None if bias is None else bias.bfloat16())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.device.type == "cpu":  # torch's kernel, which multiplies the 8-bit numbers as it reads them
            y = torch._weight_int8pack_mm(x.reshape(-1, x.size(-1)), self.weight, self.scale).view(*x.shape[:-1], -1)
        else:
            y = F.linear(x, self.weight.to(x.dtype)) * self.scale
        return y if self.bias is None else y + self.bias


class Int8GPT(GPT):
    """A GPT with Int8Linear in place of every linear layer and of the output head."""

    def __init__(self, model: GPT):
        nn.Module.__init__(self)
        self.config, self.checkpoint_activations = model.config, False
        head = Int8Linear(model.transformer.wte.weight.detach())
        for block in model.transformer.h:
            for part, name in ((block.attn, "c_attn"), (block.attn, "c_proj"), (block.mlp, "c_fc"), (block.mlp, "c_proj")):
                linear = getattr(part, name)
                setattr(part, name, Int8Linear(linear.weight.detach(), linear.bias.detach()))
        self.transformer = model.transformer.to(torch.bfloat16)  # embeddings and norms
        self.head = head

    def score(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x)


def quantize_int8(model: GPT) -> GPT:
    """The model with 8-bit weights, in eval mode, for bf16 activations. The model given is used up."""
    return Int8GPT(model).eval()
