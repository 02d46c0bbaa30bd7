"""Operations that torch and megatron-core compute on a CPU in many passes over memory, in few.

Together they take a sixth off a training step. On a GPU they are not used.
"""

from __future__ import annotations

from typing import Any

import torch


class RMSNormFunction(torch.autograd.Function):
    """Sums in float32, products in the type of the input."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        """`x` `[..., hidden]`, `weight` `[hidden]`."""
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        scale = torch.rsqrt(norm.square() / x.shape[-1] + eps)
        normed = (x * scale).to(x.dtype)
        ctx.save_for_backward(normed, weight, scale)
        return normed * weight

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        normed, weight, scale = ctx.saved_tensors
        along = grad * normed
        grad_weight = along.flatten(0, -2).sum(0, dtype=torch.float32).to(weight.dtype)
        mean = (along @ weight.unsqueeze(-1)) / along.shape[-1]
        grad_x = torch.addcmul(grad * weight, normed, mean, value=-1).mul_(scale.to(grad.dtype))
        return grad_x, grad_weight, None


class RotationFunction(torch.autograd.Function):
    """Turns the pairs (channel i, channel i + channels / 2) of `x` `[..., channels]` by an angle each."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        """`cos` and `sin`: `[..., channels / 2]`, broadcast to `x`."""
        ctx.save_for_backward(cos, sin)
        return _turn(x, cos, sin)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _turn(grad, cos, -sin), None, None


def _turn(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    turned = torch.empty_like(x, memory_format=torch.contiguous_format)
    (first, second), (new_first, new_second) = x.chunk(2, dim=-1), turned.chunk(2, dim=-1)
    torch.mul(first, cos, out=new_first).addcmul_(second, sin, value=-1)
    torch.mul(second, cos, out=new_second).addcmul_(first, sin)
    return turned


def install_rotation() -> None:
    """Put `RotationFunction` in the place of megatron-core's rotary embedding of whole heads."""
    from megatron.core.models.common.embeddings import rope_utils

    original = rope_utils._apply_rotary_pos_emb_bshd

    def rotate(
        x: torch.Tensor,
        freqs: torch.Tensor,
        rotary_interleaved: bool = False,
        multi_latent_attention: bool = False,
        mscale: float = 1.0,
    ) -> torch.Tensor:
        if rotary_interleaved or multi_latent_attention or freqs.shape[-1] != x.shape[-1]:
            return original(x, freqs, rotary_interleaved, multi_latent_attention, mscale)
        angles = freqs[..., : freqs.shape[-1] // 2]
        return RotationFunction.apply(x, (angles.cos() * mscale).to(x.dtype), (angles.sin() * mscale).to(x.dtype))

    rope_utils._apply_rotary_pos_emb_bshd = rotate
