"""The optimizers of the training loop: AdamW, or Muon for the matrices of layers and AdamW for all else.

Muon (Jordan et al. 2024) makes every update of a matrix near orthogonal; scaled to AdamW's size of step (Moonlight,
Liu et al. 2025), both take one learning rate. On small encoders it reaches a loss in little more than half the steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch

OptimizerName = Literal["adamw", "muon"]
BETAS = (0.9, 0.95)
LAYERS = ("layers.", "blocks.")
"""Part of the names of what stands in a stack of layers."""


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


def optimizer_of(model: torch.nn.Module, name: OptimizerName, learning_rate: float, weight_decay: float) -> Together:
    """For the parameters of `model` that learn."""
    learning = {key: p for key, p in model.named_parameters() if p.requires_grad}
    matrices = {
        key for key, p in learning.items() if name == "muon" and p.ndim == 2 and any(part in key for part in LAYERS)
    }
    rest = [p for key, p in learning.items() if key not in matrices]
    chosen: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(rest, lr=learning_rate, betas=BETAS, weight_decay=weight_decay, fused=True)
    ]
    if matrices:
        muon = [learning[key] for key in learning if key in matrices]
        chosen.append(
            torch.optim.Muon(muon, lr=learning_rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
        )
    return Together(chosen)
