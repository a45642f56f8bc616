"""
Train a GPT on a prepared text.

    python train.py config/novel.py                    GPT-2 small, for one 8 GB GPU
    python train.py config/laptop.py                   five minutes on two CPU cores
    python train.py config/novel.py --batch_size=4     change any setting
    python train.py config/novel.py --resume           continue from the newest checkpoint
    python -m torch.distributed.run --standalone --nproc_per_node=2 train.py config/novel.py

Ctrl-C saves and stops. The run's folder holds checkpoints (which transformers opens), log.txt,
metrics.jsonl, loss.png, samples/ and tensorboard/ (tensorboard --logdir out).
"""

import math
import os
from dataclasses import dataclass
from typing import ClassVar, Literal

from configurator import PathStr, UserError, configure, quote, run, select
from training.old_names import OLD_NAMES


@dataclass
class Settings:
    # text and run
    data_dir: PathStr = "data/novel"  # the folder that prepare.py made
    out_dir: PathStr = "out/novel"  # this run's folder
    resume: bool = False  # continue from the newest checkpoint in out_dir
    init_from: PathStr = "scratch"  # or a folder with GPT-2 weights to fine-tune, of the same vocabulary
    embeddings: Literal["random", "text"] = "random"  # initial token vectors; text: from the text's bigrams
    # model
    model_config: PathStr = ""  # a GPT-2 config.json (GPT2-Chinese's too) that sets the next four
    n_layer: int = 12  # transformer blocks
    n_head: int = 12  # attention heads per block
    n_embd: int = 768  # width of the residual stream
    block_size: int = 1024  # context window in tokens
    dropout: float = 0.1  # probability of dropping an activation in training
    residual_multiplier: float = 1.0  # factor on each block's output; docs/recipe.md
    members: int = 1  # models side by side, each with a part of n_embd and n_head: an ensemble; docs/recipe.md
    logit_scale: float = 1.0  # factor on the logits in the training loss; above 1: a less certain model
    # batch
    batch_size: int | Literal["auto"] = 8  # windows per micro-batch; auto: as many as memory allows
    gradient_accumulation_steps: int | Literal["auto"] = 4  # micro-batches per step; auto: by the text's length
    stride: int = 0  # tokens between the starts of windows; 0: block_size (no overlap)
    # optimizer
    optimizer: Literal["muon", "adamw"] = "muon"  # muon: for the blocks' matrices, with adamw for the rest
    learning_rate: float = 3e-3  # the peak; muon: of the blocks' matrices, adamw: of everything
    adamw_learning_rate: float = 6e-3  # with muon: the peak of embeddings, biases and norms (docs/recipe.md: positions)
    weight_decay: float | Literal["auto"] = "auto"  # of blocks' matrices and token vectors; auto: from decay_epochs
    decay_epochs: float = 0.5  # a weight is an average of its updates over so many epochs; docs/recipe.md
    muon_steps: Literal[3, 5] = 5  # Newton-Schulz iterations; 3 is faster where steps are small
    beta1: float = 0.9  # AdamW's decay of the gradient's mean
    beta2: float = 0.99  # AdamW's decay of the gradient's square
    grad_clip: float = 1.0  # the highest norm of the gradient; 0: no limit
    # schedule: warm-up, then decay until the first limit is reached
    warmup_iters: int = 0  # steps until the peak learning rate; 0: from warmup_share
    warmup_share: float = 0.05  # warm-up as a share of the run
    lr_decay: Literal["linear", "cosine", "constant"] = "linear"  # the form of the decay
    min_lr: float = 0.0  # the end of the decay, as a fraction of the peak
    epochs: float | Literal["auto"] = 0.0  # limit: passes over the text; 0: none, auto: by the text's length
    max_iters: int = 0  # limit: steps; 0: none
    max_minutes: float = 0.0  # limit: minutes; 0: none
    patience: int = 0  # stop after this many validations without a new best; 0: never
    # logging and validation
    log_interval: int = 10  # steps between log lines
    eval_interval: int = 250  # steps between validations; each also saves a checkpoint and a sample
    eval_windows: int = 400  # validation windows, at most
    # machine
    device: str = "auto"  # cpu, cuda, cuda:1, mps; auto: the best available
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"  # precision of matrix products
    compile: bool = True  # use torch.compile where it works
    gpu_memory: float = 0.0  # GB of GPU memory that may be used; 0: all
    checkpoint_activations: bool = False  # less memory, a third more time: recompute activations in backward
    seed: int = 1337  # random seed of initial weights, order of the text, dropout

    REPLACED: ClassVar[dict[str, str]] = OLD_NAMES

    def __post_init__(self):
        positive = "n_layer n_head n_embd block_size members batch_size gradient_accumulation_steps"
        not_negative = "stride learning_rate adamw_learning_rate weight_decay decay_epochs grad_clip warmup_iters"
        for names, lowest, limit, what in (
            (f"{positive} log_interval eval_interval eval_windows", 1, math.inf, "at least 1"),
            (f"{not_negative} epochs max_iters max_minutes patience gpu_memory", 0, math.inf, "0 or more"),
            ("seed", 0, 2**63, "a whole number from 0 up to 2**63"),
            ("dropout beta1 beta2 warmup_share min_lr", 0, 1, "a number from 0 up to 1"),
        ):
            for name in names.split():
                value = getattr(self, name)
                if value != "auto" and not lowest <= value < limit:
                    raise UserError(f"--{name}={value}: {what} is needed")
        if not 0 < self.logit_scale < math.inf:
            raise UserError(f"--logit_scale={self.logit_scale}: a number above 0 is needed")
        if math.frexp(self.residual_multiplier)[0] != 0.5:  # so that dividing by it in a resume is exact
            raise UserError(f"--residual_multiplier={self.residual_multiplier}: a power of two is needed, such as 0.25")
        if not self.out_dir.strip():
            raise UserError("--out_dir is empty: a folder is needed")
        if self.init_from == "resume":
            raise UserError("--init_from=resume is nanoGPT's; use --resume")
        if self.init_from.startswith("gpt2") and not os.path.exists(self.init_from):
            raise UserError(f"--init_from={self.init_from}: nothing is downloaded; a folder with weights is needed")
        if self.n_embd % self.n_head:
            raise UserError(f"--n_embd={self.n_embd} is not a multiple of --n_head={self.n_head}")
        if self.n_head % self.members:
            raise UserError(f"--n_head={self.n_head} is not a multiple of --members={self.members}")
        if not (self.epochs or self.max_iters or self.max_minutes):
            raise UserError(
                "no limit is set: use a config file (config/novel.py), --epochs, --max_iters or --max_minutes"
            )


