"""How the ranks of a run share its model and its rows.

One process alone, or what torchrun started. A rank's place follows megatron-core's order: tensor, context, data,
pipeline, the first varying fastest, so that the ranks that share a layer sit on one machine.
"""

from __future__ import annotations

import gc
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

import torch
import torch.distributed as dist
from pydantic import PositiveInt, model_validator

from spiritlm.config import Recipe
from spiritlm.engine.backend import install_backend
from spiritlm.engine.optimizer_fixes import install_optimizer_fixes
from spiritlm.errors import InputError
from spiritlm.run.ranks import rendezvous, world_size


class ParallelConfig(Recipe):
    """Ranks along each axis; what they leave of the world is data parallel. Losses do not depend on any of it."""

    tensor: PositiveInt = 1
    """Ranks that share every matrix."""
    sequence: bool = True
    """Whether tensor-parallel ranks share what lies between the matrices too, along the row (sequence parallel)."""
    pipeline: PositiveInt = 1
    """Ranks that share the layers, one run of them each."""
    virtual_stages: PositiveInt = 1
    """Runs of layers that each pipeline rank holds, in turns; more of them leave ranks idle for less time."""
    context: PositiveInt = 1
    """Ranks that share a row, two pieces of it each, one from either end."""
    overlap: bool = True
    """Whether data-parallel ranks exchange gradients and weights while they compute."""
    transformer_engine: bool = False
    """Whether Transformer Engine's linear layers do the products. They hold the same weights under the same names."""
    recompute: Literal["none", "layers"] = "none"
    """`layers` keeps the input of every layer and computes the rest again in the backward pass: a third more work,
    far less memory."""

    @model_validator(mode="after")
    def _check(self) -> ParallelConfig:
        if self.virtual_stages > 1 and self.pipeline == 1:
            raise InputError("parallel.virtual_stages: expected 1 where parallel.pipeline is 1")
        return self

    @property
    def ranks_of_a_model(self) -> int:
        return self.tensor * self.pipeline * self.context

    def data_parallel(self, world_size: int) -> int:
        """Raises `InputError` where `world_size` ranks cannot be shared out."""
        ranks, left = divmod(world_size, self.ranks_of_a_model)
        if left or not ranks:
            raise InputError(
                f"parallel: tensor x pipeline x context = {self.tensor} x {self.pipeline} x {self.context}, expected a "
                f"divisor of the number of ranks, {world_size}"
            )
        return ranks


def require_divisor(number: int, name: str, by: int, field_name: str) -> None:
    """Raises `InputError` unless `field_name`, which is `by`, divides `name`, which is `number`."""
    if number % by:
        raise InputError(f"{field_name} = {by}: expected a divisor of {name} = {number}")


@contextmanager
def process_groups(seed: int, parallel: ParallelConfig | None = None) -> Iterator[None]:
    """megatron-core's process groups and random states while the block runs; nccl with CUDA, else gloo.

    Under torchrun every process takes part; elsewhere this process is the only one and no port is opened.
    """
    parallel = parallel or ParallelConfig()
    parallel.data_parallel(world_size())
    if parallel.transformer_engine and find_spec("transformer_engine") is None:
        raise InputError("parallel.transformer_engine: the package transformer_engine is not installed")
    os.environ.setdefault("CUDA_DEVICE_MAX_CONNECTIONS", "1")
    install_backend()
    install_optimizer_fixes()
    from megatron.core import parallel_state, tensor_parallel

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    if world_size() > 1:
        store, rank, ranks = rendezvous()
        store = dist.PrefixStore(f"groups-{next(_formed)}", store)
        dist.init_process_group(backend, store=store, rank=rank, world_size=ranks)
    else:
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    try:
        parallel_state.initialize_model_parallel(
            tensor_model_parallel_size=parallel.tensor,
            pipeline_model_parallel_size=parallel.pipeline,
            virtual_pipeline_model_parallel_size=parallel.virtual_stages if parallel.virtual_stages > 1 else None,
            context_parallel_size=parallel.context,
        )
        torch.manual_seed(seed)
        tensor_parallel.model_parallel_cuda_manual_seed(seed)
        gc.freeze()  # megatron-core collects garbage at every save: a second each time, nearly all of it for modules
        yield
    finally:
        gc.unfreeze()
        parallel_state.destroy_model_parallel()
        dist.destroy_process_group()


_formed = itertools.count()
"""Every time that groups are formed they have keys of their own in the store: it outlives them, torchrun's always and
others until the last group is collected as garbage, and who is given the addresses of earlier groups in it fails with
"Gloo connectFullMesh ... Connection refused"."""


@dataclass(frozen=True)
class Place:
    """Which rows of a step, and which part of each, a rank computes."""

    data_rank: int = 0
    data_ranks: int = 1
    context_rank: int = 0
    context_ranks: int = 1


def place() -> Place:
    """Of this rank, inside `process_groups`."""
    from megatron.core import parallel_state

    return Place(
        parallel_state.get_data_parallel_rank(),
        parallel_state.get_data_parallel_world_size(),
        parallel_state.get_context_parallel_rank(),
        parallel_state.get_context_parallel_world_size(),
    )
