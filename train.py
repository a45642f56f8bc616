"""
Train a GPT on a prepared text.

    python train.py config/novel.py                    GPT-2 small, for one 8 GB GPU
    python train.py config/laptop.py                   five minutes on two CPU cores
    python train.py config/novel.py --batch_size=4     any setting on top
    python train.py config/novel.py --resume           go on where it stopped
    torchrun --standalone --nproc_per_node=2 train.py config/novel.py

Ctrl-C saves and stops. Everything is in the run's folder: checkpoints that transformers opens as they are,
log.txt, metrics.jsonl, loss.png, samples/, and tensorboard/ (tensorboard --logdir out).
"""

import math
from dataclasses import dataclass
from typing import Literal

from configurator import UserError, configure, run


@dataclass
class Settings:
    # what to train on, and where to
    data_dir: str = "data/novel"  # the folder that prepare.py made
    out_dir: str = "out/novel"  # this run's folder
    resume: bool = False  # go on from the newest checkpoint in out_dir
    init_from: str = "scratch"  # or a folder with GPT-2 weights to start from, of the same vocabulary
    # the model
    model_config: str = ""  # a GPT-2 config.json (GPT2-Chinese's too) to take the next four from
    n_layer: int = 12  # transformer blocks
    n_head: int = 12  # attention heads a block
    n_embd: int = 768  # width
    block_size: int = 1024  # context length in tokens
    dropout: float = 0.1  # share of activations dropped in training
    # a step
    batch_size: int | str = 8  # windows a micro-batch; auto: what memory allows, for steps of 8 * gradient_accumulation_steps windows
    gradient_accumulation_steps: int = 4  # micro-batches a step, over all processes together
    stride: int = 0  # tokens from one window to the next; 0: block_size, so windows do not overlap
    optimizer: Literal["muon", "adamw"] = "muon"  # muon: for the blocks' matrices, with adamw for the rest
    learning_rate: float = 3e-3  # at its highest, for matrices under muon, for all under adamw
    adamw_learning_rate: float = 6e-3  # under muon: at its highest for embeddings, biases and norms
    weight_decay: float = 0.1  # on matrices
    beta1: float = 0.9  # AdamW's memory of the gradient
    beta2: float = 0.95  # AdamW's memory of its square
    grad_clip: float = 1.0  # longest gradient; 0: any
    # the schedule: warm up, then decay until the run ends, at whichever limit comes first
    warmup_iters: int = 100  # steps to the highest learning rate
    lr_decay: Literal["linear", "cosine", "wsd", "constant"] = "linear"  # the way down; wsd: none, then linear in the last part
    cooldown: float = 0.2  # that last part, as a share of the run
    min_lr: float = 0.0  # where the decay ends, as a share of the highest
    epochs: float = 0.0  # passes over the text; 0: no limit
    max_iters: int = 0  # steps; 0: no limit
    max_tokens: int = 0  # tokens read; 0: no limit
    max_minutes: float = 0.0  # minutes; 0: no limit
    patience: int = 0  # validations in a row without a new best, after which the run ends; 0: any number
    # looking on
    log_interval: int = 10  # steps from one log line to the next
    eval_interval: int = 250  # steps from one validation, sample and checkpoint to the next
    eval_windows: int = 400  # windows of held-out text a validation, at most
    sample_tokens: int = 200  # length of the samples
    keep_last: int = 1  # checkpoints kept besides the best
    # the machine
    device: str = "auto"  # cpu, cuda, cuda:1, mps; auto: the best there is
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"  # of the products; weights are float32
    compile: bool = True  # torch.compile, where it works
    gpu_memory: float = 0.0  # GB that may be used of a GPU, to leave room for others or try out a smaller card; 0: all
    checkpoint_activations: bool = False  # less memory for more time: compute each block again in the backward pass
    seed: int = 1337  # of the weights, the order of the text and the dropout

    def __post_init__(self):
        if isinstance(self.batch_size, str) and self.batch_size != "auto":
            raise UserError(f"--batch_size={self.batch_size}: a number or auto is needed")
        for name in ("n_layer", "n_head", "n_embd", "block_size", "batch_size", "gradient_accumulation_steps", "log_interval",
                     "eval_interval", "eval_windows", "keep_last", "sample_tokens"):  # fmt: skip
            if getattr(self, name) != "auto" and getattr(self, name) < 1:
                raise UserError(f"--{name}={getattr(self, name)}: at least 1 is needed")
        for name in ("seed", "stride", "learning_rate", "adamw_learning_rate", "weight_decay", "grad_clip", "warmup_iters", "min_lr",
                     "epochs", "max_iters", "max_tokens", "max_minutes", "patience", "gpu_memory"):  # fmt: skip
            if not 0 <= getattr(self, name) < math.inf:
                raise UserError(f"--{name}={getattr(self, name)}: 0 or more is needed")
        if self.n_embd % self.n_head:
            raise UserError(f"--n_embd={self.n_embd} is not a multiple of --n_head={self.n_head}")
        for name in ("dropout", "beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"--{name}={getattr(self, name)}: a share from 0 up to 1 is needed")
        if not 0 < self.cooldown <= 1:
            raise UserError(f"--cooldown={self.cooldown}: a share above 0, up to 1, is needed")
        if not (self.epochs or self.max_iters or self.max_tokens or self.max_minutes):
            raise UserError("when should training end? Set --epochs, --max_iters, --max_tokens or --max_minutes")


settings = configure(Settings) if __name__ == "__main__" else None  # before the heavy imports: --help answers at once

import os
import shutil
import signal
import sys
import time
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

import checkpoint
from dataset import Corpus, Windows, validation_windows
from machine import device_name, free_memory, matmul_rate, pick_device, pick_dtype, why_not_compile
from model import GPT, GPTConfig
from training.optimizer import Optimizers
from training.runlog import RunLog
from tokenizer import Tokenizer


def main(s: Settings) -> None:
    """One run, from the settings to the last checkpoint."""
    s = with_model_config(s)
    rank, world = join_processes()
    device = pick_device(s.device)
    dtype = pick_dtype(s.dtype, device)
    if s.gpu_memory and device.type == "cuda":
        torch.cuda.set_per_process_memory_fraction(min(1.0, s.gpu_memory * 1e9 / torch.cuda.get_device_properties(device).total_memory), device)
    out = Path(s.out_dir)
    corpus = Corpus.open(s.data_dir)
    resume_from = find_resume(s, out)
    with or_from_before(resume_from):
        state = fresh_state() | (checkpoint.load_trainer_state(resume_from) if resume_from else {})
    torch.manual_seed(s.seed + rank)

    if resume_from:
        check_resume(state, s, corpus, resume_from)
    if agree(state["step"], world) != -agree(-state["step"], world):
        raise UserError(f"the processes would go on from different steps, this one from {state['step']:,}: {s.out_dir} must be the same for all")
    model = build_model(s, corpus, resume_from).to(device)
    model.checkpoint_activations = s.checkpoint_activations
    if s.batch_size == "auto":
        s = largest_batch(s, model.config, dtype, device, world)
    optimizers = Optimizers(model, s, dtype)
    scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
    windows = Windows(corpus.train, s.block_size, s.stride, s.seed)
    micro_steps = s.gradient_accumulation_steps // world
    if micro_steps * world != s.gradient_accumulation_steps:
        raise UserError(f"--gradient_accumulation_steps={s.gradient_accumulation_steps} does not divide by {world} processes")
    windows_a_step = s.batch_size * s.gradient_accumulation_steps
    tokens_a_step = windows_a_step * s.block_size
    if resume_from:
        optimizers.load_state_dict(state.pop("optimizers"))
        if state["scaler"] and scaler.is_enabled():
            scaler.load_state_dict(state["scaler"])
        set_random_state(state["random"], rank)

    log = RunLog(out if rank == 0 else None, first_step=state["step"])
    limits = Limits(s, windows.per_epoch)
    peak = matmul_rate(device, dtype)
    log.say(describe(s, model, corpus, windows, device, dtype, tokens_a_step))
    log.say(forecast(s, model, limits, state, dtype, device, peak * world))
    if resume_from:
        log.say(f"resumed {resume_from.as_posix()} at step {state['step']:,}{changed_settings(state['settings'], s)}")
    trained = compiled(model, device, log) if s.compile else model
    if world > 1:
        trained = DistributedDataParallel(trained, device_ids=[device.index] if device.type == "cuda" else None, gradient_as_bucket_view=True)
    autocast = torch.autocast(device.type, dtype) if dtype != torch.float32 else nullcontext()

    stop = StopSignal()
    step, elapsed_before, began = state["step"], state["seconds"], time.perf_counter()
    seconds = lambda: elapsed_before + time.perf_counter() - began  # noqa: E731
    progress = agree(limits.progress(step, state["windows"], seconds()), world)  # from 0 to 1
    progress_before, last_log = progress, (time.perf_counter(), step)
    asked_to_stop = 0  # by which signal
    ended = lambda: progress >= 1 or 0 < s.patience <= state["since_best"]  # noqa: E731
    if ended():
        log.say("this run had come to its end; with a higher --epochs, --max_iters, --max_tokens, --max_minutes or --patience it goes on")

    def batch(micro: int) -> tuple[torch.Tensor, torch.Tensor]:
        """This process's micro-batch of the step, on the device: x, y (batch_size, block_size)."""
        return tuple(to_device(array, device) for array in windows.batch(state["windows"] + (micro * world + rank) * s.batch_size, s.batch_size))

    def report(at: int, tokens: int, rate: float, figures) -> None:
        """Log a step that the device has done. Raises UserError when steps are only skipped."""
        nonlocal last_log
        loss, grad_norm, in_a_row, skipped = figures()
        if in_a_row:
            log.say(f"step {at:,} was skipped: loss {loss}, gradient {grad_norm} (skipped so far: {skipped:.0f})")
        if in_a_row >= 10:
            raise UserError(
                f"ten steps in a row came to no finite number, the last is {at:,}: training came apart. The last checkpoint is whole;"
                f" go on from it with --resume and a lower --learning_rate (now {s.learning_rate})."
            )
        if at % s.log_interval and at > 1:
            return
        now = time.perf_counter()
        tokens_per_s = tokens_a_step * (at - last_log[1]) / (now - last_log[0])
        last_log = (now, at)
        mfu = tokens_per_s * model.flops_per_token() / (peak * world)
        left = (seconds() - elapsed_before) * (1 - progress) / max(1e-9, progress - progress_before)
        log.measure(at, tokens=tokens, loss=loss, lr=rate * s.learning_rate, grad_norm=grad_norm, tokens_per_s=round(tokens_per_s), mfu=mfu)
        log.status(
            f"step {at:,} | epoch {tokens / s.block_size / windows.per_epoch:.2f} | loss {loss:.3f}, {corpus.bits_per_char(loss):.2f} bits/char"
            f" | lr {rate * s.learning_rate:.2e} | {tokens_per_s:,.0f} tokens/s, MFU {mfu:.0%} | {clock(left)} left"
        )

    def save_now(**facts) -> None:
        corpus.check_unchanged()
        everyone = all_random_states(world)
        log.flush()  # so that what a kill takes is logged again
        if rank == 0:
            facts = {"step": step, "data_dir": s.data_dir, **facts}
            whole = {**state, "format": FORMAT, "step": step, "seconds": seconds(), "optimizers": optimizers.state_dict(), "scaler": scaler.state_dict(),
                     "random": everyone, "corpus": corpus.fingerprint, "settings": asdict(s)}  # fmt: skip
            save(out, model, corpus.tokenizer, whole, facts, s.keep_last)

    x, y = batch(0)
    done = None  # the last step, to be reported when the next one is under way
    while not ended() and not asked_to_stop:
        rate = learning_rate(s, step, progress)
        optimizers.set_rate(rate)
        model.train()
        loss_sum, random = torch.zeros((), device=device), random_state()
        for micro in range(micro_steps):
            if stop.number and world == 1:
                break
            with nullcontext() if micro == micro_steps - 1 or world == 1 else trained.no_sync():
                with autocast:
                    _, loss = trained(x, y, keep_logits=False)
                scaler.scale(loss / micro_steps).backward()
            loss_sum += loss.detach() / micro_steps
            x, y = batch(micro + 1)  # the next one, or the next step's first: read and copied while a GPU still computes
        if stop.number and world == 1:  # a step can take minutes on a CPU: leave this one undone, and its random numbers undrawn
            set_random_state([random], rank)
            asked_to_stop = stop.number
            break
        loss = reduce_mean(loss_sum, world)
        grad_norm = optimizers.step(loss, scaler, s.grad_clip)
        step += 1
        state["windows"] += windows_a_step
        tokens = state["windows"] * s.block_size
        progress = agree(limits.progress(step, state["windows"], seconds()), world)
        asked_to_stop = int(agree(stop.number, world))

        if done:
            report(*done)  # waits for the last step while this one is queued, so that a GPU never idles
        done = step, tokens, rate, read_later(torch.stack((loss, grad_norm, optimizers.in_a_row, optimizers.skipped)))
        looking = step % s.eval_interval == 0 or progress >= 1
        if looking or device.type == "cpu":
            report(*done)
            done = None
        if looking:
            pause = time.perf_counter()
            val_loss = validate(model, corpus, s, autocast, device, rank, world)
            if not math.isfinite(val_loss):
                raise UserError(f"the validation loss is {val_loss} at step {step:,}; go on from the last checkpoint with a lower --learning_rate")
            bits = corpus.bits_per_char(val_loss)
            log.measure(step, tokens=tokens, seconds=round(seconds(), 1), val_loss=val_loss, bits_per_char=bits)
            best = val_loss < state["best_val_loss"]
            state["best_val_loss"], state["since_best"] = (val_loss, 0) if best else (state["best_val_loss"], state["since_best"] + 1)
            save_now(tokens=tokens, val_loss=val_loss, bits_per_char=bits)
            log.say(
                f"step {step:,} | validation {val_loss:.3f} nats/token, {bits:.3f} bits/character"
                + (" (best so far)" if best else f" (best: {corpus.bits_per_char(state['best_val_loss']):.3f})")
                + (f" | {torch.cuda.max_memory_allocated(device) / 1e9:.1f} GB used at most" if device.type == "cuda" else "")
            )
            if rank == 0:
                text = write_sample(model, corpus, s.sample_tokens, device)
                log.sample(step, text)
                log.say("  " + text.replace("\n", "\n  "))
                log.plot()
            last_log = (last_log[0] + time.perf_counter() - pause, last_log[1])

    if done:
        report(*done)
    if asked_to_stop:
        save_now()
        log.plot()
        log.say(f"stopped at step {step:,}; all is saved. Go on with the same command and --resume")
    else:
        log.say(
            f"done ({limits.reached(step, state['windows'], seconds()) if progress >= 1 else 'patience'}): {step:,} steps,"
            f" {state['windows'] * s.block_size:,} tokens, {clock(seconds())}; best {corpus.bits_per_char(state['best_val_loss']):.3f} bits/character\n"
            f"next: python sample.py --model={out.as_posix()}"
        )
    log.close()
    if world > 1:
        dist.barrier()  # the others wait until the first has written
        dist.destroy_process_group()
    if asked_to_stop:
        raise SystemExit(128 + asked_to_stop)


# -- before the first step -------------------------------------------------------------------------------------------


def join_processes() -> tuple[int, int]:
    """This process's rank and how many there are, as torchrun tells by the environment."""
    if "RANK" not in os.environ:
        return 0, 1
    on_gpus = torch.cuda.is_available() and dist.is_nccl_available()  # (Windows has no NCCL)
    dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpus else "gloo")  # gloo: so that `agree` waits for no GPU
    return dist.get_rank(), dist.get_world_size()


