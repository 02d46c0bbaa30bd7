"""A stage: one program's output folder, finished when it holds `stage.json`.

`stage.json` is written last and records the resolved recipe, the fingerprints of the input stages, counts,
versions, seconds (of the last attempt, where a stage was stopped and resumed) and peak memory. A fingerprint covers
stage name, recipe and input fingerprints, but no paths of stages, not where the work is done and how much of it at a
time (`workers`, `executor`, a parallel layout), and not what may be lost of it (`max_bad_fraction`) or is watched: a
run folder can be moved, a run resumed elsewhere, and one that stopped at its budget go on with another. Running a
finished stage again does nothing; running it with another recipe or other inputs is refused, so that a folder never
mixes two.
"""

from __future__ import annotations

import errno
import fcntl
import importlib.metadata
import os
import platform
import resource
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, ClassVar

import spiritlm
from spiritlm.config import Recipe
from spiritlm.errors import InputError
from spiritlm.run.files import files_below, read_json, remove_partial, sha256_files, sha256_json, write_json
from spiritlm.run.ranks import rank

STAGE_FILE = "stage.json"
BEGUN_FILE = "stage.begun.json"
STOPPED_FILE = "stage.stopped.json"
"""Left where a stage was told to stop and saved its state; gone once it goes on."""
FAILED_FILE = "stage.failed.json"
"""Left where a stage ended with an error that starting it again would not mend; gone once it is tried again."""
LOCK_FILE = "stage.lock"
LOCK_PATIENCE = 120.0
"""Seconds that a job which SLURM started again waits for the processes of its former start to end."""

Input = Annotated[Path, "input stage"]
"""Type of a recipe field that names the output folder of an earlier stage."""
BegunInput = Annotated[Path, "input stage", "may be unfinished"]
"""Of one that may still be running."""
OptionalInput = Annotated[Path | None, "input stage"]
Folder = Annotated[Path, "input stage", "may be any folder"]
"""Of one that may have been made elsewhere; then names and contents of its files are its fingerprint."""
OptionalFolder = Annotated[Path | None, "input stage", "may be any folder"]
Inputs = Annotated[dict[str, Path], "input stage"]
"""Type of a recipe field that names several of them; field `stores` has the inputs `stores.NAME`."""


class StageRecipe(Recipe):
    """Base of the recipe of every stage program."""

    free: ClassVar[frozenset[str]] = frozenset({"out", "workers", "executor", "max_bad_fraction", "profile"})
    """Fields, dotted where they lie in a table, that a run may go on with changed: they are in no fingerprint."""

    out: Path
    """Folder the stage writes; made if absent."""

    def read_of(self, name: str, folder: Path) -> list[Path]:
        """What the stage reads of input `name`, a folder made elsewhere: all of it, where nothing else is said."""
        return [folder]


def is_main_process() -> bool:
    """True on rank 0 and wherever the program was not started by torchrun."""
    return rank() == 0


def read_stage(folder: Path) -> dict[str, Any]:
    """The `stage.json` of a finished stage. Raises `InputError` where there is none."""
    if not is_finished(folder):
        state = "is not finished (no stage.json in it)" if folder.is_dir() else "does not exist"
        raise InputError(f"{folder}: expected the folder of a finished stage, but it {state}")
    return read_json(folder / STAGE_FILE)


def is_finished(folder: Path) -> bool:
    return (folder / STAGE_FILE).is_file()


def read_begun(folder: Path) -> dict[str, Any]:
    """What `read_stage` gives, and of a stage that is not finished what is known of it: name, recipe, inputs and
    fingerprint."""
    begun = folder / BEGUN_FILE
    return read_json(begun) if begun.is_file() and not is_finished(folder) else read_stage(folder)


def require_same_input(folder: Path, key: str, expected: str) -> None:
    """Raises `InputError` unless the stage in `folder` was made from input `key` with fingerprint `expected`."""
    if read_stage(folder)["inputs"].get(key) != expected:
        raise InputError(f"{folder}: made from another {key!r} stage than this run is given")


