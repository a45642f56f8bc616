"""
The optimizer step: Muon for the matrices of the blocks with AdamW for the rest, or AdamW for everything.

    optimizers = Optimizers(model, OptimizerConfig(optimizer="muon"), dtype)
    grad_norm = optimizers.step(loss, scaler)

A step whose loss or gradient is NaN or infinite changes nothing and is counted. No line here waits for a CUDA GPU.
"""

import math
from collections import defaultdict
from dataclasses import dataclass

import torch

from model import GPT


@dataclass(frozen=True)
class OptimizerConfig:
    """The settings of train.py that concern the optimizer."""

    optimizer: str = "muon"  # or adamw
    learning_rate: float = 3e-3  # the highest; of the matrices under muon, of everything under adamw
    adamw_learning_rate: float = 6e-3  # under muon, the highest of embeddings, biases and norms; of positions less
    weight_decay: float = 0.1  # of the matrices of blocks and the embedding of tokens
    muon_steps: int = 5  # of the iteration that orthogonalizes: a key of COEFFICIENTS
    beta1: float = 0.9
    beta2: float = 0.99
    grad_clip: float = 1.0  # the highest norm of the gradient; 0: no limit


# Of Newton-Schulz iterations, by their number of steps. The three are the best polynomials for singular values from
# 0.01 on, by Polar Express (Amsel et al. 2025, arXiv:2505.16932).
COEFFICIENTS = {
    5: [(3.4445, -4.7750, 2.0315)] * 5,  # of the Muon post
    3: [(7.9103, -22.0788, 15.8691), (3.6073, -2.6467, 0.5110), (2.6713, -1.9853, 0.4535)],
}