def with_model_config(s: Settings) -> Settings:
    """The settings with the model's shape out of --model_config, if there is one. (Its vocabulary is the text's.)"""
    if not s.model_config:
        return s
    shape = checkpoint.read_config(Path(s.model_config))
    return replace(s, **{name: getattr(shape, name) for name in ("n_layer", "n_head", "n_embd", "block_size")})


def find_resume(s: Settings, out: Path) -> Path | None:
    """The checkpoint to go on from. Raises UserError rather than write over a run."""
    found = checkpoint.checkpoints(out)
    if found and not s.resume:
        raise UserError(f"{out} holds a run already. Go on with it: --resume. Start another: --out_dir=out/NAME")
    if s.resume and not found:
        print(f"no checkpoint in {out} yet: starting at step 0")
    if found:
        checkpoint.find_checkpoint(out, "best")  # as the next save will: a damaged trainer.json is told now
    return found[-1] if s.resume and found else None


@contextmanager
def or_from_before(folder: Path | None):
    """Where the newest checkpoint turns out to be damaged, the error says how to go on from the one before."""
    try:
        yield
    except UserError as error:
        before = [c for c in checkpoint.checkpoints(folder.parent) if c < folder] if folder else []
        if not before:
            raise
        raise UserError(f"{error}\nTo go on from {before[-1].name} instead, move {folder.as_posix()} away, then --resume.") from None


