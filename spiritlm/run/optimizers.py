"""The optimizers of the training loop: AdamW, or Muon for the matrices of layers and AdamW for all else.

Muon (Jordan et al. 2024) makes every update of a matrix near orthogonal; scaled to AdamW's size of step (Moonlight,
Liu et al. 2025), both take one learning rate. On small encoders it reaches a loss in little more than half the steps.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any, Literal

import torch

from spiritlm.run.device import computes_bf16

OptimizerName = Literal["adamw", "muon"]
BETAS = (0.9, 0.95)
LAYERS = ("layers.", "blocks.", "encoders.")
"""Part of the names of what stands in a stack of layers."""


MOMENTUM = 0.95
NEWTON_SCHULZ = (3.4445, -4.775, 2.0315), 5
"""Coefficients of the quintic iteration that makes a matrix near orthogonal, and how often it is applied."""
RMS = 0.2
"""Of an update of AdamW, about; Muon's are scaled to it."""


class Muon(torch.optim.Optimizer):
    """As `torch.optim.Muon` with `adjust_lr_fn="match_rms_adamw"`, which multiplies in bfloat16 everywhere: where a CPU
    has none, for longer than all else in a step takes. Here matrices of one shape go together."""

    def __init__(self, parameters: Iterable[torch.nn.Parameter], lr: float, weight_decay: float) -> None:
        super().__init__(sorted(parameters, key=lambda p: p.shape), {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for shape, same in groupby(group["params"], key=lambda p: p.shape):
                matrices = list(same)
                size = group["lr"] * RMS * math.sqrt(max(shape))
                updates = near_orthogonal(torch.stack([self._update(matrix) for matrix in matrices]))
                for matrix, update in zip(matrices, updates, strict=True):
                    matrix.mul_(1 - group["lr"] * group["weight_decay"]).sub_(update, alpha=size)

    def _update(self, matrix: torch.Tensor) -> torch.Tensor:
        """The gradient, moved by Nesterov's momentum."""
        assert matrix.grad is not None
        momentum = self.state[matrix].setdefault("momentum_buffer", torch.zeros_like(matrix))
        momentum.lerp_(matrix.grad, 1 - MOMENTUM)
        return matrix.grad.lerp(momentum, MOMENTUM)


def near_orthogonal(matrices: torch.Tensor) -> torch.Tensor:
    """`matrices` `[n, rows, columns]` with their singular values brought to about 1, float32."""
    (a, b, c), rounds = NEWTON_SCHULZ
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x.to(torch.bfloat16 if computes_bf16(x.device) else torch.float32)
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(rounds):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).float()


class Together:
    """Several optimizers as one."""

    def __init__(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        self.optimizers = optimizers

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    def zero_grad(self, set_to_none: bool = True) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none)

    def step(self) -> None:
        for optimizer in self.optimizers:
            optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        return {"optimizers": [optimizer.state_dict() for optimizer in self.optimizers]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for optimizer, own in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(own)


def optimizer_of(
    model: torch.nn.Module,
    name: OptimizerName,
    learning_rate: float,
    weight_decay: float,
    betas: tuple[float, float] = BETAS,
) -> Together:
    """For the parameters of `model` that learn; `betas`: of AdamW."""
    learning = {key: p for key, p in model.named_parameters() if p.requires_grad}
    matrices = {
        key for key, p in learning.items() if name == "muon" and p.ndim == 2 and any(part in key for part in LAYERS)
    }
    rest = [p for key, p in learning.items() if key not in matrices]
    chosen: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(rest, lr=learning_rate, betas=betas, weight_decay=weight_decay, fused=True)
    ]
    if matrices:
        muon = [learning[key] for key in learning if key in matrices]
        chosen.append(Muon(muon, learning_rate, weight_decay))
    return Together(chosen)
