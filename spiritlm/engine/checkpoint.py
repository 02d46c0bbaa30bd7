"""Checkpoints of model and optimizer in megatron-core's distributed format.

Weights, float32 main weights and Adam's moments are stored in the shape of the model, not of the ranks that held
them, so a checkpoint is read back under any other layout. Saving gathers them over the data-parallel ranks; what is
gathered is written by a process of its own while training goes on.
"""

from __future__ import annotations

import pickle
import queue
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch.distributed as dist

from spiritlm.errors import InputError, RunError
from spiritlm.run.checkpoints import Checkpoints
from spiritlm.run.files import atomic_path
from spiritlm.run.stage import is_main_process

T = TypeVar("T")


class CheckpointWriter:
    """Writes one checkpoint at a time, beside the training. Every method is collective."""

    def __init__(self, checkpoints: Checkpoints) -> None:
        from megatron.core.dist_checkpointing.strategies.async_utils import AsyncCallsQueue

        self.checkpoints = checkpoints
        self._calls = AsyncCallsQueue()
        self._step = 0

    def save(self, step: int, chunks: list[Any], optimizer: Any, state: dict[str, Any]) -> None:
        """Begin to write the checkpoint of `step`, once the one before is complete; `state` is kept as JSON.

        Raises `RunError` where either cannot be written; the complete ones stay.
        """
        self.finish()
        from megatron.core import dist_checkpointing

        self._step = step
        folder = _begun(self.checkpoints, step)

        def complete() -> None:
            _from_main(lambda: self.checkpoints.complete(step, state))

        with self._failures():
            content = _sharded_state(chunks, optimizer, is_loading=False)
            request = dist_checkpointing.save(content, str(folder), async_sharded_save=True)
            request.add_finalize_fn(complete)
            self._calls.schedule_async_request(request)

    def poll(self) -> None:
        """Complete what has been written since."""
        with self._failures():
            self._calls.maybe_finalize_async_calls(blocking=False)

    def finish(self) -> None:
        """Wait for what is being written."""
        with self._failures():
            self._calls.maybe_finalize_async_calls(blocking=True)
        dist.barrier()

    def _failures(self) -> AbstractContextManager[None]:
        return _failures(self.checkpoints, self._step)


@contextmanager
def _failures(checkpoints: Checkpoints, step: int) -> Iterator[None]:
    """What may go wrong while a checkpoint is written, as `RunError`."""
    from megatron.core.dist_checkpointing.core import CheckpointingException
    from torch.distributed.checkpoint.api import CheckpointException

    try:
        yield
    except (OSError, RuntimeError, CheckpointException, CheckpointingException) as error:
        reason = str(error).strip().splitlines()[-1]
        raise RunError(f"{checkpoints.root}: the checkpoint of step {step} was not written: {reason}") from error


def _begun(checkpoints: Checkpoints, step: int) -> Path:
    """The folder to write into, the same on every rank."""
    from megatron.core.dist_checkpointing.strategies import filesystem_async

    filesystem_async._results_queue = _Handover()
    return _from_main(lambda: checkpoints.begin(step))


class _Handover(queue.Queue[Any]):
    """What the process that writes reports to the one that trains, by way of a file.

    megatron-core keeps a third process for this, which outlives a run that is killed and holds its terminal; a pipe
    would block the writer once it is full.
    """

    def __init__(self) -> None:
        super().__init__()
        self._path = Path(tempfile.gettempdir()) / f"spiritlm-{uuid.uuid4()}"

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        with atomic_path(self._path) as temporary:
            temporary.write_bytes(pickle.dumps(item))

    def get_nowait(self) -> Any:
        if not self._path.is_file():
            raise queue.Empty
        item = pickle.loads(self._path.read_bytes())
        self._path.unlink()
        return item


def claimed(checkpoints: Checkpoints) -> Path | None:
    """The newest complete one, the same on every rank, of a folder that is this run's own from now on. Collective.

    Raises `RunError` where it cannot be written.
    """
    _from_main(checkpoints.claim)
    return _from_main(checkpoints.newest)


