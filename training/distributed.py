"""
Data-parallel training over several processes, started by torchrun.

With a single process every function returns its argument.
"""

import os
import sys

import torch
import torch.distributed as dist


def init_distributed() -> tuple[int, int]:
    """Join the other processes, if torchrun started this one. Returns (rank, world_size); alone (0, 1)."""
    if "RANK" not in os.environ:
        return 0, 1
    use_nccl = torch.cuda.is_available() and dist.is_nccl_available()  # there is no NCCL on Windows
    # gloo for CPU tensors, so that all_reduce_max does not wait for the GPU.
    dist.init_process_group("cpu:gloo,cuda:nccl" if use_nccl else "gloo")
    return dist.get_rank(), dist.get_world_size()


def shutdown(status: int) -> None:
    """End this process with an exit status when all processes have come here: none may end while rank 0 still saves.

    Python does not clean up: gloo's threads live on, and one that frees a tensor meanwhile aborts the process.
    """
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    if status:
        sys.exit(status)


def all_reduce_max(value: float) -> float:
    """The highest value of all processes."""
    if not dist.is_initialized():
        return value
    highest = torch.tensor(value, dtype=torch.float64)
    dist.all_reduce(highest, op=dist.ReduceOp.MAX)
    return highest.item()


def all_reduce_min(value: float) -> float:
    """The lowest value of all processes."""
    return -all_reduce_max(-value)


def all_reduce_sum(tensor: torch.Tensor) -> torch.Tensor:
    """The sum over all processes, in place."""
    if dist.is_initialized():
        dist.all_reduce(tensor, op=dist.ReduceOp.SUM)
    return tensor


def all_gather(value) -> list:
    """The values of all processes, by rank. value: any object that pickle can store."""
    if not dist.is_initialized():
        return [value]
    values = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values