def fresh_state() -> dict:
    return {"step": 0, "windows": 0, "seconds": 0.0, "best_val_loss": float("inf"), "since_best": 0}


def build_model(s: Settings, corpus: Corpus, resume_from: Path | None) -> GPT:
    """The run's model: resumed, started from a folder's weights, or fresh."""
    vocab_size = corpus.tokenizer.vocab_size
    if not resume_from and s.init_from == "scratch":
        return GPT(GPTConfig(vocab_size, s.block_size, s.n_layer, s.n_head, s.n_embd, s.dropout))
    source = resume_from or checkpoint.find_checkpoint(s.init_from)
    if checkpoint.load_tokenizer(source) != corpus.tokenizer:
        raise UserError(
            f"{source} has another vocabulary than {s.data_dir}."
            f" Prepare the text with --vocab={(source / 'vocab.txt').as_posix()}"
        )
    with or_from_before(resume_from):
        weights = checkpoint.load_pretrained(source).state_dict()
    shape = checkpoint.read_config(source)
    if resume_from:
        for name in ("n_layer", "n_head", "n_embd", "block_size"):
            if getattr(s, name) != getattr(shape, name):
                raise UserError(f"{source} has {name}={getattr(shape, name)}, the settings say {getattr(s, name)}")
    elif s.block_size > shape.block_size:
        raise UserError(f"{source} knows {shape.block_size} positions, so --block_size={shape.block_size} at most")
    model = GPT(replace(shape, block_size=s.block_size, dropout=s.dropout))  # the folder's shape, the settings' dropout
    weights["transformer.wpe.weight"] = weights["transformer.wpe.weight"][: s.block_size]
    model.load_state_dict(weights)
    return model