def load_checkpoint(folder: Path, chunks: list[Any], optimizer: Any) -> dict[str, Any]:
    """Load weights and optimizer of a complete checkpoint and return its `state` with `step`. Collective."""
    from megatron.core import dist_checkpointing

    loaded = dist_checkpointing.load(_sharded_state(chunks, optimizer, is_loading=True), str(folder))
    for name, chunk in _named(chunks):
        chunk.load_state_dict(loaded[name])
    optimizer.load_state_dict(loaded["optimizer"])
    return Checkpoints.state(folder)


def load_main_weights(folder: Path, chunks: list[Any]) -> None:
    """Load the float32 main weights of checkpoint `folder` into bare `GPTModel`s. Collective."""
    from megatron.core import dist_checkpointing

    loaded = dist_checkpointing.load(_main_weights(chunks), str(folder))
    for name, chunk in _named(chunks):
        chunk.load_state_dict(loaded[name])


def save_main_weights(checkpoints: Checkpoints, step: int, chunks: list[Any], state: dict[str, Any]) -> None:
    """Write what `load_main_weights` reads, from bare float32 `GPTModel`s, as the checkpoint of `step`. Collective.

    Raises `RunError` where it cannot be written.
    """
    from megatron.core import dist_checkpointing

    folder = _begun(checkpoints, step)
    with _failures(checkpoints, step):
        dist_checkpointing.save(_main_weights(chunks), str(folder))
    _from_main(lambda: checkpoints.complete(step, state))


def _main_weights(chunks: list[Any]) -> dict[str, Any]:
    """The weights under the names that the optimizer gives its float32 copies."""
    return {
        name: {
            key: replace(part, key=f"optimizer.state.param.{part.key}") if _holds_weight(part) else part
            for key, part in chunk.sharded_state_dict(metadata=_metadata()).items()
        }
        for name, chunk in _named(chunks)
    }


def _holds_weight(part: Any) -> bool:
    from megatron.core.dist_checkpointing.mapping import ShardedTensor, ShardedTensorFactory

    return isinstance(part, ShardedTensor | ShardedTensorFactory)


def _sharded_state(chunks: list[Any], optimizer: Any, is_loading: bool) -> dict[str, Any]:
    weights = {name: chunk.sharded_state_dict(metadata=_metadata()) for name, chunk in _named(chunks)}
    state = optimizer.sharded_state_dict(weights, is_loading=is_loading, metadata=_metadata())
    if state.get("param_state", weights) is None:  # gathered on another rank
        del state["param_state"]
    return {**weights, "optimizer": state}


def _metadata() -> dict[str, Any]:
    """How the optimizer's state is stored; megatron-core's default refuses to be read back."""
    from megatron.core import parallel_state

    return {
        "distrib_optim_sharding_type": "fully_reshardable",
        "distrib_optim_fully_reshardable_mem_efficient": True,  # gathered on one data-parallel rank, not on all
        "dp_cp_group": parallel_state.get_data_parallel_group(with_context_parallel=True),
        "singleton_local_shards": False,
    }


def _named(chunks: list[Any]) -> list[tuple[str, Any]]:
    """The bare models of the chunks; a name tells virtual stages of one rank apart, and is in no checkpoint."""
    return [(f"model{number}", bare(chunk)) for number, chunk in enumerate(chunks)]


def bare(chunk: Any) -> Any:
    """A `GPTModel` without what it is wrapped in."""
    while hasattr(chunk, "module"):
        chunk = chunk.module
    return chunk


def _from_main(value: Callable[[], T]) -> T:
    """What rank 0 computes, on every rank; where it fails, all do."""
    box: list[Any] = [None, None]
    if is_main_process():
        try:
            box[0] = value()
        except (OSError, InputError, RunError) as error:
            box[1] = error
    dist.broadcast_object_list(box, src=0)
    if box[1] is not None:
        raise RunError(str(box[1])) from box[1]
    answer: T = box[0]
    return answer
