import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F

import model as model_module
from checkpoint import CONV1D
from model import (
    GPT,
    IGNORE_INDEX,
    GPTConfig,
    KVCache,
    chunked_cross_entropy,
    filter_logits,
    first_above,
    plain_attention,
    sample_token,
)

SHAPES = [(97, 16, 1, 1, 8), (131, 32, 2, 4, 32), (64, 24, 3, 3, 48)]  # vocab, block, layers, heads, width


def make(shape, seed=0, dropout=0.0, **others):
    torch.manual_seed(seed)
    vocab, block, layers, heads, width = shape
    model = GPT(GPTConfig(vocab, block, layers, heads, width, dropout, **others))
    with torch.no_grad():
        for p in model.parameters():  # so that biases and norms are not 0 and 1
            p.add_(torch.randn_like(p) * 0.1)
    return model.eval()


def reference(model):
    """transformers' GPT2LMHeadModel with the same weights."""
    from transformers import GPT2Config, GPT2LMHeadModel

    c = model.config
    config = GPT2Config(
        vocab_size=c.vocab_size, n_positions=c.block_size, n_embd=c.n_embd, n_layer=c.n_layer, n_head=c.n_head
    )
    other = GPT2LMHeadModel(config).eval().to(next(model.parameters()).dtype)
    weights = {name: (p.t() if name.endswith(CONV1D) else p) for name, p in model.named_parameters()}
    weights["transformer.wte.weight"] = weights["lm_head.weight"] = weights["transformer.wte.weight"][: c.vocab_size]
    other.load_state_dict(weights)
    return other


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-4), (torch.float64, 1e-10)])
def test_forward_logits_loss_and_gradients_equal_transformers(shape, dtype, tolerance, seed):
    model = make(shape, seed).to(dtype)
    other = reference(model)
    idx = torch.randint(0, shape[0], (3, shape[1]))
    targets = torch.randint(0, shape[0], (3, shape[1]))
    targets[0, ::3] = IGNORE_INDEX
    logits, loss = model(idx, targets)
    expected = other(idx).logits
    expected_loss = F.cross_entropy(expected.flatten(0, 1), targets.flatten())
    assert (logits - expected).abs().max() < tolerance
    assert (loss - expected_loss).abs() < tolerance
    model.train()(idx, targets, keep_logits=False)[1].backward()  # the path that training takes
    expected_loss.backward()
    gradients = dict(other.named_parameters())
    for name, p in model.named_parameters():
        want = gradients[name].grad
        got = p.grad.t() if name.endswith(CONV1D) else p.grad[: len(want)]
        assert (got - want).norm() <= tolerance * want.norm().clamp(min=1e-3), name
    assert model.transformer.wte.weight.grad[shape[0] :].abs().sum() == 0


@pytest.mark.parametrize("rows, chunk", [(10, 3), (7, 7), (5, 100)])
def test_chunked_loss_equals_cross_entropy(rows, chunk):
    torch.manual_seed(0)
    x, head = (torch.randn(*size, dtype=torch.float64, requires_grad=True) for size in ((2, rows, 6), (64, 6)))
    targets = torch.randint(0, 50, (2, rows))
    targets[0, :3] = IGNORE_INDEX
    plain = F.cross_entropy((x @ head.t())[..., :50].flatten(0, 1), targets.flatten())
    ours = chunked_cross_entropy(x, head, targets, 50, chunk)
    assert abs(ours - plain) < 1e-9
    for got, want in zip(torch.autograd.grad(3 * ours, (x, head)), torch.autograd.grad(3 * plain, (x, head))):
        assert (got - want).abs().max() < 1e-9
    assert chunked_cross_entropy(x, head, torch.full_like(targets, IGNORE_INDEX), 50) == 0


