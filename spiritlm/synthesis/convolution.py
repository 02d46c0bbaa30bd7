"""A convolution over time that hears what was before and nothing of what comes."""

from __future__ import annotations

import torch
from torch import nn

from spiritlm.run.memory import Memories, after, memory_of


class CausalConv1d(nn.Conv1d):
    """`[batch, channels, time]` both ways, as many frames out as in."""

    def forward(self, x: torch.Tensor, memories: Memories | None = None) -> torch.Tensor:
        """`memories`: `x` is the next piece of a stream."""
        reach = (self.kernel_size[0] - 1) * self.dilation[0]
        return super().forward(after(x, reach, memory_of(self, memories)))
