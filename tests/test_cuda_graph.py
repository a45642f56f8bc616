"""CUDA graphs, compared with the plain model. Without a GPU a tape of tensor operations takes the graph's place."""

import weakref
from contextlib import nullcontext

import pytest
import torch
from models import lively_model, random_ids
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from generation import cuda_graph
from generation.cuda_graph import CUDAGraphDecoder, StaticCache, capture_error, cuda_graphs_work
from generation.optimize import optimize_for_inference
from model import GPT

CPU = torch.device("cpu")
HOST_WAITS = (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)


class Tape(TorchDispatchMode):
    """Records every operation of a step with the tensors that it reads and writes.

    Replaying repeats them on the same memory, without the Python code between them: a number that Python computed while
    recording stays what it was. This is what a CUDA graph does.
    """

    def __init__(self):
        super().__init__()
        self.operations, self.replays = [], 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        assert function not in HOST_WAITS, "the host would wait for the GPU"
        result = function(*arguments, **(keywords or {}))
        self.operations.append((function, arguments, keywords or {}, result))
        return result

    def replay(self):
        self.replays += 1
        for function, arguments, keywords, result in self.operations:
            again = function(*arguments, **keywords)
            tree_map(lambda old, new: old.copy_(new) if isinstance(old, torch.Tensor) else None, result, again)
        return self.result


@pytest.fixture
def tapes():
    """The list of all tapes, and the function that captures a step on a new one."""
    recorded = []

    def capture(step):
        for _ in range(3):
            step()
        tape = Tape()
        with tape:
            tape.result = step()
        tape.result.fill_(float("nan"))  # a graph computes nothing while it is captured
        recorded.append(tape)
        return tape.replay

    return recorded, capture


def with_decoder(block_size: int, capture) -> GPT:
    model = lively_model(block_size)
    model.decoder = CUDAGraphDecoder(model, capture)
    return model


@pytest.mark.parametrize(
    "lengths, block_size, new",
    [((1,), 300, 500), ((3, 150), 300, 400), ((129, 128, 127), 200, 150), ((40,), 32, 60)],
)
def test_replayed_steps_generate_the_plain_text(tapes, lengths, block_size, new):
    """Across the ends of a bucket and of the window, for prompts of different lengths and longer than the window."""
    recorded, capture = tapes
    settings = dict(seed=1, top_p=0.9, repetition_penalty=1.1)
    prompts = [random_ids(length, seed=length) for length in lengths]
    idx = torch.nn.utils.rnn.pad_sequence(prompts, batch_first=True, padding_value=-1)
    expected = lively_model(block_size).generate(idx, new, **settings)
    assert (with_decoder(block_size, capture).generate(idx, new, **settings) == expected).all()
    assert len(recorded) <= 3 and sum(tape.replays for tape in recorded) > new * 0.9


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.bfloat16, 0.03)])
def test_capture_error_of_working_graphs_is_small(tapes, dtype, tolerance):
    assert capture_error(CPU, dtype, tapes[1]) < tolerance


def test_capture_error_shows_a_position_that_does_not_move(tapes, monkeypatch):
    fixed = lambda cache, T: torch.arange(cache.length, cache.length + T)  # noqa: E731
    monkeypatch.setattr(StaticCache, "positions", fixed)
    assert capture_error(CPU, torch.float32, tapes[1]) > 0.2


def test_capture_error_shows_keys_that_do_not_change(tapes, monkeypatch):
    plain = lambda cache, layer, k, v: super(StaticCache, cache).append(layer, k, v)  # noqa: E731
    monkeypatch.setattr(StaticCache, "append", plain)
    assert capture_error(CPU, torch.float32, tapes[1]) > 0.2


@pytest.mark.parametrize("error, works", [(0.01, True), (0.5, False), (float("nan"), False)])
def test_cuda_graphs_work_only_with_a_small_error(error, works, monkeypatch):
    monkeypatch.setattr(cuda_graph, "capture_error", lambda device, dtype: error)
    cuda_graphs_work.cache_clear()
    with nullcontext() if works else pytest.warns(UserWarning, match="without CUDA graphs.*their error is"):
        assert cuda_graphs_work(CPU, torch.float32) == works
    cuda_graphs_work.cache_clear()


def fail_at_the_second(recorded, capture):
    """A capture that runs out of memory at the second bucket."""

    def failing(step):
        if recorded:
            step()
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.\nMore lines")
        return capture(step)

    return failing


def test_failed_capture_warns_once_and_generates_the_plain_text(tapes):
    model, idx = with_decoder(300, fail_at_the_second(*tapes)), random_ids(2, 5)
    with pytest.warns(UserWarning, match="without CUDA graphs.*out of memory.*MiB.$") as warned:
        got = model.generate(idx, 400, seed=1)
    assert len(warned) == 1 and (got == lively_model(300).generate(idx, 400, seed=1)).all()
    before = len(tapes[0])
    model.decoder.capture = tapes[1]
    model.generate(idx, 400, seed=1)
    assert len(tapes[0]) > before  # the next text, which may need less memory, has graphs again


def test_cache_is_freed_without_garbage_collection(tapes):
    decoder = with_decoder(300, tapes[1]).decoder
    with torch.inference_mode():
        cache = decoder.new_cache(2, 9)
        cache.capture_failed = True
        decoder.next_logits(random_ids(2, 1), cache)
    reference = weakref.ref(cache)
    del cache
    assert reference() is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")
@pytest.mark.filterwarnings("error:generating without CUDA graphs")
@pytest.mark.parametrize("dtype, agreement", [(torch.float32, 0.9), (torch.bfloat16, 0.3), (torch.float16, 0.3)])
def test_cuda_graphs_generate_the_plain_text(dtype, agreement):
    """In 16 bits a rounding error can change a token, and what follows. Keys in a wrong place: at most 0.15 agree."""
    device = torch.device("cuda")
    cuda_graphs_work.cache_clear()
    fast = optimize_for_inference(lively_model(300), device, dtype)
    plain = lively_model(300).to(device, dtype)
    assert isinstance(fast.decoder, CUDAGraphDecoder)
    for rows in (3, 1, 2):
        start = torch.arange(rows, device=device)[:, None] + 7
        same = fast.generate(start, 400, temperature=0) == plain.generate(start, 400, temperature=0)
        assert same.float().mean() > agreement
