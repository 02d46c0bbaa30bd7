"""Shards in processes, and what is handed to SLURM (`tests/launch/test_slurm.py` runs it); this file is also the
program of a run that is killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from datatrove.executor.slurm import SlurmPipelineExecutor
from datatrove.pipeline.base import PipelineStep

from spiritlm.config import validate_recipe
from spiritlm.errors import InputError
from spiritlm.pipelines.executor import ExecutorRecipe, _executor, run_pipeline
from spiritlm.run.workers import WorkerDied

LOCAL = ExecutorRecipe(workers=2)


class Note(PipelineStep):
    """Appends its process to `folder/RANK`; a file `kill-RANK` or `refuse-RANK` there is a fault that happens once."""

    name, type = "note", "test"

    def __init__(self, folder: Path, seconds: float = 0.0) -> None:
        super().__init__()
        self.folder, self.seconds = folder, seconds

    def run(self, data: None = None, rank: int = 0, world_size: int = 1) -> Iterator[None]:
        for fault in ("kill", "refuse"):
            path = self.folder / f"{fault}-{rank}"
            if path.exists():
                path.unlink()
                if fault == "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                raise InputError(f"shard {rank} is refused")
        time.sleep(self.seconds)
        with (self.folder / str(rank)).open("a") as file:
            file.write(f"{os.getpid()} of {world_size}\n")
        yield from ()


def notes(folder: Path) -> dict[str, list[str]]:
    return {path.name: path.read_text().splitlines() for path in folder.iterdir() if path.name.isdigit()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "notes").mkdir()
    return tmp_path / "notes"


def test_every_shard_runs_once_in_few_processes(folder: Path, tmp_path: Path) -> None:
    for _ in range(2):
        run_pipeline([Note(folder)], 9, tmp_path / "log", LOCAL)
        found = notes(folder)
        assert sorted(found, key=int) == [str(rank) for rank in range(9)]
        assert all(len(lines) == 1 and lines[0].endswith(" of 9") for lines in found.values())
        processes = {lines[0].split()[0] for lines in found.values()}
        assert len(processes) <= 2
        assert str(os.getpid()) not in processes


def test_a_dying_worker_ends_the_run_and_the_next_run_goes_on(folder: Path, tmp_path: Path) -> None:
    (folder / "kill-2").touch()
    with pytest.raises(WorkerDied, match="run the same command again"):
        run_pipeline([Note(folder)], 4, tmp_path / "log", ExecutorRecipe(workers=1))
    done = notes(folder)
    assert "2" not in done
    run_pipeline([Note(folder)], 4, tmp_path / "log", LOCAL)
    assert set(notes(folder)) == {"0", "1", "2", "3"}
    assert {rank: notes(folder)[rank] for rank in done} == done


def test_an_error_of_a_step_is_raised_as_it_is(folder: Path, tmp_path: Path) -> None:
    (folder / "refuse-1").touch()
    with pytest.raises(InputError, match=r"^shard 1 is refused$"):
        run_pipeline([Note(folder)], 3, tmp_path / "log", ExecutorRecipe(workers=1))
    run_pipeline([Note(folder)], 3, tmp_path / "log", LOCAL)
    assert {rank: len(lines) for rank, lines in notes(folder).items()} == {"0": 1, "1": 1, "2": 1}


def test_a_killed_run_is_finished_by_the_next(folder: Path, tmp_path: Path) -> None:
    """SIGKILL for the whole program, workers and all, once two shards are done."""
    command = [sys.executable, __file__, str(folder), str(tmp_path / "log")]
    process = subprocess.Popen(command, start_new_session=True)
    completions = tmp_path / "log" / "completions"
    while process.poll() is None and len(list(completions.glob("*"))) < 2:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    time.sleep(0.1)
    finished = {str(int(path.name)) for path in completions.iterdir()}
    before = notes(folder)
    assert 2 <= len(finished) < 8
    run_pipeline([Note(folder)], 8, tmp_path / "log", LOCAL)
    after = notes(folder)
    assert set(after) == {str(rank) for rank in range(8)}
    assert {rank: after[rank] for rank in finished} == {rank: before[rank] for rank in finished}


# SLURM


def slurm(**values: object) -> ExecutorRecipe:
    recipe = {"kind": "slurm", "partition": "gpu", **values}
    return validate_recipe(ExecutorRecipe, recipe, "test")


def script(folder: Path, recipe: ExecutorRecipe) -> list[str]:
    executor = _executor([Note(folder)], 12, folder, recipe)
    assert isinstance(executor, SlurmPipelineExecutor)
    return executor.get_launch_file_contents(executor.get_sbatch_args(12), "srun work").splitlines()


def test_the_batch_script_says_what_the_recipe_says(folder: Path) -> None:
    recipe = slurm(workers=5, cpus_per_task=3, gpus_per_task=1, mem_per_cpu_gb=7, time="01:30:00",
                   sbatch={"account": "speech", "qos": "high"})  # fmt: skip
    lines = script(folder, recipe)
    for name, value in {
        "cpus-per-task": 3, "mem-per-cpu": "7G", "gpus": 1, "time": "01:30:00", "partition": "gpu", "array": "0-11%5",
        "account": "speech", "qos": "high",
    }.items():  # fmt: skip
        assert [line for line in lines if line.startswith(f"#SBATCH --{name}=")] == [f"#SBATCH --{name}={value}"]
    assert f"export PATH={Path(sys.executable).parent}:$PATH" in [line.strip() for line in lines]


def test_what_is_not_asked_for_is_not_in_the_script(folder: Path) -> None:
    lines = script(folder, slurm())
    assert "#SBATCH --array=0-11" in lines
    assert not [line for line in lines if "qos" in line or "gpus" in line or "mail" in line]


def test_recipes_that_break_a_batch_script_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected the SLURM partition"):
        slurm(partition="")
    for bad in ({"partition": "a\nrm -rf b"}, {"time": "1\n2"}, {"sbatch": {"account": "a\n#SBATCH --b"}}):
        with pytest.raises(InputError, match="expected one line of a batch script"):
            slurm(**bad)
    with pytest.raises(InputError, match="expected a path without spaces"):
        run_pipeline([Note(tmp_path)], 2, tmp_path / "a b", slurm())


def test_a_machine_without_the_executor_is_one_line(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r'executor\.kind = "slurm": .*sbatch'):
        run_pipeline([Note(folder)], 2, tmp_path / "log", slurm())
    (tmp_path / "sbatch").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "sbatch").chmod(0o755)
    with pytest.raises(InputError, match=r'executor\.kind = "slurm": .*sbatch.* exit status 1'):
        run_pipeline([Note(folder)], 2, tmp_path / "log2", slurm())


def test_ray_where_it_is_not_installed(folder: Path, tmp_path: Path) -> None:
    try:
        import ray  # noqa: F401
    except ImportError:
        with pytest.raises(InputError, match=r'executor\.kind = "ray": Please install `ray`'):
            run_pipeline([Note(folder)], 2, tmp_path / "log", ExecutorRecipe(kind="ray"))
    else:
        pytest.skip("ray is installed")


if __name__ == "__main__":
    run_pipeline([Note(Path(sys.argv[1]), 0.3)], 8, Path(sys.argv[2]), LOCAL)
