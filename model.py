"""
GPT-2: the transformer, its loss, its KV cache and text generation, in one file.

Read it top-down. Shapes in comments use
    B  batch size    T  sequence length       C  n_embd, the width of the residual stream
    H  n_head        D  C / H, the head size  V  vocab_size

References: "Language Models are Unsupervised Multitask Learners" (Radford et al. 2019); for details the TensorFlow
release (openai/gpt-2, src/model.py) and transformers' GPT2LMHeadModel. tests/test_model.py compares logits and
gradients with the latter.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

IGNORE_INDEX = -100  # targets with this id are not counted in the loss (torch's and transformers' default)


@dataclass
class GPTConfig:
    """The model's shape. The defaults are GPT-2 small with its own vocabulary."""

    vocab_size: int = 50257
    block_size: int = 1024  # the context window, in tokens
    n_layer: int = 12
    n_head: int = 12
    n_embd: int = 768
    dropout: float = 0.0  # on embeddings, attention weights and both residual branches
    members: int = 1  # of an ensemble in one model: see GroupedLinear
    logit_scale: float = 1.0  # factor on the logits in the training loss; above 1, the model in use is less certain
    residual_multiplier: float = 1.0  # factor on each block's output; multiplied into c_proj when saved

    @property
    def padded_vocab_size(self) -> int:
        """Rows of the embedding. A multiple of 64 makes the largest matrix product faster on GPUs."""
        return math.ceil(self.vocab_size / 64) * 64


class KVCache:
    """Keys and values of the positions read so far, in one preallocated buffer.

    `kv` is (n_layer, 2, B, H, max_length, D). `length` counts the filled positions.
    """

    def __init__(self, config: GPTConfig, batch_size: int, max_length: int, dtype=torch.float32, device="cpu"):
        head_size = config.n_embd // config.n_head
        shape = (config.n_layer, 2, batch_size, config.n_head, max_length, head_size)
        self.kv = torch.empty(shape, dtype=dtype, device=device)
        self.length = 0

    def positions(self, T: int) -> torch.Tensor:
        """(T,): the positions of the next T tokens."""
        return torch.arange(self.length, self.length + T, device=self.kv.device)

    def append(self, layer: int, k: torch.Tensor, v: torch.Tensor):
        """Store a layer's new keys and values, k and v (B, H, T, D).

        Returns (k, v, mask): all keys and values of the layer, each (B, H, length + T, D), and the attention mask,
        (T, length + T) bool. The mask is None for a single position, which attends to all, and for an empty cache,
        where the causal mask of attention is right.
        """
        T, past, end = k.size(2), self.length, self.length + k.size(2)
        self.kv[layer, :, :, :, past:end] = torch.stack((k, v))
        mask = torch.ones(T, end, dtype=torch.bool, device=k.device).tril(past) if past and T > 1 else None
        return *self.kv[layer, :, :, :, :end], mask


