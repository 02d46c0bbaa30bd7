"""Convolutions over time that vocoders and decoders share; causal ones hear what was before, nothing of what comes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from spiritlm.run.memory import Memories, after, memory_of


class CausalConv1d(nn.Conv1d):
    """`[batch, channels, time]` both ways, as many frames out as in."""

    def forward(self, x: torch.Tensor, memories: Memories | None = None) -> torch.Tensor:
        """`memories`: `x` is the next piece of a stream."""
        reach = (self.kernel_size[0] - 1) * self.dilation[0]
        return super().forward(after(x, reach, memory_of(self, memories)))


def normed_conv(inputs: int, outputs: int, kernel: int, causal: bool = False, dilation: int = 1) -> nn.Module:
    """With weight norm; as many frames come out as go in."""
    if causal:
        return weight_norm(CausalConv1d(inputs, outputs, kernel, dilation=dilation))
    return weight_norm(nn.Conv1d(inputs, outputs, kernel, dilation=dilation, padding=dilation * (kernel - 1) // 2))


def residual_reach(kernel: int, dilations: tuple[int, ...]) -> int:
    """Frames on either side that a frame hears in a `ResidualBlock`; twice as many before it in a causal one."""
    return (kernel - 1) // 2 * (sum(dilations) + len(dilations))


class ResidualBlock(nn.Module):
    """Pairs of convolutions, the first of each pair dilated, each pair added to what it hears (HiFi-GAN)."""

    def __init__(
        self,
        channels: int,
        kernel: int,
        dilations: tuple[int, ...],
        causal: bool,
        activation: Callable[[int], nn.Module],
    ) -> None:
        """`activation`: makes one for so many channels."""
        super().__init__()
        self.convs1 = nn.ModuleList(normed_conv(channels, channels, kernel, causal, dilation) for dilation in dilations)
        self.convs2 = nn.ModuleList(normed_conv(channels, channels, kernel, causal) for _ in dilations)
        self.activations1 = nn.ModuleList(activation(channels) for _ in dilations)
        self.activations2 = nn.ModuleList(activation(channels) for _ in dilations)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[batch, channels, time]` both ways."""
        layers = zip(self.activations1, self.convs1, self.activations2, self.convs2, strict=True)
        for activation1, conv1, activation2, conv2 in layers:
            x = x + conv2(activation2(conv1(activation1(x))))
        return x


class ResidualStages(nn.ModuleList):
    """After each up-sampling, residual blocks of several kernels beside each other (HiFi-GAN); in one list, as their
    published names count them."""

    def __init__(
        self,
        widths: Sequence[int],
        kernels: Sequence[int],
        dilations: Sequence[tuple[int, ...]],
        causal: bool,
        activation: Callable[[int], nn.Module],
    ) -> None:
        """`widths`: channels after each up-sampling."""
        super().__init__(
            ResidualBlock(width, kernel, reach, causal, activation)
            for width in widths
            for kernel, reach in zip(kernels, dilations, strict=True)
        )
        self.kinds = len(kernels)

    def mean(self, stage: int, x: torch.Tensor) -> torch.Tensor:
        """What the blocks of a stage make of `x` `[batch, channels, time]`, on average."""
        blocks = list(self)[self.kinds * stage : self.kinds * (stage + 1)]
        return torch.stack([block(x) for block in blocks]).sum(0) / self.kinds


def halving(channels: int, stages: int) -> list[int]:
    """Channels before, between and after `stages` up-samplings."""
    return [channels // 2**stage for stage in range(stages + 1)]