FORMAT = 2  # of trainer_state.pt


def check_resume(state: dict, s: Settings, corpus: Corpus, resume_from: Path) -> None:
    """Raises UserError, naming the difference, where a run cannot go on as it was."""
    if state.get("format") != FORMAT:
        raise UserError(f"{resume_from} was saved by another version of train.py. Its weights can start a new run: --init_from={resume_from.as_posix()}")
    if state["corpus"] != corpus.fingerprint:
        raise UserError(
            f"{resume_from} was trained on another text than is in {s.data_dir} now."
            f" Move {s.out_dir} away, or start another run beside it: --out_dir=out/NAME"
        )
    before = state["settings"]
    for name in ("optimizer", "block_size", "stride", "seed"):
        if before[name] != getattr(s, name):
            raise UserError(f"{resume_from} was trained with {name}={before[name]}, the settings say {getattr(s, name)}")


def describe(s, model, corpus, windows, device, dtype, tokens_a_step) -> str:
    """What is about to be trained, in four lines."""
    c = model.config
    return (
        f"text     {corpus.meta['train_characters']:,} characters, {len(corpus.train):,} tokens;"
        f" held out {corpus.meta['val_characters']:,} characters\n"
        f"model    {c.n_layer} layers, {c.n_head} heads, width {c.n_embd}, context {c.block_size}, vocabulary"
        f" {c.vocab_size:,}: {model.num_params():,} parameters\n"
        f"machine  {device_name(device)}, {str(dtype).removeprefix('torch.')}\n"
        f"step     {tokens_a_step:,} tokens; an epoch is {windows.per_epoch * s.block_size / tokens_a_step:,.1f} steps"
    )


