"""What is printed before the first step: text, model, machine, and the memory and time that the run will take."""

import torch

from dataset import Corpus, Windows
from machine import device_name
from model import GPT
from training.recipe import Recipe
from training.schedule import Limits
from training.trainer_state import TrainerState


def describe(model: GPT, corpus: Corpus, device, dtype: torch.dtype, windows: Windows, recipe: Recipe) -> str:
    """What is about to be trained, in five lines. recipe: with numbers only."""
    c, meta = model.config, corpus.meta
    windows_per_step = recipe.batch_size * recipe.gradient_accumulation_steps
    steps_per_epoch = windows.per_epoch / windows_per_step
    epochs = f"{recipe.epochs:g} epochs; " if recipe.epochs else ""
    decay = recipe.learning_rate * recipe.weight_decay  # per step
    remembered = (
        f" (weights remember {1 / decay:,.0f} steps, {1 / decay / steps_per_epoch:.2g} epochs)" if decay else ""
    )
    members = f" ({c.members} members)" if c.members > 1 else ""
    return (
        f"text     {meta['train_characters']:,} characters, {len(corpus.train):,} tokens;"
        f" held out {meta['val_characters']:,} characters\n"
        f"model    {c.n_layer} layers, {c.n_head} heads, width {c.n_embd}{members}, context {c.block_size},"
        f" vocabulary {c.vocab_size:,}: {model.num_params():,} parameters\n"
        f"machine  {device_name(device)}, {str(dtype).removeprefix('torch.')}\n"
        f"step     {windows_per_step} windows, {windows_per_step * c.block_size:,} tokens;"
        f" an epoch is {steps_per_epoch:,.1f} steps\n"
        f"recipe   {epochs}weight decay {recipe.weight_decay:.3g}{remembered}"
    )


def expected_seconds(
    model: GPT, limits: Limits, state: TrainerState, windows_per_step: int, muon_steps: int, peak_flops: float
) -> float:
    """The time until a limit is reached, at 40% of the measured rate of matrix products (peak_flops, FLOP/s).

    muon_steps: of Muon's iteration; 0 without Muon.
    """
    config = model.config
    steps_left = min(limits.steps - state.step, (limits.windows - state.windows_seen) / windows_per_step)
    muon_flops = 60 * muon_steps * config.n_layer * config.n_embd**3 // config.members**2  # per step
    flops_per_step = windows_per_step * config.block_size * model.flops_per_token() + muon_flops
    flops_per_step *= 4 / 3 if model.checkpoint_activations else 1  # a second forward pass
    return max(0.0, min(steps_left * flops_per_step / (0.4 * peak_flops), limits.seconds - state.seconds))


def forecast(memory: int, seconds: float, peak_flops: float, device: torch.device) -> str:
    """The expected memory in bytes and time, in a line; on a CPU a second line, if that is more than an hour."""
    text = (
        f"expect   about {two_digits(memory / 1e9)} GB of memory and {format_duration(seconds)}"
        f" (at 40% of {two_digits(peak_flops / 1e12)} TFLOP/s)"
    )
    if device.type == "cpu" and seconds > 3600:
        text += "\nNo GPU is in use. config/laptop.py trains in minutes on a CPU. (Ctrl-C stops and saves.)"
    return text


def two_digits(number: float) -> str:
    """0.331 -> "0.33", 4.42 -> "4.4", 120.3 -> "120"."""
    return f"{number:.2g}" if number < 10 else f"{number:,.0f}"


def format_duration(seconds: float) -> str:
    """65 -> "1:05" (minutes and seconds), 4000 -> "1 h 06 min", 10**6 -> "11.6 days"."""
    if seconds > 2 * 86400:
        return f"{seconds / 86400:.1f} days"
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes}:{seconds:02d}"
