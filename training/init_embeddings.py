"""Initial embeddings that hold what can be counted in the training text. A short run need not learn it."""

import numpy as np
import torch

from model import GPT

# Both are divided by the width. So a token's logit for itself is 13 before the first step, at any width: the last
# LayerNorm's output has a standard deviation of 1.
TOKEN_SCALE = 12.8  # a standard deviation of 0.05 at a width of 256
POSITION_SCALE = 25.6  # an amplitude of 0.1 at a width of 256


@torch.no_grad()
def init_embeddings(model: GPT, tokens: np.ndarray) -> None:
    """Set the embeddings of a new model on the CPU: of tokens by their neighbors, of positions by sinusoids.

    tokens: (n,) ids of the training text. Tokens that are not in it keep their random vector.
    """
    members = model.config.members  # of an ensemble: each has its own columns
    for wte in model.transformer.wte.weight.chunk(members, dim=1):
        vectors = neighbor_vectors(tokens, *wte.shape)
        norm = vectors.norm(dim=1, keepdim=True)
        occurs = norm > 1e-3  # less is a rounding error
        wte.copy_(torch.where(occurs, vectors * (TOKEN_SCALE / wte.size(1) ** 0.5 / norm), wte))
    for wpe in model.transformer.wpe.weight.chunk(members, dim=1):
        wpe.copy_(POSITION_SCALE / wpe.size(1) * sinusoids(*wpe.shape))


def neighbor_vectors(tokens: np.ndarray, vocab_size: int, n_embd: int) -> torch.Tensor:
    """(vocab_size, n_embd) fp32: tokens that stand next to the same tokens have similar vectors.

    A truncated SVD of the positive pointwise mutual information of neighbors (Levy & Goldberg 2014, "Neural Word
    Embedding as Implicit Matrix Factorization"; their context distribution to the power of 0.75).
    """
    pairs = tokens[:-1].astype(np.int64) * vocab_size + tokens[1:]
    pairs, counts = (torch.from_numpy(a) for a in np.unique(pairs, return_counts=True))
    pairs = torch.stack((pairs // vocab_size, pairs % vocab_size))  # (2, different bigrams)
    shape = (vocab_size, vocab_size)
    both = torch.cat((pairs, pairs.flip(0)), dim=1)  # neighbors on the right and on the left
    with torch.sparse.check_sparse_tensor_invariants():  # torch warns where neither on nor off is chosen
        counts = torch.sparse_coo_tensor(both, counts.float().repeat(2), shape).coalesce()
        (first, second), count = counts.indices(), counts.values()
        total = torch.zeros(vocab_size).index_add_(0, first, count)  # of each token
        context = total**0.75 / (total**0.75).sum()
        information = (count / (total[first] * context[second])).log().clamp(min=0)
        matrix = torch.sparse_coo_tensor(counts.indices(), information, shape)
        u, s, _ = torch.svd_lowrank(matrix, q=min(n_embd, vocab_size))
    rotation = torch.linalg.qr(torch.randn(n_embd, n_embd)).Q  # so that all dimensions are equally large
    return (u * s.sqrt()) @ rotation[: len(s)]


def sinusoids(n_positions: int, n_embd: int) -> torch.Tensor:
    """(n_positions, n_embd) fp32: sines and cosines of wavelengths from 2π to 20,000π (Vaswani et al. 2017)."""
    frequencies = 10000 ** (-torch.arange(0, n_embd, 2) / n_embd)
    angles = torch.arange(n_positions)[:, None] * frequencies
    return torch.cat((angles.sin(), angles.cos()), dim=1)[:, :n_embd]
