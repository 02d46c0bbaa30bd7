"""The training loop of tokenizers and decoders: small networks, one process a device, gradients averaged.

A model, its losses and `batches(step)` come in; a trained model, `metrics.jsonl` and checkpoints go out. The batch
and the random state of a step follow from the step alone, so a resumed run has one integer to restore beside
the weights and the optimizer, and ends with the bits of a run that was never stopped. The language model, which
may be larger than a device, has its own loop in `spiritlm/engine/`.
"""

from __future__ import annotations

import math
import os
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.distributed as dist
from pydantic import PositiveFloat, PositiveInt

from spiritlm.config import Recipe
from spiritlm.errors import InputError, Stopped
from spiritlm.run.checkpoints import CheckpointPolicy, Checkpoints
from spiritlm.run.device import training_device, warn_of_emulated_bf16
from spiritlm.run.metrics import Metrics, Tracker
from spiritlm.run.optimizers import BETAS, OptimizerName, optimizer_of
from spiritlm.run.progress import progress
from spiritlm.run.signals import StopFlag
from spiritlm.run.stage import is_main_process

Batch = dict[str, torch.Tensor]
Losses = dict[str, torch.Tensor]
STATE_FILE = "state.pt"


class FitRecipe(Recipe):
    """How long and how fast to train."""

    steps: PositiveInt
    optimizer: OptimizerName = "adamw"
    """muon: see `spiritlm/run/optimizers.py`."""
    learning_rate: PositiveFloat = 2e-3
    """At the end of the warm-up."""
    final_fraction: float = 0.02
    """The last step's learning rate, as a share of `learning_rate`."""
    warmup_steps: int = 50
    decay: Literal["linear", "cosine"] = "linear"
    weight_decay: float = 0.01
    betas: tuple[float, float] = BETAS
    """Of AdamW."""
    clip_norm: PositiveFloat = 1.0
    """Largest norm of the gradient."""
    max_skipped: PositiveInt = 10
    """Steps in a row without a finite loss and gradient after which the run gives up."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16: autocast; weights, optimizer and checkpoints stay fp32."""
    seed: int = 0
    log_every: PositiveInt = 10
    trackers: tuple[Tracker, ...] = ()
    checkpoint: CheckpointPolicy = CheckpointPolicy(every=500, keep_last=1)


def fit(
    model: torch.nn.Module,
    loss_fn: Callable[[torch.nn.Module, Batch], Losses],
    batches: Callable[[int], Batch],
    recipe: FitRecipe,
    folder: Path,
    label: str = "train",
    before_step: Callable[[int], None] = lambda step: None,
) -> dict[str, float]:
    """Train `model` in place, from the newest checkpoint in `folder/checkpoints` if there is one.

    `loss_fn(model, batch)` gives scalars by name; `loss` is minimised, the others are logged and shown.
    `batches(step)`, steps from 0, is a pure function, called one step early in a thread; under torchrun each rank
    gives its own part of the batch, and gradients and losses are averaged over the ranks. Parameters are averaged,
    buffers are not. Runs on CUDA where there is one and leaves the model there, in training mode. `before_step(step)`
    may change the model; what it does follows from the step, the weights and the batches, so that a resume repeats it.

    Returns the last step's losses and `skipped`, the number of steps whose loss or gradient was not finite.
    Raises `Stopped` after a stop signal, with the state saved, and `InputError` after `max_skipped` such steps in
    a row.
    """
    torch.set_flush_denormal(True)
    device = training_device()
    if recipe.precision == "bf16" and is_main_process():
        warn_of_emulated_bf16(device)
    model.to(device).train()
    loop = _Loop(model, recipe, Checkpoints(folder / "checkpoints", recipe.checkpoint), device)
    loop.resume()
    ahead = _ReadAhead(batches, recipe.steps)
    with (
        ahead,
        StopFlag() as stop,
        Metrics(folder, recipe.trackers, loop.step) as metrics,
        progress(label, recipe.steps, loop.step) as bar,
    ):
        while loop.step < recipe.steps:
            before_step(loop.step)
            figures = loop.train_step(loss_fn, ahead)
            if loop.step % recipe.log_every == 0 or loop.step == recipe.steps:
                metrics.log(loop.step, **figures)
            bar.advance(note=" · ".join(f"{name} {value:.4g}" for name, value in loop.losses.items()))
            stopping = stop.agreed()
            if stopping or loop.step == recipe.steps or loop.checkpoints.due(loop.step):
                saved = loop.save()
                if stopping and loop.step < recipe.steps:
                    raise Stopped(f"{label} after step {loop.step} of {recipe.steps}, saved in {saved}")
    return {**loop.losses, "skipped": loop.skipped}


