"""The compiled step for int8 weights, compared with the plain model."""

from pathlib import Path

import pytest
import torch
from models import lively_model, random_ids

from generation import compiled
from generation.compiled import CompiledDecoder
from generation.linear import Int8Linear
from generation.optimize import optimize_for_inference
from machine import compile_error
from model import slide_window

CPU = torch.device("cpu")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def cache_folder(tmp_path_factory):
    if reason := compile_error(CPU):
        pytest.skip(reason)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def int8_model(width: int = 30, compile: bool = False):
    return optimize_for_inference(lively_model(48, width), CPU, torch.bfloat16, "int8", compile)


def test_compiled_decoder_is_compiled_once_for_all_texts(monkeypatch):
    int8_model(compile=True)
    monkeypatch.setattr(compiled, "compile_block", lambda *_: pytest.fail("compiled again"))
    model = int8_model(compile=True)
    for rows, prompt, new in ((1, 1, 120), (1, 60, 30), (1, 5, 7), (3, 2, 60)):  # also after the window slides
        model.generate(random_ids(rows, prompt), new, seed=1)
    assert isinstance(model.decoder, CompiledDecoder)


def test_block_that_cannot_be_loaded_is_compiled_once_and_the_model_generates_without_it(monkeypatch):
    compiled_once = []

    def damaged(program, package_path):
        compiled_once.append(Path(package_path).write_bytes(b"no package"))
        return package_path

    monkeypatch.setattr(torch._inductor, "aoti_compile_and_package", damaged)
    for _ in range(2):
        with pytest.warns(UserWarning, match="generating without it: the compiled block cannot be loaded"):
            model = int8_model(20, compile=True)
        assert model.decoder is None
    assert len(compiled_once) == 1
    assert model.generate(random_ids(1, 5), 7, seed=1).shape == (1, 12)


def test_compiled_block_is_kept_in_a_relative_cache_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    assert isinstance(int8_model(compile=True).decoder, CompiledDecoder)


@pytest.mark.parametrize(
    "four_weights_at_once, width", [(compiled.FOUR_WEIGHTS_AT_ONCE, 30), (not compiled.FOUR_WEIGHTS_AT_ONCE, 40)]
)
def test_compiled_decoder_is_nearer_to_float64_than_the_plain_step(four_weights_at_once, width, monkeypatch):
    """Against a float64 model with the same rounded weights."""
    monkeypatch.setattr(compiled, "FOUR_WEIGHTS_AT_ONCE", four_weights_at_once)
    plain, exact = int8_model(width), lively_model(48, width).bfloat16().double()
    for own, block in zip(plain.transformer.h, exact.transformer.h):
        for name in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"):
            linear = block.get_submodule(name)
            linear.weight.data = rounded(own.get_submodule(name), linear.in_features)
    exact.lm_head = torch.nn.Linear(width, 64, bias=False)
    exact.lm_head.weight.data = rounded(plain.lm_head, width)
    idx, errors = random_ids(1, 40), []
    expected = exact(idx)[0]
    for decoder in (int8_model(width, compile=True).decoder, plain):
        cache = decoder.new_cache(1, 48)
        with torch.inference_mode():
            got = torch.stack([decoder.next_logits(idx[:, t : t + 1], cache) for t in range(40)], dim=1)
        errors.append(((got - expected).norm() / expected.norm()).item())
    assert errors[0] < 0.006 and errors[0] < errors[1], errors


def rounded(layer: Int8Linear, columns: int) -> torch.Tensor:
    """The weights of an Int8Linear, in float64."""
    return (layer.weight.double() * layer.scale.double()[:, None])[:, :columns]


def test_compiled_decoder_gives_the_plain_logits_after_a_prompt_and_a_slide_of_the_window():
    model = int8_model(compile=True)
    ids, caches, start = random_ids(1, 90), [d.new_cache(1, 48) for d in (model.decoder, model)], 0
    for t in range(20, 90):
        with torch.inference_mode():
            got, expected = (d.next_logits(ids[:, start:t], c) for d, c in zip((model.decoder, model), caches))
        assert (got - expected).norm() < 0.03 * expected.norm(), t
        start = [slide_window(cache, t, 48) for cache in caches][0]


def test_compiled_decoder_works_outside_inference_mode_until_the_window_is_full():
    decoder, idx = int8_model(compile=True).decoder, random_ids(1, 9)
    for mode in (torch.enable_grad, torch.no_grad):
        with mode():
            cache = decoder.new_cache(1, 9)
            logits = [decoder.next_logits(idx[:, t : t + 1], cache) for t in range(9)]
        assert logits[-1].shape == (1, 64) and cache.length == 9
    cache = decoder.new_cache(1, 48)
    cache.length = 48
    with pytest.raises(ValueError, match="block_size"):
        decoder.next_logits(torch.zeros(1, 1, dtype=torch.long), cache)