def test_chunked_loss_under_autocast_is_close_and_float32():
    model = make(SHAPES[1])
    idx = torch.randint(0, 131, (2, 33))
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(idx[:, :-1], idx[:, 1:], keep_logits=False)[1]
    assert loss.dtype == torch.float32
    assert abs(loss - model(idx[:, :-1], idx[:, 1:])[1]) < 0.02


def plain_gpt(model):
    """A GPT-2 that holds the weights of an ensemble, or of a model with a multiplier."""
    plain = (
        GPT(dataclasses.replace(model.config, members=1, residual_multiplier=1.0)).to(model.lm_head.weight.dtype).eval()
    )
    plain.load_state_dict(model.state_dict())
    return plain


@pytest.mark.parametrize(
    "shape, members, multiplier", [(SHAPES[1], 2, 1), (SHAPES[1], 4, 0.25), (SHAPES[2], 3, 1), (SHAPES[2], 1, 0.25)]
)
def test_ensemble_with_residual_multiplier_is_a_gpt_with_other_weights(shape, members, multiplier):
    ensemble = make(shape, members=members, residual_multiplier=multiplier).double()
    plain, idx = plain_gpt(ensemble), torch.randint(0, shape[0], (2, shape[1]))
    assert torch.allclose(ensemble(idx)[0], plain(idx)[0], atol=1e-12)
    assert torch.allclose(ensemble(idx, idx, keep_logits=False)[1], plain(idx, idx)[1], atol=1e-12)
    out = ensemble.generate(idx[:, :5], 20, seed=1)
    assert torch.equal(out, plain.generate(idx[:, :5], 20, seed=1))
    again = GPT(ensemble.config).double()
    again.load_state_dict(plain.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(ensemble.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize("shape, members, scale", [(SHAPES[1], 2, 1), (SHAPES[2], 3, 1.5), (SHAPES[1], 1, 1.5)])
def test_ensemble_members_learn_from_their_own_scaled_losses(shape, members, scale):
    """Loss and gradients in float64, against the plain GPT and the logits of each member alone."""
    ensemble = make(shape, members=members, logit_scale=scale).double().train()
    plain, outputs = plain_gpt(ensemble), []
    plain.transformer.ln_f.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    idx, targets = torch.randint(0, shape[0], (2, 3, shape[1]))
    loss = ensemble(idx, targets, keep_logits=False)[1]
    loss.backward()
    plain(idx)
    width = shape[4] // members
    expected = 0
    for first in range(0, shape[4], width):
        columns = slice(first, first + width)
        logits = scale * members * outputs[0][..., columns] @ plain.lm_head.weight[: shape[0], columns].T
        expected += F.cross_entropy(logits.flatten(0, 1), targets.flatten()) / members
    expected.backward()
    assert torch.allclose(loss, expected, atol=1e-12)
    for p in plain.parameters():
        p.data = p.grad
    of_plain = GPT(ensemble.config).double()
    of_plain.load_state_dict(plain.state_dict())  # the gradients of the blocks
    for p, gradient in zip(ensemble.parameters(), of_plain.parameters(), strict=True):
        assert torch.allclose(p.grad, gradient, atol=1e-12)


def test_logit_scale_leaves_the_loss_of_validation():
    scaled, plain = make(SHAPES[1], logit_scale=1.5), make(SHAPES[1])
    idx, targets = torch.randint(0, SHAPES[1][0], (2, 3, SHAPES[1][1]))
    with torch.no_grad():
        losses = [model(idx, targets, keep_logits=False)[1] for model in (scaled, plain)]
    assert torch.equal(*losses)


def test_ensemble_counts_the_blocks_only():
    one, four = (GPT(GPTConfig(100, 16, 2, 4, 64, members=n)) for n in (1, 4))
    assert one.num_params() - four.num_params() == 2 * 12 * 64**2 * 3 // 4
    assert one.flops_per_token() - four.flops_per_token() == 6 * 2 * 12 * 64**2 * 3 // 4


def test_ensemble_logits_of_a_new_model_are_the_mean_of_the_members():
    """The mean of four logits with equal variances has half their standard deviation."""
    torch.manual_seed(0)
    one, four = (GPT(GPTConfig(500, 16, 2, 4 * n, 64 * n, members=n)) for n in (1, 4))
    stds = [model(torch.arange(16)[None])[0].std().item() for model in (one, four)]
    assert stds[1] == pytest.approx(stds[0] / 2, rel=0.1)


def test_plain_attention_equals_torch():
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 3, 20, 8, dtype=torch.float64, requires_grad=True) for _ in range(3))
    got = plain_attention(q, k, v, 0.0)
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    assert torch.allclose(got, expected, atol=1e-12)
    weight = torch.randn_like(got)
    for mine, theirs in zip(*(torch.autograd.grad((y * weight).sum(), (q, k, v)) for y in (got, expected))):
        assert torch.allclose(mine, theirs, atol=1e-12)


