"""
A model made ready to write on a CPU, where the time of a token is the time to read all weights once:

    model = for_cpu(load_pretrained("out/novel"), torch.bfloat16)               # weights in the order in which oneDNN reads them
    model = for_cpu(load_pretrained("out/novel"), torch.bfloat16, "int8")       # weights of 8 bits, a scale a row

It can be sampled from and scored, but not trained or saved. docs/BENCHMARKS.md has what each is worth.
"""

from functools import lru_cache

import torch
import torch.nn as nn

from model import GPT


class PackedLinear(nn.Module):
    """y = x Wᵀ + b with W stored in oneDNN's own layout, which reads twice as fast as rows side by side.

    The two operations are those that torch.compile's CPU backend puts in a linear layer's place; they have no public name.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None):
        """weight: (out, in), fp32 or bf16. bias: (out,)."""
        super().__init__()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), 1)
        self.bias = bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")


class Int8Linear(nn.Module):
    """y = x Wᵀ + b with W ≈ scale * int8, row by row (an output channel each); x stays in bf16."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None):
        """weight: (out, in), of any floating-point type. bias: (out,)."""
        super().__init__()
        weight = weight.float().contiguous()
        self.scale = (weight.abs().amax(1) / 127).clamp(min=1e-12).bfloat16()  # rounded first, so that its rounding costs nothing
        self.weight = (weight / self.scale[:, None].float()).round_().clamp_(-127, 127).to(torch.int8)
        self.bias = None if bias is None else bias.bfloat16()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch._weight_int8pack_mm(x.reshape(-1, x.size(-1)), self.weight, self.scale).view(*x.shape[:-1], -1)
        return y if self.bias is None else y + self.bias


class WritingGPT(GPT):
    """A GPT with another kind of linear layer, also for its output head."""

    def __init__(self, model: GPT, kind: type):
        nn.Module.__init__(self)
        self.config, self.checkpoint_activations = model.config, False
        self.head = kind(model.transformer.wte.weight.detach())
        for block in model.transformer.h:
            for part, name in ((block.attn, "c_attn"), (block.attn, "c_proj"), (block.mlp, "c_fc"), (block.mlp, "c_proj")):
                linear = getattr(part, name)
                setattr(part, name, kind(linear.weight.detach(), linear.bias.detach()))
        self.transformer = model.transformer

    def score(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x)


def for_cpu(model: GPT, dtype: torch.dtype, quantize: str = "none") -> GPT:
    """The model for writing on a CPU, in eval mode; the one given is used up. dtype: of weights and products; quantize: none, int8
    (with bf16 for the rest). Where oneDNN's layout cannot be had, the model is the plain one."""
    if quantize == "int8":
        model = WritingGPT(model, Int8Linear).bfloat16()
    else:
        model = model.to(dtype)
        if can_pack(dtype):
            model = WritingGPT(model, PackedLinear)
    return model.eval()


@lru_cache
def can_pack(dtype: torch.dtype) -> bool:
    """Does PackedLinear work here, as the plain layer does?"""
    try:
        layer, x = nn.Linear(64, 32).to(dtype), torch.ones(3, 64, dtype=dtype)
        with torch.inference_mode():
            return torch.allclose(PackedLinear(layer.weight.detach(), layer.bias.detach())(x), layer(x), rtol=0.02, atol=0.02)
    except (RuntimeError, AttributeError):  # a torch without oneDNN, or another processor
        return False