@contextmanager
def process_group() -> Iterator[tuple[int, int]]:
    """Join the other processes of torchrun for the block; gives (rank, world size), (0, 1) without torchrun."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield 0, 1
        return
    device = training_device()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield dist.get_rank(), dist.get_world_size()
    finally:
        dist.destroy_process_group()


class _ReadAhead:
    """`batches`, with the batch of the next step read in a thread while this one computes."""

    def __init__(self, batches: Callable[[int], Batch], steps: int) -> None:
        self.batches, self.steps = batches, steps
        self._next: tuple[int, Future[Batch]] | None = None

    def __enter__(self) -> _ReadAhead:
        self._reader = ThreadPoolExecutor(1)
        return self

    def __exit__(self, *error: object) -> None:
        self._reader.shutdown(cancel_futures=True)

    def __call__(self, step: int) -> Batch:
        if self._next is None or self._next[0] != step:
            self._next = step, self._reader.submit(self.batches, step)
        batch = self._next[1].result()
        if step + 1 < self.steps:
            self._next = step + 1, self._reader.submit(self.batches, step + 1)
        return batch


class _Loop:
    """State of one training run; everything but the weights and the optimizer fits a line of JSON."""

    def __init__(
        self, model: torch.nn.Module, recipe: FitRecipe, checkpoints: Checkpoints, device: torch.device
    ) -> None:
        self.model, self.recipe, self.checkpoints, self.device = model, recipe, checkpoints, device
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        for parameter in self.parameters:
            parameter.grad = torch.zeros_like(parameter)
        self.optimizer = optimizer_of(model, recipe.optimizer, recipe.learning_rate, recipe.weight_decay, recipe.betas)
        self.step, self.skipped, self.skipped_in_a_row = 0, 0, 0
        self.losses: dict[str, float] = {}

    def train_step(
        self, loss_fn: Callable[[torch.nn.Module, Batch], Losses], batches: Callable[[int], Batch]
    ) -> dict[str, float]:
        """One step of the optimizer, unless loss or gradient is not finite. Returns what is logged."""
        started = time.monotonic()
        batch = {name: tensor.to(self.device) for name, tensor in batches(self.step).items()}
        waited = time.monotonic() - started
        rate = learning_rate(self.recipe, self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        torch.manual_seed(self._seed())
        self.optimizer.zero_grad(set_to_none=False)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.precision == "bf16"):
            losses = loss_fn(self.model, batch)
        losses["loss"].backward()
        self.losses = dict(zip(losses, self._mean_over_ranks(list(losses.values())), strict=True))
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.recipe.clip_norm).item()
        self.step += 1
        if math.isfinite(self.losses["loss"]) and math.isfinite(norm):
            self.optimizer.step()
            self.skipped_in_a_row = 0
        else:
            self._skip(norm)
        seconds = time.monotonic() - started
        figures = {"learning_rate": rate, "grad_norm": norm, "skipped": self.skipped}
        return {**self.losses, **figures, "steps_per_second": 1 / seconds, "waited_for_data": waited / seconds}

    def _seed(self) -> int:
        rank = dist.get_rank() if dist.is_initialized() else 0
        return int(np.random.SeedSequence((self.recipe.seed, self.step, rank)).generate_state(1)[0])

    def _mean_over_ranks(self, losses: list[torch.Tensor]) -> list[float]:
        """Average the gradients in place and give the average losses: one message for both."""
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        values = torch.stack([loss.detach().float() for loss in losses])
        if dist.is_initialized():
            message = torch.cat([values, *(g.flatten() for g in gradients)])
            dist.all_reduce(message)
            message /= dist.get_world_size()
            values, *averages = message.split([len(values), *(g.numel() for g in gradients)])
            for gradient, average in zip(gradients, averages, strict=True):
                gradient.copy_(average.view_as(gradient))
        return values.tolist()

    def _skip(self, norm: float) -> None:
        """Every rank has the same averages and decides the same."""
        self.skipped += 1
        self.skipped_in_a_row += 1
        found = f"step {self.step}: loss {self.losses['loss']}, gradient norm {norm}"
        if is_main_process():
            warnings.warn(f"{found}: not finite, the step is skipped", stacklevel=2)
        if self.skipped_in_a_row >= self.recipe.max_skipped:
            raise InputError(
                f"{found}: not finite {self.skipped_in_a_row} times in a row; expected finite values, "
                f"try a learning_rate under {self.recipe.learning_rate}"
            )

    def save(self) -> Path:
        """Every rank calls it; rank 0 writes."""
        folder = self.checkpoints.root / f"step-{self.step:08d}"
        if is_main_process():
            state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
            torch.save(state, self.checkpoints.begin(self.step) / STATE_FILE)
            counts = {"skipped": self.skipped, "skipped_in_a_row": self.skipped_in_a_row, "losses": self.losses}
            folder = self.checkpoints.complete(self.step, counts)
        if dist.is_initialized():
            dist.barrier()
        return folder

    def resume(self) -> None:
        """Take up the newest complete checkpoint, if there is one."""
        if is_main_process():
            self.checkpoints.claim()
        folder = self.checkpoints.newest()
        if folder is None:
            return
        tensors = torch.load(folder / STATE_FILE, map_location=self.device, weights_only=True)
        self.model.load_state_dict(tensors["model"])
        self.optimizer.load_state_dict(tensors["optimizer"])
        state = self.checkpoints.state(folder)
        self.step, self.losses = state["step"], state["losses"]
        self.skipped, self.skipped_in_a_row = state["skipped"], state["skipped_in_a_row"]


def learning_rate(recipe: FitRecipe, step: int) -> float:
    """Of step `step`, counted from 0: rises over `warmup_steps`, then falls to `final_fraction` at the last step."""
    if step < recipe.warmup_steps:
        return recipe.learning_rate * (step + 1) / recipe.warmup_steps
    passed = (step - recipe.warmup_steps) / max(1, recipe.steps - 1 - recipe.warmup_steps)
    left = (1 + math.cos(math.pi * passed)) / 2 if recipe.decay == "cosine" else 1 - passed
    return recipe.learning_rate * (recipe.final_fraction + (1 - recipe.final_fraction) * left)
