"""
Where a run stands, saved in each checkpoint (trainer_state.pt) so that --resume continues it exactly.

    {"format": FORMAT, **asdict(TrainerState), "optimizers", "scaler", "random", "corpus", "settings", "machine"}
"""

import math
import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

import torch

import checkpoint
from configurator import UserError, quote
from model import GPT
from tokenizer import Tokenizer

FORMAT = 5  # of trainer_state.pt; another one where the parameter groups or names have changed


@dataclass
class TrainerState:
    """How far a run has come."""

    step: int = 0
    windows_seen: int = 0
    seconds: float = 0.0  # of training, over all resumes
    best_val_loss: float = math.inf  # nats per token
    evals_since_best: int = 0


def find_resume(out_dir: Path, resume: bool) -> Path | None:
    """The checkpoint to resume from. Raises UserError when a new run would overwrite one."""
    if (out_dir / "config.json").exists():
        raise UserError(f"{out_dir} is a model, not a run. Choose another --out_dir")
    found = checkpoint.checkpoints(out_dir)
    if found and not resume:
        raise UserError(f"{out_dir} holds a run already. Continue it: --resume. Start another: --out_dir=out/NAME")
    if found:
        checkpoint.find_checkpoint(out_dir)  # the next save reads every trainer.json: report damage now
    return found[-1] if found else None


def load_state(folder: Path) -> tuple[TrainerState, dict]:
    """A checkpoint's TrainerState, and everything in its trainer_state.pt. Raises UserError."""
    saved = checkpoint.load_trainer_state(folder)
    if saved.get("format") != FORMAT:
        raise UserError(
            f"{folder} was saved by another version of train.py."
            f" Its weights can start a new run: --init_from={quote(folder.as_posix())} --out_dir=out/NAME"
        )
    return TrainerState(**{field.name: saved[field.name] for field in fields(TrainerState)}), saved


@contextmanager
def suggest_previous(folder: Path | None):
    """Add to an error about a damaged checkpoint how to resume from the one before it."""
    try:
        yield
    except UserError as error:
        earlier = [c for c in checkpoint.checkpoints(folder.parent) if c < folder] if folder else []
        if not earlier:
            raise
        raise UserError(
            f"{error}\nTo resume from {earlier[-1].name} instead, move {folder.as_posix()} away, then --resume."
        ) from None


def check_resume(saved: dict, settings: dict, corpus: str, folder: Path) -> None:
    """Raises UserError, naming the differences, where a run cannot continue as it was.

    saved: the content of trainer_state.pt. settings: those of now. corpus: the fingerprint of the text of now.
    """
    if saved["corpus"] != corpus:
        raise UserError(
            f"{folder} was trained on another text than is in {settings['data_dir']} now."
            f" Move {settings['out_dir']} away, or start another run: --out_dir=out/NAME"
        )
    before = saved["settings"]
    names = "n_layer n_head n_embd block_size members optimizer stride seed".split()
    if different := [f"--{name}={before[name]}" for name in names if before[name] != settings[name]]:
        raise UserError(
            f"{folder} was trained with {' '.join(different)}. Continue it with its own config file and settings,"
            " or start another run: --out_dir=out/NAME"
        )


def changed_settings(before: dict, now: dict) -> str:
    """The settings that a resumed run has changed, one per line, for the log."""
    changed = [(name, value) for name, value in now.items() if name in before and before[name] != value]
    return "".join(f"\n  now {name} {before[name]} -> {value}" for name, value in changed if name != "resume")


def changed_machine(before: dict, now: dict) -> str:
    """What differs between the machine that saved a checkpoint and this one; "" where nothing does."""
    return ", ".join(
        f"{name} {before[name]} -> {now[name]}" for name in now if before.get(name, now[name]) != now[name]
    )


def save(out_dir: Path, model: GPT, tokenizer: Tokenizer, trainer_state: dict, metadata: dict) -> None:
    """Write the step's checkpoint, then delete all but the best and the last.

    Raises UserError when the disk is full or fails, or the step has a checkpoint. Earlier checkpoints stay whole.
    """
    step = trainer_state["step"]
    for leftover in out_dir.glob(".ckpt-*"):  # of a process that was killed while it saved or deleted
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        checkpoint.save_pretrained(model, out_dir / f"ckpt-{step:08d}", tokenizer, trainer_state, metadata)
    except OSError as error:
        raise UserError(
            f"could not save step {step:,} in {out_dir}: {error.strerror or error}. Once the folder can be written to,"
            f" {how_to_continue(out_dir)}."
        ) from None
    prune(out_dir)


def how_to_continue(out_dir: Path) -> str:
    """What a user can do after a failure in training."""
    if checkpoint.checkpoints(out_dir):
        return "continue from the last checkpoint, which is whole, with --resume"
    return "start again: there is no checkpoint yet"


def prune(out_dir: Path) -> None:
    """Delete all checkpoints but the best and the last."""
    found = checkpoint.checkpoints(out_dir)
    for old in set(found) - {checkpoint.find_checkpoint(out_dir), found[-1]}:
        deleting = old.with_name(f".{old.name}.deleting")  # renamed first: half a checkpoint must not look whole
        try:
            os.replace(old, deleting)
        except PermissionError:  # Windows: sample.py is reading it
            continue
        shutil.rmtree(deleting, ignore_errors=True)


def random_state() -> dict[str, torch.Tensor]:
    """The state of torch's random number generators, which dropout uses."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_initialized():  # in use: a run on the CPU must not start CUDA
        state["cuda"] = torch.cuda.get_rng_state()
    if torch.backends.mps.is_available():
        state["mps"] = torch.mps.get_rng_state()
    return state


def set_random_state(state: dict[str, torch.Tensor]) -> None:
    """Restore what random_state returned, for the devices that there are."""
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_initialized():
        torch.cuda.set_rng_state(state["cuda"])
    if "mps" in state and torch.backends.mps.is_available():
        torch.mps.set_rng_state(state["mps"])