def test_plain_attention_drops_weights_at_the_given_rate():
    torch.manual_seed(0)
    q, v = torch.zeros(4, 4, 64, 8), torch.eye(64).expand(4, 4, 64, 64)
    last = plain_attention(q, q, v, 0.3)[:, :, -1]  # weights of the last position: each 0 or 1 / (64 * 0.7)
    assert torch.allclose(last[last > 0], torch.tensor(1 / (64 * 0.7)))
    assert abs((last == 0).float().mean() - 0.3) < 0.05


def test_attention_is_plain_in_bf16_on_a_cpu_only(monkeypatch):
    called = []
    monkeypatch.setattr(model_module, "plain_attention", lambda q, *_, **__: called.append(q.dtype) or q)
    net, idx = make(SHAPES[0]), torch.randint(0, 97, (2, 16))
    net(idx)
    assert not called
    with torch.autocast("cpu", torch.bfloat16):
        net(idx)
    assert called == [torch.bfloat16]


@pytest.mark.parametrize("pieces", [[1] * 20, [20], [7, 1, 1, 11], [3, 5, 12]])
def test_cache_gives_the_logits_of_the_full_forward(pieces):
    model = make(SHAPES[1])
    idx = torch.randint(0, 131, (3, 20))
    cache = KVCache(model.config, 3, 32)
    with torch.no_grad():
        cached = torch.cat([model(piece, cache=cache)[0] for piece in idx.split(pieces, dim=1)], dim=1)
        assert (cached - model(idx)[0]).abs().max() < 1e-4


def test_forward_refuses_too_many_positions():
    with pytest.raises(ValueError, match="block_size"):
        make(SHAPES[0])(torch.zeros(1, 17, dtype=torch.long))


def test_gpt_refuses_heads_that_do_not_divide_the_width():
    with pytest.raises(ValueError, match="n_head"):
        GPT(GPTConfig(10, 8, 1, 3, 8))


def test_head_and_embedding_share_one_weight():
    model = make(SHAPES[0])
    assert model.lm_head.weight is model.transformer.wte.weight
    assert "lm_head.weight" not in dict(model.named_parameters())


