"""
Decoding on a CUDA GPU by CUDA graphs: one launch per token instead of some hundred and fifty (GPT-2 small).

For one text the launches take longer than the GPU's work. A graph is captured for each length bucket and replayed for
every token in it.
"""

import math
import warnings
from collections.abc import Callable
from functools import lru_cache, partial

import torch

from configurator import first_line
from model import GPT, GPTConfig, KVCache

BUCKET = 128  # positions; attention reads whole buckets, and each has a graph of its own


class StaticCache(KVCache):
    """A cache with which decoding a token is the same work on the same memory every time, as a CUDA graph needs.

    The position is read from a tensor, and attention reads the first `visible` positions, with a mask over those that
    are not filled yet. Several tokens at once (a prompt, a window that is read again) are handled by KVCache.
    """

    def __init__(self, config: GPTConfig, batch_size: int, max_length: int, dtype=torch.float32, device="cpu"):
        super().__init__(config, batch_size, math.ceil(max_length / BUCKET) * BUCKET, dtype, device)
        self.kv.zero_()  # masked values are multiplied by 0, which must not meet a NaN
        self.token = torch.zeros(batch_size, 1, dtype=torch.long, device=device)
        self.position = torch.zeros(1, dtype=torch.long, device=device)
        self.visible, self.graphs = 0, {}  # visible -> the replay function of its graph
        self.capture_failed = False

    def positions(self, T: int) -> torch.Tensor:
        return self.position if T == 1 else super().positions(T)

    def append(self, layer: int, k: torch.Tensor, v: torch.Tensor):
        if k.size(2) > 1:
            return super().append(layer, k, v)
        if layer == 0:  # the mask of all layers, (1, visible), as the numbers that attention adds
            hidden = torch.arange(self.visible, device=k.device) > self.position
            self.mask = torch.zeros(self.visible, dtype=self.kv.dtype, device=k.device)
            self.mask = self.mask.masked_fill(hidden, -math.inf)[None]
        self.kv[layer].index_copy_(3, self.position, torch.stack((k, v)).to(self.kv.dtype))
        return *self.kv[layer, :, :, :, : self.visible], self.mask


class CUDAGraphDecoder:
    """model.decoder on a CUDA GPU. The logits that it returns are valid until the next call."""

    def __init__(self, model: GPT, capture: Callable | None = None):
        """capture(step): calls step, and returns a function that repeats its work and returns its result, updated.

        One batch at a time: torch may free memory that one cache's graphs use when those of another cache are freed.
        """
        self.model = model
        self.capture = capture or partial(capture_cuda_graph, stream=torch.cuda.Stream(model.lm_head.weight.device))

    def new_cache(self, batch_size: int, length: int) -> StaticCache:
        """An empty cache for `length` positions."""
        weight = self.model.transformer.wpe.weight
        return StaticCache(self.model.config, batch_size, length, weight.dtype, weight.device)

    def next_logits(self, idx: torch.Tensor, cache: StaticCache) -> torch.Tensor:
        """Read idx (B, T) after what the cache holds. Returns the logits of the token that follows, (B, V)."""
        if idx.size(1) > 1 or cache.length == self.model.config.block_size:
            return self.model.next_logits(idx, cache)
        past = cache.length
        cache.token.copy_(idx)
        cache.position.fill_(past)
        cache.visible = (past // BUCKET + 1) * BUCKET

        def step() -> torch.Tensor:
            cache.length = past  # capturing calls this several times
            return self.model.next_logits(cache.token, cache)

        if cache.visible not in cache.graphs and not cache.capture_failed:
            try:
                cache.graphs[cache.visible] = self.capture(step)
            except RuntimeError as error:  # out of memory, or an operation that cannot be captured
                warnings.warn(f"generating without CUDA graphs, which is slower: {first_line(error)}", stacklevel=2)
                cache.capture_failed = True
        logits = cache.graphs.get(cache.visible, step)()
        cache.length = past + 1
        return logits


def capture_cuda_graph(step: Callable[[], torch.Tensor], stream: torch.cuda.Stream) -> Callable[[], torch.Tensor]:
    """Capture what step does on the GPU. Returns a function that replays it and returns step's result, updated.

    As torch's notes on CUDA graphs say: on a side stream, after warm-up calls, because libraries initialise themselves
    in their first call, which cannot be captured. One stream for all graphs: cuBLAS keeps a workspace per stream.
    """
    graph = torch.cuda.CUDAGraph()
    stream.wait_stream(torch.cuda.current_stream(stream.device))
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
        with torch.cuda.graph(graph, stream=stream):
            result = step()
    torch.cuda.current_stream(stream.device).wait_stream(stream)

    def replay() -> torch.Tensor:
        graph.replay()
        return result

    return replay


@lru_cache
def cuda_graphs_work(device: torch.device, dtype: torch.dtype) -> bool:
    """Do replayed graphs give the plain logits here? Tried on a small model. Warns where they do not."""
    error = capture_error(device, dtype)
    if not error < 0.05:
        warnings.warn(f"generating without CUDA graphs, which is slower: their error is {error:.0%}", stacklevel=2)
    return error < 0.05


@torch.inference_mode()
def capture_error(device: torch.device, dtype: torch.dtype, capture: Callable | None = None) -> float:
    """|difference| / |logits| between replayed decoding and one pass over all positions, across a bucket's end."""
    generator = torch.Generator().manual_seed(0)
    model = GPT(GPTConfig(64, 160, 2, 2, 128), init=False)
    for p in model.parameters():  # weights so large that attention matters
        p.copy_(torch.randn(p.shape, generator=generator) * (0.15 if p.dim() > 1 else 1))
    model = model.to(device, dtype).eval()
    text = torch.randint(64, (2, 150), generator=generator).to(device)
    decoder, cache = CUDAGraphDecoder(model, capture), StaticCache(model.config, 2, 160, dtype, device)
    decoded = torch.stack([decoder.next_logits(text[:, t : t + 1], cache).clone() for t in range(150)], dim=1)
    plain = model(text)[0].float()
    return ((decoded.float() - plain).norm() / plain.norm()).item()
