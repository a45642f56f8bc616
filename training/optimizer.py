"""
The update: Muon for the blocks' matrices with AdamW for the rest, or AdamW for all, stepped as one.

    optimizers = Optimizers(model, settings, dtype)
    norm = optimizers.step(loss, scaler, clip=1.0)

A step whose loss or gradient is NaN or infinite changes nothing and is counted. Nothing here makes the host wait for a CUDA GPU.
"""

import math
from collections import defaultdict

import torch

from model import GPT


class Muon(torch.optim.Optimizer):
    """Momentum, made orthogonal: each matrix moves as far along every one of its directions (Jordan et al. 2024,
    kellerjordan.github.io/posts/muon), with the update's size matched to AdamW's (Liu et al. 2025, arXiv:2502.16982).

    The same update as torch.optim.Muon's with adjust_lr_fn="match_rms_adamw". What differs: matrices of one shape go through
    the iteration as one batch, where torch's loop launches some fifteen kernels for each; a weight three times as high as wide (query,
    key and value in one) is three matrices; the products' precision is a choice, for not every processor multiplies in bf16;
    and `found_inf`, which AdamW has, too: a tensor that holds 1 where this step shall change nothing.
    """

    def __init__(self, params, lr: float, weight_decay: float, momentum: float = 0.95, dtype: torch.dtype = torch.bfloat16):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        self.dtype, self.found_inf = dtype, None

    @torch.no_grad()
    def step(self) -> None:
        """Update all parameters that have a gradient."""
        for group in self.param_groups:
            alike = defaultdict(list)  # (rows, columns) -> (weight, gradient, momentum), each as (n, rows, columns)
            for p in group["params"]:
                if p.grad is not None:
                    if not self.state[p]:
                        self.state[p]["momentum_buffer"] = torch.zeros_like(p)
                    n = 3 if p.size(0) == 3 * p.size(1) else 1
                    shape = (n, p.size(0) // n, p.size(1))
                    alike[shape[1:]].append([t.view(shape) for t in (p, p.grad, self.state[p]["momentum_buffer"])])
            for (rows, columns), matrices in alike.items():
                rate = group["lr"] * 0.2 * math.sqrt(max(rows, columns))
                self._step(*zip(*matrices), rate, 1 - group["lr"] * group["weight_decay"], group["momentum"])

    def _step(self, weights, grads, buffers, rate: float, keep: float, momentum: float) -> None:
        """Update matrices of one shape, given as tuples of (n, rows, columns)."""
        if self.found_inf is not None:  # a gradient that equals the momentum leaves it as it is; then weight and update count nothing
            good = 1 - self.found_inf
            grads = [torch.where(good > 0, grad, buffer) for grad, buffer in zip(grads, buffers)]
            keep, rate = 1 - (1 - keep) * good, rate * good
        torch._foreach_lerp_(buffers, grads, 1 - momentum)
        update = torch.cat(torch._foreach_lerp(grads, buffers, momentum))  # Nesterov's look ahead, (all, rows, columns)
        update = orthogonalize(update, self.dtype).to(update.dtype) * -rate
        torch._foreach_mul_(weights, keep)
        torch._foreach_add_(weights, update.split([len(w) for w in weights]))


def orthogonalize(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(n, rows, columns) -> the nearest matrices with orthogonal rows or columns, roughly: singular values of 0.7 to 1.2.

    Five Newton-Schulz steps with the coefficients of the Muon post, in `dtype`.
    """
    if x.size(1) > x.size(2):
        return orthogonalize(x.mT, dtype).mT
    x = (x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-12)).to(dtype)  # scaled first: gradients are too small for fp16
    a, b, c = 3.4445, -4.7750, 2.0315
    for _ in range(5):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


class Optimizers:
    """Muon and AdamW, or AdamW alone, as one."""

    def __init__(self, model: GPT, s, dtype: torch.dtype = torch.float32):
        """s: train.py's settings (optimizer, learning_rate, adamw_learning_rate, weight_decay, beta1, beta2).
        dtype: of Muon's products."""
        self.params = list(model.parameters())
        matrices = [p for name, p in model.named_parameters() if p.dim() == 2 and ".h." in name]
        embeddings = [p for name, p in model.named_parameters() if p.dim() == 2 and ".h." not in name]
        vectors = [p for p in self.params if p.dim() < 2]
        adam = [{"params": vectors, "weight_decay": 0.0}, {"params": embeddings, "weight_decay": 0.0}]
        self.parts, adam_rate = [], s.learning_rate
        if s.optimizer == "muon":
            self.parts.append(Muon(matrices, s.learning_rate, s.weight_decay, dtype=dtype))
            adam_rate = s.adamw_learning_rate
        else:
            adam[1] = {"params": matrices + embeddings, "weight_decay": s.weight_decay}
        self.parts.append(torch.optim.AdamW(adam, lr=adam_rate, betas=(s.beta1, s.beta2), fused=True))
        self.rates = [[group["lr"] for group in part.param_groups] for part in self.parts]
        self.in_a_row = torch.zeros((), device=self.params[0].device)  # steps skipped until now, one after the other
        self.skipped = torch.zeros_like(self.in_a_row)  # and in all

    def set_rate(self, share: float) -> None:
        """Every learning rate to this share of its highest."""
        for part, rates in zip(self.parts, self.rates):
            for group, rate in zip(part.param_groups, rates):
                group["lr"] = rate * share

    def step(self, loss: torch.Tensor, scaler: torch.amp.GradScaler, clip: float) -> torch.Tensor:
        """Clip, update the weights, drop the gradients; or skip and count. Returns the gradient's norm before clipping.

        loss: the step's, the same in all processes, for they must skip together. clip: longest gradient; 0: any.
        """
        for part in self.parts:
            scaler.unscale_(part)  # does nothing but with fp16
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.params if p.grad is not None])
        bad = (~(norm + loss).isfinite()).float()
        self.in_a_row, self.skipped = (self.in_a_row + 1) * bad, self.skipped + bad
        if clip:
            torch.nn.utils.clip_grads_with_norm_(self.params, clip, norm)
        for part in self.parts:
            part.found_inf, part.grad_scale = bad, None  # as GradScaler tells it to an optimizer; but the norm decides for all parts
            if bad.device.type != "mps" or not bad.item():  # (torch's AdamW does not look at it there)
                part.step()
        if scaler.is_enabled():
            scaler.update()
        for p in self.params:
            p.grad = None
        return norm

    def state_dict(self) -> dict:
        return {"parts": [part.state_dict() for part in self.parts], "in_a_row": self.in_a_row.cpu(), "skipped": self.skipped.cpu()}

    def load_state_dict(self, state: dict) -> None:
        """The moments and counts of a state_dict; rates, decay and betas stay those of the settings."""
        for part, saved in zip(self.parts, state["parts"]):
            options = [{name: value for name, value in group.items() if name != "params"} for group in part.param_groups]
            part.load_state_dict(saved)
            for group, own in zip(part.param_groups, options):
                group.update(own)
        self.in_a_row, self.skipped = (state[name].to(self.skipped.device) for name in ("in_a_row", "skipped"))
