"""What the programs that train the language model ask for."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from spiritlm.config import Recipe
from spiritlm.corpus.datasets import MAIN_STORE, SourceRecipe
from spiritlm.engine.model import ModelConfig, Precision, require_shared
from spiritlm.engine.optimizer import OptimizerConfig, ScheduleConfig
from spiritlm.engine.parallel import ParallelConfig, require_divisor
from spiritlm.engine.sizes import with_size
from spiritlm.errors import InputError
from spiritlm.run.checkpoints import CheckpointPolicy
from spiritlm.run.metrics import Tracker
from spiritlm.run.stage import Inputs, StageRecipe
from spiritlm.tokens.interleave import MODALITIES


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
    loss_weights: dict[str, float] = Field(default_factory=dict)
    """What a token of a modality weighs in the loss, by `text`, `semantic`, `pitch` and `style`; 1 where nothing is
    said. Losses are reported without weights."""
    z_loss: float = Field(default=0.0, ge=0)
    """Weight of the squared log of the softmax's normaliser, which keeps it near 1 (PaLM, section 5: 1e-4)."""

    @model_validator(mode="after")
    def _check(self) -> TrainingConfig:
        self.require_multiple_of(ranks=1)
        if unknown := set(self.loss_weights) - set(MODALITIES):
            raise InputError(f"training.loss_weights: {min(unknown)!r}, expected some of {', '.join(MODALITIES)}")
        return self

    def require_multiple_of(self, ranks: int) -> None:
        """Raises `InputError` where `ranks` cannot share a step in whole micro-batches."""
        if self.global_batch_size % (self.micro_batch_size * ranks):
            raise InputError(
                f"training.global_batch_size = {self.global_batch_size}: expected a multiple of micro_batch_size x "
                f"data-parallel ranks = {self.micro_batch_size} x {ranks}"
            )


class SamplesConfig(Recipe):
    """What the model says of dev documents, at every evaluation, in `samples.jsonl`."""

    count: NonNegativeInt = 0
    """How many documents are told on."""
    tokens: PositiveInt = 64
    """New tokens of each, and the most of its prompt; each costs a pass through the model."""


class TrainerRecipe(StageRecipe):
    """What every program that trains the language model asks for."""

    free: ClassVar[frozenset[str]] = StageRecipe.free | {
        "parallel", "checkpoint", "trackers", "training.micro_batch_size", "training.log_every",
        "training.evaluate_every", "samples",
    }  # fmt: skip
    model: ModelConfig
    training: TrainingConfig
    parallel: ParallelConfig = ParallelConfig()
    optimizer: OptimizerConfig
    schedule: ScheduleConfig = ScheduleConfig()
    checkpoint: CheckpointPolicy = CheckpointPolicy()
    trackers: tuple[Tracker, ...] = ()
    samples: SamplesConfig = SamplesConfig()
    profile: tuple[PositiveInt, PositiveInt] | None = None
    """First and last step to trace into `trace-RANK.json`, for chrome://tracing or Perfetto."""

    @model_validator(mode="after")
    def _check(self) -> TrainerRecipe:
        if self.training.sequence_length > self.model.max_position_embeddings:
            raise InputError(
                f"training.sequence_length = {self.training.sequence_length}: expected at most "
                f"model.max_position_embeddings = {self.model.max_position_embeddings}"
            )
        if self.profile and not self.profile[0] <= self.profile[1] <= self.training.steps:
            steps = f"first and last of steps 1 to {self.training.steps}"
            raise InputError(f"profile = {list(self.profile)}: expected {steps}")
        return self

    def require_layout(self, world_size: int, vocabulary_size: int) -> None:
        """Raises `InputError` where `world_size` ranks cannot share the model, a row or a step.

        `vocabulary_size`: rows of the embedding, padding included.
        """
        ranks = self.parallel.data_parallel(world_size)
        require_shared(self.model, self.parallel, vocabulary_size)
        pieces = 2 * self.parallel.context if self.parallel.context > 1 else 1
        pieces *= self.parallel.tensor if self.parallel.sequence else 1
        length = self.training.sequence_length
        require_divisor(length, "training.sequence_length", pieces, "2 x parallel.context x parallel.tensor")
        self.training.require_multiple_of(ranks)
        batches = self.training.global_batch_size // (self.training.micro_batch_size * ranks)
        if self.parallel.virtual_stages > 1 and batches % self.parallel.pipeline:
            raise InputError(
                f"parallel.virtual_stages: {batches} micro-batches a step and data rank, expected a multiple of "
                f"parallel.pipeline = {self.parallel.pipeline}"
            )


class PretrainRecipe(TrainerRecipe):
    """Pretraining on stores of units and text.

    What `model` leaves out is taken from `init_from`, and what is still missing follows from `size`.
    """

    init_from: Path | None = None
    """Whose weights to start from: a Hugging Face folder of the Llama, Qwen2, Qwen3 or GLM family, whose text ids must
    be those of the stores' text tokenizer, or a run (pretrain, import hf) with the stores' vocabulary. None draws them.
    """
    size: PositiveInt | None = None
    """One dial for a model from scratch: its number of layers, from which shape, learning rate, batch and length of the
    run follow where the recipe leaves them out (see `engine/sizes.py`)."""
    stores: Inputs
    """Stores by the names that the mixture uses; the dev split of `main` is evaluated on."""
    mixture: tuple[SourceRecipe, ...] = tuple(SourceRecipe(kind=kind) for kind in ("text", "speech", "spans"))
    """Spirit LM (table 2): a third each of text, speech and both interleaved."""

    @model_validator(mode="before")
    @classmethod
    def _derive(cls, fields: Any) -> Any:
        if not isinstance(fields, dict):
            return fields
        size, start = fields.get("size"), fields.get("init_from")
        if size and start:
            raise InputError("size: expected for a model from scratch, not with init_from")
        if size is not None:
            if not isinstance(size, int) or size < 1:
                raise InputError(f"size = {size!r}: expected a number of layers")
            fields = with_size(fields, size)
        required = {name for name, field in ModelConfig.model_fields.items() if field.is_required()}
        given = fields.get("model", {})
        if isinstance(start, (str, Path)) and isinstance(given, dict):
            from spiritlm.engine.start import is_run, shape_of  # seconds to import

            start, out = Path(start), Path(str(fields.get("out", "")))
            source = out if not start.is_dir() and is_run(out) else start  # what a run began with may be gone
            if source.is_dir() or not required <= set(given):
                fields = {**fields, "model": {**shape_of(source).model_dump(), **given}}
        return fields

    @model_validator(mode="after")
    def _check_stores(self) -> PretrainRecipe:
        if MAIN_STORE not in self.stores:
            raise InputError(f"stores: expected a store named {MAIN_STORE!r}, found {', '.join(self.stores) or 'none'}")
        return self
