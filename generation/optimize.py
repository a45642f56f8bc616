"""
Prepare a loaded model for generation. docs/BENCHMARKS.md has what each way is worth.

    model = optimize_for_inference(load_pretrained("out/novel"), device, torch.bfloat16)
    model = optimize_for_inference(load_pretrained("out/novel"), device, torch.bfloat16, "int8", compile=True)
"""

import warnings

import torch

from configurator import first_line
from generation.compiled import CompiledDecoder
from generation.cuda_graph import CUDAGraphDecoder, cuda_graphs_work
from generation.linear import Int8Linear, PackedLinear, can_pack, replace_linears
from model import GPT


def optimize_for_inference(
    model: GPT, device: torch.device, dtype: torch.dtype, quantize: str = "none", compile: bool = False
) -> GPT:
    """The same model on the device in eval mode, changed for the fastest generation that works there.

    dtype: of weights and products. quantize: none, or int8 (on a CPU; the rest is bf16). compile: with int8, decode a
    single text with torch.compile. Where a fast way does not work, the next best is taken and a warning says why.
    """
    model.eval()
    if quantize == "int8":
        replace_linears(model, Int8Linear).bfloat16()
        if compile:
            try:
                model.decoder = CompiledDecoder(model)
            except Exception as error:  # the toolchain raises many types
                reason = first_line(error)
                warnings.warn(f"torch.compile does not work here, generating without it: {reason}", stacklevel=2)
        return model
    model.to(device, dtype)
    if device.type == "cpu" and can_pack(dtype):
        replace_linears(model, PackedLinear)
    elif device.type == "cuda":
        torch.backends.cuda.enable_cudnn_sdp(False)  # cuDNN plans attention again for each length
        if cuda_graphs_work(device, dtype):
            model.decoder = CUDAGraphDecoder(model)
    return model