def compiled(model: GPT, device: torch.device, log: RunLog):
    """The model behind torch.compile, or as it is, with a line of advice, where that does not work."""
    reason = why_not_compile(device)
    if reason:
        log.say(f"torch.compile does not work here, going on without (--compile=False skips the try): {reason}")
    return model if reason else torch.compile(model)


def changed_settings(before: dict, s: Settings) -> str:
    """What a resumed run is told otherwise than it was before, for the log."""
    changed = [f"{name} {before[name]} -> {value}" for name, value in asdict(s).items() if name in before and before[name] != value]
    return "".join(f"\n  now {change}" for change in changed if not change.startswith("resume "))


def expected_memory(s: Settings, config: GPTConfig, dtype: torch.dtype, batch_size: int) -> int:
    """Bytes that training takes at its peak without torch.compile (with it: less). Counted, not measured.

    Weights, gradients and moments in fp32; the weights once more in the products' precision; what the backward pass needs of
    each position (the inputs of LayerNorms, linear layers and GELU); and a piece of the logits.
    """
    C, L, wide = config.n_embd, config.n_layer, dtype.itemsize
    embeddings = config.padded_vocab_size * C
    matrices = 12 * L * C**2
    parameters = matrices + embeddings + config.block_size * C
    moments = 4 * matrices + 8 * (parameters - matrices) if s.optimizer == "muon" else 8 * parameters
    a_block = 8 * C + 14 * wide * C + (2 * C if s.dropout else 0)  # two fp32 streams; 14 widths of activations; dropout's masks
    kept = 4 * C * L + a_block if s.checkpoint_activations else a_block * L
    activations = batch_size * s.block_size * (kept + 20 * C)
    logits = 1024 * config.padded_vocab_size * (8 + wide) + 8 * embeddings
    return parameters * (8 + (wide if wide < 4 else 0)) + moments + activations + logits