settings = configure(Settings) if __name__ == "__main__" else None  # before the heavy imports, so --help is quick

from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch.nn.parallel import DistributedDataParallel

import checkpoint
from dataset import Corpus, Windows, validation_windows
from files import FolderLock
from generation.batching import generate
from generation.sampling import SamplingParams
from machine import (
    compile_error,
    device_name,
    keep_freed_memory,
    limit_gpu_memory,
    matmul_rate,
    pick_device,
    pick_dtype,
    to_device,
)
from model import GPTConfig
from training import trainer_state
from training.distributed import all_gather, all_reduce_max, all_reduce_min, all_reduce_sum, init_distributed, shutdown
from training.init_model import init_model
from training.memory import MemoryOptions
from training.optimizer import OptimizerConfig, Optimizers
from training.recipe import Recipe
from training.runlog import NoLog, RunLog
from training.schedule import Limits, Schedule
from training.signals import StopSignal
from training.summary import describe, expected_seconds, forecast, format_duration
from training.throughput import Throughput
from training.trainer_state import TrainerState


def main(s: Settings) -> None:
    """One run, from the settings to the last checkpoint."""
    rank, world_size = init_distributed()
    keep_freed_memory()
    with FolderLock(Path(s.out_dir)) if rank == 0 else nullcontext():  # a run's folder belongs to one process
        trainer = Trainer(s, rank, world_size)
        trainer.train()
        trainer.finish()