@pytest.mark.parametrize("keep", [0, 6])
@pytest.mark.parametrize("length", [1, 10, 40])
def test_stream_greedy_is_the_argmax_of_the_full_forward(length, keep):
    """Computed without a cache, over a window of which all but `keep` ids slide by half when it is full."""
    model = make(SHAPES[1])
    idx, seen = torch.randint(0, 131, (2, length)), []
    out = model.generate(idx, 60, temperature=0, keep=keep, on_logits=seen.append)
    assert out.shape == (2, length + 60) and (out[:, :length] == idx).all()
    window = idx if length <= 32 else torch.cat((idx[:, :keep], idx[:, length - (32 - keep) :]), dim=1)
    for end, cached in zip(range(length, length + 60), seen, strict=True):
        if window.size(1) > 32:
            half = max(1, (32 - keep) // 2)
            window = torch.cat((window[:, :keep], window[:, -half:]), dim=1)
        logits = model(window)[0][:, -1]
        assert (logits - cached).abs().max() < 1e-4
        assert (logits.argmax(-1) == out[:, end]).all(), end
        window = torch.cat((window, out[:, end : end + 1]), dim=1)


def test_stream_row_does_not_depend_on_the_batch():
    model, start = make(SHAPES[1]), torch.tensor([[5, 6, 7]])
    many = model.generate(start.expand(4, -1), 50, seed=3, top_p=0.9)
    assert (many[:1] == model.generate(start, 50, seed=3, top_p=0.9)).all()
    assert len({tuple(row) for row in many.tolist()}) == 4


@pytest.mark.parametrize("seed", [4, 3 + 2**12, 3 + 2**32, 3 + 2**70])
def test_stream_another_seed_gives_another_text(seed):
    model, start = make(SHAPES[1]), torch.tensor([[5, 6, 7]])
    assert (model.generate(start, 50, seed=seed) != model.generate(start, 50, seed=3)).any()


@pytest.mark.parametrize("lengths, new", [((3, 9, 5), 20), ((1, 30, 32), 80), ((7, 7, 7), 5)])
def test_stream_prompts_of_different_lengths_continue_as_each_alone(lengths, new):
    """Also after the window (32) slides."""
    model = make(SHAPES[1])
    prompts = [torch.randint(0, 131, (n,)) for n in lengths]
    idx = torch.nn.utils.rnn.pad_sequence(prompts, batch_first=True, padding_value=-1)
    steps = list(model.stream(idx, new, seed=9, top_p=0.9, repetition_penalty=1.2, first_row=4))
    assert len(steps) == max(lengths) - min(lengths) + new
    for row, prompt in enumerate(prompts):
        alone = torch.cat(
            list(model.stream(prompt[None], new, seed=9, top_p=0.9, repetition_penalty=1.2, first_row=4 + row))
        )
        first = len(prompt) - min(lengths)
        in_batch = torch.stack(steps)[:, row]
        assert (in_batch[:first] == prompt[min(lengths) :]).all()
        assert (in_batch[first : first + new] == alone).all()


def test_stream_cost_per_token_is_constant():
    """On average two positions are computed per token: one, and half a block again for each half block."""
    model, counts = make(SHAPES[1]), []
    model.transformer.wte.register_forward_pre_hook(lambda module, inputs: counts.append(inputs[0].numel()))
    for new in (320, 640):
        counts.clear()
        list(model.stream(torch.zeros(1, 1, dtype=torch.long), new, seed=1))
        assert len(counts) == new and sum(counts) <= 2 * new


def test_stream_obeys_the_constraint():
    """After an even number only odd ones, and the other way round."""
    model = make(SHAPES[0])
    even = torch.arange(97) % 2 == 0
    bias = torch.where(torch.stack((even, ~even)), 0.0, -math.inf)
    constraint = bias, torch.stack((even, even)).long()  # state 1: an even number was the last
    out = model.generate(torch.tensor([[1]]), 200, temperature=5.0, constraint=constraint, seed=1)[0]
    assert (out[1::2] % 2 == 0).all() and (out[2::2] % 2 == 1).all()


def test_stream_penalty_sees_prompt_and_new_tokens():
    model = make(SHAPES[0])
    out = model.generate(torch.tensor([[1, 2, 3]]), 12, temperature=0, repetition_penalty=50.0)[0]
    for t in range(3, 15):
        logits = filter_logits(model(out[None, :t])[0][:, -1], out[None, :t], repetition_penalty=50.0)
        assert logits.argmax() == out[t]


@pytest.mark.parametrize(
    "ours, theirs",
    [
        ({"temperature": 0.7}, "TemperatureLogitsWarper"),
        ({"top_k": 5}, "TopKLogitsWarper"),
        ({"top_p": 0.8}, "TopPLogitsWarper"),
        ({"min_p": 0.1}, "MinPLogitsWarper"),
        ({"repetition_penalty": 1.3}, "RepetitionPenaltyLogitsProcessor"),
    ],
)
def test_filter_logits_equals_transformers(ours, theirs):
    import transformers

    torch.manual_seed(1)
    logits, seen = torch.randn(6, 50) * 3, torch.randint(0, 50, (6, 9))
    expected = getattr(transformers, theirs)(*ours.values())(seen, logits.clone())
    got = filter_logits(logits, seen, **ours)
    assert torch.equal(got.isinf(), expected.isinf())
    assert torch.allclose(got.softmax(-1), expected.softmax(-1), atol=1e-6)


def test_stream_samples_follow_the_distribution():
    model = make((8, 64, 1, 1, 8))
    start = torch.zeros(4000, 1, dtype=torch.long)
    drawn = next(model.stream(start, 1, seed=1))
    expected = model(start[:1])[0][0, 0].softmax(-1)
    assert (torch.bincount(drawn, minlength=8) / 4000 - expected).abs().max() < 4 * math.sqrt(0.25 / 4000)


def test_first_above_is_what_sample_token_draws_on_a_cpu():
    generator = torch.Generator().manual_seed(1)
    logits, uniform = 5 * torch.randn(50, 97, generator=generator), torch.rand(50, generator=generator)
    probability = logits.softmax(-1)
    cumulative = probability.cumsum(-1)
    drawn = first_above(cumulative, uniform[:, None] * cumulative[:, -1:], probability)
    assert torch.equal(drawn, sample_token(logits, uniform))


def test_first_above_never_gives_probability_0_where_sums_are_inexact():
    """On a GPU a cumulative sum can rise by a rounding error where 0 was added. Here it rises by far more."""
    probability = torch.ones(97).where(torch.arange(97) % 2 == 0, 0.0).expand(50, -1)
    inexact = probability.cumsum(-1) + (probability == 0) * 0.9
    drawn = first_above(inexact, torch.linspace(0, 48, 50)[:, None], probability)
    assert (drawn % 2 == 0).all() and drawn.unique().numel() > 20


def test_generate_begins_after_the_shortest_prompt():
    model = make(SHAPES[1])
    prompts = torch.tensor([[5, 6, 7], [8, -1, -1]])
    ids = model.generate(prompts, 4, temperature=0)
    assert ids.shape == (2, 7) and ids[0, :3].tolist() == [5, 6, 7] and (ids >= 0).all()
    assert torch.equal(ids[1:, :5], model.generate(prompts[1:, :1], 4, temperature=0))


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_checkpoint_activations_gives_the_same_gradients(dropout):
    model = make(SHAPES[1], dropout=dropout).train()
    idx = torch.randint(0, 131, (2, 32))
    gradients = []
    for again in (False, True):
        model.checkpoint_activations = again
        model.zero_grad()
        torch.manual_seed(5)
        model(idx, idx, keep_logits=False)[1].backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients))


def test_forward_and_backward_compile_without_graph_breaks():
    model = make(SHAPES[0]).train()
    idx = torch.randint(0, 97, (2, 16))
    want = model(idx, idx, keep_logits=False)[1]
    want.backward()
    gradients = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    got = torch.compile(model, fullgraph=True, backend="aot_eager")(idx, idx, keep_logits=False)[1]
    got.backward()
    assert torch.allclose(got, want, atol=1e-6)
    assert all(torch.allclose(p.grad, g, atol=1e-6) for p, g in zip(model.parameters(), gradients))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")
def test_cuda_bfloat16_loss_is_close():
    model = make(SHAPES[1])
    idx = torch.randint(0, 131, (2, 33))
    want = model(idx[:, :-1], idx[:, 1:])[1]
    with torch.autocast("cuda", torch.bfloat16):
        got = model.cuda()(idx[:, :-1].cuda(), idx[:, 1:].cuda(), keep_logits=False)[1]
    assert abs(got.cpu() - want) < 0.02
