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
    batch_size: int = 8  # windows a micro-batch; what memory allows
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
    lr_decay: Literal["linear", "cosine", "constant"] = "linear"  # the way down
    min_lr: float = 0.0  # where the decay ends, as a share of the highest
    epochs: float = 0.0  # passes over the text; 0: no limit
    max_iters: int = 0  # steps; 0: no limit
    max_minutes: float = 0.0  # minutes; 0: no limit
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
    checkpoint_activations: bool = False  # less memory for more time: compute each block again in the backward pass
    seed: int = 1337  # of the weights, the order of the text and the dropout

    def __post_init__(self):
        for name in ("n_layer", "n_head", "n_embd", "block_size", "batch_size", "gradient_accumulation_steps", "log_interval",
                     "eval_interval", "eval_windows", "keep_last", "sample_tokens"):  # fmt: skip
            if getattr(self, name) < 1:
                raise UserError(f"--{name}={getattr(self, name)}: at least 1 is needed")
        for name in ("seed", "stride", "learning_rate", "adamw_learning_rate", "weight_decay", "grad_clip", "warmup_iters", "min_lr",
                     "epochs", "max_iters", "max_minutes"):  # fmt: skip
            if not 0 <= getattr(self, name) < math.inf:
                raise UserError(f"--{name}={getattr(self, name)}: 0 or more is needed")
        if self.n_embd % self.n_head:
            raise UserError(f"--n_embd={self.n_embd} is not a multiple of --n_head={self.n_head}")
        for name in ("dropout", "beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"--{name}={getattr(self, name)}: a share from 0 up to 1 is needed")
        if not (self.epochs or self.max_iters or self.max_minutes):
            raise UserError("when should training end? Set --epochs, --max_iters or --max_minutes")


settings = configure(Settings) if __name__ == "__main__" else None  # before the heavy imports: --help answers at once

import os
import shutil
import signal
import sys
import time
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

import checkpoint
from dataset import Corpus, Windows, validation_windows
from machine import device_name, pick_device, pick_dtype, why_not_compile
from model import GPT, GPTConfig
from runlog import RunLog


def main(s: Settings) -> None:
    """One run, from the settings to the last checkpoint."""
    s = with_model_config(s)
    rank, world = join_processes()
    device = pick_device(s.device)
    dtype = pick_dtype(s.dtype, device)
    out = Path(s.out_dir)
    corpus = Corpus.open(s.data_dir)
    resume_from = find_resume(s, out)
    state = checkpoint.load_trainer_state(resume_from) if resume_from else fresh_state()
    torch.manual_seed(s.seed + rank)

    if resume_from:
        check_resume(state, s, corpus, resume_from)
    model = build_model(s, corpus, resume_from).to(device)
    model.checkpoint_activations = s.checkpoint_activations
    optimizers = Optimizers(model, s)
    scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
    windows = Windows(corpus.train, s.block_size, s.stride, s.seed)
    micro_steps = s.gradient_accumulation_steps // world
    if micro_steps * world != s.gradient_accumulation_steps:
        raise UserError(f"--gradient_accumulation_steps={s.gradient_accumulation_steps} does not divide by {world} processes")
    windows_a_step = s.batch_size * s.gradient_accumulation_steps
    tokens_a_step = windows_a_step * s.block_size
    if resume_from:
        optimizers.load_state_dict(state["optimizers"])
        scaler.load_state_dict(state["scaler"])
        set_random_state(state["random"], rank)

    log = RunLog(out if rank == 0 else None, first_step=state["step"])
    log.say(describe(s, model, corpus, windows, device, dtype, tokens_a_step))
    if resume_from:
        log.say(f"resumed {resume_from.as_posix()} at step {state['step']:,}")
    trained = compiled(model, device, log) if s.compile else model
    if world > 1:
        trained = DistributedDataParallel(trained, device_ids=[device.index] if device.type == "cuda" else None)
    autocast = torch.autocast(device.type, dtype) if dtype != torch.float32 else nullcontext()
    limits = Limits(s, windows.per_epoch)
    forecast(limits, state, model, device, autocast, windows, windows_a_step, log)

    stop = StopSignal()
    step, elapsed_before, began = state["step"], state["seconds"], time.perf_counter()
    seconds = lambda: elapsed_before + time.perf_counter() - began  # noqa: E731
    progress = agree(limits.progress(step, state["windows"], seconds()), device, world)  # from 0 to 1
    progress_before = progress
    asked_to_stop = 0  # by which signal

    def save_now(**facts) -> None:
        facts = {"step": step, "data_dir": s.data_dir, **facts}
        save(out, model, corpus, optimizers, scaler, s, {**state, "step": step, "seconds": seconds()}, facts)

    last_log = (time.perf_counter(), step)
    while progress < 1 and not asked_to_stop:
        rate = learning_rate(s, step, progress)
        optimizers.set_rate(rate)
        model.train()
        loss_sum, random = torch.zeros((), device=device), random_state()
        for micro in range(micro_steps):
            if stop.number and world == 1:
                break
            first = state["windows"] + (micro * world + rank) * s.batch_size
            x, y = (to_device(array, device) for array in windows.batch(first, s.batch_size))
            last = micro == micro_steps - 1
            with nullcontext() if last or world == 1 else trained.no_sync():
                with autocast:
                    _, loss = trained(x, y, keep_logits=False)
                scaler.scale(loss / micro_steps).backward()
            loss_sum += loss.detach() / micro_steps
        if stop.number and world == 1:  # a step can take minutes on a CPU: leave this one undone, and its random numbers undrawn
            set_random_state(random, rank)
            asked_to_stop = stop.number
            break
        grad_norm = optimizers.step(scaler, s.grad_clip)
        step += 1
        state["windows"] += windows_a_step
        tokens = state["windows"] * s.block_size
        progress = agree(limits.progress(step, state["windows"], seconds()), device, world)
        asked_to_stop = int(agree(stop.number, device, world))

        if step % s.log_interval == 0 or step == 1:
            loss = reduce_mean(loss_sum, world).item()
            check_finite(loss, step, s)
            now = time.perf_counter()
            tokens_per_s = tokens_a_step * (step - last_log[1]) / (now - last_log[0])
            last_log = (now, step)
            log.measure(step, tokens=tokens, loss=loss, lr=rate * s.learning_rate, grad_norm=grad_norm.item(),
                        tokens_per_s=round(tokens_per_s))  # fmt: skip
            left = (seconds() - elapsed_before) * (1 - progress) / max(1e-9, progress - progress_before)
            log.status(
                f"step {step:,} | epoch {state['windows'] / windows.per_epoch:.2f} | loss {loss:.3f}, {corpus.bits_per_char(loss):.2f} bits/char"
                f" | lr {rate * s.learning_rate:.2e} | {tokens_per_s:,.0f} tokens/s | {clock(left)} left"
            )
        if step % s.eval_interval == 0 or progress >= 1:
            pause = time.perf_counter()
            val_loss = validate(model, corpus, s, autocast, device, rank, world)
            check_finite(val_loss, step, s)  # before it is saved
            bits = corpus.bits_per_char(val_loss)
            log.measure(step, tokens=tokens, val_loss=val_loss, bits_per_char=bits)
            best = val_loss < state["best_val_loss"]
            state["best_val_loss"] = min(val_loss, state["best_val_loss"])
            if rank == 0:
                save_now(tokens=tokens, val_loss=val_loss, bits_per_char=bits)
            log.say(
                f"step {step:,} | validation {val_loss:.3f} nats/token, {bits:.3f} bits/character"
                + (" (best so far)" if best else f" (best: {corpus.bits_per_char(state['best_val_loss']):.3f})")
            )
            if rank == 0:
                text = write_sample(model, corpus, s.sample_tokens, device)
                log.sample(step, text)
                log.say("  " + text.replace("\n", "\n  "))
                log.plot()
            last_log = (last_log[0] + time.perf_counter() - pause, last_log[1])

    if asked_to_stop:
        if rank == 0:
            save_now()
            log.plot()
        log.say(f"stopped at step {step:,}; all is saved. Go on with the same command and --resume")
    else:
        log.say(
            f"done: {step:,} steps, {state['windows'] * s.block_size:,} tokens, {clock(seconds())};"
            f" best {corpus.bits_per_char(state['best_val_loss']):.3f} bits/character\n"
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
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
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
    return found[-1] if s.resume and found else None


def fresh_state() -> dict:
    return {"step": 0, "windows": 0, "seconds": 0.0, "best_val_loss": float("inf")}


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


def check_resume(state: dict, s: Settings, corpus: Corpus, resume_from: Path) -> None:
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


def forecast(limits, state: dict, model: GPT, device, autocast, windows: Windows, windows_a_step: int, log: RunLog) -> None:
    """On a CPU, time one window and say how long the rest of the run will take, before it starts."""
    if device.type != "cpu" or limits.progress(state["step"], state["windows"], state["seconds"]) >= 1:
        return
    x, y = map(torch.from_numpy, windows.batch(0, 1))
    random = torch.get_rng_state()
    for _ in range(2):  # the first is slower
        began = time.perf_counter()
        with autocast:
            loss = model.train()(x, y, keep_logits=False)[1]
        loss.backward()
        a_window = time.perf_counter() - began
        if a_window > 2:
            break
    model.zero_grad()
    torch.set_rng_state(random)
    left = min((limits.steps - state["step"]) * windows_a_step, limits.windows - state["windows"])
    expected = min(a_window * left, limits.seconds - state["seconds"])
    log.say(f"expected to take about {clock(expected)} on this CPU")
    if expected > 3600:
        log.say("There is no GPU in use. For a model in minutes on a CPU: python train.py config/laptop.py  (Ctrl-C stops and saves.)")


# -- steps -----------------------------------------------------------------------------------------------------------


class Optimizers:
    """Muon for the blocks' matrices and AdamW for the rest, or AdamW for all, stepped as one.

    Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon) makes a matrix's update orthogonal. It is torch's, with
    the learning rate scaled to AdamW's size of update (Liu et al. 2025, arXiv:2502.16982). Query, key and value stand in
    one weight but are three matrices, so it gets three views of that weight.
    """

    def __init__(self, model: GPT, s: Settings):
        self.model, self.views = model, []  # views: (parameter, whole weight, rows)
        matrices, vectors, embeddings = [], [], []
        for name, p in model.named_parameters():
            kind = vectors if p.dim() < 2 else matrices if ".h." in name else embeddings
            kind.append((name, p))
        adam_rate = s.adamw_learning_rate if s.optimizer == "muon" else s.learning_rate
        adam = [{"params": [p for _, p in vectors], "weight_decay": 0.0}, {"params": [p for _, p in embeddings], "weight_decay": 0.0}]
        self.parts = []
        if s.optimizer == "muon":
            split = []
            for name, p in matrices:
                if name.endswith("c_attn.weight"):
                    for rows in torch.arange(len(p)).chunk(3):
                        rows = slice(int(rows[0]), int(rows[-1]) + 1)
                        view = torch.nn.Parameter(p.detach()[rows])
                        self.views.append((view, p, rows))
                        split.append(view)
                else:
                    split.append(p)
            self.parts.append(
                torch.optim.Muon(split, lr=s.learning_rate, weight_decay=s.weight_decay, adjust_lr_fn="match_rms_adamw")
            )
        else:
            adam[1] = {"params": [p for _, p in matrices + embeddings], "weight_decay": s.weight_decay}
        self.parts.append(torch.optim.AdamW(adam, lr=adam_rate, betas=(s.beta1, s.beta2), fused=True))
        self.rates = [[group["lr"] for group in part.param_groups] for part in self.parts]

    def set_rate(self, share: float) -> None:
        """Every learning rate to this share of its highest."""
        for part, rates in zip(self.parts, self.rates):
            for group, rate in zip(part.param_groups, rates):
                group["lr"] = rate * share

    def step(self, scaler: torch.amp.GradScaler, clip: float) -> torch.Tensor:
        """Clip, update the weights, drop the gradients. Returns the gradient's norm before clipping."""
        for view, whole, rows in self.views:
            view.grad = whole.grad[rows]
        for part in self.parts:
            scaler.unscale_(part)
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.model.parameters() if p.grad is not None])
        if not scaler.is_enabled() or norm.isfinite():  # fp16 overflowed: no part steps, the scale is lowered
            if clip:
                torch.nn.utils.clip_grads_with_norm_(self.model.parameters(), clip, norm)
            for part in self.parts:
                scaler.step(part)
        scaler.update()
        self.model.zero_grad(set_to_none=True)
        return norm

    def state_dict(self) -> list[dict]:
        return [part.state_dict() for part in self.parts]

    def load_state_dict(self, states: list[dict]) -> None:
        """The moments of a state_dict; rates, decay and betas stay those of the settings."""
        for part, state in zip(self.parts, states):
            options = [{name: value for name, value in group.items() if name != "params"} for group in part.param_groups]
            part.load_state_dict(state)
            for group, own in zip(part.param_groups, options):
                group.update(own)


