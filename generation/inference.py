"""
A model made ready to write, where the time of a token is the time to read all weights once, and what comes on top of that:

    model = for_writing(load_pretrained("out/novel"), device, torch.bfloat16)               # the fastest way there is on the device
    model = for_writing(load_pretrained("out/novel"), device, torch.bfloat16, "int8")       # on a CPU: weights of 8 bits, a scale a row
    model = for_writing(load_pretrained("out/novel"), device, torch.bfloat16, "int8", compile=True)   # and loops made for them, for one text

On a CPU the weights are stored in the order in which oneDNN reads them, or torch.compile makes the loops that read them; on a CUDA GPU the step of
one token is a CUDA graph. Such a model can be sampled from and scored, but not trained or saved. docs/BENCHMARKS.md has what each is worth.
"""

import math
import warnings
from collections.abc import Callable
from functools import lru_cache, partial

import torch
import torch.nn as nn
import torch.nn.functional as F

from configurator import first_line
from model import GPT, GPTConfig, KVCache


def for_writing(model: GPT, device: torch.device, dtype: torch.dtype, quantize: str = "none", compile: bool = False) -> GPT:
    """The model on the device, in eval mode; the one given is used up. dtype: of weights and products; quantize: none, or int8 (on a CPU, with bf16
    for the rest); compile: on a CPU, the step of one text. Where a fast way cannot be had, the model is the next best (a warning says why, where it
    was asked for)."""
    if quantize == "int8":
        model = WritingGPT(model, Int8Linear).bfloat16()
    else:
        model = model.to(device, dtype)
    if compile and device.type == "cpu":
        try:
            return CompiledGPT(model).eval()
        except Exception as error:  # whatever the toolchain throws
            warnings.warn(f"torch.compile does not work here, so writing goes on without it: {first_line(error)}", stacklevel=2)
    if quantize == "none":
        if device.type == "cpu" and can_pack(dtype):
            model = WritingGPT(model, PackedLinear)
        elif device.type == "cuda":
            torch.backends.cuda.enable_cudnn_sdp(False)  # cuDNN plans attention anew for each length, that is for each token
            if can_record(device, dtype):
                model = RecordedGPT(model)
    return model.eval()


# -- on a CPU: weights that are read fast --------------------------------------------------------------------------------------


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
        weight = F.pad(weight.float(), (0, -weight.size(1) % 16)).contiguous()  # torch's product reads 16 columns at a time, also past the end
        self.scale = (weight.abs().amax(1) / 127).clamp(min=1e-12).bfloat16()  # rounded first, so that its rounding costs nothing
        self.weight = (weight / self.scale[:, None].float()).round_().clamp_(-127, 127).to(torch.int8)
        self.bias = None if bias is None else bias.bfloat16()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.size(-1) < self.weight.size(1):
            x = F.pad(x, (0, self.weight.size(1) - x.size(-1)))
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


@lru_cache
def can_pack(dtype: torch.dtype) -> bool:
    """Does PackedLinear work here, as the plain layer does?"""
    try:
        layer, x = nn.Linear(64, 32).to(dtype), torch.ones(3, 64, dtype=dtype)
        with torch.inference_mode():
            return torch.allclose(PackedLinear(layer.weight.detach(), layer.bias.detach())(x), layer(x), rtol=0.02, atol=0.02)
    except (RuntimeError, AttributeError):  # a torch without oneDNN, or another processor
        return False


# -- on a CPU: a step that is compiled -----------------------------------------------------------------------------------------


class CompiledGPT(GPT):
    """A GPT whose step of one token of one text is compiled. (For a prompt, and for several texts, it is the model it was made of, but for a cache in
    the weights' precision.) Raises whatever torch.compile does where it does not work.

    For a single vector a product is a walk over the weights, and the loop that torch.compile makes of it reads each once, in the 8 or 16 bits in
    which it is stored, and widens it in a register. So does attention with the cache. A block is compiled once and called for each layer.
    """

    def __init__(self, model: GPT):
        nn.Module.__init__(self)
        self.config, self.checkpoint_activations, self.transformer = model.config, False, model.transformer
        self.head, self.score = getattr(model, "head", model.transformer.wte), model.score
        self.block, self.finish = torch.compile(one_position, fullgraph=True), torch.compile(one_score, fullgraph=True)
        self.generate(torch.zeros(1, 1, dtype=torch.long), min(3, self.config.block_size))  # compile now, in some seconds, not within a text

    def new_cache(self, batch_size: int, length: int) -> KVCache:
        weight = self.transformer.wpe.weight  # one position more than can be filled: a view of all would have strides of its own, and be compiled for
        return KVCache(self.config, batch_size, length + 1, weight.dtype, weight.device)

    def forward(self, idx: torch.Tensor, targets=None, cache: KVCache | None = None, **settings):
        """GPT's."""
        if targets is not None or cache is None or not 0 < cache.length < self.config.block_size or idx.shape != (1, 1):
            return super().forward(idx, targets, cache, **settings)
        return self._step(idx, cache), None

    @torch.inference_mode()
    def _step(self, idx: torch.Tensor, cache: KVCache) -> torch.Tensor:
        transformer, cache.length = self.transformer, cache.length + 1
        x = transformer.wte.weight[idx[0, 0]].float() + transformer.wpe.weight[cache.length - 1]  # (C,)
        for block, kv in zip(transformer.h, cache.kv[:, :, 0, :, : cache.length]):
            torch._dynamo.mark_dynamic(kv, 2)  # one compilation for all lengths
            x = self.block(block, x, kv)
        return self.finish(transformer.ln_f, self.head, x)[None, None, : self.config.vocab_size]  # (1, 1, V)


