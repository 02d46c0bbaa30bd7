"""What a run will need, from its recipe alone: parameters, memory a rank, work, hours.

Memory is that of weights, gradients, optimizer and activations; libraries and what the allocator leaves unused come
on top (3 to 6 GB on a GPU, which `RESERVED` stands for).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from spiritlm.engine.loss import LOGITS_AT_ONCE
from spiritlm.engine.model import ModelConfig
from spiritlm.engine.parallel import ParallelConfig
from spiritlm.engine.recipe import TrainerRecipe

RESERVED = 5 * 10**9


@dataclass(frozen=True)
class Gpu:
    memory: float
    """Bytes."""
    peak: float
    """Dense bf16 FLOP/s, of the maker's data sheet."""


GPUS = {
    "a100-40": Gpu(40e9, 312e12),
    "a100": Gpu(80e9, 312e12),
    "h100": Gpu(80e9, 989e12),
    "h200": Gpu(141e9, 989e12),
    "b200": Gpu(180e9, 2250e12),
    "l40s": Gpu(48e9, 362e12),
    "rtx4090": Gpu(24e9, 165e12),
}


def layer_parameters(model: ModelConfig) -> tuple[int, int]:
    """Parameters of a layer: those that tensor-parallel ranks share, and those that each holds whole."""
    heads = model.heads + 2 * model.kv_heads
    shared = heads * model.head_size * (model.hidden_size + model.qkv_bias)
    shared += model.heads * model.head_size * model.hidden_size
    shared += 3 * model.hidden_size * model.ffn_hidden_size
    return shared, 2 * model.hidden_size + 2 * model.head_size * model.qk_norm


def parameters(model: ModelConfig, vocabulary_size: int) -> int:
    """Of the whole model. `vocabulary_size`: rows of the embedding, padding included."""
    embeddings = (1 if model.tie_embeddings else 2) * vocabulary_size * model.hidden_size
    return embeddings + model.layers * sum(layer_parameters(model)) + model.hidden_size


def parameters_of_rank(model: ModelConfig, vocabulary_size: int, parallel: ParallelConfig) -> int:
    """Of the rank that holds most: one of the first pipeline stage, or of the last."""
    shared, whole = layer_parameters(model)
    layers = model.layers // parallel.pipeline * (shared // parallel.tensor + whole)
    embedding = vocabulary_size // parallel.tensor * model.hidden_size
    both = embedding if model.tie_embeddings else 2 * embedding
    ends = both + model.hidden_size if parallel.pipeline == 1 else embedding + model.hidden_size
    return layers + ends


def flops_per_token(model: ModelConfig, vocabulary_size: int, sequence_length: int) -> float:
    """Of a training step, forward and backward: six a weight that multiplies, and attention over the earlier half of
    the row. Recomputation is not counted, so a share of the peak made of it is the model's (MFU)."""
    weights = model.layers * layer_parameters(model)[0] + vocabulary_size * model.hidden_size
    return 6 * weights + 6 * model.layers * model.heads * model.head_size * sequence_length


@dataclass(frozen=True)
class Memory:
    """Bytes of the rank that holds most."""

    weights: float
    gradients: float
    optimizer: float
    activations: float

    @property
    def total(self) -> float:
        return self.weights + self.gradients + self.optimizer + self.activations

    def fits(self, gpu: Gpu) -> bool:
        return self.total + RESERVED <= gpu.memory


def memory(recipe: TrainerRecipe, vocabulary_size: int, data_ranks: int) -> Memory:
    """`data_ranks`: data-parallel ranks, which share the optimizer's state together with the context-parallel ones."""
    held = parameters_of_rank(recipe.model, vocabulary_size, recipe.parallel)
    half = recipe.training.precision == "bf16"
    return Memory(
        weights=(2 if half else 4) * held,
        gradients=4 * held,
        optimizer=(12 if half else 8) * held / (data_ranks * recipe.parallel.context),
        activations=activation_bytes(recipe, vocabulary_size),
    )


def activation_bytes(recipe: TrainerRecipe, vocabulary_size: int) -> float:
    """Of the first pipeline stage with all its micro-batches under way, and of a micro-batch's loss."""
    model, parallel, training = recipe.model, recipe.parallel, recipe.training
    width = 2 if training.precision == "bf16" else 4
    tokens = training.micro_batch_size * training.sequence_length / parallel.context
    between = tokens * width / (parallel.tensor if parallel.sequence else 1)
    inside = tokens * width / parallel.tensor
    heads = 2 * model.heads + 2 * model.kv_heads
    layer = 4 * between * model.hidden_size + inside * (heads * model.head_size + 4 * model.ffn_hidden_size)
    kept = between * model.hidden_size if parallel.recompute == "layers" else layer
    held = kept * model.layers  # one micro-batch a stage under way, in the stage's share of the layers
    if parallel.virtual_stages > 1:
        held *= 1 + (parallel.pipeline - 1) / (parallel.pipeline * parallel.virtual_stages)
    rows = vocabulary_size / parallel.tensor
    logits = min(tokens * rows, LOGITS_AT_ONCE)
    gradient = rows * model.hidden_size * (width if tokens * rows <= LOGITS_AT_ONCE else 4 + 2 * width)
    return held + (layer if parallel.recompute == "layers" else 0) + 3 * 4 * logits + gradient


@dataclass(frozen=True)
class Plan:
    parameters: int
    data_ranks: int
    memory: Memory
    tokens: int
    """Of the whole run."""
    flops: float
    """Of the whole run."""
    tokens_per_second: float
    """Of all GPUs."""
    hours: float
    bubble: float
    """Share of the time that a pipeline rank waits for others."""


def plan(recipe: TrainerRecipe, vocabulary_size: int, gpus: int, gpu: Gpu, mfu: float) -> Plan:
    """`mfu`: assumed share of the peak. Raises `InputError` where the GPUs cannot share the model, a row or a step."""
    recipe.require_layout(gpus, vocabulary_size)
    data_ranks = recipe.parallel.data_parallel(gpus)
    training, parallel = recipe.training, recipe.parallel
    tokens = training.steps * training.global_batch_size * training.sequence_length
    per_token = flops_per_token(recipe.model, vocabulary_size, training.sequence_length)
    rate = gpus * gpu.peak * mfu / per_token
    batches = training.global_batch_size // (training.micro_batch_size * data_ranks)
    idle = (parallel.pipeline - 1) / parallel.virtual_stages
    return Plan(
        parameters=parameters(recipe.model, vocabulary_size),
        data_ranks=data_ranks,
        memory=memory(recipe, vocabulary_size, data_ranks),
        tokens=tokens,
        flops=tokens * per_token,
        tokens_per_second=rate,
        hours=tokens / rate / 3600,
        bubble=idle / (idle + batches),
    )


def human(number: float, unit: str = "") -> str:
    """With a thousand's prefix: 6.74e9 is `6.74 G`."""
    power = min(7, max(0, int(math.log10(max(number, 1)) // 3)))
    prefix = ("", "k", "M", "G", "T", "P", "E", "Z")[power]
    return f"{number / 1000**power:.3g} {prefix}{unit}".rstrip()