def largest_batch(s: Settings, config: GPTConfig, dtype: torch.dtype, device: torch.device, world: int) -> Settings:
    """--batch_size=auto: the settings with the largest micro-batch that is expected to fit, and as many windows a step as ever."""
    windows_a_step = 8 * s.gradient_accumulation_steps
    a_process = windows_a_step // world
    free = -agree(-min(free_memory(device), s.gpu_memory * 1e9 or math.inf), world) / (world if device.type == "cpu" else 1)
    sizes = [n for n in range(1, a_process + 1) if a_process % n == 0]
    fitting = [n for n in sizes if expected_memory(s, config, dtype, n) <= 0.9 * free] if free else [n for n in sizes if n <= 8]
    batch_size = fitting[-1] if fitting else 1
    return replace(s, batch_size=batch_size, gradient_accumulation_steps=windows_a_step // batch_size)


def forecast(s: Settings, model: GPT, limits, state: dict, dtype: torch.dtype, device: torch.device, peak: float) -> str:
    """What the run will take: memory as counted, time at 40% of the rate (peak, FLOP/s) at which this machine multiplies matrices."""
    windows_a_step = s.batch_size * s.gradient_accumulation_steps
    steps_left = min(limits.steps - state["step"], (limits.windows - state["windows"]) / windows_a_step)
    update = 300 * model.config.n_layer * model.config.n_embd**3 if s.optimizer == "muon" else 0  # FLOPs of Muon's products, a step
    a_step = windows_a_step * s.block_size * model.flops_per_token() + update
    expected = min(steps_left * a_step / (0.4 * peak), limits.seconds - state["seconds"])
    text = (
        f"expect   about {expected_memory(s, model.config, dtype, s.batch_size) / 1e9:.2g} GB of memory and {clock(max(0.0, expected))}"
        f" (at 40% of {peak / 1e12:.3g} TFLOP/s)"
    )
    if device.type == "cpu" and expected > 3600:
        text += "\nThere is no GPU in use. For a model in minutes on a CPU: python train.py config/laptop.py  (Ctrl-C stops and saves.)"
    return text


# -- steps -----------------------------------------------------------------------------------------------------------


class Limits:
    """When the run ends: after so many steps, windows (epochs, tokens) or seconds, whichever comes first."""

    def __init__(self, s: Settings, windows_per_epoch: int):
        self.steps = s.max_iters or math.inf
        self.epochs = math.ceil(s.epochs * windows_per_epoch) or math.inf  # both in windows
        self.tokens = math.ceil(s.max_tokens / s.block_size) or math.inf
        self.windows = min(self.epochs, self.tokens)
        self.seconds = 60 * s.max_minutes or math.inf

    def used(self, step: int, windows: int, seconds: float) -> dict[str, float]:
        """The share of each limit that is used up."""
        return {"max_iters": step / self.steps, "epochs": windows / self.epochs, "max_tokens": windows / self.tokens, "max_minutes": seconds / self.seconds}

    def progress(self, step: int, windows: int, seconds: float) -> float:
        """From 0 at the start to 1 at the end."""
        return max(self.used(step, windows, seconds).values())

    def reached(self, step: int, windows: int, seconds: float) -> str:
        """The setting whose limit ends the run."""
        used = self.used(step, windows, seconds)
        return max(used, key=used.get)


def learning_rate(s: Settings, step: int, progress: float) -> float:
    """The share of the highest learning rate at this step."""
    down = {
        "linear": 1 - progress,
        "cosine": 0.5 * (1 + math.cos(math.pi * progress)),
        "wsd": min(1.0, (1 - progress) / s.cooldown),
        "constant": 1.0,
    }[s.lr_decay]
    return min(1.0, (step + 1) / max(1, s.warmup_iters)) * (s.min_lr + (1 - s.min_lr) * down)


def to_device(array: np.ndarray, device: torch.device) -> torch.Tensor:
    """Copied without waiting, where that is possible. (Only whole rows can be, so a view with gaps is copied first.)"""
    t = torch.from_numpy(np.ascontiguousarray(array))
    return t.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else t.to(device)


def read_later(values: torch.Tensor):
    """Start to fetch some numbers. Returns a function that gives them as a list, waiting for them but for nothing that was queued after."""
    if values.device.type != "cuda":
        return values.tolist
    copy, arrived = values.to("cpu", non_blocking=True), torch.cuda.Event()
    arrived.record()

    def read() -> list[float]:
        arrived.synchronize()
        return copy.tolist()

    return read


def reduce_mean(value: torch.Tensor, world: int) -> torch.Tensor:
    """The mean over all processes."""
    if world > 1:
        dist.all_reduce(value, op=dist.ReduceOp.SUM)
    return value / world


def agree(value: float, world: int) -> float:
    """The highest of all processes' values, so that all of them stop at the same step."""
    if world == 1:
        return value
    highest = torch.tensor(value, dtype=torch.float64)
    dist.all_reduce(highest, op=dist.ReduceOp.MAX)
    return highest.item()


class StopSignal:
    """Ctrl-C and SIGTERM ask to save and stop; another, a second later or more, leaves at once. (torchrun sends each twice.)"""

    def __init__(self):
        self.number, self.when = 0, 0.0
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._take)

    def _take(self, number, frame):
        if self.number:
            if time.monotonic() - self.when > 1:
                os._exit(128 + number)
            return
        self.number, self.when = number, time.monotonic()
        print("\nstopping and saving; Ctrl-C again leaves at once", file=sys.stderr)


