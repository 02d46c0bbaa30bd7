"""AdamW over sharded float32 main weights, and how its learning rate moves over a run."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from pydantic import Field, model_validator

from spiritlm.config import Recipe
from spiritlm.engine.model import Precision
from spiritlm.errors import InputError


class OptimizerConfig(Recipe):
    """AdamW."""

    lr: float = Field(gt=0)
    """Highest learning rate of the schedule."""
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.1, ge=0)
    """Of matrices; norms and biases are not decayed."""
    decay_embeddings: bool = False
    """Whether the input embedding is decayed too, and a tied output embedding with it."""
    clip_grad: float = Field(default=1.0, gt=0)
    """Largest norm of the gradient of all weights together."""


class ScheduleConfig(Recipe):
    """Learning rate over the steps of a run: warm-up, a flat part, decay."""

    decay: Literal["none", "linear", "cosine"] = "linear"
    warmup_steps: int = Field(default=0, ge=0)
    """Linear from 0."""
    flat_fraction: float = Field(default=0.0, ge=0, lt=1)
    """Share of the run, warm-up included, before decay begins."""
    final_factor: float = Field(default=0.0, ge=0, le=1)
    """Learning rate of the last step, as a share of the highest."""

    @model_validator(mode="after")
    def _check(self) -> ScheduleConfig:
        if self.decay == "none" and (self.flat_fraction or self.final_factor):
            raise InputError("schedule: flat_fraction and final_factor have no meaning where decay is none")
        return self

    def factor(self, step: int, steps: int) -> float:
        """Learning rate of step `step` (the first is 0) of `steps`, as a share of the highest."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        flat = max(self.warmup_steps, round(self.flat_fraction * steps))
        if self.decay == "none" or step < flat:
            return 1.0
        progress = (step + 1 - flat) / (steps - flat)
        remaining = 1 - progress if self.decay == "linear" else (1 + math.cos(math.pi * progress)) / 2
        return self.final_factor + (1 - self.final_factor) * remaining


def build_optimizer(config: OptimizerConfig, precision: Precision, chunks: list[Any]) -> Any:
    """megatron-core's optimizer of a rank's DistributedDataParallel chunks.

    The distributed optimizer is used with one rank too, so that every checkpoint has the same form.
    """
    from megatron.core import optimizer

    def exempt(parameter: torch.nn.Parameter, name: str) -> bool:
        embeds = "word_embeddings" in name or getattr(parameter, "shared_embedding", False)
        return parameter.dim() == 1 or (embeds and not config.decay_embeddings)

    not_decayed = optimizer.ParamKey(
        with_name_predicate=optimizer.ParamWithNamePredicate(name="not_decayed", fn=exempt)
    )
    settings = optimizer.OptimizerConfig(
        optimizer="adam",
        lr=config.lr,
        adam_beta1=config.betas[0],
        adam_beta2=config.betas[1],
        adam_eps=config.eps,
        weight_decay=config.weight_decay,
        clip_grad=config.clip_grad,
        bf16=precision == "bf16",
        params_dtype=torch.bfloat16 if precision == "bf16" else torch.float32,
        use_distributed_optimizer=True,
        overlap_param_gather=chunks[0].ddp_config.overlap_param_gather,
    )
    built = optimizer.get_megatron_optimizer(settings, chunks, {not_decayed: {"wd_mult": 0.0}})
    for group in built.param_groups:
        group["weight_decay"] *= group["wd_mult"]  # left by megatron-core to its own scheduler
        if isinstance(built.optimizer, torch.optim.AdamW):
            group["fused"] = True
    return built


def step_if_finite(optimizer: Any, lr: float, loss: float) -> tuple[bool, float]:
    """Clip and update, unless `loss` or the norm of the gradient is not finite.

    `loss` is the same on all ranks, as the norm is, so all ranks decide alike. Returns whether the weights were
    updated, and the norm before clipping.
    """
    from megatron.core.optimizer.clip_grads import clip_grad_by_total_norm_fp32

    optimizer.prepare_grads()
    norm = float(optimizer.get_grad_norm())
    if not (math.isfinite(loss) and math.isfinite(norm)):
        return False, norm
    for group in optimizer.param_groups:
        group["lr"] = lr
    for part in optimizer.chained_optimizers:
        if parameters := part.get_parameters():
            clip_grad_by_total_norm_fp32(parameters, part.config.clip_grad, norm)
    optimizer.step_with_ready_grads()
    return True, norm
