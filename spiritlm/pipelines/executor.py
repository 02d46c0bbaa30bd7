"""Run a datatrove pipeline over the shards of a corpus: in processes here, or as a SLURM array, or on Ray.

A shard is one datatrove task: rank `r` of `n`. datatrove marks each finished shard under `FOLDER/completions/`, so
the same command continues what was stopped. Locally, shards run in worker processes that keep their models from one
shard to the next, and a worker that dies ends the run instead of being waited for.
"""

from __future__ import annotations

import io
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stderr
from functools import partial
from pathlib import Path
from typing import Any, Literal

from datatrove.executor.base import PipelineExecutor
from datatrove.executor.local import LocalPipelineExecutor
from datatrove.executor.slurm import SlurmPipelineExecutor
from datatrove.pipeline.base import PipelineStep
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from spiritlm.config import Recipe
from spiritlm.errors import InputError, RunError, Stopped
from spiritlm.run.files import read_json
from spiritlm.run.progress import progress
from spiritlm.run.slurm import JOB_FILE, queued_job, write_job
from spiritlm.run.workers import map_in_workers


class _Array(SlurmPipelineExecutor):
    def launch_merge_stats(self) -> None:
        """Not done: a job that waits for the statistics of all shards waits for ever once one has failed."""


class ExecutorRecipe(Recipe):
    """Where shards run."""

    kind: Literal["local", "slurm", "ray"] = "local"
    workers: NonNegativeInt = 0
    """Shards at a time; 0 means one a core (local) or all (slurm, ray)."""
    cpus_per_task: PositiveInt = 1
    gpus_per_task: NonNegativeInt = 0
    mem_per_cpu_gb: PositiveInt = 4
    partition: str = ""
    """SLURM partition; slurm only, and needed there."""
    time: str = "24:00:00"
    """SLURM time limit of one shard; slurm only."""
    sbatch: dict[str, str] = Field(default_factory=dict)
    """Further sbatch options by their long names, for example `account`; slurm only."""
    wait: bool = True
    """Whether to stay until the array has ended, and then to join what it made; slurm only."""

    @model_validator(mode="after")
    def _check(self) -> ExecutorRecipe:
        if self.kind == "slurm" and not self.partition:
            raise InputError('executor.partition = "": expected the SLURM partition to submit to')
        for value in (self.partition, self.time, *self.sbatch, *self.sbatch.values()):
            if not value.isprintable():
                raise InputError(f"executor: {value!r}: expected one line of a batch script")
        return self


def run_pipeline(
    steps: Sequence[PipelineStep], shards: int, folder: Path, recipe: ExecutorRecipe, label: str = "shards"
) -> None:
    """Run `steps` on every shard that is not finished; logs, statistics and completions go to `folder`.

    Returns when all shards are finished. Raises `WorkerDied` where a local worker dies, what a step raises, `RunError`
    where shards of an array failed, and `Stopped` where shards were handed over and are not finished yet: the same
    command goes on, with the shards that are left alone.
    """
    executor = _executor(list(steps), shards, folder, recipe)
    left = executor.get_incomplete_ranks()
    if left and recipe.kind == "local":
        with progress(label, shards, shards - len(left)) as bar:
            work = partial(_run_shard, list(steps), shards, folder)
            for _ in map_in_workers(work, left, recipe.workers, chunk=1):
                bar.advance()
    elif left:
        _submit(executor, recipe.kind, folder)
        if recipe.kind == "slurm" and recipe.wait:
            _wait(executor, shards, folder, label)
    if left := executor.get_incomplete_ranks():
        raise Stopped(f"{len(left)} of {shards} shards are not finished ({recipe.kind}); run the same command later")


def _run_shard(steps: list[PipelineStep], shards: int, folder: Path, rank: int) -> None:
    """datatrove tells every step of every shard on stderr; the same lines are in its log files."""
    with redirect_stderr(io.StringIO()):
        LocalPipelineExecutor(
            steps, tasks=shards, workers=1, local_tasks=1, local_rank_offset=rank, logging_dir=str(folder)
        ).run()


def _submit(executor: PipelineExecutor, kind: str, folder: Path) -> None:
    """Hand the shards over, unless the SLURM job that has them is still there: it would run them twice."""
    if kind == "slurm" and queued_job(folder):
        return
    try:
        with redirect_stderr(io.StringIO()):  # datatrove tells what the progress tells
            executor.run()
    except (ImportError, OSError, subprocess.CalledProcessError) as error:
        raise InputError(f'executor.kind = "{kind}": {str(error).strip()}') from None
    if kind == "slurm":
        write_job(folder, executor.job_id)


def _wait(executor: PipelineExecutor, shards: int, folder: Path, label: str) -> None:
    """Until the array has ended; asks after one second, then less and less often, at last twice a minute."""
    left, pause, queued = len(executor.get_incomplete_ranks()), 1.0, True
    with progress(f"{label} (job {read_json(folder / JOB_FILE)['id']})", shards, shards - left) as bar:
        while left and queued:
            time.sleep(pause)
            pause = min(30.0, 1.2 * pause)
            queued = queued_job(folder) is not None
            before, left = left, len(executor.get_incomplete_ranks())
            bar.advance(before - left)
    if left:
        logs = folder / "slurm_logs"
        raise RunError(f"{left} of {shards} shards failed, see {logs}; the same command runs those alone again")


def _executor(steps: list[PipelineStep], shards: int, folder: Path, recipe: ExecutorRecipe) -> PipelineExecutor:
    common: dict[str, Any] = {"tasks": shards, "logging_dir": str(folder.resolve())}
    if recipe.kind == "local":
        return LocalPipelineExecutor(steps, **common)
    common |= {
        "workers": recipe.workers or -1,
        "cpus_per_task": recipe.cpus_per_task,
        "gpus_per_task": recipe.gpus_per_task,
        "mem_per_cpu_gb": recipe.mem_per_cpu_gb,
    }
    if recipe.kind == "ray":
        from datatrove.executor import RayPipelineExecutor

        return RayPipelineExecutor(steps, **common)
    if shlex.quote(common["logging_dir"]) != common["logging_dir"]:
        raise InputError(f"{common['logging_dir']}: expected a path without spaces or signs that a batch script reads")
    return _Array(
        steps,
        time=recipe.time,
        partition=recipe.partition,
        qos=recipe.sbatch.get("qos", ""),
        env_command=f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH",
        sbatch_args=dict(recipe.sbatch),
        **common,
    )
