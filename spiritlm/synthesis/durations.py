"""How long a deduplicated unit lasts, predicted as Spirit LM's vocoder does.

Two convolutions, each with ReLU, norm and dropout, and a linear layer give the logarithm of one plus the duration, in
units of time. A causal predictor hears what came before alone, so that a stream and a file agree; the published one
hears two units on either side.
"""

from __future__ import annotations

import torch
from torch import nn

from spiritlm.run.memory import Memories
from spiritlm.synthesis.convolution import CausalConv1d

LONGEST = 250
"""Units of time that one unit can last when it is predicted."""


class DurationPredictor(nn.Module):
    """State: the names below `dur_predictor.` of the published `generator.pt`."""

    def __init__(
        self, inputs: int, width: int = 128, kernel: int = 3, dropout: float = 0.5, causal: bool = True
    ) -> None:
        super().__init__()
        self.causal = causal

        def conv(inputs: int, kernel: int) -> nn.Sequential:
            kind = (
                CausalConv1d(inputs, width, kernel) if causal else nn.Conv1d(inputs, width, kernel, padding=kernel // 2)
            )
            return nn.Sequential(kind, nn.ReLU())

        self.conv1, self.ln1 = conv(inputs, kernel), nn.LayerNorm(width)
        self.conv2, self.ln2 = conv(width, kernel), nn.LayerNorm(width)
        self.dropout, self.proj = nn.Dropout(dropout), nn.Linear(width, 1)

    def forward(self, x: torch.Tensor, memories: Memories | None = None) -> torch.Tensor:
        """Embedded units `[batch, units, inputs]` -> log(1 + duration) `[batch, units]`. `memories`: `x` is the next
        piece of a stream (causal only)."""
        for (conv, relu), norm in ((self.conv1, self.ln1), (self.conv2, self.ln2)):
            h = x.transpose(1, 2)
            x = self.dropout(norm(relu(conv(h, memories) if self.causal else conv(h)).transpose(1, 2)))
        return self.proj(x).squeeze(-1)

    def durations(self, x: torch.Tensor, memories: Memories | None = None) -> torch.Tensor:
        """int64 `[batch, units]`, at least 1; half-way between two numbers, the even one."""
        return (self(x, memories).exp() - 1).round().clamp(1, LONGEST).long()

    def loss(self, x: torch.Tensor, durations: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
        """Mean square of the logarithm's error, over the units where `counted` bool `[batch, units]` is true."""
        error = (self(x) - (1 + durations).float().log()).square() * counted
        return error.sum() / counted.sum().clamp(min=1)
