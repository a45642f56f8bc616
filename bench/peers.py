"""What others would use to generate with the same GPT-2 small folder. Each is {name: function of the new tokens}."""

import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import torch
from measure import ROOT

Peers = dict[str, Callable[[int], object]]


def transformers(folder: Path, device: torch.device) -> Peers:
    """generate() with its cache, in fp32 and bf16."""
    if not find_spec("transformers"):
        return {}
    from transformers import GPT2LMHeadModel

    def load(dtype: torch.dtype) -> Callable[[int], object]:
        model = GPT2LMHeadModel.from_pretrained(folder).eval().to(device, dtype)
        model.generation_config.eos_token_id = model.generation_config.pad_token_id = model.config.vocab_size - 1
        settings = {"do_sample": True, "top_k": 0, "top_p": 1.0, "temperature": 1.0}
        start = torch.zeros(1, 1, dtype=torch.long, device=device)
        return lambda n: model.generate(start, max_new_tokens=n, min_new_tokens=n, **settings)[0, -1].item()

    return {"transformers, fp32": load(torch.float32), "transformers, bf16": load(torch.bfloat16)}


def llama_cpp(folder: Path) -> Peers:
    """llama.cpp by llama-cpp-python, on the CPU, with the files that export.py writes."""
    if not (find_spec("llama_cpp") and find_spec("gguf")):
        return {}
    from llama_cpp import Llama

    def load(quantize: str) -> Callable[[int], object]:
        file = folder / f"{quantize}.gguf"
        settings = [f"--model={folder}", f"--save={file}", f"--quantize={quantize}"]
        subprocess.run([sys.executable, str(ROOT / "export.py"), *settings], check=True, capture_output=True)
        threads = torch.get_num_threads()
        model = Llama(str(file), n_ctx=1024, n_threads=threads, n_threads_batch=threads, verbose=False)
        return lambda n: list(islice(model.generate([2], top_k=0, top_p=1.0, min_p=0.0, temp=1.0), n))

    return {f"llama.cpp, {quantize}": load(quantize) for quantize in ("q8_0", "bf16", "f32")}


def ctranslate2(folder: Path, rows: int = 1) -> Peers:
    """CTranslate2 on the CPU. rows: texts at once."""
    if not (find_spec("ctranslate2") and find_spec("transformers")):
        return {}
    from ctranslate2 import Generator
    from ctranslate2.converters import TransformersConverter

    def load(quantization: str) -> Callable[[int], object]:
        output = str(folder / f"ctranslate2-{quantization}")
        TransformersConverter(str(folder)).convert(output, quantization=quantization, force=True)
        generator = Generator(output, intra_threads=torch.get_num_threads())
        settings = {"sampling_topk": 0, "end_token": [], "include_prompt_in_result": False}
        return lambda n: generator.generate_batch([["[CLS]"]] * rows, max_length=n, min_length=n, **settings)

    return {f"CTranslate2, {quantization}": load(quantization) for quantization in ("float32", "int8")}
