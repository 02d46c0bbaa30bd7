"""How a run stands, from its folder alone: nothing is asked of SLURM or of the run's processes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spiritlm.errors import InputError
from spiritlm.run.checkpoints import CheckpointPolicy, Checkpoints
from spiritlm.run.files import read_json
from spiritlm.run.metrics import whole_rows
from spiritlm.run.stage import BEGUN_FILE, FAILED_FILE, STAGE_FILE, STOPPED_FILE

STARTS_FILE = "starts.jsonl"
"""One line a start under SLURM, written by the batch script: job, restart, step, nodes, at."""


@dataclass(frozen=True)
class Status:
    stage: str
    state: str
    """`done`, `stopped: WHY`, `failed: WHY`, `begun`, or `submitted`, where nothing has begun yet."""
    seconds_silent: float
    """Since a file of the run last changed."""
    step: int | None = None
    steps: int | None = None
    tokens: int | None = None
    tokens_per_second: float | None = None
    loss: float | None = None
    checkpoint: int | None = None
    """Step of the newest complete one."""
    shards: tuple[int, int] | None = None
    """Finished, and of how many."""
    starts: int = 0
    """Of jobs under SLURM."""
    job: int | None = None
    """Of the last start under SLURM."""
    nodes: str = ""
    """Of the last start under SLURM."""
    rejects: int = 0

    @property
    def seconds_left(self) -> float | None:
        """At the pace of the last steps; None where it is not known."""
        if self.state != "begun" or not (self.step and self.steps and self.tokens and self.tokens_per_second):
            return None
        return (self.steps - self.step) * self.tokens / self.step / self.tokens_per_second


def status(folder: Path) -> Status:
    """Raises `InputError` where `folder` is that of no stage."""
    record, state = _state(folder)
    checkpoints = Checkpoints(folder / "checkpoints", CheckpointPolicy())
    newest = checkpoints.newest()
    starts = whole_rows(folder / STARTS_FILE)
    rejects = folder / "rejects.jsonl"
    return Status(
        stage=record.get("stage", "run"),
        state=state,
        seconds_silent=time.time() - max(_signs(folder)),
        steps=record.get("recipe", {}).get("training", {}).get("steps"),
        checkpoint=checkpoints.state(newest)["step"] if newest else None,
        shards=_shards(folder),
        starts=len(starts),
        job=int(starts[-1]["job"]) if starts else None,
        nodes=str(starts[-1]["nodes"]) if starts else "",
        rejects=len(rejects.read_bytes().splitlines()) if rejects.is_file() else 0,
        **_progress(folder),
    )


def _state(folder: Path) -> tuple[dict[str, Any], str]:
    if (folder / STAGE_FILE).is_file():
        return read_json(folder / STAGE_FILE), "done"
    begun = folder / BEGUN_FILE
    if not any((folder / file).is_file() for file in (BEGUN_FILE, STARTS_FILE, "submit.sbatch")):
        raise InputError(f"{folder}: expected the folder of a stage that has begun or was submitted")
    record = read_json(begun) if begun.is_file() else {}
    for name, file in (("stopped", STOPPED_FILE), ("failed", FAILED_FILE)):
        if (folder / file).is_file():
            return record, f"{name}: {read_json(folder / file)['why']}"
    return record, "begun" if record else "submitted"


def _progress(folder: Path) -> dict[str, Any]:
    """The last step that was logged."""
    rows = [row for row in whole_rows(folder / "metrics.jsonl") if "loss" in row]
    names = ("step", "tokens", "tokens_per_second", "loss")
    return {name: rows[-1][name] for name in names if name in rows[-1]} if rows else {}


def _shards(folder: Path) -> tuple[int, int] | None:
    """Of a corpus job: datatrove leaves a file for each shard that is finished."""
    log = folder / "shards" / "log"
    if not (log / "executor.json").is_file():
        return None
    return len(list((log / "completions").glob("*"))), int(read_json(log / "executor.json")["world_size"])


def _signs(folder: Path) -> Iterator[float]:
    """When files of the run last changed, seconds since the epoch."""
    for path in (folder, *folder.glob("*"), *folder.glob("*/*")):
        with suppress(OSError):  # a checkpoint may be pruned meanwhile
            yield path.stat().st_mtime
