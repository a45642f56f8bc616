"""
Decoding with int8 weights by a compiled block, on a CPU, for one text.

For a single vector a product is a pass over the weights. The loop that torch's compiler makes of it reads each weight
once, in 8 bits, and converts it in a register. Attention reads the bf16 cache in the same way. A block is compiled once
per machine and shape (AOTInductor), kept in the user's cache folder, and called for each layer. Loading it takes
milliseconds and does not import torch's compiler.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F

from model import GPT, GPTConfig, KVCache

# With shorter registers the loop loads single bytes slowly: there four weights are read as one 32-bit number.
FOUR_WEIGHTS_AT_ONCE = torch.backends.cpu.get_cpu_capability() != "AVX512"


class CompiledDecoder:
    """model.decoder for an int8 model. Prompts and several rows take the model's own way.

    Compiles the block if there is no file of it. Raises whatever torch's compiler raises where it does not work, and
    RuntimeError where the file is empty: the compiled block could not be loaded.
    """

    def __init__(self, model: GPT):
        self.model = model
        file = compiled_file(model.config)
        if not file.exists():
            compile_block(model, file)
        if not file.stat().st_size:
            raise RuntimeError(f"the compiled block cannot be loaded (delete {file} to try again)")
        self.block = load_block(file)
        self.weights = [block_weights(block) for block in model.transformer.h]

    def new_cache(self, batch_size: int, length: int) -> KVCache:
        """An empty cache. For one text in bf16, of one length always: the block is compiled for its strides."""
        if batch_size > 1:
            return self.model.new_cache(batch_size, length)
        return KVCache(self.model.config, batch_size, self.model.config.block_size + 1, torch.bfloat16)

    @torch.inference_mode()
    def next_logits(self, idx: torch.Tensor, cache: KVCache) -> torch.Tensor:
        """Read idx (B, T) after what the cache holds. Returns the logits of the token that follows, (B, V)."""
        if idx.shape != (1, 1) or not 0 < cache.length < self.model.config.block_size:
            return self.model.next_logits(idx, cache)
        transformer, cache.length = self.model.transformer, cache.length + 1
        x = transformer.wte.weight[idx[0, 0]].float() + transformer.wpe.weight[cache.length - 1]  # (C,)
        for weights, kv in zip(self.weights, cache.kv[:, :, 0, :, : cache.length]):
            (x,) = self.block.boxed_run([x, kv, *weights])
        x = transformer.ln_f(x.bfloat16()[None])
        return self.model.lm_head(x)[:, : self.model.config.vocab_size]


class DecodeBlock(nn.Module):
    """model.Block for one position of one text. A module, because torch.export takes one."""

    def forward(self, x: torch.Tensor, kv: torch.Tensor, weights: list[torch.Tensor]) -> torch.Tensor:
        """x: (C,) fp32. kv: (2, H, T, D) bf16, the layer's keys and values; the last position is written here.

        weights: see block_weights. Returns (C,).
        """
        _, H, _, D = kv.shape
        ln_1, c_attn, attn_proj = weights[:2], weights[2:5], weights[5:8]
        ln_2, c_fc, mlp_proj = weights[8:10], weights[10:13], weights[13:]
        q, *new = linear_1d(layer_norm_1d(x, *ln_1), *c_attn).view(3, H, D)
        kv[:, :, -1] = torch.stack(new)
        k, v = kv.float()  # (H, T, D)
        attention = (k * materialize(q * D**-0.5)[:, None]).sum(2).softmax(1)  # (H, T)
        x = x + linear_1d((attention[:, :, None] * v).sum(1).flatten(), *attn_proj)
        hidden = F.gelu(linear_1d(layer_norm_1d(x, *ln_2), *c_fc), approximate="tanh")
        return x + linear_1d(hidden, *mlp_proj)


def block_weights(block: nn.Module) -> list[torch.Tensor]:
    """The tensors of a block with Int8Linear layers, in the order in which DecodeBlock reads them."""
    found = []
    for norm, *linears in (
        (block.ln_1, block.attn.c_attn, block.attn.c_proj),
        (block.ln_2, block.mlp.c_fc, block.mlp.c_proj),
    ):
        found += [norm.weight.detach(), norm.bias.detach()]
        found += [tensor for layer in linears for tensor in (layer.weight, layer.scale, layer.bias)]
    return found


def layer_norm_1d(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """LayerNorm of a vector (C,), in fp32."""
    return F.layer_norm(x, x.shape, weight.float(), bias.float())


def linear_1d(x: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """An Int8Linear for a vector, in fp32. x: (in,). Returns (out,)."""
    x = F.pad(x, (0, weight.size(1) - x.size(0)))
    if FOUR_WEIGHTS_AT_ONCE:
        x = materialize(x.view(-1, 4).t().contiguous())  # (4, in / 4)
        four, high_byte = weight.view(torch.int32), -(1 << 24)  # (out, in / 4)
        # Each of the four weights, times 2²⁴: shifted into the highest byte, its sign is the number's.
        shifted = (four << 24, four << 16 & high_byte, four << 8 & high_byte, four & high_byte)
        y = sum(w.float() * x[i] for i, w in enumerate(shifted)).sum(1) * 2**-24
    else:
        y = (weight.float() * materialize(x)).sum(1)
    return y * scale + bias


def materialize(x: torch.Tensor) -> torch.Tensor:
    """x, computed before the loop that reads it.

    Otherwise the compiler moves its formula (a GELU, for example) into that loop and computes it once per row. A view
    by strides needs the numbers in memory.
    """
    return x.as_strided(x.shape, x.stride())


# -- the compiled file -------------------------------------------------------------------------------------------------


def compiled_file(config: GPTConfig) -> Path:
    """The file of the compiled block for this shape, torch and processor, in the user's cache folder."""
    made_for = (
        torch.__version__,
        sorted(torch.cpu.get_capabilities().items()),
        torch.get_num_threads(),  # the loops are divided among so many
        FOUR_WEIGHTS_AT_ONCE,
        (config.n_embd, config.n_head, config.block_size),
        Path(__file__).read_bytes(),
    )
    root = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or Path.home() / ".cache"
    name = hashlib.sha256(repr(made_for).encode()).hexdigest()[:16]
    return Path(root) / "minimal-novel-gpt" / f"decode-{name}.pt2"


