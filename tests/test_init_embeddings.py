from types import SimpleNamespace

import numpy as np
import pytest
import torch

from model import GPT, GPTConfig
from training.init_embeddings import init_embeddings, neighbor_vectors, sinusoids
from training.init_model import init_model

TOKENS = np.random.default_rng(0).integers(0, 12, 2000).astype(np.uint16) ** 2 % 20  # not all of 20 ids, unevenly


def dense_information(tokens: np.ndarray, vocab_size: int) -> np.ndarray:
    """The positive pointwise mutual information of neighbors in float64, pair by pair."""
    counts = np.zeros((vocab_size, vocab_size))
    for first, second in zip(tokens[:-1], tokens[1:]):
        counts[first, second] += 1
        counts[second, first] += 1
    token, context = counts.sum(1) / counts.sum(), counts.sum(0) ** 0.75
    with np.errstate(divide="ignore", invalid="ignore"):
        information = np.log(counts / counts.sum() / np.outer(token, context / context.sum()))
    return np.where(counts > 0, np.maximum(information, 0), 0)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("n_embd", [20, 32])  # as many dimensions as tokens, and more
def test_neighbor_vectors_have_the_inner_products_of_the_dense_svd(n_embd):
    torch.manual_seed(0)
    vectors = neighbor_vectors(TOKENS, 20, n_embd)
    u, s, _ = np.linalg.svd(dense_information(TOKENS, 20))
    assert vectors.shape == (20, n_embd)
    assert np.allclose(vectors @ vectors.T, u * s @ u.T, atol=1e-4)


@pytest.mark.parametrize("n_embd", [32, 128])
def test_init_embeddings_sets_tokens_that_occur_to_one_logit_for_themselves(n_embd):
    torch.manual_seed(0)
    model = GPT(GPTConfig(20, 8, 1, 2, n_embd))
    before = model.transformer.wte.weight.clone()
    init_embeddings(model, TOKENS)
    after, occurs = model.transformer.wte.weight, torch.zeros(len(before), dtype=torch.bool)
    occurs[np.unique(TOKENS).astype(int)] = True
    assert torch.equal(after[~occurs], before[~occurs])
    logits = model.transformer.ln_f(after) @ after.T
    assert torch.allclose(logits.diagonal()[occurs], torch.tensor(12.8), rtol=0.2)


def test_init_embeddings_of_an_ensemble_have_the_same_inner_products_in_other_vectors():
    """Of so few tokens: the SVD of many is approximate, and another for each member."""
    torch.manual_seed(0)
    model = GPT(GPTConfig(20, 8, 1, 2, 64, members=2))
    init_embeddings(model, TOKENS)
    one, two = model.transformer.wte.weight[np.unique(TOKENS).astype(int)].chunk(2, dim=1)
    assert torch.allclose(one @ one.T, two @ two.T, atol=1e-4)
    assert (one - two).abs().max() > 0.05
    assert torch.equal(*model.transformer.wpe.weight.chunk(2, dim=1))


def test_sinusoids_have_inner_products_that_depend_on_the_distance_only():
    positions = sinusoids(64, 32)
    products = positions @ positions.T
    assert torch.allclose(products[:-1, :-1], products[1:, 1:], atol=1e-4)
    assert products[0].argmax() == 0


def test_init_model_sets_the_embeddings_of_a_new_model_only_where_asked():
    config, corpus = GPTConfig(20, 8, 1, 2, 16), SimpleNamespace(train=TOKENS)
    torch.manual_seed(0)
    random = init_model(config, "scratch", False, None, corpus).state_dict()
    torch.manual_seed(0)
    text = init_model(config, "scratch", True, None, corpus).state_dict()
    changed = {name for name in text if not torch.equal(text[name], random[name])}
    assert changed == {"transformer.wte.weight", "transformer.wpe.weight", "lm_head.weight"}
