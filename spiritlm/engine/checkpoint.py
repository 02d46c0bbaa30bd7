"""Checkpoints of model and optimizer in megatron-core's distributed format.

Weights, float32 main weights and Adam's moments are stored in the shape of the model, not of the ranks that held
them, so a checkpoint is read back under another number of ranks. Saving gathers them over the data-parallel ranks
and blocks training meanwhile.
"""

from __future__ import annotations

import queue
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch.distributed as dist

from spiritlm.run.checkpoints import Checkpoints
from spiritlm.run.stage import is_main_process


def save_checkpoint(checkpoints: Checkpoints, step: int, model: Any, optimizer: Any, state: dict[str, Any]) -> None:
    """Write the checkpoint of `step`; `state` is kept as JSON. Collective."""
    from megatron.core import dist_checkpointing

    folder = _from_main(checkpoints.begin(step) if is_main_process() else None)
    _collect_writes_here()
    dist_checkpointing.save(_sharded_state(model, optimizer, is_loading=False), str(folder))
    if is_main_process():
        checkpoints.complete(step, state)
    dist.barrier()


def load_newest_checkpoint(checkpoints: Checkpoints, model: Any, optimizer: Any) -> dict[str, Any] | None:
    """Load the newest complete checkpoint, if there is one, and return its `state` with `step`. Collective."""
    from megatron.core import dist_checkpointing

    folder = _from_main(checkpoints.newest() if is_main_process() else None)
    if folder is None:
        return None
    loaded = dist_checkpointing.load(_sharded_state(model, optimizer, is_loading=True), str(folder))
    _bare(model).load_state_dict(loaded["model"])
    optimizer.load_state_dict(loaded["optimizer"])
    return checkpoints.state(folder)


def load_main_weights(folder: Path, model: Any) -> None:
    """Load the float32 main weights of checkpoint `folder` into `model`, a bare float32 `GPTModel`. Collective."""
    from megatron.core import dist_checkpointing

    state = {
        name: replace(part, key=f"optimizer.state.param.{part.key}") if _holds_weight(part) else part
        for name, part in model.sharded_state_dict(metadata=_metadata()).items()
    }
    model.load_state_dict(dist_checkpointing.load({"model": state}, str(folder))["model"])


def _collect_writes_here() -> None:
    """megatron-core starts a process to collect what its writers report. It outlives a run that is killed, and holds
    its terminal; a save that blocks needs none."""
    from megatron.core.dist_checkpointing.strategies import filesystem_async

    filesystem_async._results_queue = queue.Queue()


def _holds_weight(part: Any) -> bool:
    from megatron.core.dist_checkpointing.mapping import ShardedTensor, ShardedTensorFactory

    return isinstance(part, ShardedTensor | ShardedTensorFactory)


def _sharded_state(model: Any, optimizer: Any, is_loading: bool) -> dict[str, Any]:
    weights = _bare(model).sharded_state_dict(metadata=_metadata())
    return {
        "model": weights,
        "optimizer": optimizer.sharded_state_dict(weights, is_loading=is_loading, metadata=_metadata()),
    }


def _metadata() -> dict[str, Any]:
    """How the optimizer's state is stored; megatron-core's default refuses to be read back."""
    from megatron.core import parallel_state

    group = parallel_state.get_data_parallel_group(with_context_parallel=True)
    return {"distrib_optim_sharding_type": "fully_reshardable", "dp_cp_group": group, "singleton_local_shards": False}


def _bare(model: Any) -> Any:
    while hasattr(model, "module"):
        model = model.module
    return model


def _from_main(value: Any) -> Any:
    """`value` of rank 0, on every rank."""
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]
