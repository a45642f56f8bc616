"""What "auto" stands for in sample.py's and serve.py's --quantize and --compile."""

import pytest
import torch

from configurator import UserError
from generation import optimize
from generation.optimize import fastest
from generation.sampling import DecodeOptions
from model import GPT, GPTConfig

CPU = torch.device("cpu")


@pytest.fixture
def large():
    """A model of GPT-2 small's shape, without weights."""
    with torch.device("meta"):
        return GPT(GPTConfig(1000), init=False)


@pytest.fixture
def processor(monkeypatch, tmp_path):
    """A function that pretends another processor."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def pretend(capability: str, bfloat16: bool, compiler: bool = True) -> None:
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": bfloat16})
        monkeypatch.setattr(optimize, "has_compiler", lambda: compiler)

    return pretend


@pytest.mark.parametrize(
    "capability, bfloat16, rows, quantize",
    [
        ("AVX512", True, 1, "int8"),
        ("AVX512", True, 2, "none"),
        ("AVX2", False, 1, "int8"),
        ("AVX2", False, 10, "int8"),
        ("AVX2", False, 17, "none"),
        ("DEFAULT", False, 1, "none"),
    ],
)
def test_fastest_takes_int8_for_few_texts(large, processor, capability, bfloat16, rows, quantize):
    processor(capability, bfloat16)
    assert fastest(DecodeOptions(), large, CPU, rows)[1] == quantize


@pytest.mark.parametrize("options", [DecodeOptions(quantize="none"), DecodeOptions(dtype="float32")])
def test_fastest_keeps_what_was_asked_for(large, processor, options):
    processor("AVX512", True)
    assert fastest(options, large, CPU, 1, 500)[1:] == ("none", False)


@pytest.mark.parametrize(
    "capability, compiler, rows, new_tokens, compiled_before, compile",
    [
        ("AVX512", True, 1, 500, False, True),
        ("AVX512", True, 1, 400, False, False),
        ("AVX512", True, 1, 400, True, True),
        ("AVX512", True, 1, 50, True, False),
        ("AVX512", True, 2, 500, True, False),
        ("AVX512", False, 1, 500, False, False),
        ("AVX2", True, 1, 500, True, False),
    ],
)
def test_fastest_compiles_for_long_texts(
    large, processor, capability, compiler, rows, new_tokens, compiled_before, compile
):
    processor(capability, True, compiler)
    if compiled_before:
        file = optimize.compiled_file(large.config)
        file.parent.mkdir()
        file.touch()
    assert fastest(DecodeOptions(), large, CPU, rows, new_tokens)[2] is compile


def test_fastest_does_not_compile_for_a_small_model(processor):
    processor("AVX512", True)
    assert fastest(DecodeOptions(), GPT(GPTConfig(50, 16, 1, 1, 8)), CPU, 1, 500)[2] is False


@pytest.mark.parametrize("options", [DecodeOptions(quantize="int8"), DecodeOptions(compile=True)])
def test_fastest_refuses_on_a_gpu_what_works_on_a_cpu(large, options):
    with pytest.raises(UserError, match="works on a CPU"):
        fastest(options, large, torch.device("cuda"))
