"""Bookkeeping of checkpoint folders `step-00001234/`: complete or ignored, newest first, old ones pruned.

A checkpoint is complete when it holds `complete.json`, which lists every file with its size and is renamed
into place last. What the files mean is the caller's business.
"""

from __future__ import annotations

import shutil
import uuid
import warnings
from pathlib import Path
from typing import Any

from pydantic import NonNegativeInt, PositiveInt

from spiritlm.config import Recipe
from spiritlm.errors import InputError, RunError
from spiritlm.run.files import TEMPORARY, flush_to_disk, read_json, remove_partial, write_json

COMPLETE_FILE = "complete.json"
WRITER_FILE = "writer.json"


class CheckpointPolicy(Recipe):
    """When checkpoints are written and which are kept."""

    every: NonNegativeInt = 0
    """Steps between checkpoints; 0 writes one at the end and when stopped only."""
    keep_last: PositiveInt = 2
    """How many of the newest are kept."""
    permanent_every: NonNegativeInt = 0
    """A checkpoint whose step is a multiple of this is never deleted; 0 keeps none for ever."""


class Checkpoints:
    """The checkpoint folders under `root`."""

    def __init__(self, root: Path, policy: CheckpointPolicy) -> None:
        self.root, self.policy = root, policy
        self._token = ""

    def due(self, step: int) -> bool:
        return self.policy.every > 0 and step % self.policy.every == 0

    def claim(self) -> None:
        """Be the only one who writes here from now on, so that a run which was started again is not disturbed by what
        is left of its former start: `begin` and `complete` of earlier claimants raise `RunError`. One process of a run
        calls it."""
        self.root.mkdir(parents=True, exist_ok=True)
        self._token = uuid.uuid4().hex
        write_json(self.root / WRITER_FILE, {"writer": self._token})

    def _require_claim(self) -> None:
        if self._token and read_json(self.root / WRITER_FILE)["writer"] != self._token:
            raise RunError(f"{self.root}: another start of this run writes here now")

    def begin(self, step: int) -> Path:
        """An empty folder to write the checkpoint of `step` into. One process calls it."""
        self._require_claim()
        folder = self._temporary(step)
        self.root.mkdir(parents=True, exist_ok=True)
        remove_partial(self.root)
        folder.mkdir()
        return folder

    def complete(self, step: int, state: dict[str, Any]) -> Path:
        """Seal the folder that `begin(step)` gave, once every rank has written; `state` is kept as JSON.

        Then prunes. Returns the final folder. One process calls it.
        """
        temporary, folder = self._temporary(step), self._folder(step)
        files = {str(f.relative_to(temporary)): f.stat().st_size for f in temporary.rglob("*") if f.is_file()}
        for name in files:
            flush_to_disk(temporary / name)
        write_json(temporary / COMPLETE_FILE, {"step": step, "files": files, "state": state})
        self._require_claim()
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
        flush_to_disk(self.root)
        self._prune()
        return folder

    def newest(self) -> Path | None:
        """The newest complete checkpoint; incomplete and truncated ones are named in a warning and skipped."""
        for folder in sorted(self.root.glob("step-*"), reverse=True):
            if fault := _fault(folder):
                warnings.warn(f"checkpoint {folder} is skipped: {fault}", stacklevel=2)
            else:
                return folder
        return None

    def require(self, step: int | None = None) -> Path:
        """The newest complete checkpoint, or that of `step`. Raises `InputError`, naming those there are, where it is
        missing or damaged."""
        if step is None:
            if (newest := self.newest()) is None:
                raise InputError(f"{self.root}: expected a complete checkpoint, found none")
            return newest
        if fault := _fault(self._folder(step)) if self._folder(step).is_dir() else "does not exist":
            complete = [str(int(f.name[5:])) for f in sorted(self.root.glob("step-*")) if not _fault(f)]
            raise InputError(f"{self._folder(step)}: {fault}; complete are steps {', '.join(complete) or '(none)'}")
        return self._folder(step)

    @staticmethod
    def state(folder: Path) -> dict[str, Any]:
        """The `state` that `complete` was given, with `step` added."""
        record = read_json(folder / COMPLETE_FILE)
        return {**record["state"], "step": record["step"]}

    def _temporary(self, step: int) -> Path:
        return self.root / f"{TEMPORARY}{self._token[:8]}step-{step:08d}"

    def _folder(self, step: int) -> Path:
        return self.root / f"step-{step:08d}"

    def _prune(self) -> None:
        for folder in sorted(self.root.glob("step-*"))[: -self.policy.keep_last]:
            step = int(folder.name.removeprefix("step-"))
            if not (self.policy.permanent_every and step % self.policy.permanent_every == 0):
                shutil.rmtree(folder)


def _fault(folder: Path) -> str | None:
    if not (folder / COMPLETE_FILE).is_file():
        return "it has no complete.json"
    try:
        files = read_json(folder / COMPLETE_FILE)["files"]
    except (InputError, KeyError, TypeError) as error:
        return str(error)
    for name, size in files.items():
        file = folder / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != size:
            return f"{name} has {file.stat().st_size} bytes, expected {size}"
    return None