# -- between steps ---------------------------------------------------------------------------------------------------


@torch.no_grad()
def validate(model: GPT, corpus: Corpus, s: Settings, autocast, device, rank: int, world: int) -> float:
    """Mean loss over the held-out windows, in nats per token."""
    model.eval()
    x, y = validation_windows(corpus.val, s.block_size, s.eval_windows)
    total = torch.zeros(2, dtype=torch.float64)
    for start in range(rank * s.batch_size, len(x), world * s.batch_size):
        rows = slice(start, start + s.batch_size)
        targets = y[rows]
        with autocast:
            _, loss = model(to_device(x[rows], device), to_device(targets, device), keep_logits=False)
        counted = (targets >= 0).sum()
        total += torch.tensor([loss.item() * counted, counted], dtype=torch.float64)
    if world > 1:
        total = total.to(device, torch.float32)
        dist.all_reduce(total)
    return (total[0] / total[1]).item()


def write_sample(model: GPT, corpus: Corpus, length: int, device) -> str:
    """What the model writes at the start of a chapter."""
    tokenizer = corpus.tokenizer
    start = torch.tensor([[tokenizer.cls]], device=device)
    grammar = [torch.from_numpy(table).to(device) for table in tokenizer.grammar(model.config.vocab_size)]
    ids = model.eval().generate(start, length, temperature=0.8, top_p=0.95, grammar=grammar, seed=0)
    return tokenizer.decode(ids[0, 1:].cpu().numpy()).replace("[CLS]", "\n").rstrip("\ufffd").strip()  # the end can cut a character


