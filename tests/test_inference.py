"""Writing fast: packed and 8-bit weights and the compiled step on a CPU, and the step that a GPU plays back, held to the plain model."""

import weakref
from contextlib import nullcontext

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

import checkpoint
from generation import inference
from dataset import Corpus, validation_windows
from generation.inference import (CompiledGPT, Int8Linear, PackedLinear, RecordedGPT, StaticCache, WritingGPT, can_pack, can_record, for_writing,
                       recording_error)  # fmt: skip
from machine import why_not_compile
from model import GPT, GPTConfig

CPU = torch.device("cpu")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packed_weights_give_the_plain_logits(workplace, dtype):
    if not can_pack(dtype):
        pytest.skip("no oneDNN here")
    idx = torch.arange(24).view(2, 12)
    plain = checkpoint.load_pretrained(workplace / "out/tiny").to(dtype)
    with torch.no_grad():
        want = plain(idx)[0]
        got = WritingGPT(checkpoint.load_pretrained(workplace / "out/tiny").to(dtype), PackedLinear)(idx)[0]
    assert torch.allclose(got, want, atol=1e-5 if dtype == torch.float32 else 0.05)


def test_eight_bit_weights_score_nearly_the_same(workplace):
    """Each row's error is at most half a step of its scale; the loss moves by less than 0.01 nats from bfloat16's."""
    torch.manual_seed(0)
    for rows, width in ((1, 64), (7, 64), (1, 40), (7, 40), (5, 30)):  # torch's product reads past the end of rows that are no multiple of 16
        weight, bias, x = torch.randn(50, width), torch.randn(50), torch.randn(rows, width).bfloat16()
        layer = Int8Linear(weight, bias)
        wide = (layer.weight.float() * layer.scale.float()[:, None])[:, :width]
        assert ((wide - weight).abs() <= layer.scale.float()[:, None] * 0.51).all()
        plain = x.float() @ wide.t() + bias.bfloat16().float()
        assert (layer(x).float() - plain).abs().max() < 0.03 * plain.abs().max()
    run_folder = workplace / "out/tiny"
    x, y = map(torch.from_numpy, validation_windows(Corpus.open(workplace / "data/novel").val, 32))
    with torch.no_grad():
        losses = [for_writing(checkpoint.load_pretrained(run_folder), CPU, torch.bfloat16, how)(x, y)[1].item() for how in ("none", "int8")]
    assert abs(losses[0] - losses[1]) < 0.01


def lively(block_size: int, width: int = 32) -> GPT:
    torch.manual_seed(0)
    model = GPT(GPTConfig(64, block_size, 2, 2, width)).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(8 if p.dim() > 1 else 1)
    return model


@pytest.fixture(scope="module")
def compiler():
    if reason := why_not_compile(CPU):
        pytest.skip(reason)


def test_compiled_steps_write_the_plain_text(compiler):
    """Over the window's seam, for a prompt longer than one token, and for several texts at once; all is compiled at the beginning, for all lengths."""
    torch._dynamo.reset()
    graphs = torch._dynamo.utils.counters["stats"]
    graphs.clear()
    model, settings = lively(48), dict(seed=1, top_p=0.9, repetition_penalty=1.1)
    with torch._dynamo.config.patch(error_on_recompile=True):
        fast = for_writing(lively(48), CPU, torch.float32, compile=True)
        assert isinstance(fast, CompiledGPT) and graphs["unique_graphs"] == 2, "a block, and the head"
        for rows, prompt, new in ((1, 1, 120), (1, 60, 30), (1, 5, 7), (3, 2, 60)):
            idx = torch.randint(0, 64, (rows, prompt))
            assert (fast.generate(idx, new, **settings) == model.generate(idx, new, **settings)).all()
        assert graphs["unique_graphs"] == 2
    for mode in (torch.enable_grad, torch.no_grad):
        with mode():
            cache, idx = fast.new_cache(1, 9), torch.randint(0, 64, (1, 9))
            steps = torch.cat([fast(idx[:, t : t + 1], cache=cache)[0].detach() for t in range(9)], dim=1)
            assert torch.allclose(steps, model(idx)[0], atol=1e-4)
    with pytest.raises(ValueError, match="block_size"):
        cache = fast.new_cache(1, 48)
        cache.length = 48
        fast(torch.zeros(1, 1, dtype=torch.long), cache=cache)


@pytest.mark.parametrize("quantize, four_at_once, width", [("none", False, 40), ("int8", False, 40), ("int8", True, 40), ("int8", True, 30)])
def test_compiled_16_and_8_bit_weights_give_the_logits_of_those_weights(compiler, quantize, four_at_once, width, monkeypatch):
    """Beside a float64 model of the same rounded weights: nearer than the step that is not compiled."""
    monkeypatch.setattr(inference, "FOUR_AT_ONCE", four_at_once)
    plain = for_writing(lively(48, width), CPU, torch.bfloat16, quantize)
    wide = lively(48, width).bfloat16().double()
    if quantize == "int8":
        for own, block in zip(plain.transformer.h, wide.transformer.h):
            for name in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"):
                layer = own.get_submodule(name)
                block.get_submodule(name).weight.data = unpacked(layer, block.get_submodule(name).in_features)
        wide.score = lambda x: x @ unpacked(plain.head, width).t()
    idx, errors = torch.randint(0, 64, (1, 40)), []
    want = wide(idx)[0]
    for model in (for_writing(lively(48, width), CPU, torch.bfloat16, quantize, compile=True), plain):
        with torch.inference_mode():
            cache = model.new_cache(1, 48)
            got = torch.cat([model(idx[:, t : t + 1], cache=cache)[0] for t in range(40)], dim=1)
        errors.append(((got - want).norm() / want.norm()).item())
    assert errors[0] < 0.004 and errors[0] < errors[1], errors


