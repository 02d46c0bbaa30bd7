"""What is particular to a cluster and the same for every job: a small file beside the checkout."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from spiritlm.config import Recipe
from spiritlm.engine.plan import GPUS
from spiritlm.errors import InputError


class SiteRecipe(Recipe):
    """Every field may be left out; what is empty is not said to SLURM."""

    account: str = ""
    partition: str = ""
    qos: str = ""
    time: str = "24:00:00"
    """Of one start of a job, `[DAYS-]HOURS:MINUTES:SECONDS`; it is started again until the run is done."""
    gpus_per_node: NonNegativeInt = 8
    """0 runs on CPUs, one process a node."""
    gpu: str = ""
    """Kind of GPU as `training/plan.py` names it; then a run that does not fit in its memory is refused."""
    sbatch: dict[str, str | bool] = Field(default_factory=dict)
    """Further sbatch options by their long names, for example `constraint`; true is an option without a value, and
    false takes one of the script's own away."""
    modules: tuple[str, ...] = ()
    """Loaded by `module load` before the job begins."""
    environment: dict[str, str] = Field(default_factory=dict)
    """Set in the job, for example `NCCL_SOCKET_IFNAME`."""
    container_image: str = ""
    """An image for pyxis: a file (.sqsh), which must be there, or a name in a registry."""
    container_mounts: tuple[str, ...] = ()
    """`FROM:TO` or `PATH`; the run, the code, the inputs and the home of the caches must be among them."""
    python: str = ""
    """The interpreter, inside the container where there is one; "" is the one that submits."""
    save_seconds: PositiveInt = 300
    """How long before the time limit a job is told to save."""
    stall_seconds: PositiveInt = 1800
    """A run that writes nothing for so long is started again."""
    patience: PositiveInt = 3
    """So many starts of a job in a row from the same step end it."""

    @model_validator(mode="after")
    def _check(self) -> SiteRecipe:
        for name, value in _strings(self.model_dump()):
            if not value.isprintable():
                raise InputError(f"{name} = {value!r}: expected one line")
        if self.gpu and self.gpu not in GPUS:
            raise InputError(f"gpu = {self.gpu!r}: expected one of {', '.join(GPUS)}")
        for name in self.environment:
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                raise InputError(f"environment: {name!r}, expected the name of a variable")
        if self.container_image and not self.python:
            raise InputError("container_image: expected with python, the interpreter inside it")
        if self.container_mounts and not self.container_image:
            raise InputError("container_mounts: expected with a container_image")
        if self.container_image.startswith(("/", ".")) and not Path(self.container_image).is_file():
            raise InputError(f"container_image = {self.container_image}: there is no such file")
        return self


def _strings(value: Any, name: str = "") -> list[tuple[str, str]]:
    """Every string in `value`, keys of tables too, by where it stands."""
    if isinstance(value, str):
        return [(name, value)]
    if isinstance(value, dict):
        keys = [(f"{name} key".strip(), str(key)) for key in value]
        return keys + [found for key, inner in value.items() for found in _strings(inner, f"{name}.{key}".strip("."))]
    if isinstance(value, (list, tuple)):
        return [found for inner in value for found in _strings(inner, name)]
    return []