def load_block(file):
    """The compiled block in a file, as an object with boxed_run(tensors)."""
    return torch._C._aoti.AOTIModelPackageLoader(str(file), "model", True, 1, -1)


def has_compiler() -> bool:
    """Is there a C++ compiler? (Whether it works, only compiling shows.)"""
    return any(map(shutil.which, [os.environ["CXX"]] if "CXX" in os.environ else ["c++", "g++", "clang++", "cl"]))


def compile_block(model: GPT, file: Path) -> None:
    """Compile DecodeBlock for this model's shape into a file. Takes half a minute.

    It is loaded in a process of its own first, because that crashed on a machine with an H200 (torch 2.11). Where it
    fails, the file is left empty.
    """
    print("compiling the decoder (once, about half a minute; not with --compile=False)", file=sys.stderr)
    config = model.config
    buffer = KVCache(config, 1, config.block_size + 1, torch.bfloat16).kv[0, :, 0].zero_()
    length = torch.export.Dim("length", min=2, max=config.block_size)
    weights = block_weights(model.transformer.h[0])
    example = torch.zeros(config.n_embd), buffer[:, :, : min(3, config.block_size)], weights
    shapes = None, {2: length}, [None] * len(weights)
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent) as folder, torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch about its own code
        program = torch.export.export(DecodeBlock(), example, dynamic_shapes=shapes)
        package = torch._inductor.aoti_compile_and_package(program, package_path=f"{folder}/block.pt2")
        code = "import sys; sys.path.insert(0, sys.argv[1]); import generation.compiled as c; c.load_block(sys.argv[2])"
        command = [sys.executable, "-c", code, str(Path(__file__).resolve().parent.parent), package]
        if subprocess.run(command, capture_output=True, timeout=120).returncode:
            file.touch()
        else:
            os.replace(package, file)