def unpacked(layer: Int8Linear, columns: int) -> torch.Tensor:
    return (layer.weight.double() * layer.scale.double()[:, None])[:, :columns]


class Tape(TorchDispatchMode):
    """A CUDA graph's stand-in: keeps every operation of a step with the very tensors that it read and wrote. To play it is to do them again on the
    same memory, without the Python between them: a number that Python worked out while recording stays what it was."""

    def __init__(self):
        super().__init__()
        self.operations, self.played = [], 0

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        assert function not in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default), "the host would wait for the GPU"
        result = function(*arguments, **(named or {}))
        self.operations.append((function, arguments, named or {}, result))
        return result

    def play(self):
        self.played += 1
        for function, arguments, named, result in self.operations:
            again = function(*arguments, **named)
            tree_map(lambda old, new: old.copy_(new) if isinstance(old, torch.Tensor) else None, result, again)
        return self.result


@pytest.fixture
def tapes():
    """A list of all tapes, and the function that records on a new one."""
    made = []

    def record(step):
        for _ in range(3):
            step()
        tape = Tape()
        with tape:
            tape.result = step()
        tape.result.fill_(float("nan"))  # a graph computes nothing while it is recorded
        made.append(tape)
        return tape.play

    return made, record


@pytest.mark.parametrize("lengths, block_size, new", [((1,), 300, 500), ((3, 150), 300, 400), ((129, 128, 127), 200, 150), ((40,), 32, 60)])
def test_recorded_steps_write_the_plain_text(tapes, lengths, block_size, new):
    """Over the ends of a reach and of the window, for prompts of different lengths and longer than the window."""
    made, record = tapes
    model, settings = lively(block_size), dict(seed=1, top_p=0.9, repetition_penalty=1.1)
    idx = torch.nn.utils.rnn.pad_sequence([torch.randint(0, 64, (n,)) for n in lengths], batch_first=True, padding_value=-1)
    want = model.generate(idx, new, **settings)
    assert (RecordedGPT(model, record).generate(idx, new, **settings) == want).all()
    again = torch.zeros(len(lengths), 1, dtype=torch.long)  # a single token with a cache and a target
    losses = [m(again, again, cache=m.new_cache(len(again), 1))[1] for m in (model, RecordedGPT(model, record))]
    assert losses[0] == losses[1]
    assert len(made) <= 3 and sum(tape.played for tape in made) > new * 0.9, "few recordings, and nearly all steps played"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_recording_is_tried_before_it_is_trusted(tapes, dtype, monkeypatch):
    made, record = tapes
    error = recording_error(CPU, dtype, record)
    assert error < (1e-5 if dtype == torch.float32 else 0.03)
    monkeypatch.setattr(StaticCache, "positions", lambda cache, T: torch.arange(cache.length, cache.length + T))
    assert recording_error(CPU, dtype, record) > 0.2, "the position of the recording, for ever"
    monkeypatch.undo()
    monkeypatch.setattr(StaticCache, "append", lambda cache, layer, k, v: super(StaticCache, cache).append(layer, k, v))
    assert recording_error(CPU, dtype, record) > 0.2, "keys and values of the recording, for ever"
    monkeypatch.undo()
    for off, answer in ((0.01, True), (0.5, False), (float("nan"), False)):
        monkeypatch.setattr(inference, "recording_error", lambda device, dtype, off=off: off)
        can_record.cache_clear()
        with nullcontext() if answer else pytest.warns(UserWarning, match="without a CUDA graph.*numbers are off"):
            assert can_record(CPU, dtype) == answer
    can_record.cache_clear()


def test_a_recording_that_fails_midway_changes_nothing(tapes):
    """Such as for want of memory, at the second reach: a warning, and the same text."""
    made, record = tapes
    model, idx = lively(300), torch.randint(0, 64, (2, 5))

    def fails(step):
        if made:
            step()
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.\nMore lines")
        return record(step)

    recorded = RecordedGPT(model, fails)
    with pytest.warns(UserWarning, match="without a CUDA graph.*out of memory.*MiB.$") as warned:
        got = recorded.generate(idx, 400, seed=1)
    assert len(warned) == 1 and (got == model.generate(idx, 400, seed=1)).all()
    with torch.inference_mode():
        cache = recorded.new_cache(2, 9)
        recorded(idx[:, :1], cache=cache)
    gone = weakref.ref(cache)
    del cache
    assert gone() is None, "freed at once, not when Python looks for circles"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")
@pytest.mark.filterwarnings("error:writing without a CUDA graph")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_cuda_graphs_write_the_plain_text(dtype):
    device, model = torch.device("cuda"), lively(300).to("cuda")
    can_record.cache_clear()
    fast = for_writing(lively(300), device, dtype)
    assert isinstance(fast, RecordedGPT)
    for rows in (3, 1, 2):  # each anew, over the ends of a reach and of the window
        start = torch.arange(rows, device=device)[:, None] + 7
        same = (fast.generate(start, 400, temperature=0) == model.to(dtype).generate(start, 400, temperature=0)).float().mean()
        assert same > 0.9 if dtype == torch.float32 else same > 0.1  # one rounding may lead another way from there on
