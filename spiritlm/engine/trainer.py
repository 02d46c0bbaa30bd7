"""The training loop of the language model.

Comes in: a dataset whose rows are a pure function of their position, rows to evaluate on, a recipe. Goes out:
`checkpoints/`, `metrics.jsonl` and the last losses. The position in the data is the number of steps taken, so a run
resumes from its newest complete checkpoint exactly. Data parallel only; every rank runs this same loop.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from pydantic import Field, model_validator

from spiritlm.config import Recipe
from spiritlm.corpus.datasets import PackedSample
from spiritlm.engine.backend import device
from spiritlm.engine.batches import Batch, Dataset, StepBatches, evaluation_batches
from spiritlm.engine.checkpoint import load_newest_checkpoint, save_checkpoint
from spiritlm.engine.loss import masked_loss, reduced_losses, token_losses
from spiritlm.engine.model import ModelConfig, Precision, build_model, wrap_data_parallel
from spiritlm.engine.optimizer import OptimizerConfig, ScheduleConfig, build_optimizer, step_if_finite
from spiritlm.engine.parallel import data_parallel_rank, data_parallel_size
from spiritlm.errors import InputError, Stopped
from spiritlm.run.checkpoints import CheckpointPolicy, Checkpoints
from spiritlm.run.metrics import Metrics, Tracker
from spiritlm.run.progress import progress
from spiritlm.run.signals import StopFlag
from spiritlm.run.stage import StageRecipe, is_main_process, peak_memory_bytes


class TrainingConfig(Recipe):
    """How long and on how much at a time."""

    steps: int = Field(gt=0)
    global_batch_size: int = Field(gt=0)
    """Rows a step, over all ranks."""
    micro_batch_size: int = Field(gt=0)
    """Rows a rank computes at a time; memory grows with it. On a CPU the rank's whole share is fastest."""
    sequence_length: int = Field(gt=0)
    """Tokens a row."""
    precision: Precision = "bf16"
    seed: int = 0
    log_every: int = Field(default=1, gt=0)
    """Steps between rows of `metrics.jsonl`."""
    evaluate_every: int = Field(default=0, ge=0)
    """Steps between evaluations; 0 evaluates at the end only."""
    max_nonfinite_steps: int = Field(default=10, gt=0)
    """So many steps in a row with a loss or gradient that is not finite end the run."""

    @model_validator(mode="after")
    def _check(self) -> TrainingConfig:
        self.require_multiple_of(ranks=1)
        return self

    def require_multiple_of(self, ranks: int) -> None:
        """Raises `InputError` where `ranks` cannot share a step in whole micro-batches."""
        if self.global_batch_size % (self.micro_batch_size * ranks):
            raise InputError(
                f"training.global_batch_size = {self.global_batch_size}: expected a multiple of micro_batch_size x "
                f"data-parallel ranks = {self.micro_batch_size} x {ranks}"
            )


