import pytest
import torch

from configurator import UserError
from machine import pick_device


def test_gpu_without_kernels_in_this_torch_is_named(monkeypatch):
    """torch.cuda.is_available() is True for a GPU that is too old for the installed build."""

    def no_kernels(*size, device):
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device\nMore lines")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(torch, "zeros", no_kernels)
    with pytest.raises(UserError, match="--device=cuda:0: CUDA error: no kernel image.* --device=cpu works anywhere$"):
        pick_device("auto")