class CausalSelfAttention(nn.Module):
    """Multi-head attention. A position attends to itself and to the positions before it."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.n_head, self.dropout = config.n_head, config.dropout
        self.c_attn = linear(config, config.n_embd, 3 * config.n_embd, parts=3)  # query, key, value in one product
        self.c_proj = linear(config, config.n_embd, config.n_embd)
        self.resid_dropout = nn.Dropout(config.dropout)

    def forward(self, x: torch.Tensor, layer: int, cache: KVCache | None = None) -> torch.Tensor:
        B, T, C = x.shape
        q, k, v = self.c_attn(x).split(C, dim=2)  # each (B, T, C)
        q, k, v = (z.view(B, T, self.n_head, C // self.n_head).transpose(1, 2) for z in (q, k, v))  # (B, H, T, D)
        mask = None
        if cache is not None:
            k, v, mask = cache.append(layer, k, v)  # (B, H, past + T, D), in the cache's precision
            q = q.to(k.dtype)
        # softmax(q kᵀ / √D) v, by FlashAttention (Dao et al. 2022) where there is a kernel.
        # is_causal aligns its triangle with the first key, so tokens that follow cached ones need a mask.
        dropout = self.dropout if self.training else 0.0
        if cache is None and plain_is_faster(q.device.type, q.dtype, B * self.n_head * T * T):
            y = plain_attention(q, k, v, dropout)
        else:
            causal = mask is None and T > 1
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=causal)
        y = y.transpose(1, 2).reshape(B, T, C)  # concatenate the heads
        if cache is not None:
            y = y.to(x.dtype)
        return self.resid_dropout(self.c_proj(y))


def plain_is_faster(device_type: str, dtype: torch.dtype, scores: int) -> bool:
    """torch's FlashAttention for CPUs is slow in bf16, on the processors with bf16 that were tried.

    scores: B H T T, which the plain way keeps in memory for the backward pass, 32 MiB per layer at most.
    """
    return device_type == "cpu" and dtype == torch.bfloat16 and scores <= 2**24


def plain_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, dropout: float) -> torch.Tensor:
    """Causal attention by two products and a softmax. q, k, v: (B, H, T, D)."""
    T = q.size(2)
    mask = torch.full((T, T), -math.inf, dtype=q.dtype, device=q.device).triu(1)  # added: masked_fill takes longer
    with torch.autocast(q.device.type, enabled=False):  # which would run softmax in fp32
        scores = (q * q.size(-1) ** -0.5) @ k.mT + mask  # (B, H, T, T)
        return F.dropout(scores.softmax(-1), dropout) @ v


class MLP(nn.Module):
    """Two linear layers with a GELU between them, applied to each position. The hidden layer is 4 C wide."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.c_fc = linear(config, config.n_embd, 4 * config.n_embd)
        self.c_proj = linear(config, 4 * config.n_embd, config.n_embd)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.gelu(self.c_fc(x), approximate="tanh")  # the tanh form is GPT-2's (Hendrycks & Gimpel 2016)
        return self.dropout(self.c_proj(x))


class Block(nn.Module):
    """Attention, then MLP. Each reads the normalised residual stream and adds to it (pre-LayerNorm).

    state_dict() has c_proj times residual_multiplier, so any GPT-2 code that loads it computes the same.
    """

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.multiplier = config.residual_multiplier
        self.ln_1 = nn.LayerNorm(config.n_embd)
        self.attn = CausalSelfAttention(config)
        self.ln_2 = nn.LayerNorm(config.n_embd)
        self.mlp = MLP(config)
        if self.multiplier != 1:
            self.register_state_dict_post_hook(lambda block, *state: block._scale(block.multiplier, *state))
            self.register_load_state_dict_pre_hook(lambda block, *state: block._scale(1 / block.multiplier, *state))

    def forward(self, x: torch.Tensor, layer: int, cache: KVCache | None = None) -> torch.Tensor:
        x = torch.add(x, self.attn(self.ln_1(x), layer, cache), alpha=self.multiplier)
        x = torch.add(x, self.mlp(self.ln_2(x)), alpha=self.multiplier)
        return x

    def _scale(self, factor: float, state: dict, prefix: str, *args) -> None:
        """Multiply c_proj in a state_dict."""
        for name in ("attn.c_proj.weight", "attn.c_proj.bias", "mlp.c_proj.weight", "mlp.c_proj.bias"):
            state[prefix + name] = factor * state[prefix + name]