class Limits:
    """When the run ends: after so many steps, windows or seconds, whichever comes first."""

    def __init__(self, s: Settings, windows_per_epoch: int):
        self.steps = s.max_iters or math.inf
        self.windows = math.ceil(s.epochs * windows_per_epoch) or math.inf
        self.seconds = 60 * s.max_minutes or math.inf

    def progress(self, step: int, windows: int, seconds: float) -> float:
        """From 0 at the start to 1 at the end."""
        return max(step / self.steps, windows / self.windows, seconds / self.seconds)


def learning_rate(s: Settings, step: int, progress: float) -> float:
    """The share of the highest learning rate at this step."""
    down = {"linear": 1 - progress, "cosine": 0.5 * (1 + math.cos(math.pi * progress)), "constant": 1.0}[s.lr_decay]
    return min(1.0, (step + 1) / max(1, s.warmup_iters)) * (s.min_lr + (1 - s.min_lr) * down)


def to_device(array: np.ndarray, device: torch.device) -> torch.Tensor:
    """Copied without waiting, where that is possible."""
    t = torch.from_numpy(array)
    return t.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else t.to(device)


def reduce_mean(value: torch.Tensor, world: int) -> torch.Tensor:
    """The mean over all processes."""
    if world > 1:
        dist.all_reduce(value, op=dist.ReduceOp.SUM)
    return value / world


