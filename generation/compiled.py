"""
Decoding with int8 weights by torch.compile, on a CPU, for one text.

For a single vector a product is a pass over the weights. The loop that torch.compile makes of it reads each weight
once, in 8 bits, and converts it in a register. Attention reads the bf16 cache in the same way. A block is compiled once
and called for each layer.
"""

import torch
import torch.nn as nn
import torch.nn.functional as F

from generation.linear import Int8Linear
from model import GPT, KVCache

FOUR_WEIGHTS_AT_ONCE = torch.backends.cpu.get_cpu_capability() != "AVX512"
"""With shorter registers the loop loads single bytes slowly: there four weights are read as one 32-bit number."""


class CompiledDecoder:
    """model.decoder for an int8 model. Prompts and several rows take the model's own way, with a bf16 cache.

    Raises whatever torch.compile raises where it does not work.
    """

    def __init__(self, model: GPT):
        self.model = model
        self.decode_block = torch.compile(decode_block, fullgraph=True)
        self.decode_head = torch.compile(decode_head, fullgraph=True)
        with torch.inference_mode():  # compile now, not while a text is generated
            length = min(3, model.config.block_size)
            cache, token = self.new_cache(1, length), torch.zeros(1, 1, dtype=torch.long)
            for _ in range(length):
                self.next_logits(token, cache)

    def new_cache(self, batch_size: int, length: int) -> KVCache:
        """An empty bf16 cache for `length` positions.

        One position more than are used: a view of the whole buffer has other strides, which would be compiled again.
        """
        return KVCache(self.model.config, batch_size, length + 1, torch.bfloat16)

    def next_logits(self, idx: torch.Tensor, cache: KVCache) -> torch.Tensor:
        """Read idx (B, T) after what the cache holds. Returns the logits of the token that follows, (B, V)."""
        if idx.shape == (1, 1) and 0 < cache.length < self.model.config.block_size:
            return self.decode_one_token(idx, cache)
        return self.model.next_logits(idx, cache)

    @torch.inference_mode()
    def decode_one_token(self, idx: torch.Tensor, cache: KVCache) -> torch.Tensor:
        """next_logits for a single token of a single text."""
        transformer, cache.length = self.model.transformer, cache.length + 1
        x = transformer.wte.weight[idx[0, 0]].float() + transformer.wpe.weight[cache.length - 1]  # (C,)
        for block, kv in zip(transformer.h, cache.kv[:, :, 0, :, : cache.length]):
            torch._dynamo.mark_dynamic(kv, 2)  # one compilation for all lengths
            x = self.decode_block(block, x, kv)
        return self.decode_head(transformer.ln_f, self.model.lm_head, x)[None, : self.model.config.vocab_size]


def decode_block(block: nn.Module, x: torch.Tensor, kv: torch.Tensor) -> torch.Tensor:
    """model.Block for one position of one text.

    x: (C,). kv: (2, H, T, D), the layer's keys and values; the last position is written here. Returns (C,).
    """
    _, H, T, D = kv.shape
    q, *new = linear_1d(block.attn.c_attn, layer_norm_1d(block.ln_1, x)).view(3, H, D)
    kv[:, :, -1] = torch.stack(new)
    k, v = kv.float()  # (H, T, D)
    attention = (k * materialize(q * D**-0.5)[:, None]).sum(2).softmax(1)  # (H, T)
    x = x + linear_1d(block.attn.c_proj, (attention[:, :, None] * v).sum(1).flatten())
    hidden = F.gelu(linear_1d(block.mlp.c_fc, layer_norm_1d(block.ln_2, x)), approximate="tanh")
    return x + linear_1d(block.mlp.c_proj, hidden)


def decode_head(norm: nn.LayerNorm, head: Int8Linear, x: torch.Tensor) -> torch.Tensor:
    """The last LayerNorm and the output head. (C,) -> (padded V,)."""
    return linear_1d(head, layer_norm_1d(norm, x))


def layer_norm_1d(norm: nn.LayerNorm, x: torch.Tensor) -> torch.Tensor:
    """LayerNorm of a vector (C,), in fp32."""
    return F.layer_norm(x, x.shape, norm.weight.float(), norm.bias.float())


def linear_1d(layer: Int8Linear, x: torch.Tensor) -> torch.Tensor:
    """An Int8Linear for a vector, in fp32. x: (in,). Returns (out,)."""
    x = F.pad(x, (0, layer.weight.size(1) - x.size(0)))
    if FOUR_WEIGHTS_AT_ONCE:
        x = materialize(x.view(-1, 4).t().contiguous())  # (4, in / 4)
        four, high_byte = layer.weight.view(torch.int32), -(1 << 24)  # (out, in / 4)
        # Each of the four weights, times 2²⁴: shifted into the highest byte, its sign is the number's.
        shifted = (four << 24, four << 16 & high_byte, four << 8 & high_byte, four & high_byte)
        y = sum(w.float() * x[i] for i, w in enumerate(shifted)).sum(1) * 2**-24
    else:
        y = (layer.weight.float() * materialize(x)).sum(1)
    y = y * layer.scale
    return y if layer.bias is None else y + layer.bias


def materialize(x: torch.Tensor) -> torch.Tensor:
    """x, computed before the loop that reads it.

    Otherwise the compiler moves its formula (a GELU, for example) into that loop and computes it once per row. A view
    by strides needs the numbers in memory.
    """
    return x.as_strided(x.shape, x.stride())
