"""
Prepare a loaded model for generation. docs/BENCHMARKS.md has what each way is worth.

    tokenizer, model, options = load_for_inference(folder, device, DecodeOptions())
    model = optimize_for_inference(load_pretrained(folder), device, torch.bfloat16, "int8", compile=True)
"""

import warnings
from pathlib import Path

import torch

import checkpoint
from configurator import UserError, first_line
from generation.compiled import CompiledDecoder, compiled_file, has_compiler
from generation.cuda_graph import CUDAGraphDecoder, cuda_graphs_work
from generation.linear import Int8Linear, PackedLinear, can_pack, replace_linears
from generation.sampling import DecodeOptions
from machine import pick_dtype
from model import GPT
from tokenizer import Tokenizer


def load_for_inference(
    folder: Path, device: torch.device, options: DecodeOptions, rows: int = 1, max_new_tokens: int = 0
) -> tuple[Tokenizer, GPT, DecodeOptions]:
    """A checkpoint's tokenizer and model, ready to generate `rows` texts at once, and the options without "auto".

    Raises UserError.
    """
    tokenizer, model = checkpoint.load_with_tokenizer(folder)
    dtype, quantize, compile = fastest(options, model, device, rows, max_new_tokens)
    model = optimize_for_inference(model, device, dtype, quantize, compile)
    dtype = str(torch.bfloat16 if quantize == "int8" else dtype).removeprefix("torch.")
    return tokenizer, model, DecodeOptions(dtype, quantize, isinstance(model.decoder, CompiledDecoder))


def fastest(
    options: DecodeOptions, model: GPT, device: torch.device, rows: int = 1, max_new_tokens: int = 0
) -> tuple[torch.dtype, str, bool]:
    """What each "auto" stands for: (dtype, quantize, compile), for `rows` texts at once of so many new tokens.

    It depends on the machine and the numbers alone, so a seed gives the same text again. Raises UserError.
    """
    for setting, chosen in (("--quantize=int8", options.quantize == "int8"), ("--compile", options.compile is True)):
        if chosen and device.type != "cpu":
            raise UserError(f"{setting} works on a CPU (--device=cpu); this is {device}")
    dtype, capability = pick_dtype(options.dtype, device), torch.backends.cpu.get_cpu_capability()
    quantize, compile = options.quantize, options.compile
    if quantize == "auto":
        # The product for int8 weights takes the same time for each row. In bf16, two rows take little more than one.
        few = rows == 1 if dtype == torch.bfloat16 else rows <= 16
        fast = device.type == "cpu" and capability in ("AVX2", "AVX512")
        quantize = "int8" if compile is True or (options.dtype == "auto" and few and fast) else "none"
    if compile == "auto":
        # Compiling takes half a minute once; loading the file takes nothing. With AVX-512 the block is 1.5 times as
        # fast as torch's product, with AVX2 it is slower.
        gains = quantize == "int8" and rows == 1 and capability == "AVX512" and model.num_params() > 5e7
        may_compile = max_new_tokens >= 500 and has_compiler()
        compile = gains and max_new_tokens >= 100 and (may_compile or compiled_file(model.config).exists())
    return dtype, quantize, compile


def optimize_for_inference(
    model: GPT, device: torch.device, dtype: torch.dtype, quantize: str = "none", compile: bool = False
) -> GPT:
    """The same model on the device in eval mode, changed for the fastest generation that works there.

    dtype: of weights and products. quantize: none, or int8 (on a CPU; the rest is bf16). compile: with int8, decode a
    single text by a compiled block. Where a fast way does not work, the next best is taken and a warning says why.
    """
    model.eval()
    if quantize == "int8":
        replace_linears(model, Int8Linear).bfloat16()
        if compile:
            try:
                model.decoder = CompiledDecoder(model)
            except Exception as error:  # the toolchain raises many types
                warnings.warn(
                    f"torch.compile does not work here, generating without it: {first_line(error)}", stacklevel=2
                )
        return model
    model.to(device, dtype)
    if device.type == "cpu" and can_pack(dtype):
        replace_linears(model, PackedLinear)
    elif device.type == "cuda":
        torch.backends.cuda.enable_cudnn_sdp(False)  # cuDNN plans attention again for each length
        if cuda_graphs_work(device, dtype):
            model.decoder = CUDAGraphDecoder(model)
    return model
