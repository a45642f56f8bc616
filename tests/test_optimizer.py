import math
import re

import pytest
import torch

from model import GPT, GPTConfig
from training.optimizer import COEFFICIENTS, Muon, OptimizerConfig, Optimizers, orthogonalize

OFF = torch.amp.GradScaler("cpu", enabled=False)
IDX = torch.randint(0, 64, (4, 8), generator=torch.Generator().manual_seed(0))


def make_optimizers(optimizer, grad_clip=1.0, weight_decay=0.0):
    torch.manual_seed(0)
    model = GPT(GPTConfig(64, 8, 1, 2, 8))
    config = OptimizerConfig(optimizer, learning_rate=0.1, weight_decay=weight_decay, grad_clip=grad_clip)
    return model, Optimizers(model, config)


def train_step(model, optimizers, scaler=OFF):
    loss = model(IDX, IDX)[1]
    scaler.scale(loss).backward()
    return optimizers.step(loss.detach(), scaler)


def test_muon_update_is_close_to_torch():
    """Five steps on several shapes; a (3 C, C) matrix against its three parts. torch's rounds to bf16 in between."""
    torch.manual_seed(0)
    shapes = [(48, 16), (16, 16), (64, 16), (16, 64), (16, 16)]
    ours = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
    parts = [[w] if w.shape != (48, 16) else w.chunk(3) for w in ours]
    theirs = [torch.nn.Parameter(part.detach().clone()) for split in parts for part in split]
    start = torch.cat([p.detach().flatten() for p in ours])
    mine = Muon(ours, lr=0.01, weight_decay=0.1, dtype=torch.bfloat16)
    reference = torch.optim.Muon(theirs, lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(5):
        for p in ours:
            p.grad = torch.randn_like(p)
        grads = [grad for p in ours for grad in (p.grad.chunk(3) if p.shape == (48, 16) else [p.grad])]
        for p, grad in zip(theirs, grads):
            p.grad = grad.clone()
        mine.step()
        reference.step()
    a, b = (torch.cat([p.detach().flatten() for p in params]) for params in (ours, theirs))
    assert (a - b).abs().max() < 0.03 * (b - start).abs().max()


@pytest.mark.parametrize("shape", [(2, 40, 40), (2, 40, 160), (2, 160, 40)])
@pytest.mark.parametrize("steps", COEFFICIENTS)
def test_orthogonalize_brings_singular_values_near_1(shape, steps):
    """Also where they differ by a factor of 20."""
    torch.manual_seed(0)
    rank = min(shape[1:])
    left, right = (torch.linalg.qr(torch.randn(2, size, rank))[0] for size in shape[1:])
    values = torch.linspace(0.05, 1, rank)
    x = left * values @ right.mT
    got = torch.linalg.svdvals(orthogonalize(x, torch.float32, steps))
    assert got.min() > 0.65 and got.max() < 1.3


def test_muon_treats_query_key_and_value_as_three_matrices():
    """All singular values of an orthogonal update are equal, within Newton-Schulz's 0.7 to 1.2."""
    model, optimizers = make_optimizers("muon")
    weight = model.transformer.h[0].attn.c_attn.weight
    before = weight.detach().clone()
    train_step(model, optimizers)
    scale = 0.1 * 0.2 * math.sqrt(8)  # learning rate, and Liu et al.'s factor
    for part in (weight.detach() - before).chunk(3):
        values = torch.linalg.svdvals(part) / scale
        assert values.max() < 1.3 and values[:4].min() > 0.5
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, "loss"])
def test_step_that_is_not_finite_changes_nothing_and_is_counted(optimizer, bad):
    def frozen(optimizers):
        return [
            t.clone()
            for part in optimizers.optimizers
            for p in part.state
            for t in (p.detach(), *part.state[p].values())
        ]

    model, optimizers = make_optimizers(optimizer)
    train_step(model, optimizers)
    before = frozen(optimizers)
    for count in (1, 2):
        loss = model(IDX, IDX)[1]
        loss.backward()
        if bad == "loss":
            loss = loss * math.inf
        else:
            model.transformer.h[0].mlp.c_fc.weight.grad[0, 0] = bad
        optimizers.step(loss.detach(), OFF)
        assert all(map(torch.equal, frozen(optimizers), before))
        assert (optimizers.skipped_in_a_row, optimizers.skipped) == (count, count)
    train_step(model, optimizers)
    assert not any(map(torch.equal, frozen(optimizers), before))
    assert (optimizers.skipped_in_a_row, optimizers.skipped) == (0, 2)


