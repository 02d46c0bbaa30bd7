"""Masked prediction (HuBERT, Hsu et al. 2021): the network guesses the units of frames that it cannot hear.

Spans of frames are replaced by a learnt vector before the transformer; its output, projected, is compared with one
learnt vector a unit, and the loss is the cross entropy of these cosines over a temperature.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from spiritlm.units.hubert_encoder import HubertEncoder, HubertShape

NO_UNIT = -1
TEMPERATURE = 0.1


class HubertPretraining(nn.Module):
    """The network and what is needed to train it only."""

    def __init__(self, shape: HubertShape, units: int, projected: int) -> None:
        """`units`: how many kinds of targets there are; `projected`: width in which the cosines are taken."""
        super().__init__()
        self.encoder = HubertEncoder(shape)
        self.stand_in = nn.Parameter(torch.empty(shape.width).uniform_())
        self.project = nn.Linear(shape.width, projected)
        self.units = nn.Parameter(torch.empty(units, projected).uniform_())

    def forward(self, waves: torch.Tensor, samples: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        """Waves float32 `[batch, samples]`, their lengths int64 `[batch]`, masked frames bool `[batch, frames]`
        -> logits float32 `[batch, frames, units]`."""
        x = self.project(self.encoder(waves, samples, hidden=hidden, stand_in=self.stand_in)).float()
        return F.normalize(x, dim=-1) @ F.normalize(self.units, dim=-1).T / TEMPERATURE


def masked_prediction_losses(
    model: nn.Module, batch: dict[str, torch.Tensor], unmasked_weight: float
) -> dict[str, torch.Tensor]:
    """`loss`: mean cross entropy of masked frames, and of the others times `unmasked_weight`; accuracies of both.

    `model`: a `HubertPretraining`. `batch`: what it takes, and `targets` int64 `[batch, frames]`, `NO_UNIT` where a
    frame has none.
    """
    logits = model(batch["waves"], batch["samples"], batch["hidden"])
    known = batch["targets"] != NO_UNIT
    right = logits.argmax(-1) == batch["targets"]
    figures = {}
    for name, chosen in (("masked", known & batch["hidden"]), ("unmasked", known & ~batch["hidden"])):
        count = chosen.sum().clamp(min=1)
        weighed = name == "masked" or unmasked_weight
        figures[f"{name}_accuracy"] = (right & chosen).sum() / count
        if weighed:
            figures[name] = F.cross_entropy(logits[chosen], batch["targets"][chosen], reduction="sum") / count
    loss = figures.pop("masked") + unmasked_weight * figures.pop("unmasked", torch.zeros(()))
    return {"loss": loss, **figures}


def spans(lengths: np.ndarray, frames: int, probability: float, length: int, rng: np.random.Generator) -> np.ndarray:
    """Which frames are masked, bool `[batch, frames]`, of rows with `lengths` frames.

    In each row, `probability` times its length spans of `length` frames begin, at least one, at different frames;
    they may overlap.
    """
    hidden = np.zeros((len(lengths), frames), dtype=bool)
    for row, n in zip(hidden, lengths, strict=True):
        places = max(1, n - length + 1)
        count = min(places, max(1, int(probability * n + rng.uniform())))
        for start in rng.choice(places, count, replace=False):
            row[start : min(n, start + length)] = True
    return hidden
