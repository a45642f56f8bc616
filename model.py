"""
GPT-2, written out by hand: the transformer, its loss, its cache, its generation.

Read it top-down. Shapes in comments use
    B  batch         T  positions (time)      C  n_embd, the width of the residual stream
    H  n_head        D  C / H, a head's width V  vocab_size

References: "Language Models are Unsupervised Multitask Learners" (Radford et al. 2019), for the
details the TensorFlow release (openai/gpt-2, src/model.py) and transformers' GPT2LMHeadModel, with
which tests/test_model.py compares logits and gradients.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

IGNORE = -100  # a target with this id is not counted in the loss (the convention of torch and transformers)


@dataclass
class GPTConfig:
    """The model's shape. The defaults are GPT-2 small with its own vocabulary."""

    vocab_size: int = 50257
    block_size: int = 1024  # the longest context, in tokens
    n_layer: int = 12
    n_head: int = 12
    n_embd: int = 768
    dropout: float = 0.0  # on embeddings, attention weights and both residual branches

    @property
    def padded_vocab_size(self) -> int:
        """Rows of the embedding: a multiple of 64 keeps the largest matrix product on the fast path."""
        return math.ceil(self.vocab_size / 64) * 64


class KVCache:
    """Keys and values of the positions already read: one static buffer, filled from the left.

    `kv` is (n_layer, 2, B, H, max_length, D); `length` counts the filled positions.
    """

    def __init__(self, config: GPTConfig, batch_size: int, max_length: int, dtype=torch.float32, device="cpu"):
        head_width = config.n_embd // config.n_head
        shape = (config.n_layer, 2, batch_size, config.n_head, max_length, head_width)
        self.kv = torch.empty(shape, dtype=dtype, device=device)
        self.length = 0

    def positions(self, T: int) -> torch.Tensor:
        """(T,): where the next T tokens stand."""
        return torch.arange(self.length, self.length + T, device=self.kv.device)

    def append(self, layer: int, k: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Store the new k, v (B, H, T, D) of a layer. Returns all of its k, v (B, H, length + T, D), and which of them a new position sees:
        (T, length + T) bool, or None for the whole causal triangle (nothing was cached) and for a single position, which sees all."""
        T, past, end = k.size(2), self.length, self.length + k.size(2)
        self.kv[layer, :, :, :, past:end] = torch.stack((k, v))
        mask = torch.ones(T, end, dtype=torch.bool, device=k.device).tril(past) if past and T > 1 else None
        return *self.kv[layer, :, :, :, :end], mask


class CausalSelfAttention(nn.Module):
    """Multi-head attention in which a position sees itself and those before it."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.n_head, self.dropout = config.n_head, config.dropout
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd)  # query, key and value in one product
        self.c_proj = nn.Linear(config.n_embd, config.n_embd)
        self.resid_dropout = nn.Dropout(config.dropout)

    def forward(self, x: torch.Tensor, layer: int, cache: KVCache | None = None) -> torch.Tensor:
        B, T, C = x.shape
        q, k, v = self.c_attn(x).split(C, dim=2)  # each (B, T, C)
        q, k, v = (z.view(B, T, self.n_head, C // self.n_head).transpose(1, 2) for z in (q, k, v))  # (B, H, T, D)
        mask = None
        if cache is not None:
            k, v, mask = cache.append(layer, k, v)  # (B, H, past + T, D), in the cache's precision
            q = q.to(k.dtype)
        # softmax(q kᵀ / √D) v without storing the (T, T) weights: FlashAttention (Dao et al. 2022) where there is one.
        # is_causal aligns its triangle to the upper left: a piece that comes after cached positions has a mask of its own.
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=mask is None and T > 1)
        y = y.transpose(1, 2).reshape(B, T, C)  # the heads side by side again
        if cache is not None:
            y = y.to(x.dtype)
        return self.resid_dropout(self.c_proj(y))


class MLP(nn.Module):
    """Two layers, four times as wide inside, with a GELU between them; each position by itself."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.c_fc = nn.Linear(config.n_embd, 4 * config.n_embd)
        self.c_proj = nn.Linear(4 * config.n_embd, config.n_embd)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.gelu(self.c_fc(x), approximate="tanh")  # the tanh form is GPT-2's (Hendrycks & Gimpel 2016)
        return self.dropout(self.c_proj(x))


class Block(nn.Module):
    """Attention, then MLP; each reads the normalised stream and adds to it (pre-LayerNorm)."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd)
        self.attn = CausalSelfAttention(config)
        self.ln_2 = nn.LayerNorm(config.n_embd)
        self.mlp = MLP(config)

    def forward(self, x: torch.Tensor, layer: int, cache: KVCache | None = None) -> torch.Tensor:
        x = x + self.attn(self.ln_1(x), layer, cache)
        x = x + self.mlp(self.ln_2(x))
        return x


class GPT(nn.Module):
    """GPT-2. `logits, loss = model(idx, targets)`."""

    def __init__(self, config: GPTConfig, init: bool = True):
        """Build the model, with fresh weights unless others are to come. Raises ValueError when n_head does not divide n_embd."""
        super().__init__()
        if config.n_embd % config.n_head:
            raise ValueError(f"n_embd={config.n_embd} is not a multiple of n_head={config.n_head}")
        self.config = config
        self.checkpoint_activations = False  # keep only the blocks' inputs for the backward pass and compute the rest again
        table = lambda *shape: nn.Embedding.from_pretrained(torch.empty(shape), freeze=False)  # noqa: E731
        self.transformer = nn.ModuleDict(
            dict(
                wte=table(config.padded_vocab_size, config.n_embd),  # token -> vector; also the output head
                wpe=table(config.block_size, config.n_embd),  # position -> vector
                drop=nn.Dropout(config.dropout),
                h=nn.ModuleList(Block(config) for _ in range(config.n_layer)),
                ln_f=nn.LayerNorm(config.n_embd),
            )
        )
        if init:
            self.init_weights()

    @torch.no_grad()
    def init_weights(self) -> None:
        """GPT-2's initialisation: N(0, 0.02), and 1/√(2 n_layer) of that where a branch joins the stream."""
        for name, parameter in self.named_parameters():
            if name.endswith("c_proj.weight"):
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * self.config.n_layer))
            elif parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
            else:  # the LayerNorms' weights
                nn.init.ones_(parameter)

    def num_params(self) -> int:
        """Parameters of the real vocabulary (without padding rows), head and embedding counted once."""
        padding = (self.config.padded_vocab_size - self.config.vocab_size) * self.config.n_embd
        return sum(p.numel() for p in self.parameters()) - padding

    def flops_per_token(self) -> int:
        """Floating-point operations to train on one token, forward and backward.

        6 for each weight that multiplies (Kaplan et al. 2020), 12 L C T for attention (PaLM, appendix B;
        counted as if every position saw the whole block).
        """
        c = self.config
        matmul_weights = 12 * c.n_layer * c.n_embd**2 + c.vocab_size * c.n_embd
        return 6 * matmul_weights + 12 * c.n_layer * c.n_embd * c.block_size

    def forward(self, idx: torch.Tensor, targets: torch.Tensor | None = None, cache: KVCache | None = None,
                keep_logits: bool = True, only_last: bool = False) -> tuple[torch.Tensor | None, torch.Tensor | None]:  # fmt: skip
        """Score every next token.

        idx: (B, T) token ids, T <= block_size. targets: (B, T) ids, IGNORE where not counted.
        cache: idx continues what the cache holds, and is added to it.
        keep_logits=False, with targets: the loss alone, never holding all (B, T, V) logits. only_last: logits (B, 1, V), the last's.
        Returns (logits (B, T, V) or None, mean loss in nats per token or None).
        Raises ValueError when the positions do not fit block_size.
        """
        past = cache.length if cache is not None else 0
        T = idx.size(1)
        if past + T > self.config.block_size:
            raise ValueError(f"{past + T} positions do not fit block_size={self.config.block_size}")
        position = torch.arange(T, device=idx.device) if cache is None else cache.positions(T)
        x = self.transformer.drop(self.transformer.wte(idx) + self.transformer.wpe(position))  # (B, T, C)
        for layer, block in enumerate(self.transformer.h):
            if self.checkpoint_activations and self.training:  # less memory, a third more time (Chen et al. 2016)
                x = checkpoint(block, x, layer, use_reentrant=False)
            else:
                x = block(x, layer, cache)
        if cache is not None:
            cache.length += T
        x = self.transformer.ln_f(x[:, -1:] if only_last else x)
        if targets is not None and not keep_logits:
            return None, chunked_cross_entropy(x, self.transformer.wte.weight, targets, self.config.vocab_size)
        logits = self.score(x)[..., : self.config.vocab_size]  # (B, T, V), padding rows sliced off
        if targets is None:
            return logits, None
        wide = logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits
        return logits, F.cross_entropy(wide.flatten(0, 1), targets.flatten(), ignore_index=IGNORE)

    def score(self, x: torch.Tensor) -> torch.Tensor:
        """(..., C) -> (..., padded V). The head is tied: the vector that reads a token also scores it."""
        return F.linear(x, self.transformer.wte.weight)

    def new_cache(self, batch_size: int, length: int) -> KVCache:
        """An empty cache on the model's device, for texts of so many positions."""
        weight = self.transformer.wpe.weight
        dtype = torch.float32 if weight.device.type == "cpu" else weight.dtype  # CPUs attend to bf16 two times slower
        return KVCache(self.config, batch_size, length, dtype, weight.device)

    @torch.inference_mode()
    def stream(self, idx, max_new_tokens, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, repetition_penalty=1.0,
               repetition_window=0, grammar=None, seed=None, first_row=0):  # fmt: skip
        """Yield the next ids (B,) one position at a time, from the end of the shortest prompt on.

        idx: (B, T) prompts, a row shorter than others filled up with -1: while the longer ones are still read, its text begins, and
        their own ids are yielded. Past block_size the window slides by half a block, so the model's work for a token does not grow.
        temperature=0 takes the likeliest token; the other filters are `filter_logits`'s, the penalty looks back repetition_window
        tokens (0: all). grammar: (allowed (S, V) bool, next (S, V)), which ids may come in each of S states, and the state after
        each, 0 at first. seed: 0 or more; row i draws from a generator of its own, made of the seed and first_row + i.
        """
        B, T = idx.shape
        block, device = self.config.block_size, idx.device
        length = (idx >= 0).sum(1).tolist()
        seed = torch.randint(2**40, ()).item() if seed is None else seed
        uniform = torch.zeros(B, T + max_new_tokens)  # numbers in [0, 1), drawn before the loop so that no step waits for the host
        for i, n in enumerate(length):
            own = np.random.default_rng((seed, first_row + i))  # torch's would look at 32 bits of a seed only
            uniform[i, n : n + max_new_tokens] = torch.from_numpy(own.random(max_new_tokens, dtype=np.float32)).mul_(1 - 2**-20)
        uniform = uniform.to(device)
        ids = torch.cat((idx, idx.new_full((B, max_new_tokens), -1)), dim=1)  # -1: to be written
        state = ids.new_zeros(B)
        cache = self.new_cache(B, min(block, ids.size(1)))
        begin = max(0, min(length) - block)  # where what the model has yet to read begins
        for t in range(min(length), ids.size(1)):
            logits = self(ids[:, begin:t], cache=cache, only_last=True)[0][:, 0].float()  # (B, V)
            if grammar is not None:
                logits = logits.masked_fill(~grammar[0][state], -math.inf)
            seen = ids[:, max(0, t - repetition_window) if repetition_window else 0 : t]
            logits = filter_logits(logits, seen, temperature, top_k, top_p, min_p, repetition_penalty)
            if temperature == 0:
                token = logits.argmax(-1)
            else:  # inverse of the cumulative distribution at the row's uniform number
                probability = logits.softmax(-1)
                cumulative = probability.cumsum(-1)  # on a GPU it can rise by a rounding where nothing was added: not there
                token = ((cumulative > uniform[:, t, None] * cumulative[:, -1:]) & (probability > 0)).int().argmax(-1)  # the first
            if t < T:  # a longer prompt goes on
                token = torch.where(ids[:, t] >= 0, ids[:, t], token)
            if grammar is not None:
                state = grammar[1][state, token]
            ids[:, t] = token
            yield token
            begin = t
            if cache.length == block:  # full: read the second half again, from position 0, and go on
                cache.length, begin = 0, t + 1 - max(1, block // 2)

    def generate(self, idx: torch.Tensor, max_new_tokens: int, **settings) -> torch.Tensor:
        """idx (B, T) -> (B, T + max_new_tokens). The settings are `stream`'s."""
        return torch.cat((idx, *(token[:, None] for token in self.stream(idx, max_new_tokens, **settings))), dim=1)


def filter_logits(logits: torch.Tensor, seen: torch.Tensor, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0,
                  min_p: float = 0.0, repetition_penalty: float = 1.0) -> torch.Tensor:  # fmt: skip
    """Shape the next token's distribution, in the field's order and meaning (transformers' processors).

    logits: (B, V). seen: (B, T), the ids so far. Off: temperature 1, top_k 0, top_p 1, min_p 0, penalty 1.
    repetition_penalty (CTRL, Keskar et al. 2019) divides the positive logits of tokens seen and multiplies the
    negative ones; top_k keeps the k likeliest; top_p (nucleus, Holtzman et al. 2020) the fewest that together
    reach p; min_p those at least that share of the likeliest. What is dropped becomes -inf; of equals at a limit all are kept.
    """
    if repetition_penalty != 1.0:
        score = logits.gather(1, seen)
        score = torch.where(score < 0, score * repetition_penalty, score / repetition_penalty)
        logits = logits.scatter(1, seen, score)
    if temperature not in (0, 1):
        logits = logits / temperature
    if top_k:
        kth = logits.topk(min(top_k, logits.size(-1))).values[:, -1:]
        logits = logits.masked_fill(logits < kth, -math.inf)
    if top_p < 1.0:
        probability = logits.softmax(-1)
        if logits.device.type != "cpu" or (likely := probability.topk(min(1024, logits.size(-1))).values).sum(-1).min() < top_p:
            likely = probability.sort(descending=True).values  # falling; on a CPU 20 times slower than topk (asking a GPU means waiting)
        before = likely.cumsum(-1) - likely  # the share of all that are likelier
        least = likely.gather(1, (before < top_p).sum(1, keepdim=True) - 1)
        logits = logits.masked_fill(probability < least, -math.inf)
    if min_p:
        probability = logits.softmax(-1)
        logits = logits.masked_fill(probability < min_p * probability.amax(-1, keepdim=True), -math.inf)
    return logits


def chunked_cross_entropy(
    x: torch.Tensor, head: torch.Tensor, targets: torch.Tensor, vocab_size: int, chunk: int = 1024
) -> torch.Tensor:
    """Mean cross-entropy of `x @ headᵀ` against targets, a chunk of positions at a time.

    x: (B, T, C). head: (padded V, C). targets: (B, T). The same value and gradients as F.cross_entropy on the
    whole logits, which for GPT-2 small at B = 8, T = 1024 would take more memory than all of its weights.
    """
    device = x.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
    with torch.autocast(device, enabled=False):
        return ChunkedCrossEntropy.apply(x.flatten(0, 1), head, targets.flatten(), vocab_size, chunk, dtype)


class ChunkedCrossEntropy(torch.autograd.Function):
    """The gradients are taken in the forward pass, while a chunk's logits are at hand: nothing is computed twice.

    (Liger Kernel's idea, Hsu et al. 2024.) The products run in `dtype`, all between them in fp32 (fp64 for fp64 input).
    """

    @staticmethod
    def forward(ctx, x, head, targets, vocab_size, chunk, dtype):
        wide = torch.promote_types(dtype, torch.float32)
        need_grad = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        weight = head.to(dtype)
        counted = targets != IGNORE
        count = counted.sum().clamp(min=1)
        loss = torch.zeros((), dtype=wide, device=x.device)
        grad_x, grad_head = torch.empty_like(x) if need_grad else None, None
        for start in range(0, x.size(0), chunk):
            rows = slice(start, start + chunk)
            x_rows, keep = x[rows].to(dtype), counted[rows, None]
            target = targets[rows, None].where(keep, 0)
            logits = (x_rows @ weight.t()).to(wide)  # (chunk, padded V)
            logits[:, vocab_size:] = -math.inf  # the padding takes no part
            probability = logits.softmax(1)
            # log Σ exp, by way of the likeliest token: the exponentials are taken once
            log_total = logits.amax(1, keepdim=True) - probability.amax(1, keepdim=True).log()
            loss += ((log_total - logits.gather(1, target)) * keep).sum()
            if need_grad:  # d loss / d logits = softmax - onehot(target), and 0 in rows that are not counted
                probability.scatter_add_(1, target, -torch.ones_like(target, dtype=wide))
                delta = probability.mul_(keep).to(dtype)
                grad_x[rows] = delta @ weight
                part = (delta.t() @ x_rows).to(wide)
                grad_head = part if grad_head is None else grad_head.add_(part)
        if need_grad:
            ctx.save_for_backward(grad_x, grad_head, count)
            ctx.head_dtype = head.dtype
        return loss / count

    @staticmethod
    def backward(ctx, grad_loss):
        grad_x, grad_head, count = ctx.saved_tensors
        scale = grad_loss / count  # last, so that fp16's small numbers do not vanish on the way
        return (grad_x * scale).to(grad_x.dtype), (grad_head * scale).to(ctx.head_dtype), None, None, None, None