class Trainer:
    """Everything that a run consists of: model, optimizer, text, state, log."""

    def __init__(self, s: Settings, rank: int = 0, world_size: int = 1):
        # Processes, device, precision.
        self.rank, self.world_size = rank, world_size
        self.device = pick_device(s.device)
        self.dtype = pick_dtype(s.dtype, self.device)
        limit_gpu_memory(self.device, s.gpu_memory)
        self.autocast = torch.autocast(self.device.type, self.dtype) if self.dtype != torch.float32 else nullcontext()

        # Text, and the state to resume from.
        s = apply_model_config(s)
        self.out_dir = Path(s.out_dir)
        self.corpus = Corpus.open(s.data_dir)
        self.windows = Windows(self.corpus.train, s.block_size, s.stride, s.seed)
        auto_batch_size = s.batch_size == "auto"
        s = replace(s, **asdict(select(Recipe, s).fit(self.windows.per_epoch, world_size)))
        resume_from = trainer_state.find_resume(self.out_dir, s.resume)
        self.state, saved = TrainerState(), {}
        if resume_from:
            with trainer_state.suggest_previous(resume_from):
                self.state, saved = trainer_state.load_state(resume_from)
            trainer_state.check_resume(saved, asdict(s), self.corpus.fingerprint, resume_from)
        if all_reduce_min(self.state.step) != all_reduce_max(self.state.step):
            raise UserError(f"the processes would resume from different steps: {s.out_dir} must be the same for all")

        # Model and optimizer.
        torch.manual_seed(s.seed + self.rank)
        config = select(GPTConfig, s, vocab_size=self.corpus.tokenizer.vocab_size)
        model = init_model(config, s.init_from, s.embeddings == "text", resume_from, self.corpus)
        model.checkpoint_activations = s.checkpoint_activations
        memory = select(MemoryOptions, s)
        self.memory = memory.fit(model.config, self.dtype, self.device, world_size) if auto_batch_size else memory
        self.s = s = replace(s, **asdict(self.memory))
        self.model = model.to(self.device)
        self.micro_steps = s.gradient_accumulation_steps // world_size  # of this process, per step
        self.windows_per_step = s.batch_size * s.gradient_accumulation_steps
        self.optimizers = Optimizers(self.model, select(OptimizerConfig, s), self.dtype)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)
        if resume_from:
            self.restore(saved)

        # Schedule, log, throughput.
        self.schedule = select(Schedule, s)
        self.limits = Limits(s.max_iters, s.epochs, s.max_minutes, self.windows.per_epoch)
        self.log = RunLog(self.out_dir, first_step=self.state.step) if rank == 0 else NoLog()
        peak_flops = matmul_rate(self.device, self.dtype) * self.world_size
        self.print_summary(peak_flops)
        if s.resume:
            self.log_resume(resume_from, saved)
        self.compiled = s.compile and self.compile_works()
        self.parallel_model = self.wrap_model()
        self.seconds_before = self.state.seconds
        self.progress = all_reduce_max(self.limits.progress(self.state))  # from 0 to 1
        tokens_per_step, peak_speed = self.windows_per_step * s.block_size, peak_flops / self.model.flops_per_token()
        self.throughput = Throughput(tokens_per_step, peak_speed, self.state.step, self.progress)
        self.stop_signal = StopSignal()
        self.stopped = 0  # the number of the signal that stopped the run
        self.saved_step = self.state.step if resume_from else -1  # of the newest checkpoint

    # -- the loop ------------------------------------------------------------------------------------------------------

    def train(self) -> None:
        """Train until a limit is reached, patience runs out or a signal asks to stop."""
        s, state = self.s, self.state
        if self.finished():
            self.log.info(
                "this run has reached its end; raise --epochs, --max_iters, --max_minutes or --patience to continue it"
            )
        if self.compiled and not self.finished():
            self.compile()
        self.batch = self.get_batch(0)
        self.throughput.start()
        while not self.finished() and not self.stopped:
            # Set the learning rate.
            lr_scale = self.schedule.lr_scale(state.step, self.progress)
            self.optimizers.set_lr(lr_scale)

            # One step: forward, backward, update.
            random_state = trainer_state.random_state()
            loss = self.forward_backward()
            if loss is None:
                self.stopped = self.stop_signal.number
                trainer_state.set_random_state(random_state)
                break
            grad_norm = self.optimizers.step(loss, self.scaler)
            state.step += 1
            state.windows_seen += self.windows_per_step
            state.seconds = self.seconds()
            self.progress = all_reduce_max(self.limits.progress(self.state))
            self.stopped = int(all_reduce_max(self.stop_signal.number))

            # Log. (Reading the loss waits for a GPU, so not after each step.)
            evaluate = state.step % s.eval_interval == 0 or self.progress >= 1
            if evaluate or state.step == 1 or state.step % s.log_interval == 0:
                self.log_step(loss, grad_norm, lr_scale * s.learning_rate)

            # Validate, save and generate a sample.
            if evaluate:
                with self.throughput.paused():
                    self.evaluate()

    def compile(self) -> None:
        """Forward and backward of a step that is not taken, so that the run's time begins when they are compiled."""
        self.batch, random_state = self.get_batch(0), trainer_state.random_state()
        try:
            self.forward_backward()
        except Exception:  # Ctrl-C also ends the C++ compiler
            if not self.stop_signal.number or self.world_size > 1:
                raise
        self.optimizers.zero_grad()
        trainer_state.set_random_state(random_state)
        self.stopped = int(all_reduce_max(self.stop_signal.number))

    def forward_backward(self) -> torch.Tensor | None:
        """Add the gradients of this step's micro-batches. Returns the loss, the mean over all processes, on the device.

        None where a signal asked a single process to stop: a step can take minutes on a CPU. It is then not taken.
        """
        self.model.train()
        loss_sum = torch.zeros((), device=self.device)
        for micro in range(self.micro_steps):
            if self.stop_signal.number and self.world_size == 1:
                return None
            # Gradients are averaged over the processes in the last micro-batch only.
            last = micro == self.micro_steps - 1
            with nullcontext() if last or self.world_size == 1 else self.parallel_model.no_sync():
                with self.autocast:
                    _, loss = self.parallel_model(*self.batch, keep_logits=False)
                self.scaler.scale(loss / self.micro_steps).backward()
            loss_sum += loss.detach() / self.micro_steps
            self.batch = self.get_batch(micro + 1)  # read and copied while a GPU still computes
        return all_reduce_sum(loss_sum) / self.world_size

    def get_batch(self, micro: int) -> tuple[torch.Tensor, torch.Tensor]:
        """This process's micro-batch of the step, on the device: x and y, each (batch_size, block_size) int64."""
        first = self.state.windows_seen + (micro * self.world_size + self.rank) * self.s.batch_size
        x, y = self.windows.batch(first, self.s.batch_size)
        return to_device(x, self.device), to_device(y, self.device)

    def tokens(self) -> int:
        """Tokens trained on so far."""
        return self.state.windows_seen * self.s.block_size

    def seconds(self) -> float:
        """Seconds of training so far, over all resumes."""
        return self.seconds_before + self.throughput.seconds()

    def finished(self) -> bool:
        """Has the run reached a limit, or lost patience?"""
        return self.progress >= 1 or 0 < self.s.patience <= self.state.evals_since_best

    # -- logging and validation ----------------------------------------------------------------------------------------

    def log_step(self, loss: torch.Tensor, grad_norm: torch.Tensor, lr: float) -> None:
        """Log the step. Raises UserError when the last ten steps or more were skipped."""
        step, figures = self.state.step, (loss, grad_norm, self.optimizers.skipped_in_a_row, self.optimizers.skipped)
        loss, grad_norm, skipped_in_a_row, skipped = torch.stack(figures).tolist()
        if skipped_in_a_row:
            self.log.info(
                f"step {step:,} was skipped: loss {loss}, gradient {grad_norm} (skipped so far: {skipped:.0f})"
            )
        if skipped_in_a_row >= 10:
            other_dtype = " or set --dtype=float32" if self.dtype == torch.float16 else ""
            raise UserError(
                f"ten steps in a row had no finite loss or gradient, the last is {step:,}. Lower --learning_rate (now"
                f" {self.s.learning_rate}){other_dtype} and {trainer_state.how_to_continue(self.out_dir)}."
            )
        bits, (tokens_per_s, mfu) = self.corpus.bits_per_char(loss, "train"), self.throughput.measure(step)
        rate = {"tokens_per_s": round(tokens_per_s), "mfu": mfu}
        self.log.log_metrics(step, tokens=self.tokens(), loss=loss, lr=lr, grad_norm=grad_norm, **rate)
        epoch = self.state.windows_seen / self.windows.per_epoch
        left = format_duration(self.throughput.seconds_left(self.progress))
        self.log.status(
            f"step {step:,} | epoch {epoch:.2f} | loss {loss:.3f}, {bits:.2f} bits/char"
            f" | lr {lr:.2e} | {tokens_per_s:,.0f} tokens/s, MFU {mfu:.0%} | {left} left"
        )

    def evaluate(self) -> None:
        """Validate, save a checkpoint, generate a sample, draw the curves."""
        state = self.state
        val_loss = self.validate()
        if not math.isfinite(val_loss):
            raise UserError(
                f"the validation loss is {val_loss} at step {state.step:,}. Lower --learning_rate"
                f" and {trainer_state.how_to_continue(self.out_dir)}."
            )
        bits = self.corpus.bits_per_char(val_loss)
        metrics = {"tokens": self.tokens(), "val_loss": val_loss, "bits_per_char": bits}
        self.log.log_metrics(state.step, seconds=round(self.seconds(), 1), **metrics)
        state.evals_since_best += 1
        if new_best := val_loss < state.best_val_loss:
            state.best_val_loss, state.evals_since_best = val_loss, 0
        self.save(**metrics)
        best = "best so far" if new_best else f"best: {self.corpus.bits_per_char(state.best_val_loss):.3f}"
        line = f"step {state.step:,} | validation {val_loss:.3f} nats/token, {bits:.3f} bits/character ({best})"
        if self.device.type == "cuda":
            line += f" | {torch.cuda.max_memory_allocated(self.device) / 1e9:.1f} GB used at most"
        self.log.info(line)
        if self.rank == 0:
            params = SamplingParams(max_new_tokens=min(200, self.s.block_size))
            sample = generate(self.model.eval(), self.corpus.tokenizer, ["[CLS]"], params, seed=0)[0]
            self.log.log_sample(state.step, sample.text.strip())
            self.log.plot()

    @torch.no_grad()
    def validate(self) -> float:
        """Mean loss over the validation windows, in nats per token."""
        self.model.eval()
        x, y = validation_windows(self.corpus.val, self.s.block_size, self.s.eval_windows)
        total = torch.zeros(2, dtype=torch.float64)  # sum of losses, number of tokens
        for start in range(self.rank * self.s.batch_size, len(x), self.world_size * self.s.batch_size):
            rows = slice(start, start + self.s.batch_size)
            inputs, targets = to_device(x[rows], self.device), to_device(y[rows], self.device)
            with self.autocast:
                _, loss = self.model(inputs, targets, keep_logits=False)
            counted = (y[rows] >= 0).sum()
            total += torch.tensor([loss.item() * counted, counted], dtype=torch.float64)
        loss_sum, tokens = all_reduce_sum(total)
        return (loss_sum / tokens).item()

    def save(self, **metadata) -> None:
        """Save a checkpoint of this step, unless there is one."""
        if self.state.step == self.saved_step:
            return
        self.saved_step = self.state.step
        self.state.seconds = self.seconds()
        self.corpus.check_unchanged()
        random_states = all_gather(trainer_state.random_state())
        self.log.flush()
        if self.rank:
            return
        saved = {
            "format": trainer_state.FORMAT,
            **asdict(self.state),
            "optimizers": self.optimizers.state_dict(),
            "scaler": self.scaler.state_dict(),
            "random": random_states,
            "corpus": self.corpus.fingerprint,
            "settings": asdict(self.s),
            "machine": self.machine(),
        }
        metadata = {"step": self.state.step, "data_dir": self.s.data_dir, **metadata}
        trainer_state.save(self.out_dir, self.model, self.corpus.tokenizer, saved, metadata)

    def finish(self) -> None:
        """Save after a signal and say how the run ended. Exits with 128 + the signal's number after one."""
        state = self.state
        if self.stopped:
            self.save()
            self.log.plot()
            self.log.info(f"stopped at step {state.step:,} and saved. Continue with the same command and --resume")
        else:
            reason = self.limits.reached(state) if self.progress >= 1 else "patience"
            best = self.corpus.bits_per_char(state.best_val_loss)
            self.log.info(
                f"done ({reason}): {state.step:,} steps, {self.tokens():,} tokens,"
                f" {format_duration(state.seconds)}; best {best:.3f} bits/character\n"
                f"next: python sample.py --model={quote(self.out_dir.as_posix())}"
            )
        self.log.close()
        shutdown(128 + self.stopped if self.stopped else 0)

    # -- set-up --------------------------------------------------------------------------------------------------------

    def machine(self) -> dict:
        """What exact resume depends on."""
        return {
            "device": device_name(self.device),
            "dtype": str(self.dtype).removeprefix("torch."),
            "processes": self.world_size,
            "torch": str(torch.__version__).partition("+")[0],  # a str itself: torch.load refuses other types
        }

    def restore(self, saved: dict) -> None:
        """Continue with the optimizer, the gradient scale and the random numbers of a checkpoint."""
        self.optimizers.load_state_dict(saved["optimizers"])
        if saved["scaler"]:  # that of another precision is empty
            self.scaler.load_state_dict(saved["scaler"])
        if self.rank < len(saved["random"]):  # an additional process keeps the random numbers of its seed
            trainer_state.set_random_state(saved["random"][self.rank])

    def log_resume(self, resume_from: Path | None, saved: dict) -> None:
        """Log the checkpoint, and what has changed since it was saved."""
        if not resume_from:
            self.log.info(f"no checkpoint in {self.out_dir} yet: starting at step 0")
            return
        changed = trainer_state.changed_settings(saved["settings"], asdict(self.s))
        self.log.info(f"resumed {resume_from.as_posix()} at step {self.state.step:,}{changed}")
        if moved := trainer_state.changed_machine(saved.get("machine", {}), self.machine()):
            self.log.info(f"  the machine has changed ({moved}): the run continues, but not to the bit as before")

    def print_summary(self, peak_flops: float) -> None:
        """Print the text, the model and the machine, and the memory and time that the run is expected to take."""
        recipe, muon_steps = select(Recipe, self.s), self.s.muon_steps if self.s.optimizer == "muon" else 0
        self.log.info(describe(self.model, self.corpus, self.device, self.dtype, self.windows, recipe))
        memory = self.memory.expected(self.model.config, self.dtype, self.device)
        seconds = expected_seconds(self.model, self.limits, self.state, self.windows_per_step, muon_steps, peak_flops)
        self.log.info(forecast(memory, seconds, peak_flops, self.device))

    def compile_works(self) -> bool:
        """Does torch.compile work here? Log what is going to happen."""
        if error := compile_error(self.device):
            self.log.info(f"torch.compile does not work here (--compile=False skips the test): {error}")
        else:
            self.log.info("compiling the model: half a minute or more, the first time")
        return not error

    def wrap_model(self):
        """The model behind torch.compile and DistributedDataParallel, where they are used."""
        model = torch.compile(self.model) if self.compiled else self.model
        if self.world_size > 1:
            device_ids = [self.device.index] if self.device.type == "cuda" else None
            model = DistributedDataParallel(model, device_ids=device_ids, gradient_as_bucket_view=True)
        return model


def apply_model_config(s: Settings) -> Settings:
    """The settings with the model's shape from --model_config, if given. (The vocabulary is that of the text.)"""
    if not s.model_config:
        return s
    shape = checkpoint.read_config(Path(s.model_config))
    return replace(s, **{name: getattr(shape, name) for name in ("n_layer", "n_head", "n_embd", "block_size")})


if __name__ == "__main__":
    run(main, settings)