def one_position(block: nn.Module, x: torch.Tensor, kv: torch.Tensor) -> torch.Tensor:
    """model.Block for one position of one text. x: (C,). kv: (2, H, T, D), the cache of the layer, whose last position is to be filled. Returns (C,)."""
    _, H, T, D = kv.shape
    q, *new = one_product(block.attn.c_attn, one_norm(block.ln_1, x)).view(3, H, D)
    kv[:, :, -1] = torch.stack(new)
    k, v = kv.float()  # (H, T, D)
    attention = (k * once(q * D**-0.5)[:, None]).sum(2).softmax(1)  # (H, T)
    x = x + one_product(block.attn.c_proj, (attention[:, :, None] * v).sum(1).flatten())
    return x + one_product(block.mlp.c_proj, F.gelu(one_product(block.mlp.c_fc, one_norm(block.ln_2, x)), approximate="tanh"))


def one_score(norm: nn.LayerNorm, head: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """(C,) -> (padded V,)"""
    return one_product(head, one_norm(norm, x))


def one_norm(norm: nn.LayerNorm, x: torch.Tensor) -> torch.Tensor:
    return F.layer_norm(x, x.shape, norm.weight.float(), norm.bias.float())


def one_product(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """W x + b in fp32, of a linear layer (or an embedding as the head). x: (in,). Returns (out,)."""
    weight = layer.weight
    if weight.dtype == torch.int8:
        x = F.pad(x, (0, weight.size(1) - x.size(0)))
    if weight.dtype == torch.int8 and FOUR_AT_ONCE:
        four, x, top = weight.view(torch.int32), once(x.view(-1, 4).t().contiguous()), -(1 << 24)  # (out, in / 4), (4, in / 4), the highest byte
        each = (four << 24, four << 16 & top, four << 8 & top, four & top)  # one of the four, times 2²⁴: its sign is the number's
        y = sum(w.float() * x[i] for i, w in enumerate(each)).sum(1) * 2**-24
    else:
        y = (weight.float() * once(x)).sum(1)
    if isinstance(layer, Int8Linear):
        y = y * layer.scale
    return y if getattr(layer, "bias", None) is None else y + layer.bias


FOUR_AT_ONCE = torch.backends.cpu.get_cpu_capability() != "AVX512"
"""Processors with shorter registers cannot load a few bytes of 8 bits at a time: there four weights are read as one number."""


def once(x: torch.Tensor) -> torch.Tensor:
    """x itself, computed before the loop that reads it. (Else the compiler puts its formula, a GELU perhaps, into that loop, for each row anew;
    a view by strides needs numbers in memory.)"""
    return x.as_strided(x.shape, x.stride())


# -- on a CUDA GPU: a step that is launched as a whole -------------------------------------------------------------------------


class StaticCache(KVCache):
    """A cache whose step of one token is the same work on the same memory every time, as a recording has to be.

    Where the token goes is read from a tensor, and attention looks at the first `reach` positions, those not yet filled hidden by a mask. Pieces
    of more tokens (the prompt, and the half window that is read again) go the plain way.
    """

    STEP = 128  # reach grows by so many positions, with a recording for each: less to read than always the whole buffer

    def __init__(self, config: GPTConfig, batch_size: int, max_length: int, dtype=torch.float32, device="cpu"):
        super().__init__(config, batch_size, -(-max_length // self.STEP) * self.STEP, dtype, device)
        self.kv.zero_()  # what is hidden is multiplied by 0, which must not meet a NaN
        self.token = torch.zeros(batch_size, 1, dtype=torch.long, device=device)
        self.position = torch.zeros(1, dtype=torch.long, device=device)
        self.reach, self.recordings = 0, {}  # reach -> recording

    def positions(self, T: int) -> torch.Tensor:
        return self.position if T == 1 else super().positions(T)

    def append(self, layer: int, k: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        if k.size(2) > 1:
            return super().append(layer, k, v)
        if layer == 0:  # the mask of all layers, (1, reach): in numbers, which attention would turn it into each time
            later = torch.arange(self.reach, device=k.device) > self.position
            self.mask = torch.zeros(self.reach, dtype=self.kv.dtype, device=k.device).masked_fill(later, -math.inf)[None]
        self.kv[layer].index_copy_(3, self.position, torch.stack((k, v)).to(self.kv.dtype))
        return *self.kv[layer, :, :, :, : self.reach], self.mask


class RecordedGPT(GPT):
    """A GPT that records its step of one token and then plays it back: one launch in place of some hundred and fifty (GPT-2 small), for one text
    more work for the processor than what they launch is for the GPU."""

    def __init__(self, model: GPT, record: Callable | None = None):
        """record(step): calls the step as often as it likes, and returns a function that does the same work and returns the same tensor, filled anew.
        One text (or batch) at a time: torch may free what one recording works with when another one goes."""
        nn.Module.__init__(self)
        self.config, self.checkpoint_activations, self.transformer = model.config, False, model.transformer
        self.record = record or partial(cuda_graph, stream=torch.cuda.Stream(self.transformer.wpe.weight.device))

    def new_cache(self, batch_size: int, length: int) -> StaticCache:
        weight = self.transformer.wpe.weight
        return StaticCache(self.config, batch_size, length, weight.dtype, weight.device)

    def forward(self, idx: torch.Tensor, targets=None, cache: StaticCache | None = None, **settings):
        """GPT's. The logits of a single token with a cache are valid until the next call."""
        if cache is None or idx.size(1) > 1 or cache.length == self.config.block_size:
            return super().forward(idx, targets, cache, **settings)
        past = cache.length
        cache.token.copy_(idx)
        cache.position.fill_(past)
        cache.reach = (past // cache.STEP + 1) * cache.STEP
        if targets is not None:
            return super().forward(idx, targets, cache, **settings)
        step = partial(self._step, cache, past)
        if self.record and cache.reach not in cache.recordings:
            try:
                cache.recordings[cache.reach] = self.record(step)
            except RuntimeError as failed:  # out of memory, or a torch that cannot record this: the step itself does the same
                warnings.warn(f"writing without a CUDA graph, which is slower: {first_line(failed)}", stacklevel=2)
                self.record = None
        logits = cache.recordings.get(cache.reach, step)()  # (B, 1, V)
        cache.length = past + 1
        return logits, None

    def _step(self, cache: StaticCache, past: int) -> torch.Tensor:
        cache.length = past  # as often as it is called
        return super().forward(cache.token, cache=cache)[0]


def cuda_graph(step: Callable[[], torch.Tensor], stream: torch.cuda.Stream) -> Callable[[], torch.Tensor]:
    """Record what the step does on the GPU, as torch's notes on CUDA graphs say: on a stream beside, first a few times for real,
    because libraries set themselves up in their first call, and that cannot be recorded. (One stream for all: cuBLAS keeps memory for each.)"""
    graph = torch.cuda.CUDAGraph()
    stream.wait_stream(torch.cuda.current_stream(stream.device))
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
        with torch.cuda.graph(graph, stream=stream):
            result = step()
    torch.cuda.current_stream(stream.device).wait_stream(stream)

    def play() -> torch.Tensor:
        graph.replay()
        return result

    return play


@lru_cache
def can_record(device: torch.device, dtype: torch.dtype) -> bool:
    """Does a recorded step give here what the plain one gives? Tried on a small model; where it does not, a warning says so."""
    error = recording_error(device, dtype)
    if not error < 0.05:
        warnings.warn(f"writing without a CUDA graph, which is slower: its numbers are off by {error:.0%}", stacklevel=2)
    return error < 0.05


@torch.inference_mode()
def recording_error(device: torch.device, dtype: torch.dtype, record: Callable | None = None) -> float:
    """How far the logits of recorded steps are from those of all positions at once: |difference| / |logits|, over the end of a reach."""
    own = torch.Generator().manual_seed(0)
    model = GPT(GPTConfig(64, 160, 2, 2, 128), init=False)
    for p in model.parameters():  # large enough that attention decides
        p.copy_(torch.randn(p.shape, generator=own) * (0.15 if p.dim() > 1 else 1))
    model = model.to(device, dtype).eval()
    text = torch.randint(64, (2, 150), generator=own).to(device)
    recorded, cache = RecordedGPT(model, record), StaticCache(model.config, 2, 160, dtype, device)
    steps = torch.cat([recorded(text[:, t : t + 1], cache=cache)[0].clone() for t in range(150)], dim=1)
    plain = model(text)[0].float()
    return ((steps.float() - plain).norm() / plain.norm()).item()