def save(out: Path, model: GPT, tokenizer: Tokenizer, state: dict, facts: dict, keep_last: int) -> None:
    """Write the step's checkpoint, then delete those that are neither the best nor among the last.

    Raises UserError when the disk is full or fails; the checkpoints before stay whole.
    """
    folder = out / f"ckpt-{state['step']:08d}"
    for leftover in out.glob(".ckpt-*"):  # of a process that was killed while saving or deleting
        shutil.rmtree(leftover, ignore_errors=True)
    if not folder.exists():
        try:
            checkpoint.save_pretrained(model, folder, tokenizer, state, facts)
        except OSError as error:
            raise UserError(
                f"could not save step {state['step']:,}: {error.strerror or error}. The checkpoints before it are whole:"
                " make room, then go on from the last one with --resume."
            ) from None
    found = checkpoint.checkpoints(out)
    keep = {checkpoint.find_checkpoint(out, "best"), *found[-keep_last:]}
    for old in found:
        if old not in keep:
            doomed = old.with_name(f".{old.name}.deleting")  # renamed first: half a checkpoint must not look whole
            try:
                os.replace(old, doomed)
            except PermissionError:  # Windows: sample.py is reading it; next time
                continue
            shutil.rmtree(doomed, ignore_errors=True)


def random_state() -> dict:
    """Where this process's random numbers (dropout's) are."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    if torch.backends.mps.is_available():
        state["mps"] = torch.mps.get_rng_state()
    return state


def all_random_states(world: int) -> list[dict]:
    """Every process's, by rank."""
    if world == 1:
        return [random_state()]
    states = [None] * world
    dist.all_gather_object(states, random_state())
    return states


def set_random_state(states: list[dict], rank: int) -> None:
    """Go on where this rank's random numbers were; a process more than there were before keeps those of its seed."""
    if rank >= len(states):
        return
    state = states[rank]
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
    if "mps" in state and torch.backends.mps.is_available():
        torch.mps.set_rng_state(state["mps"])


def clock(seconds: float) -> str:
    """65 -> "1:05" (minutes and seconds), 4000 -> "1 h 06 min", 10**6 -> "11.6 days"."""
    if seconds > 2 * 86400:
        return f"{seconds / 86400:.1f} days"
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes}:{seconds:02d}"


if __name__ == "__main__":
    run(main, settings)
