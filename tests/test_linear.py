"""Linear layers for generation on a CPU, compared with nn.Linear."""

import pytest
import torch

import checkpoint
from dataset import Corpus, validation_windows
from generation.linear import Int8Linear, PackedLinear, can_pack, replace_linears
from generation.optimize import optimize_for_inference

CPU = torch.device("cpu")


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.bfloat16, 0.05)])
def test_packed_linear_gives_the_plain_logits(workplace, dtype, tolerance):
    if not can_pack(dtype):
        pytest.skip("no oneDNN here")
    idx = torch.arange(24).view(2, 12)
    plain = checkpoint.load_pretrained(workplace / "out/tiny").to(dtype)
    packed = replace_linears(checkpoint.load_pretrained(workplace / "out/tiny").to(dtype), PackedLinear)
    with torch.no_grad():
        assert torch.allclose(packed(idx)[0], plain(idx)[0], atol=tolerance)


@pytest.mark.parametrize("rows, width", [(1, 64), (7, 64), (1, 40), (7, 40), (5, 30)])
def test_int8_linear_is_the_product_with_its_rounded_weights(rows, width):
    """Widths that are no multiple of 16, too. Each weight is within half a step of its row's scale."""
    torch.manual_seed(0)
    weight, bias, x = torch.randn(50, width), torch.randn(50), torch.randn(rows, width).bfloat16()
    layer = Int8Linear(weight, bias)
    rounded = (layer.weight.float() * layer.scale.float()[:, None])[:, :width]
    assert ((rounded - weight).abs() <= layer.scale.float()[:, None] * 0.51).all()
    plain = x.float() @ rounded.t() + bias.bfloat16().float()
    assert (layer(x).float() - plain).abs().max() < 0.03 * plain.abs().max()


def test_int8_weights_move_the_loss_by_less_than_0_01(workplace):
    x, y = map(torch.from_numpy, validation_windows(Corpus.open(workplace / "data/novel").val, 32))
    losses = []
    for quantize in ("none", "int8"):
        model = checkpoint.load_pretrained(workplace / "out/tiny")
        with torch.no_grad():
            losses.append(optimize_for_inference(model, CPU, torch.bfloat16, quantize)(x, y)[1].item())
    assert abs(losses[0] - losses[1]) < 0.01