class Stage:
    """The output folder of one run of one stage program."""

    def __init__(self, name: str, recipe: StageRecipe) -> None:
        """Raises `InputError` where an input stage is not finished."""
        self.name = name
        self.folder = recipe.out
        self.inputs = _inputs(recipe)
        unfinished, any_folder = (_fields_marked(recipe, f"may be {what}") for what in ("unfinished", "any folder"))
        self.input_fingerprints = {
            key: _contents(path, recipe.read_of(key, path))
            if key in any_folder and _is_from_elsewhere(path)
            else (read_begun if key in unfinished else read_stage)(path)["fingerprint"]
            for key, path in self.inputs.items()
        }
        self.recipe = _without(recipe.model_dump(mode="json"), {*recipe.free, *_fields_marked(recipe, "input stage")})
        self.fingerprint = sha256_json([name, self.recipe, self.input_fingerprints])
        self._started = time.monotonic()

    def is_done(self) -> bool:
        """Raises `InputError` where the folder belongs to another recipe or to other inputs."""
        for file in (STAGE_FILE, BEGUN_FILE):
            if (self.folder / file).is_file():
                self._refuse_other(read_json(self.folder / file))
        return is_finished(self.folder)

    def _refuse_other(self, earlier: dict[str, Any]) -> None:
        if earlier["fingerprint"] == self.fingerprint:
            return
        changes = _differences(earlier["recipe"], self.recipe) + _differences(
            earlier["inputs"], self.input_fingerprints, "input "
        )
        if earlier["stage"] != self.name:
            changes = [f"it holds stage {earlier['stage']!r}"]
        raise InputError(
            f"{self.folder}: already holds a run with other settings ({'; '.join(changes[:3])}); "
            "give another out= or remove the folder"
        )

    def begin(self) -> None:
        """Make the folder and claim it for this recipe. Raises `InputError` where it cannot be written."""
        self._started = time.monotonic()
        if not is_main_process():
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock()
            remove_partial(self.folder)
            for file in (STOPPED_FILE, FAILED_FILE):
                (self.folder / file).unlink(missing_ok=True)
            write_json(self.folder / BEGUN_FILE, self._identity())
        except OSError as error:
            raise InputError(f"out = {self.folder}: cannot be written: {error.strerror or error}") from None

    def _lock(self) -> None:
        """Keep other processes out of the folder until this one ends; the kernel forgets the lock of a killed one."""
        self._locked = os.open(self.folder / LOCK_FILE, os.O_RDWR | os.O_CREAT)  # a file: NFS locks no folders
        patient_until = time.monotonic() + (LOCK_PATIENCE if "SLURM_RESTART_COUNT" in os.environ else 0.0)
        while True:
            try:
                return fcntl.flock(self._locked, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > patient_until:
                    self._unlock()
                    raise InputError(f"out = {self.folder}: another process is writing it") from None
                time.sleep(0.5)
            except OSError as error:
                if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP):
                    raise
                return None  # a file system without locks

    def _unlock(self) -> None:
        os.close(self._locked)

    def release(self, file: str = "", why: str = "") -> None:
        """Give the folder back where a run does not go on, and say why in `STOPPED_FILE` or `FAILED_FILE` where one is
        given; where nothing was written, nothing stays."""
        if is_main_process() and {path.name for path in self.folder.iterdir()} == {BEGUN_FILE, LOCK_FILE}:
            for name in (BEGUN_FILE, LOCK_FILE):
                (self.folder / name).unlink()
            self.folder.rmdir()
        elif file == FAILED_FILE or (file and is_main_process()):  # all ranks stop alike, one may fail alone
            with suppress(OSError):
                write_json(self.folder / file, {"why": why, "at": now()})
        if is_main_process():
            self._unlock()

    def finish(self, counts: dict[str, Any]) -> None:
        """Write `stage.json`, after which the stage is done."""
        if not is_main_process():
            return
        record = {
            **self._identity(),
            "counts": counts,
            "seconds": round(time.monotonic() - self._started, 3),
            "peak_memory_bytes": peak_memory_bytes(),
            "finished": now(),
            "code": str(Path(spiritlm.__file__).parent),
            "versions": versions(),
        }
        write_json(self.folder / STAGE_FILE, record)
        for file in (BEGUN_FILE, LOCK_FILE):
            (self.folder / file).unlink(missing_ok=True)
        self._unlock()

    def _identity(self) -> dict[str, Any]:
        return {
            "stage": self.name,
            "fingerprint": self.fingerprint,
            "recipe": self.recipe,
            "inputs": self.input_fingerprints,
            "input_folders": {key: os.path.relpath(path, self.folder) for key, path in self.inputs.items()},
        }


def _without(table: dict[str, Any], names: set[str]) -> dict[str, Any]:
    """`table` without the fields that `names` tells, dotted where they lie in a table of it."""
    kept = {}
    for key, value in table.items():
        inner = {name.removeprefix(f"{key}.") for name in names if name.startswith(f"{key}.")}
        if key not in names:
            kept[key] = _without(value, inner) if inner and isinstance(value, dict) else value
    return kept


def _fields_marked(recipe: StageRecipe, mark: str) -> list[str]:
    return [name for name, field in type(recipe).model_fields.items() if mark in field.metadata]


def _inputs(recipe: StageRecipe) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for name in _fields_marked(recipe, "input stage"):
        value = getattr(recipe, name)
        if isinstance(value, dict):
            found |= {f"{name}.{key}": path for key, path in value.items()}
        elif value is not None:
            found[name] = value
    return found


def _is_from_elsewhere(folder: Path) -> bool:
    """Not that of a stage, finished or begun. Raises `InputError` where there is no such folder."""
    if not folder.is_dir():
        raise InputError(f"{folder}: expected a folder, but there is none")
    return not any((folder / file).is_file() for file in (STAGE_FILE, BEGUN_FILE))


def _contents(folder: Path, read: Sequence[Path]) -> str:
    """Digest of names and contents of all files below the folders `read`, which are below `folder`."""
    return sha256_files({path for below in read for path in files_below(below)}, folder)


def _differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    changes = []
    for key in [*old, *(k for k in new if k not in old)]:
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            changes += _differences(before, after, f"{prefix}{key}.")
        elif before != after:
            changes.append(f"{prefix}{key} was {before!r}, now {after!r}")
    return changes


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def peak_memory_bytes() -> int:
    """Largest resident set of this process or of any one of its finished children, bytes (Linux)."""
    return 1024 * max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def versions() -> dict[str, str]:
    found = {"spiritlm": spiritlm.__version__, "python": platform.python_version()}
    for package in ("torch", "megatron-core", "transformers", "numpy"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
