import pytest
import torch

from configurator import UserError
from model import GPTConfig
from training import memory
from training.memory import MemoryOptions
from training.recipe import Recipe


@pytest.mark.parametrize("windows_per_epoch", [290, 560, 1000, 2000, 8000, 10_000])
def test_recipe_makes_a_run_of_600_steps_or_more_of_any_text(windows_per_epoch):
    recipe = Recipe(batch_size=8).fit(windows_per_epoch)
    windows_per_step = recipe.batch_size * recipe.gradient_accumulation_steps
    assert 8 <= windows_per_step <= 32 and recipe.epochs >= 8
    assert 600 <= recipe.epochs * windows_per_epoch / windows_per_step < 3000


def test_recipe_has_larger_steps_for_a_longer_text():
    steps = [Recipe(batch_size=8).fit(windows).gradient_accumulation_steps for windows in (500, 4000, 8000)]
    assert steps == [1, 2, 4]


def test_recipe_has_fewer_epochs_for_a_longer_text():
    epochs = [Recipe(batch_size=8).fit(windows).epochs for windows in (300, 500, 1000, 8000)]
    assert epochs == sorted(epochs, reverse=True) and epochs[0] > epochs[-1] == 8


def test_recipe_weight_decay_remembers_the_wanted_epochs_whatever_the_rate_and_the_batch():
    for learning_rate, accumulation in ((3e-3, 1), (12e-3, 4)):
        recipe = Recipe(8, accumulation, 10, learning_rate, "auto", decay_epochs=0.5).fit(32_000)
        steps_per_epoch = 32_000 / (8 * accumulation)
        assert 1 / (learning_rate * recipe.weight_decay) == pytest.approx(0.5 * steps_per_epoch)


def test_recipe_weight_decay_remembers_sixty_steps_at_least():
    recipe = Recipe(8, 4, 10, 3e-3, "auto", decay_epochs=0.5).fit(320)
    assert 1 / (3e-3 * recipe.weight_decay) == pytest.approx(60)


@pytest.mark.parametrize("learning_rate, decay_epochs", [(0.0, 0.5), (3e-3, 0.0)])
def test_recipe_has_no_weight_decay_without_a_rate_or_decay_epochs(learning_rate, decay_epochs):
    assert Recipe(8, 4, 10, learning_rate, "auto", decay_epochs).fit(320).weight_decay == 0


def test_recipe_does_not_forget_pretrained_weights():
    assert Recipe(8, init_from="gpt2").fit(8000).weight_decay == 0.1


def test_recipe_keeps_numbers_that_were_given():
    given = Recipe(4, 3, 2.0, 3e-3, 0.2, 0.5)
    assert given.fit(1000) == given


@pytest.mark.parametrize("batch_size", [8, "auto"])
def test_recipe_refuses_micro_batches_that_the_processes_cannot_share(batch_size):
    with pytest.raises(UserError, match="gradient_accumulation_steps=4 is not a multiple of the 3 processes"):
        Recipe(batch_size, 4).fit(1000, world_size=3)


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
def test_recipe_gives_each_process_the_same_number_of_micro_batches(world_size):
    assert Recipe(batch_size=8).fit(8000, world_size).gradient_accumulation_steps % world_size == 0


@pytest.mark.parametrize("batch_size", [8, 16, "auto"])
@pytest.mark.parametrize("world_size", [1, 2, 4, 8])
@pytest.mark.parametrize("windows_per_epoch", [600, 4000, 5200, 6000, 9000])
def test_recipe_of_several_processes_is_that_of_one(batch_size, world_size, windows_per_epoch, monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda device: 24e9)
    alone, shared = (Recipe(batch_size).fit(windows_per_epoch, n) for n in (1, world_size))
    fitted = MemoryOptions(shared.batch_size, shared.gradient_accumulation_steps)
    if batch_size == "auto":
        fitted = fitted.fit(GPTConfig(1000, 128, 2, 2, 64), torch.bfloat16, torch.device("cuda"), world_size)
    windows = alone.gradient_accumulation_steps * alone.batch_size
    assert fitted.batch_size * fitted.gradient_accumulation_steps == windows
    assert fitted.gradient_accumulation_steps % world_size == 0
    assert (shared.epochs, shared.weight_decay) == (alone.epochs, alone.weight_decay)


@pytest.mark.parametrize("batch_size", [8, "auto"])
@pytest.mark.parametrize("world_size", [3, 6])
def test_recipe_of_processes_that_do_not_divide_a_step_is_nearly_that_of_one(batch_size, world_size):
    shared = Recipe(batch_size).fit(600, world_size)
    assert shared.gradient_accumulation_steps % world_size == 0
    assert 6 <= shared.batch_size * shared.gradient_accumulation_steps <= 10
