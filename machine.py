"""What this machine can do: device, precision, torch.compile, speed of matrix products, free memory."""

import ctypes
import os
import sys
import time

import numpy as np
import torch

from configurator import UserError, first_line


def pick_device(name: str = "auto") -> torch.device:
    """The torch device of a name; auto: CUDA, else mps, else the CPU. Raises UserError for one that is not here."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda", "mps"):
        raise UserError(f"--device={name}: use cpu, cuda, cuda:1 (and so on) or mps")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError(f"--device={name}: no Apple GPU here; --device=cpu works anywhere")
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise UserError(
                f"--device={name}: torch {torch.__version__} sees no CUDA GPU here."
                " A CUDA build of torch (pytorch.org) and NVIDIA's driver are needed; --device=cpu works anywhere."
            )
        local = int(os.environ.get("LOCAL_RANK", 0))  # torchrun: one GPU per process
        device = torch.device("cuda", local if device.index is None else device.index)
        if device.index >= torch.cuda.device_count():
            raise UserError(f"--device={device}: there are {torch.cuda.device_count()} CUDA GPUs, numbered from 0")
        torch.cuda.set_device(device)
        try:
            torch.zeros(1, device=device).add_(1)
        except RuntimeError as error:  # this torch has no kernels for the GPU, or another process uses it exclusively
            raise UserError(f"--device={device}: {first_line(error)}. --device=cpu works anywhere") from None
        torch.set_float32_matmul_precision("high")  # TF32 for products in float32
    return device


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """The dtype of a name; auto: bfloat16 where the hardware multiplies in it, float16 on older GPUs, else float32."""
    if name != "auto":
        return getattr(torch, name)
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    features = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    has_bf16 = any(map(features.get, ("avx512_bf16", "amx_bf16", "bf16")))
    return torch.bfloat16 if has_bf16 else torch.float32


def compile_error(device: torch.device) -> str:
    """Compile a small function. Returns "" where torch.compile works, else the reason in one line.

    It needs triton on a GPU and a C++ compiler on a CPU, and reports that only at the first call.
    """
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.ones(8, device=device))
        return ""
    except Exception as error:  # the toolchain raises many types
        return first_line(error)


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """The speed of matrix products in this precision, measured, in FLOP/s: the best of five tries.

    It is the upper limit of a training step's speed. Measured, because no table knows every GPU and its power limit.
    """
    n = 4096 if device.type == "cuda" else 1024
    generator = torch.Generator(device).manual_seed(0)  # the global one belongs to the initial weights and dropout
    a = torch.randn(n, n, device=device, generator=generator).to(dtype)
    best = float("inf")
    for _ in range(6):  # the first warms up
        began = time.perf_counter()
        for _ in range(4):
            product = a @ a
        product[0, 0].item()  # waits for a GPU
        best = min(best, time.perf_counter() - began)
    return 4 * 2 * n**3 / best


def limit_gpu_memory(device: torch.device, gigabytes: float) -> None:
    """Let torch allocate at most so many GB of the GPU; 0: all of it."""
    if gigabytes and device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, gigabytes * 1e9 / total), device)
    elif gigabytes and device.type == "mps":
        total = torch.mps.recommended_max_memory()
        torch.mps.set_per_process_memory_fraction(min(1.0, gigabytes * 1e9 / total))


def keep_freed_memory() -> None:
    """Let malloc keep the memory of freed tensors for new ones. For the CPU, on Linux with glibc only.

    By default glibc returns large blocks to the system, and each step waits for new pages: 28,000 in config/laptop.py.
    Blocks of more than 32 MiB, the most that glibc accepts as this limit, are returned as before.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:  # the numbers in malloc.h
        mallopt(-3, 2**25)  # M_MMAP_THRESHOLD
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD


def free_memory(device: torch.device) -> int:
    """Free bytes on the device; 0 where the system does not say."""
    if device.type == "cuda":
        reusable = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # torch's own
        return torch.cuda.mem_get_info(device)[0] + reusable
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
    try:  # Linux: MemAvailable includes the page cache
        with open("/proc/meminfo") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return 0


def device_name(device: torch.device) -> str:
    """A name to print: "NVIDIA GeForce RTX 4060 Laptop GPU", "cpu with 2 threads"."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device} with {torch.get_num_threads()} threads"


def to_device(array: np.ndarray, device: torch.device) -> torch.Tensor:
    """Copy an array to the device; to a CUDA GPU without waiting. (That needs pinned memory without gaps.)"""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