class GPT(nn.Module):
    """GPT-2. `logits, loss = model(idx, targets)`."""

    def __init__(self, config: GPTConfig, init: bool = True):
        """init=False leaves the weights uninitialized, for a model whose weights are loaded afterwards.

        Raises ValueError when n_head does not divide n_embd, or members does not divide n_head.
        """
        super().__init__()
        if config.n_embd % config.n_head or config.n_head % config.members:
            raise ValueError(f"n_head must divide n_embd, and members n_head: {config}")
        self.config = config
        self.checkpoint_activations = False  # recompute each block in the backward pass: less memory, more time
        self.decoder = None  # a faster way to decode, set by generation/optimize.py; None: this module
        self.transformer = nn.ModuleDict(
            dict(
                wte=uninitialized_embedding(config.padded_vocab_size, config.n_embd),  # token -> vector
                wpe=uninitialized_embedding(config.block_size, config.n_embd),  # position -> vector
                drop=nn.Dropout(config.dropout),
                h=nn.ModuleList(Block(config) for _ in range(config.n_layer)),
                ln_f=nn.LayerNorm(config.n_embd),
            )
        )
        # The output head. On the meta device it takes no memory: its weight is that of wte.
        self.lm_head = nn.Linear(config.n_embd, config.padded_vocab_size, bias=False, device="meta")
        self.tie_weights()
        if init:
            self.init_weights()

    def tie_weights(self) -> None:
        """Use one weight for the embedding and the output head (Press & Wolf 2017, arXiv:1608.05859)."""
        self.lm_head.weight = self.transformer.wte.weight

    @torch.no_grad()
    def init_weights(self) -> None:
        """GPT-2's initialisation: N(0, 0.02), scaled by 1/√(2 n_layer) for projections into the residual stream."""
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2 and "c_proj" in name:
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * self.config.n_layer))
            elif parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
            else:  # LayerNorm weights
                nn.init.ones_(parameter)
        self.transformer.ln_f.weight /= self.config.members  # the logits, a sum over members, are their mean

    def num_params(self) -> int:
        """The number of parameters, without the padding rows of the vocabulary. The tied head counts once."""
        padding = (self.config.padded_vocab_size - self.config.vocab_size) * self.config.n_embd
        return sum(p.numel() for p in self.parameters()) - padding

    def flops_per_token(self) -> int:
        """Floating-point operations per token of training, forward and backward.

        6 per weight of a matrix product (Kaplan et al. 2020), and 12 L C T for attention over the full block
        (PaLM, Chowdhery et al. 2022, appendix B).
        """
        c = self.config
        matmul_weights = 12 * c.n_layer * c.n_embd**2 // c.members + c.vocab_size * c.n_embd
        return 6 * matmul_weights + 12 * c.n_layer * c.n_embd * c.block_size

    def forward(
        self,
        idx: torch.Tensor,
        targets: torch.Tensor | None = None,
        cache: KVCache | None = None,
        keep_logits: bool = True,
        only_last: bool = False,
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Score every next token.

        idx: (B, T) token ids. targets: (B, T) ids, IGNORE_INDEX where not counted.
        cache: holds the tokens before idx; idx is added to it.
        keep_logits=False, with targets: compute only the loss, without the full (B, T, V) logits in memory; in
        training that of `loss`.
        only_last: return only the logits of the last position, (B, 1, V).
        Returns (logits (B, T, V) or None, mean loss in nats per token or None).
        Raises ValueError when there are more than block_size positions.
        """
        past = cache.length if cache is not None else 0
        T = idx.size(1)
        if past + T > self.config.block_size:
            raise ValueError(f"{past + T} positions do not fit block_size={self.config.block_size}")
        position = torch.arange(T, device=idx.device) if cache is None else cache.positions(T)
        x = self.transformer.drop(self.transformer.wte(idx) + self.transformer.wpe(position))  # (B, T, C)
        for layer, block in enumerate(self.transformer.h):
            if self.checkpoint_activations and self.training:  # a third more time (Chen et al. 2016)
                x = checkpoint(block, x, layer, use_reentrant=False)
            else:
                x = block(x, layer, cache)
        if cache is not None:
            cache.length += T
        x = self.transformer.ln_f(x[:, -1:] if only_last else x)
        if targets is not None and not keep_logits:
            return None, self.loss(x, targets)
        logits = self.lm_head(x)[..., : self.config.vocab_size]  # (B, T, V), without the padding rows
        if targets is None:
            return logits, None
        logits_fp32 = logits.to(torch.promote_types(logits.dtype, torch.float32))
        loss = F.cross_entropy(logits_fp32.flatten(0, 1), targets.flatten(), ignore_index=IGNORE_INDEX)
        return logits, loss

    def loss(self, x: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The mean loss of x (B, T, C), the output of ln_f.

        In training, each member of an ensemble has its own loss, and its logits are multiplied by logit_scale.
        """
        n, scale = (self.config.members, self.config.logit_scale) if self.training else (1, 1)
        members = zip(x.chunk(n, dim=-1), self.lm_head.weight.chunk(n, dim=1))
        # n: ln_f's weight has 1 / n for the mean.
        losses = (chunked_cross_entropy(n * scale * x, head, targets, self.config.vocab_size) for x, head in members)
        return sum(losses) / n

    # Generation: prefill (read the prompt), then decode one token after the other.

    def new_cache(self, batch_size: int, length: int) -> KVCache:
        """An empty cache on the model's device for `length` positions."""
        weight = self.transformer.wpe.weight
        # CPUs compute attention over a bf16 cache two times slower than over an fp32 one.
        dtype = torch.float32 if weight.device.type == "cpu" else weight.dtype
        return KVCache(self.config, batch_size, length, dtype, weight.device)

    def next_logits(self, idx: torch.Tensor, cache: KVCache) -> torch.Tensor:
        """Read idx (B, T) after what the cache holds. Returns the logits of the token that follows, (B, V)."""
        return self(idx, cache=cache, only_last=True)[0][:, 0]

    @torch.inference_mode()
    def stream(
        self,
        idx: torch.Tensor,
        max_new_tokens: int,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
        constraint: tuple[torch.Tensor, torch.Tensor] | None = None,
        seed: int | None = None,
        first_row: int = 0,
        keep: int = 0,
        on_logits: Callable[[torch.Tensor], None] = lambda logits: None,
    ):
        """Yield the next ids (B,), one position after the other, starting at the end of the shortest prompt.

        idx: (B, T) prompts. Shorter rows are padded on the right with -1. Until the longest prompt is read, its own
        ids are yielded for its row, while shorter rows are generated already.
        temperature=0 chooses the most likely token. The other filters are those of `filter_logits`.
        constraint: (bias (S, V) fp32, next_state (S, V) int). To the logits of a row in state s, bias[s] is added: -inf
        for ids that may not come. The row then goes to next_state[s, id]. Behind the prompt the state is 0.
        seed: 0 or more; row i uses the random numbers of (seed, first_row + i), so a text does not depend on the batch.

        on_logits: called with the model's logits (B, V) fp32 before each choice.

        When the context window is full, it slides by half a block, so the cost per token stays constant. The first
        `keep` ids of the rows stay in the window.
        """
        B, T = idx.shape
        prompt_lengths = (idx >= 0).sum(1).tolist()
        uniform = uniform_per_row(prompt_lengths, max_new_tokens, seed, first_row).to(idx.device)  # (B, T + new)
        ids = torch.cat((idx, idx.new_full((B, max_new_tokens), -1)), dim=1)  # -1: not generated yet
        state = ids.new_zeros(B)
        decoder = self.decoder or self
        cache = decoder.new_cache(B, min(self.config.block_size, ids.size(1)))
        shortest, room = min(prompt_lengths), self.config.block_size - keep
        start = shortest - room if shortest > self.config.block_size else 0  # the first id to read
        for t in range(shortest, ids.size(1)):
            unread = ids[:, start:t]
            if not cache.length and start:  # the window has moved
                unread = torch.cat((ids[:, :keep], unread), dim=1)
            logits = decoder.next_logits(unread, cache).float()  # (B, V)
            on_logits(logits)
            if constraint is not None:
                logits = logits + constraint[0].index_select(0, state)
            logits = filter_logits(logits, ids[:, :t], temperature, top_k, top_p, min_p, repetition_penalty)
            token = logits.argmax(-1) if temperature == 0 else sample_token(logits, uniform[:, t])
            if constraint is not None:
                state = constraint[1][state, token].long()
            if t < T:
                in_prompt = ids[:, t] >= 0  # rows whose prompt is longer
                token, state = torch.where(in_prompt, ids[:, t], token), state.masked_fill(in_prompt, 0)
            ids[:, t] = token
            yield token
            start = slide_window(cache, t, self.config.block_size, keep)

    def generate(self, idx: torch.Tensor, max_new_tokens: int, **settings) -> torch.Tensor:
        """idx (B, T) -> (B, T + max_new_tokens). The settings are those of `stream`."""
        shortest = (idx >= 0).sum(1).min()  # where `stream` begins
        tokens = (token[:, None] for token in self.stream(idx, max_new_tokens, **settings))
        return torch.cat((idx[:, :shortest], *tokens), dim=1)


def uninitialized_embedding(rows: int, width: int) -> nn.Embedding:
    """An embedding without initial weights. (nn.Embedding on the meta device imports torch's compiler: 0.8 s.)"""
    return nn.Embedding.from_pretrained(torch.empty(rows, width), freeze=False)


def uniform_per_row(prompt_lengths: list[int], max_new_tokens: int, seed: int | None, first_row: int) -> torch.Tensor:
    """Random numbers in [0, 1) for the positions to generate, (B, longest prompt + max_new_tokens) fp32.

    Row i is drawn from a generator seeded with (seed, first_row + i). All are drawn at once, so that no decode step
    waits for the host. numpy's generator, because torch's CPU generator uses only 32 bits of a seed.
    """
    seed = torch.randint(2**40, ()).item() if seed is None else seed
    uniform = torch.zeros(len(prompt_lengths), max(prompt_lengths) + max_new_tokens)
    for i, length in enumerate(prompt_lengths):
        generator = np.random.default_rng((seed, first_row + i))
        numbers = torch.from_numpy(generator.random(max_new_tokens, dtype=np.float32))
        uniform[i, length : length + max_new_tokens] = numbers.mul_(1 - 2**-20)
    return uniform


def sample_token(logits: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """Sample ids (B,) from softmax(logits) (B, V): the inverse cumulative distribution at uniform (B,)."""
    probability = logits.softmax(-1)
    cumulative = probability.cumsum(-1)
    target = uniform[:, None] * cumulative[:, -1:]
    if logits.device.type == "cpu":
        return torch.searchsorted(cumulative, target, right=True)[:, 0]  # the first above the target
    return first_above(cumulative, target, probability)


def first_above(cumulative: torch.Tensor, target: torch.Tensor, probability: torch.Tensor) -> torch.Tensor:
    """The first id of each row whose cumulative probability is above the target, where sums are inexact, (B,).

    On a GPU they are computed in parallel, and can rise by a rounding error at a token of probability 0.
    """
    return ((cumulative > target) & (probability > 0)).int().argmax(-1)


def slide_window(cache: KVCache, t: int, block_size: int, keep: int = 0) -> int:
    """The position from which the model reads next, after id t was generated.

    t itself, while the cache has room. A full cache is emptied; the first `keep` ids and the second half of what is
    left of the window are read again.
    """
    if cache.length < block_size:
        return t
    cache.length = 0
    return t + 1 - max(1, (block_size - keep) // 2)


def filter_logits(
    logits: torch.Tensor,
    seen: torch.Tensor,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    repetition_penalty: float = 1.0,
) -> torch.Tensor:
    """Apply temperature and filters to the logits, in the order and meaning of transformers' logits processors.

    logits: (B, V). seen: (B, T), the ids so far. Off: temperature 1, top_k 0, top_p 1, min_p 0, penalty 1.
    repetition_penalty (CTRL, Keskar et al. 2019) divides the positive logits of seen tokens and multiplies the
    negative ones. top_k keeps the k most likely tokens. top_p (nucleus, Holtzman et al. 2020) keeps the fewest that
    reach probability p. min_p (Nguyen et al. 2024) keeps those at least min_p times as likely as the most likely one.
    Dropped tokens become -inf. Ties at a limit are all kept.
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
        ascending = sort_largest(probability, top_p)
        sums = ascending.cumsum(-1)
        dropped = (sums <= sums[:, -1:] - top_p).sum(1, keepdim=True).clamp(max=ascending.size(-1) - 1)
        logits = logits.masked_fill(probability < ascending.gather(1, dropped), -math.inf)
    if min_p:
        probability = logits.softmax(-1)
        logits = logits.masked_fill(probability < min_p * probability.amax(-1, keepdim=True), -math.inf)
    return logits


def sort_largest(probability: torch.Tensor, top_p: float) -> torch.Tensor:
    """The largest probabilities of each row (B, V) in ascending order: at least those that sum to top_p."""
    if probability.device.type != "cpu":
        return probability.sort().values
    rows = probability.numpy()  # numpy's partition and sort are ten times faster than torch's
    largest = np.partition(rows, -1024)[:, -1024:] if rows.shape[1] > 1024 else rows
    return torch.from_numpy(np.sort(largest if largest.sum(1).min() >= top_p else rows))


def chunked_cross_entropy(
    x: torch.Tensor, head: torch.Tensor, targets: torch.Tensor, vocab_size: int, chunk: int = 1024
) -> torch.Tensor:
    """Mean cross-entropy of `x @ headᵀ` against targets, one chunk of positions after the other.

    x: (B, T, C). head: (padded V, C). targets: (B, T). Value and gradients equal those of F.cross_entropy on the full
    logits. For GPT-2 small with B = 8, T = 1024 those take more memory than its weights.
    """
    device = x.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
    with torch.autocast(device, enabled=False):
        return ChunkedCrossEntropy.apply(x.flatten(0, 1), head, targets.flatten(), vocab_size, chunk, dtype)


class ChunkedCrossEntropy(torch.autograd.Function):
    """Computes the gradients in the forward pass, chunk by chunk, so that no logits are kept or computed twice.

    The idea is Liger Kernel's (Hsu et al. 2024). Products run in `dtype`, the rest in fp32 (in fp64 for fp64 input).
    """

    @staticmethod
    def forward(ctx, x, head, targets, vocab_size, chunk, dtype):
        fp32 = torch.promote_types(dtype, torch.float32)
        need_grad = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        weight = head.to(dtype)
        counted = targets != IGNORE_INDEX
        count = counted.sum().clamp(min=1)
        loss = torch.zeros((), dtype=fp32, device=x.device)
        grad_x, grad_head = torch.empty_like(x) if need_grad else None, None
        for start in range(0, x.size(0), chunk):
            rows = slice(start, start + chunk)
            x_rows, keep = x[rows].to(dtype), counted[rows, None]
            target = targets[rows, None].where(keep, 0)
            logits = (x_rows @ weight.t()).to(fp32)  # (chunk, padded V)
            logits[:, vocab_size:] = -math.inf  # padding rows
            probability = logits.softmax(1)
            # log Σ exp from the most likely token's logit and probability: one pass of exp instead of two
            log_total = logits.amax(1, keepdim=True) - probability.amax(1, keepdim=True).log()
            loss += ((log_total - logits.gather(1, target)) * keep).sum()
            if need_grad:  # d loss / d logits = softmax - onehot(target), 0 for ignored targets
                probability.scatter_add_(1, target, -torch.ones_like(target, dtype=fp32))
                delta = probability.mul_(keep).to(dtype)
                grad_x[rows] = delta @ weight
                part = delta.t() @ x_rows
                grad_head = part.to(fp32) if grad_head is None else grad_head.add_(part)
            logits = probability = delta = part = None  # freed before the next chunk's are made
        if need_grad:
            ctx.save_for_backward(grad_x, grad_head, count)
            ctx.head_dtype = head.dtype
        return loss / count

    @staticmethod
    def backward(ctx, grad_loss):
        grad_x, grad_head, count = ctx.saved_tensors
        scale = grad_loss / count  # scaled last, so that small fp16 numbers do not underflow
        return (grad_x * scale).to(grad_x.dtype), (grad_head * scale).to(ctx.head_dtype), None, None, None, None


def linear(config: GPTConfig, in_features: int, out_features: int, parts: int = 1) -> nn.Module:
    """nn.Linear, or a GroupedLinear where the model has members."""
    if config.members == 1:
        return nn.Linear(in_features, out_features)
    return GroupedLinear(in_features, out_features, config.members, parts)


class GroupedLinear(nn.Module):
    """The linear layers of an ensemble's members side by side: each reads and writes its own channels.

    As one layer it has a block-diagonal matrix, and so it is in state_dict(): an nn.Linear that loads `weight`,
    (out_features, in_features) with zeros, and `bias` computes the same. With parts=3 (query, key, value) the members
    share each third of the outputs.
    """

    def __init__(self, in_features: int, out_features: int, members: int, parts: int = 1):
        super().__init__()
        self.parts = parts
        self.layers = nn.ModuleList(nn.Linear(in_features // members, out_features // members) for _ in range(members))
        self.register_state_dict_post_hook(GroupedLinear._join)
        self.register_load_state_dict_pre_hook(GroupedLinear._split)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        ys = [layer(x_k) for layer, x_k in zip(self.layers, x.chunk(len(self.layers), dim=-1))]
        return torch.cat([y.unflatten(-1, (self.parts, -1)) for y in ys], dim=-1).flatten(-2)

    def _join(self, state: dict, prefix: str, metadata) -> None:
        """Replace the members' weights in a state_dict by those of the whole layer, on the CPU: they can be large."""
        n = len(self.layers)
        weight = torch.block_diag(*(state.pop(f"{prefix}layers.{k}.weight").cpu() for k in range(n)))
        bias = torch.cat([state.pop(f"{prefix}layers.{k}.bias").cpu() for k in range(n)])
        for name, w in (("weight", weight), ("bias", bias)):  # rows by (member, part) -> by (part, member)
            state[prefix + name] = w.unflatten(0, (n, self.parts, -1)).transpose(0, 1).flatten(0, 2)

    def _split(self, state: dict, prefix: str, *args) -> None:
        """The inverse of _join. It drops what is outside the blocks."""
        n = len(self.layers)
        for name in ("weight", "bias"):
            members = state.pop(prefix + name).unflatten(0, (self.parts, n, -1)).transpose(0, 1).flatten(1, 2)
            for k, w in enumerate(members):
                state[f"{prefix}layers.{k}.{name}"] = w.chunk(n, dim=1)[k] if name == "weight" else w
