"""Frames become units: the nearest of some centroids, or a small network trained with CTC."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import PositiveInt
from torch import nn

from spiritlm.config import Recipe
from spiritlm.errors import InputError


class QuantizerConfig(Recipe):
    """What `config.json` of a tokenizer says of its quantizer."""

    kind: Literal["kmeans", "ctc"]
    units: PositiveInt
    """Without the blank."""
    widths: tuple[PositiveInt, ...] = ()
    """Of the layers between, where there are any."""


class KmeansQuantizer(nn.Module):
    """The nearest centroid."""

    centroids: torch.Tensor

    def __init__(self, width: int, units: int) -> None:
        super().__init__()
        self.register_buffer("centroids", torch.zeros(units, width))
        self.config = QuantizerConfig(kind="kmeans", units=units)
        self.width = width

    @classmethod
    def of(cls, centroids: torch.Tensor) -> KmeansQuantizer:
        """`centroids`: float32 `[units, width]`."""
        quantizer = cls(centroids.shape[1], centroids.shape[0])
        quantizer.centroids.copy_(centroids)
        return quantizer

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """float `[..., width]` -> units int64 `[...]`."""
        features = features.float()
        distances = self.centroids.square().sum(1) - 2 * features @ self.centroids.T
        return distances.argmin(-1)


class LinearQuantizer(nn.Module):
    """Three linear layers over a frame, trained with CTC to say the units of clean sound (Gat et al. 2022).

    The last of its symbols is the blank.
    """

    def __init__(self, width: int, widths: Sequence[int], units: int) -> None:
        """`widths`: of the two layers between."""
        super().__init__()
        sizes = (width, *widths, units + 1)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.config = QuantizerConfig(kind="ctc", units=units, widths=tuple(widths))
        self.width, self.blank = width, units

    def log_probs(self, features: torch.Tensor) -> torch.Tensor:
        """float `[..., width]` -> float32 `[..., units + 1]`."""
        x = features
        for number, layer in enumerate(self.layers):
            x = layer(F.leaky_relu(x, 0.01) if number else x)
        return x.float().log_softmax(-1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """float `[..., width]` -> the likeliest symbol of each frame, blanks among them, int64 `[...]`."""
        return self.log_probs(features).argmax(-1)


Quantizer = KmeansQuantizer | LinearQuantizer


def build_quantizer(config: QuantizerConfig, width: int) -> Quantizer:
    """With weights that mean nothing yet, for features of `width`."""
    if config.kind == "kmeans":
        return KmeansQuantizer(width, config.units)
    return LinearQuantizer(width, config.widths, config.units)


def default_widths(width: int, units: int) -> tuple[int, int]:
    """Of the layers between in a new linear quantizer: from `width` to the symbols in equal steps."""
    step = (units + 1 - width) / 3
    return max(1, round(width + step)), max(1, round(width + 2 * step))


def ctc_losses(
    quantizer: nn.Module, features: torch.Tensor, lengths: torch.Tensor, batch: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """`loss`: mean negative log-likelihood of a unit, all ways to place the units together.

    `quantizer`: a `LinearQuantizer`; `features` float `[batch, frames, width]`, of which `lengths` int64 `[batch]` are
    true; `batch`: `labels` int64 `[batch, labels]` and `label_counts` int64 `[batch]`. A row with more units than
    frames counts nothing.
    """
    assert isinstance(quantizer, LinearQuantizer)
    log_probs, counts = quantizer.log_probs(features).transpose(0, 1), batch["label_counts"]
    nll = F.ctc_loss(log_probs, batch["labels"], lengths, counts, quantizer.blank, "sum", zero_infinity=True)
    return {"loss": nll / counts.sum()}


def without_blanks(symbols: torch.Tensor, blank: int) -> torch.Tensor:
    """Each blank becomes the unit before it; before the first unit, that unit; where there is none, 0.

    `symbols` int64 `[frames]`."""
    places = torch.arange(len(symbols), device=symbols.device)
    known = symbols != blank
    if not known.any():
        return torch.zeros_like(symbols)
    last = torch.where(known, places, -1).cummax(0).values
    return symbols[torch.where(last < 0, known.to(torch.int64).argmax(), last)]


def published_without_blanks(symbols: torch.Tensor, blank: int) -> torch.Tensor:
    """As the published code does it: before the first unit stands the last one, and the rows of a batch are one line.

    `symbols` int64 `[..., frames]`; where all are blank, they stay."""
    line = symbols.flatten()
    known = line != blank
    if not known.any():
        return symbols
    turned = torch.cat([line, line])
    return without_blanks(turned, blank)[len(line) :].view_as(symbols)


def require_width(quantizer: Quantizer, width: int, source: str) -> None:
    """Raises `InputError` where `quantizer`, read from `source`, is for features of another width."""
    if quantizer.width != width:
        raise InputError(f"{source}: a quantizer of features {quantizer.width} wide, expected {width}, the network's")
