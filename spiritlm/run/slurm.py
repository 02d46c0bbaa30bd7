"""What is asked of SLURM by its commands."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from spiritlm.errors import InputError
from spiritlm.run.files import read_json, write_json

JOB_FILE = "job.json"
"""The job that a folder was last handed to."""


def write_job(folder: Path, number: str) -> None:
    write_json(folder / JOB_FILE, {"id": number})


def queued_job(folder: Path) -> str | None:
    """The number of the job that has a folder, while it waits or runs; None where there is none, or none any more."""
    if not (folder / JOB_FILE).is_file():
        return None
    number = str(read_json(folder / JOB_FILE)["id"])
    return number if is_queued(number) else None


def is_queued(number: str) -> bool:
    """Whether a job waits or runs. It is taken to where SLURM does not answer."""
    try:
        found = subprocess.run(["squeue", "--noheader", "--jobs", number], capture_output=True, text=True, check=False)
    except OSError:
        return False
    if found.returncode:
        return "Invalid job id" not in found.stderr
    return bool(found.stdout.strip())


def sbatch(arguments: list[str], script: str | None = None) -> str:
    """What sbatch prints. Raises `InputError` with its complaint.

    What a job around this process has set is not passed on.
    """
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "SBATCH_")) or k == "SLURM_CONF"}
    command = ["sbatch", *arguments]
    try:
        done = subprocess.run(command, input=script, capture_output=True, text=True, env=kept, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        raise InputError("sbatch: no answer from SLURM in 120 s") from None
    if done.returncode:
        complaint = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise InputError(f"sbatch: {complaint[-1].removeprefix('sbatch: ')}")
    return done.stdout
