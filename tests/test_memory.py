import subprocess
import sys

import pytest
import torch
from conftest import ENVIRONMENT, ROOT

from model import GPT, GPTConfig
from training import memory
from training.memory import MemoryOptions

SMALL = GPTConfig(13317, dropout=0.2)  # GPT-2 small with the vocabulary of the GPT2-Chinese line
CPU, GPU = torch.device("cpu"), torch.device("cuda")


def test_expected_memory_of_the_novel_config_fits_8_gb():
    assert MemoryOptions(8).expected(SMALL, torch.bfloat16, GPU) < 5e9
    assert MemoryOptions(16).expected(SMALL, torch.bfloat16, GPU) < 8e9


@pytest.mark.parametrize("checkpoint_activations, members", [(False, 1), (True, 1), (False, 2)])
def test_expected_memory_counts_what_autograd_keeps(checkpoint_activations, members):
    """The part that grows with the batch, against the bytes that the graph of a real forward pass keeps."""
    torch.manual_seed(0)
    config = GPTConfig(500, 64, 3, 4, 64, members=members)
    model = GPT(config).train()
    model.checkpoint_activations = checkpoint_activations
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    sizes = []
    for batch_size in (8, 16):
        kept.clear()
        idx = torch.randint(0, 500, (batch_size, 64))
        hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
        with hooks, torch.autocast("cpu", torch.bfloat16):
            loss = model(idx, idx, keep_logits=False)[1]
        sizes.append(sum(kept.values()))
        del loss
    options = [MemoryOptions(n, checkpoint_activations=checkpoint_activations) for n in (8, 16)]
    counted = [option.expected(config, torch.bfloat16, CPU) for option in options]
    # With checkpointing: the inputs of the blocks, and in the backward pass one block once more.
    not_in_the_graph = 8 * 64 * 64 * (36 + 3 * 4 + 2 * 4) if checkpoint_activations else 0
    assert counted[1] - counted[0] - not_in_the_graph == pytest.approx(sizes[1] - sizes[0], rel=0.15)


@pytest.mark.parametrize("gigabytes, batch_size", [(2, 1), (3, 2), (5.2, 8), (24, 32), (0, 8)])
def test_auto_batch_size_is_the_largest_that_fits_and_keeps_the_windows_per_step(monkeypatch, gigabytes, batch_size):
    monkeypatch.setattr(memory, "free_memory", lambda device: gigabytes * 1e9)
    fitted = MemoryOptions().fit(SMALL, torch.bfloat16, GPU, world_size=1)
    assert fitted.batch_size == batch_size and fitted.batch_size * fitted.gradient_accumulation_steps == 32


@pytest.mark.parametrize("gigabytes, batch_size", [(3, 2), (24, 16)])
def test_auto_batch_size_leaves_each_process_a_share(monkeypatch, gigabytes, batch_size):
    monkeypatch.setattr(memory, "free_memory", lambda device: gigabytes * 1e9)
    fitted = MemoryOptions().fit(SMALL, torch.bfloat16, GPU, world_size=2)
    assert fitted.batch_size == batch_size and fitted.gradient_accumulation_steps % 2 == 0


def test_auto_batch_size_does_not_exceed_gpu_memory(monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda device: 24e9)
    assert MemoryOptions(gpu_memory=3.0).fit(SMALL, torch.bfloat16, GPU, world_size=1).batch_size == 2


PAGES_OF_FIVE_STEPS = """
import resource
import torch
from machine import keep_freed_memory
from model import GPT, GPTConfig

keep_freed_memory()
torch.manual_seed(0)
model = GPT(GPTConfig(5000, 128, 2, 2, 64))
idx = torch.randint(0, 5000, (16, 128))
for step in range(35):
    if step == 30:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    model(idx, idx, keep_logits=False)[1].backward()
    model.zero_grad()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc")
def test_training_steps_wait_for_few_new_pages():
    command = [sys.executable, "-c", PAGES_OF_FIVE_STEPS]
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    # 0 to 10,000, because the heap may still grow by a block or two; without keep_freed_memory 70,000 to 100,000
    assert int(done.stdout) < 35_000, done.stderr