# With windows longer than this the vectors of positions have a lower rate (docs/recipe.md). Each is in few tokens of a
# step, so its updates are mostly noise. The noise hides what neighboring positions have in common.
SHORT_WINDOW = 128


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalized by Newton-Schulz iteration (Jordan et al. 2024, kellerjordan.github.io/posts/muon).

    The update's size is matched to AdamW's (Liu et al. 2025, arXiv:2502.16982). The same update as torch.optim.Muon's
    with adjust_lr_fn="match_rms_adamw", except that
    - matrices of one shape are orthogonalized as one batch; torch launches some fifteen kernels for each matrix;
    - a weight three times as high as wide (query, key and value in one) is treated as three matrices;
    - the products run in `dtype`, because not every processor multiplies in bf16;
    - it has AdamW's `found_inf`: a tensor holding 1 makes step() change nothing.
    """

    def __init__(
        self, params, lr: float, weight_decay: float, momentum: float = 0.95, steps: int = 5, dtype=torch.bfloat16
    ):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        self.steps, self.dtype, self.found_inf = steps, dtype, None

    @torch.no_grad()
    def step(self) -> None:
        """Update all parameters that have a gradient."""
        for group in self.param_groups:
            by_shape = defaultdict(list)  # (rows, columns) -> [(weight, gradient, momentum)], each (n, rows, columns)
            for p in group["params"]:
                if p.grad is not None:
                    if not self.state[p]:
                        self.state[p]["momentum_buffer"] = torch.zeros_like(p)
                    n = 3 if p.size(0) == 3 * p.size(1) else 1
                    shape = (n, p.size(0) // n, p.size(1))
                    by_shape[shape[1:]].append([t.view(shape) for t in (p, p.grad, self.state[p]["momentum_buffer"])])
            for (rows, columns), matrices in by_shape.items():
                lr = group["lr"] * 0.2 * math.sqrt(max(rows, columns))
                self._step(*zip(*matrices), lr, 1 - group["lr"] * group["weight_decay"], group["momentum"])

    def _step(self, weights, grads, buffers, lr: float, keep: float, momentum: float) -> None:
        """Update matrices of one shape, given as tuples of (n, rows, columns). keep: 1 - the decay of this step."""
        if self.found_inf is not None:
            # A gradient equal to the momentum leaves the momentum as it is; decay and learning rate become 0.
            good = 1 - self.found_inf
            grads = [torch.where(good > 0, grad, buffer) for grad, buffer in zip(grads, buffers)]
            keep, lr = 1 - (1 - keep) * good, lr * good
        torch._foreach_lerp_(buffers, grads, 1 - momentum)
        update = torch.cat(torch._foreach_lerp(grads, buffers, momentum))  # Nesterov momentum, (all, rows, columns)
        update = orthogonalize(update, self.dtype, self.steps).to(update.dtype) * -lr
        torch._foreach_mul_(weights, keep)
        torch._foreach_add_(weights, update.split([len(w) for w in weights]))


def orthogonalize(x: torch.Tensor, dtype: torch.dtype, steps: int = 5) -> torch.Tensor:
    """(n, rows, columns) -> nearly the closest semi-orthogonal matrices, by Newton-Schulz steps in `dtype`.

    Singular values become 0.7 to 1.2 with five steps, 0.7 to 1.3 with three, where they are not small.
    """
    if x.size(1) > x.size(2):
        return orthogonalize(x.mT, dtype, steps).mT
    x = (x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-12)).to(dtype)  # in fp32: gradients are too small for fp16
    for a, b, c in COEFFICIENTS[steps]:
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


class Optimizers:
    """Muon and AdamW, or AdamW alone, behind one step()."""

    def __init__(self, model: GPT, config: OptimizerConfig, dtype: torch.dtype = torch.float32):
        """dtype: of Muon's matrix products."""
        self.params, self.grad_clip = list(model.parameters()), config.grad_clip
        matrices = [p for name, p in model.named_parameters() if p.dim() == 2 and ".h." in name]
        vectors = [p for p in self.params if p.dim() == 1]
        tokens = {"params": [model.transformer.wte.weight], "weight_decay": config.weight_decay}
        positions = {"params": [model.transformer.wpe.weight], "weight_decay": 0.0}
        groups = [tokens, positions, {"params": vectors, "weight_decay": 0.0}]
        self.optimizers, adamw_lr = [], config.learning_rate
        if config.optimizer == "muon":
            muon = Muon(matrices, config.learning_rate, config.weight_decay, steps=config.muon_steps, dtype=dtype)
            self.optimizers.append(muon)
            adamw_lr = config.adamw_learning_rate
            positions["lr"] = adamw_lr * min(1, SHORT_WINDOW / model.config.block_size)
        else:
            tokens["params"] += matrices
        self.optimizers.append(torch.optim.AdamW(groups, adamw_lr, (config.beta1, config.beta2), fused=True))
        self.highest_lr = [[group["lr"] for group in optimizer.param_groups] for optimizer in self.optimizers]
        self.skipped_in_a_row = torch.zeros((), device=self.params[0].device)
        self.skipped = torch.zeros_like(self.skipped_in_a_row)  # in all

    def set_lr(self, scale: float) -> None:
        """Set every learning rate to `scale` times its highest value."""
        for optimizer, highest in zip(self.optimizers, self.highest_lr):
            for group, lr in zip(optimizer.param_groups, highest):
                group["lr"] = lr * scale

    def step(self, loss: torch.Tensor, scaler: torch.amp.GradScaler) -> torch.Tensor:
        """Clip the gradient, update the weights, free the gradients. Returns the gradient's norm before clipping.

        A step that is not finite is skipped and counted. loss: equal in all processes, because they must skip together.
        """
        for optimizer in self.optimizers:
            scaler.unscale_(optimizer)  # only with fp16
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.params if p.grad is not None])
        bad = (~(norm + loss).isfinite()).float()
        self.skipped_in_a_row, self.skipped = (self.skipped_in_a_row + 1) * bad, self.skipped + bad
        if self.grad_clip:
            torch.nn.utils.clip_grads_with_norm_(self.params, self.grad_clip, norm)
        for optimizer in self.optimizers:
            # GradScaler's way to tell an optimizer; here the norm over all parameters decides for every optimizer.
            optimizer.found_inf, optimizer.grad_scale = bad, None
            if bad.device.type != "mps" or not bad.item():  # AdamW on mps ignores found_inf
                optimizer.step()
        scaler.update()  # only with fp16
        self.zero_grad()
        return norm

    def zero_grad(self) -> None:
        """Free the gradients."""
        for p in self.params:
            p.grad = None

    def state_dict(self) -> dict:
        """Moments and counts, on the CPU where they are single numbers."""
        return {
            "parts": [optimizer.state_dict() for optimizer in self.optimizers],
            "in_a_row": self.skipped_in_a_row.cpu(),
            "skipped": self.skipped.cpu(),
        }

    def load_state_dict(self, state: dict) -> None:
        """Load moments and counts. Learning rates, decay and betas stay those of the config."""
        for optimizer, saved in zip(self.optimizers, state["parts"]):
            options = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
            optimizer.load_state_dict(saved)
            for group, own in zip(optimizer.param_groups, options):
                group.update(own)
        self.skipped_in_a_row = state["in_a_row"].to(self.skipped.device)
        self.skipped = state["skipped"].to(self.skipped.device)