@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_step_with_fp16_overflow_is_skipped_by_every_optimizer(clip):
    """With one infinite gradient no optimizer steps and the scale falls; without it all step."""
    model, optimizers = make_optimizers("muon", clip)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for harm in (True, False):
        before = [p.detach().clone() for p in model.parameters()]
        loss = model(IDX, IDX)[1]
        scaler.scale(loss).backward()
        if harm:
            model.transformer.h[0].mlp.c_fc.weight.grad[0, 0] = math.inf
        optimizers.step(loss.detach(), scaler)
        changed = [bool((p != b).any()) for p, b in zip(model.parameters(), before)]
        assert not any(changed) if harm else all(changed)
    assert scaler.get_scale() == 2.0


def test_step_does_not_depend_on_the_fp16_scale():
    weights = []
    for scaler in (OFF, torch.amp.GradScaler("cpu", init_scale=1024.0)):
        model, optimizers = make_optimizers("muon")
        train_step(model, optimizers, scaler)
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(*weights)


def test_load_state_dict_keeps_new_settings_and_loads_moments():
    model, optimizers = make_optimizers("muon")
    train_step(model, optimizers)
    other = Optimizers(model, OptimizerConfig(weight_decay=0.5, beta1=0.7))
    other.load_state_dict(optimizers.state_dict())
    assert (
        other.optimizers[0].param_groups[0]["weight_decay"] == 0.5
        and other.optimizers[1].param_groups[0]["betas"][0] == 0.7
    )
    for part, saved in zip(other.optimizers, optimizers.optimizers):
        moments = [[m for p in o.state for m in o.state[p].values()] for o in (part, saved)]
        assert len(moments[0]) > 0 and all(map(torch.equal, *moments))


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_optimizers_train_every_parameter_once(optimizer):
    model, optimizers = make_optimizers(optimizer)
    trained = [id(p) for part in optimizers.optimizers for group in part.param_groups for p in group["params"]]
    assert sorted(trained) == sorted(id(p) for p in model.parameters())
    before = [p.detach().clone() for p in model.parameters()]
    train_step(model, optimizers)
    assert all((p != b).any() for p, b in zip(model.parameters(), before))


@pytest.mark.parametrize("optimizer, block_size, share", [("muon", 64, 1), ("muon", 512, 1 / 4), ("adamw", 512, 1)])
def test_positions_of_long_windows_learn_slowly(optimizer, block_size, share):
    model = GPT(GPTConfig(vocab_size=64, block_size=block_size, n_layer=1, n_head=2, n_embd=32))
    config = OptimizerConfig(optimizer=optimizer, learning_rate=1e-3, adamw_learning_rate=1e-3)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    train_step(model, Optimizers(model, config))
    change = {name: (p - before[name]).abs().max().item() for name, p in model.named_parameters()}
    # AdamW's first step changes a weight by the learning rate.
    assert change["transformer.wpe.weight"] == pytest.approx(share * 1e-3, rel=1e-3)
    assert change["transformer.ln_f.weight"] == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_matrices_of_blocks_and_token_vectors_decay(optimizer):
    model, optimizers = make_optimizers(optimizer, weight_decay=0.1)
    names = {id(p): name for name, p in model.named_parameters()}
    groups = [group for part in optimizers.optimizers for group in part.param_groups if group["weight_decay"]]
    decayed = {names[id(p)] for group in groups for p in group["params"]}
    matrices = {name for name, p in model.named_parameters() if ".h." in name and p.dim() == 2}
    assert decayed == matrices | {"transformer.wte.weight"}


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_ensemble_of_equal_members_learns_like_one_model(optimizer):
    torch.manual_seed(0)
    one = GPT(GPTConfig(64, 8, 2, 2, 16))
    two = GPT(GPTConfig(64, 8, 2, 4, 32, members=2))
    with torch.no_grad():
        for name, p in two.named_parameters():  # blocks.h.0.attn.c_attn.layers.1.weight is that of one's c_attn
            own = one.get_parameter(re.sub(r"\.layers\.\d", "", name))
            p.copy_(own if ".layers." in name else torch.cat([own, own], dim=-1) / (2 if ".ln_f." in name else 1))
    for model in (one, two):  # of half the size, an ensemble's ln_f learns twice as fast
        model.transformer.ln_f.requires_grad_(False)
    logits = []
    for model in (one, two):
        config = OptimizerConfig(optimizer=optimizer, learning_rate=0.01, weight_decay=0.1, grad_clip=0)
        optimizers = Optimizers(model.train(), config)
        for _ in range(5):
            loss = model(IDX, IDX.roll(1), keep_logits=False)[1]
            loss.backward()
            optimizers.step(loss.detach(), OFF)
        logits.append(model.eval()(IDX)[0])
    assert torch.allclose(*logits, atol=1e-3)
    assert logits[0].std() > 0.2  # 0.08 at the start