def agree(value: float, device: torch.device, world: int) -> float:
    """The highest of all processes' values, so that all of them stop at the same step."""
    if world == 1:
        return value
    highest = torch.tensor(value, dtype=torch.float64, device=device)
    dist.all_reduce(highest, op=dist.ReduceOp.MAX)
    return highest.item()


def check_finite(loss: float, step: int, s: Settings) -> None:
    """Raises UserError when training has come apart."""
    if not math.isfinite(loss):
        raise UserError(
            f"the loss is {loss} at step {step}: training came apart. The last checkpoint is whole;"
            f" go on from it with --resume and a lower --learning_rate (now {s.learning_rate})."
        )


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
    banned = torch.from_numpy(tokenizer.banned).to(device)
    ids = model.eval().generate(start, length, temperature=0.8, top_p=0.95, banned=banned, seed=0)
    return tokenizer.decode(ids[0, 1:].cpu().numpy()).replace("[CLS]", "\n").strip()


def save(out: Path, model: GPT, corpus: Corpus, optimizers: Optimizers, scaler, s: Settings, state: dict, facts: dict) -> None:
    """Write the step's checkpoint, then delete those that are neither the best nor among the last."""
    folder = out / f"ckpt-{state['step']:08d}"
    if not folder.exists():
        state = {
            **state,
            "optimizers": optimizers.state_dict(),
            "scaler": scaler.state_dict(),
            "random": random_state(),
            "corpus": corpus.fingerprint,
            "settings": asdict(s),
        }
        checkpoint.save_pretrained(model, folder, corpus.tokenizer, state, facts)
    found = checkpoint.checkpoints(out)
    keep = {checkpoint.find_checkpoint(out, "best"), *found[-s.keep_last :]}
    for old in found:
        if old not in keep:
            doomed = old.with_name(f".{old.name}.deleting")  # renamed first: half a checkpoint must not look whole
            try:
                os.replace(old, doomed)
            except PermissionError:  # Windows: sample.py is reading it; next time
                continue
            shutil.rmtree(doomed, ignore_errors=True)


def random_state() -> dict:
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    if torch.backends.mps.is_available():
        state["mps"] = torch.mps.get_rng_state()
    return state


def set_random_state(state: dict, rank: int) -> None:
    if rank == 0:  # the other processes' were not saved: their dropout goes on from the seed
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