class TrainerRecipe(StageRecipe):
    """What every program that trains the language model asks for."""

    model: ModelConfig
    training: TrainingConfig
    optimizer: OptimizerConfig
    schedule: ScheduleConfig = ScheduleConfig()
    checkpoint: CheckpointPolicy = CheckpointPolicy()
    trackers: tuple[Tracker, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> TrainerRecipe:
        if self.training.sequence_length > self.model.max_position_embeddings:
            raise InputError(
                f"training.sequence_length = {self.training.sequence_length}: expected at most "
                f"model.max_position_embeddings = {self.model.max_position_embeddings}"
            )
        return self


@dataclass
class Progress:
    """What a checkpoint remembers beside the weights."""

    step: int = 0
    """Steps taken; the next step begins at row `step * global_batch_size`."""
    nonfinite_steps: int = 0
    nonfinite_in_a_row: int = 0
    dev: dict[str, float] = field(default_factory=dict)
    """Losses of the last evaluation, nats a token: `loss`, `loss_text`, `loss_semantic`."""


class Trainer:
    """One run of training. Made and used inside `process_groups`, on every rank."""

    def __init__(
        self,
        recipe: TrainerRecipe,
        dataset: Dataset,
        dev: Sequence[PackedSample],
        vocabulary_size: int,
        vocabulary_hash: str,
    ) -> None:
        """`vocabulary_size`: rows of the embedding. Raises `InputError` where the ranks cannot share
        a step."""
        config = recipe.training
        rank, ranks = data_parallel_rank(), data_parallel_size()
        config.require_multiple_of(ranks)
        self.recipe, self.config, self.vocabulary_hash = recipe, config, vocabulary_hash
        self.model = wrap_data_parallel(build_model(recipe.model, vocabulary_size, config.precision))
        self.optimizer = build_optimizer(recipe.optimizer, config.precision, self.model)
        self.batches = StepBatches(dataset, config.global_batch_size, config.micro_batch_size, rank, ranks)
        self.dev_batches = evaluation_batches(dev, config.micro_batch_size, rank, ranks)
        self.checkpoints = Checkpoints(recipe.out / "checkpoints", recipe.checkpoint)
        self.progress = Progress()
        self._tokens_per_step = config.global_batch_size * config.sequence_length
        self._meter = _Meter()

    def run(self) -> dict[str, Any]:
        """Train to the last step, from the newest checkpoint where there is one. Returns the counts of the run.

        Raises `Stopped` once a stop signal has been answered with a checkpoint, and `InputError` after
        `max_nonfinite_steps` steps in a row without a finite loss and gradient.
        """
        self._resume()
        first, steps = self.progress.step, self.config.steps
        with (
            StopFlag() as stop,
            Metrics(self.recipe.out, self.recipe.trackers, first) as metrics,
            progress("train", steps, first) as bar,
            self.batches.reading_ahead(),
        ):
            for step in range(first, steps):
                row = self._train_step(step)
                self._log(metrics, row)
                bar.advance(1, f"loss {row['loss']:.3f}" if "loss" in row else "step skipped")
                self._evaluate_if_due(metrics)
                stopped = stop.agreed() and step + 1 < steps
                if stopped or step + 1 == steps or self.checkpoints.due(step + 1):
                    self._save()
                if stopped:
                    raise Stopped(f"at step {step + 1} of {steps}; run the same command again to continue")
        return self._counts()

    def _train_step(self, step: int) -> dict[str, float]:
        """One update, or a skipped one. Returns the row for the log."""
        started = time.perf_counter()
        batches = self.batches.of_step(step)
        lr = self.recipe.optimizer.lr * self.recipe.schedule.factor(step, self.config.steps)
        self.model.train()
        self.model.zero_grad_buffer()
        self.optimizer.zero_grad()
        losses = self._forward_backward(batches, forward_only=False)
        updated, norm = step_if_finite(self.optimizer, lr, losses["loss"])
        self.progress.step = step + 1
        self._meter.add(time.perf_counter() - started, self.batches.seconds_waited)
        self._count_nonfinite(updated)
        return {**losses, "lr": lr, "grad_norm": norm} if updated else self._skipped_row(step, lr)

    def _forward_backward(self, batches: list[Batch], forward_only: bool) -> dict[str, float]:
        from megatron.core.pipeline_parallel import get_forward_backward_func

        def forward_step(iterator: Iterator[Batch], model: Any) -> tuple[torch.Tensor, Any]:
            batch = next(iterator)
            return token_losses(model, batch), lambda losses: masked_loss(losses, batch)

        sums = get_forward_backward_func()(
            forward_step_func=forward_step,
            data_iterator=iter(batches),
            model=self.model,
            num_microbatches=len(batches),
            seq_length=self.config.sequence_length,
            micro_batch_size=self.config.micro_batch_size,
            forward_only=forward_only,
        )
        return reduced_losses(sums)

    def _count_nonfinite(self, updated: bool) -> None:
        state = self.progress
        state.nonfinite_in_a_row = 0 if updated else state.nonfinite_in_a_row + 1
        state.nonfinite_steps += not updated
        if state.nonfinite_in_a_row >= self.config.max_nonfinite_steps:
            raise InputError(
                f"loss or gradient not finite in {state.nonfinite_in_a_row} steps in a row, up to step {state.step}: "
                f"expected finite values, try an optimizer.lr under {self.recipe.optimizer.lr}"
            )

    def _skipped_row(self, step: int, lr: float) -> dict[str, float]:
        first = step * self.config.global_batch_size
        last = first + self.config.global_batch_size - 1
        return {"skipped": 1, "first_position": first, "last_position": last, "lr": lr}

    def _log(self, metrics: Metrics, row: dict[str, float]) -> None:
        step = self.progress.step
        if step % self.config.log_every == 0 or step == self.config.steps or "skipped" in row:
            shares = self.batches.dataset.shares(step * self.config.global_batch_size)
            row |= {f"share_{name}": share for name, share in shares.items()}
            row = {"tokens": step * self._tokens_per_step, **row, **self._meter.read(self._tokens_per_step)}
            metrics.log(step, **row, nonfinite_steps=self.progress.nonfinite_steps, memory_bytes=_memory_bytes())

    def _evaluate_if_due(self, metrics: Metrics) -> None:
        step, every = self.progress.step, self.config.evaluate_every
        if step == self.config.steps or (every and step % every == 0):
            self.progress.dev = self.evaluate()
            dev = {f"dev_{name}": value for name, value in self.progress.dev.items()}
            metrics.log(step, tokens=step * self._tokens_per_step, **dev)

    def evaluate(self) -> dict[str, float]:
        """Losses on the dev rows, nats a token: `loss` and `loss_NAME` of each modality. Collective."""
        self.model.eval()
        with torch.no_grad():
            return self._forward_backward([batch.to(device()) for batch in self.dev_batches], forward_only=True)

    def _resume(self) -> None:
        state = load_newest_checkpoint(self.checkpoints, self.model, self.optimizer)
        if state is None:
            return
        found = state.pop("vocabulary")
        if found != self.vocabulary_hash:
            raise InputError(
                f"{self.checkpoints.root}: made with vocabulary {found[:16]}, expected {self.vocabulary_hash[:16]}"
            )
        self.progress = Progress(**state)
        if is_main_process():
            print(f"  resuming after step {self.progress.step}")

    def _save(self) -> None:
        state = {**asdict(self.progress), "vocabulary": self.vocabulary_hash}
        save_checkpoint(self.checkpoints, self.progress.step, self.model, self.optimizer, state)

    def _counts(self) -> dict[str, Any]:
        return {
            "steps": self.progress.step,
            "tokens": self.progress.step * self._tokens_per_step,
            "tokens_per_second": round(self._meter.overall(self._tokens_per_step), 1),
            "nonfinite_steps": self.progress.nonfinite_steps,
            "parameters": sum(parameter.numel() for parameter in self.model.parameters()),
            "data_parallel_size": dist.get_world_size(),
            "dev": self.progress.dev,
        }


class _Meter:
    """Seconds of steps: since the last row of the log, and since this process began."""

    def __init__(self) -> None:
        self._steps = self._all_steps = 0
        self._seconds = self._waited = self._all_seconds = 0.0

    def add(self, seconds: float, waited: float) -> None:
        self._steps, self._all_steps = self._steps + 1, self._all_steps + 1
        self._seconds, self._all_seconds = self._seconds + seconds, self._all_seconds + seconds
        self._waited += waited

    def read(self, tokens_per_step: int) -> dict[str, float]:
        row = {
            "tokens_per_second": self._steps * tokens_per_step / self._seconds,
            "data_wait_share": self._waited / self._seconds,
        }
        self._steps, self._seconds, self._waited = 0, 0.0, 0.0
        return row

    def overall(self, tokens_per_step: int) -> float:
        """Tokens a second; 0 where this process took no step."""
        return self._all_steps * tokens_per_step / self._all_seconds if self._all_steps else 0.0


def _memory_bytes() -> int:
    """Most memory used so far: of the GPU where there is one, else of this process."""
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else peak_memory_bytes()
