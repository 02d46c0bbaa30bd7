import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .minislurm import PACKAGES, MiniSlurm, missing_programs


@pytest.fixture(scope="session")
def cluster() -> Iterator[MiniSlurm]:
    """Two nodes with eight pretended GPUs each."""
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    if missing := missing_programs():
        pytest.skip(f"no SLURM here, {', '.join(missing)} missing: apt-get install {PACKAGES}")
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # munged wants every folder above its socket open to all
    slurm = MiniSlurm(folder, tag=f"s{os.getpid() % 10000}")
    try:
        slurm.start()
        yield slurm
    finally:
        slurm.stop()
        shutil.rmtree(folder, ignore_errors=True)
