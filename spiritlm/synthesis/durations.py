"""How long a deduplicated unit lasts, predicted as Spirit LM's vocoder does, but from what came before alone.

Two convolutions, each with ReLU, norm and dropout, and a linear layer give the logarithm of one plus the duration, in
units of time. Nothing that comes later changes it, so that a stream and a file agree.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from spiritlm.run.memory import Memories
from spiritlm.synthesis.convolution import CausalConv1d

LONGEST = 250
"""Units of time that one unit can last when it is predicted."""


class DurationPredictor(nn.Module):
    """See the module's docstring."""

    def __init__(self, inputs: int, width: int = 128, dropout: float = 0.5) -> None:
        super().__init__()
        self.conv1, self.conv2 = CausalConv1d(inputs, width, 3), CausalConv1d(width, width, 3)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.project, self.dropout = nn.Linear(width, 1), nn.Dropout(dropout)

    def forward(self, x: torch.Tensor, memories: Memories | None = None) -> torch.Tensor:
        """Embedded units `[batch, units, inputs]` -> log(1 + duration) `[batch, units]`."""
        for conv, norm in ((self.conv1, self.norm1), (self.conv2, self.norm2)):
            x = self.dropout(norm(F.relu(conv(x.transpose(1, 2), memories)).transpose(1, 2)))
        return self.project(x).squeeze(-1)

    def durations(self, x: torch.Tensor, memories: Memories | None = None) -> torch.Tensor:
        """int64 `[batch, units]`, at least 1."""
        return (self(x, memories).exp() - 1).round().clamp(1, LONGEST).long()

    def loss(self, x: torch.Tensor, durations: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
        """Mean square of the logarithm's error, over the units where `counted` bool `[batch, units]` is true."""
        error = (self(x) - (1 + durations).float().log()).square() * counted
        return error.sum() / counted.sum().clamp(min=1)
