"""The training loop of the language model.

Comes in: a dataset whose rows are a pure function of their position, rows to evaluate on, a recipe. Goes out:
`checkpoints/`, `metrics.jsonl` and the last losses. The position in the data is the number of steps taken, so a run
resumes from its newest complete checkpoint exactly. Every rank runs this same loop, whatever it holds of the model.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from spiritlm.corpus.datasets import PackedSample
from spiritlm.engine.attention import attention_name
from spiritlm.engine.backend import device
from spiritlm.engine.batches import Dataset, StepBatches, evaluation_batches
from spiritlm.engine.checkpoint import CheckpointWriter, bare, claimed, load_checkpoint
from spiritlm.engine.metering import Meter, Spikes, memory_bytes
from spiritlm.engine.model import build_chunks, wrap_data_parallel
from spiritlm.engine.optimizer import build_optimizer, step_if_finite
from spiritlm.engine.parallel import place
from spiritlm.engine.passes import Passes
from spiritlm.engine.plan import flops_per_token
from spiritlm.engine.recipe import TrainerRecipe
from spiritlm.engine.weights import Start
from spiritlm.errors import InputError, Stopped
from spiritlm.run.checkpoints import Checkpoints
from spiritlm.run.device import warn_of_emulated_bf16
from spiritlm.run.metrics import Metrics
from spiritlm.run.progress import progress
from spiritlm.run.signals import StopFlag
from spiritlm.run.stage import is_main_process

NextIds = Callable[[Sequence[PackedSample]], np.ndarray]
"""`Passes.next_ids`."""
Samples = Callable[[int, NextIds], None]
"""What a program does with a model in training: called with the step, on every rank."""


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
        start: Start,
        samples: Samples | None = None,
    ) -> None:
        """`vocabulary_size`: rows of the embedding, padding included. `start`: called only where there is no
        checkpoint. `samples`: called after every evaluation. Raises `InputError` where the ranks cannot share the
        model or a step."""
        recipe.require_layout(dist.get_world_size(), vocabulary_size)
        self.recipe, self.config, self.vocabulary_hash = recipe, recipe.training, vocabulary_hash
        self.place = place()
        if self.config.precision == "bf16" and dist.get_rank() == 0:
            warn_of_emulated_bf16(device())
        bare_chunks = build_chunks(recipe.model, vocabulary_size, self.config.precision, recipe.parallel)
        for chunk in bare_chunks:
            chunk.z_loss = self.config.z_loss
        self.checkpoints = Checkpoints(recipe.out / "checkpoints", recipe.checkpoint)
        self._start = claimed(self.checkpoints)
        if self._start is None:
            start(bare_chunks)
        overlap = recipe.parallel.overlap and self.place.data_ranks * self.place.context_ranks > 1
        self.chunks = wrap_data_parallel(bare_chunks, overlap)
        self.optimizer = build_optimizer(recipe.optimizer, self.config.precision, self.chunks)
        self.batches = StepBatches(dataset, self.config.global_batch_size, self.config.micro_batch_size, self.place)
        self.passes = Passes(self.chunks, self.place, self.config.loss_weights)
        self.dev_batches = evaluation_batches(dev, self.config.micro_batch_size, self.place, self.passes.multiple)
        self.writer = CheckpointWriter(self.checkpoints)
        self.progress = Progress()
        self._samples = samples
        self._tokens_per_step = self.config.global_batch_size * self.config.sequence_length
        flops = flops_per_token(recipe.model, vocabulary_size, self.config.sequence_length)
        self._meter = Meter(self._tokens_per_step, flops, dist.get_world_size())
        self._spikes = Spikes()

    def run(self) -> dict[str, Any]:
        """Train to the last step, from the newest checkpoint where there is one. Returns the counts of the run.

        Raises `Stopped` once a stop signal has been answered with a checkpoint, and `InputError` after
        `max_nonfinite_steps` steps in a row without a finite loss and gradient.
        """
        self._resume()
        try:
            self._train_to_the_end()
        except InputError:
            self.writer.finish()  # what is being written is good
            raise
        return self._counts()

    def _train_to_the_end(self) -> None:
        first, steps = self.progress.step, self.config.steps
        with (
            StopFlag() as stop,
            Metrics(self.recipe.out, self.recipe.trackers, first) as metrics,
            progress("train", steps, first) as bar,
            self.batches.reading_ahead(),
        ):
            for step in range(first, steps):
                with self._traced(step + 1):
                    row = self.train_step(step)
                self._log(metrics, row)
                bar.advance(1, f"loss {row['loss']:.3f}" if "loss" in row else "step skipped")
                self._evaluate_if_due(metrics)
                self.writer.poll()
                stopped = stop.agreed() and step + 1 < steps
                if stopped or step + 1 == steps or self.checkpoints.due(step + 1):
                    self._save()
                if stopped:
                    self.writer.finish()
                    raise Stopped(f"at step {step + 1} of {steps}; run the same command again to continue")
            self.writer.finish()

    def train_step(self, step: int) -> dict[str, float]:
        """One update, or a skipped one. Returns the row for the log."""
        started = time.perf_counter()
        batches = self.batches.of_step(step)
        lr = self.recipe.optimizer.lr * self.recipe.schedule.factor(step, self.config.steps)
        for chunk in self.chunks:
            chunk.zero_grad_buffer()
        self.optimizer.zero_grad()
        losses = self.passes.forward_backward(batches)
        updated, norm = step_if_finite(self.optimizer, lr, losses["loss"])
        self.progress.step = step + 1
        self._meter.add(time.perf_counter() - started, self.batches.seconds_waited)
        if not updated:
            self._report_nonfinite(step)
        self._count_nonfinite(updated)
        return {**losses, "lr": lr, "grad_norm": norm} if updated else self._skipped_row(step, lr)

    @contextmanager
    def _traced(self, step: int) -> Iterator[None]:
        """Record the step where the recipe's `profile` says so, and write what was recorded after the last."""
        first, last = self.recipe.profile or (0, 0)
        if step == first:
            self._profiler = torch.profiler.profile()
            self._profiler.start()
        yield
        if step == last and hasattr(self, "_profiler"):
            self._profiler.stop()
            self._profiler.export_chrome_trace(str(self.recipe.out / f"trace-{dist.get_rank()}.json"))

    def _report_nonfinite(self, step: int) -> None:
        """Name the documents of a step in `nonfinite.jsonl`."""
        if is_main_process():
            rows = {str(row): self.batches.dataset.documents(row) for row in self._rows(step)}
            with (self.recipe.out / "nonfinite.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step + 1, "documents": rows}) + "\n")

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
        rows = self._rows(step)
        return {"skipped": 1, "first_position": rows[0], "last_position": rows[-1], "lr": lr}

    def _rows(self, step: int) -> range:
        """Dataset positions of all ranks in a step."""
        return range(step * self.config.global_batch_size, (step + 1) * self.config.global_batch_size)

    def _log(self, metrics: Metrics, row: dict[str, float]) -> None:
        step = self.progress.step
        if "loss" in row and (height := self._spikes.add(row["loss"])):
            row["spike"] = height
        notable = "skipped" in row or "spike" in row
        if step % self.config.log_every == 0 or step == self.config.steps or notable:
            shares = self.batches.dataset.shares(step * self.config.global_batch_size)
            row |= {f"share_{name}": share for name, share in shares.items()}
            row = {"tokens": step * self._tokens_per_step, **row, **self._meter.read()}
            metrics.log(step, **row, nonfinite_steps=self.progress.nonfinite_steps, memory_bytes=memory_bytes())

    def _evaluate_if_due(self, metrics: Metrics) -> None:
        step, every = self.progress.step, self.config.evaluate_every
        if step == self.config.steps or (every and step % every == 0):
            self.progress.dev = self.evaluate()
            dev = {f"dev_{name}": value for name, value in self.progress.dev.items()}
            metrics.log(step, tokens=step * self._tokens_per_step, **dev)
            if self._samples:
                with self.passes.whole_weights():
                    self._samples(step, self.passes.next_ids)

    def evaluate(self) -> dict[str, float]:
        """Losses on the dev rows, nats a token: `loss` and `loss_NAME` of each modality. Collective."""
        return self.passes.evaluate(self.dev_batches)

    def _resume(self) -> None:
        if self._start is None:
            return
        state = load_checkpoint(self._start, self.chunks, self.optimizer)
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
        with self.passes.whole_weights():
            self.writer.save(self.progress.step, self.chunks, self.optimizer, state)

    def _counts(self) -> dict[str, Any]:
        return {
            "steps": self.progress.step,
            "tokens": self.progress.step * self._tokens_per_step,
            "tokens_per_second": round(self._meter.overall(), 1),
            "nonfinite_steps": self.progress.nonfinite_steps,
            "parameters": self._parameters(),
            "parallel": {**self.recipe.parallel.model_dump(), "data": self.place.data_ranks},
            "attention": attention_name(),
            "dev": self.progress.dev,
        }

    def _parameters(self) -> int:
        """Of the whole model. Collective."""
        from megatron.core import parallel_state

        held = sum(
            parameter.numel()
            for chunk in self.chunks
            for name, parameter in bare(chunk).named_parameters()
            if parallel_state.get_tensor_model_parallel_rank() == 0 or parameter.tensor_model_parallel
            if not (name == "output_layer.weight" and self.recipe.model.tie_embeddings)  # a copy of the embedding
        )
        count = torch.tensor(held, device=device())
        dist.all_reduce(count, group=parallel_state.get_model_parallel_group())
        return int(count)
