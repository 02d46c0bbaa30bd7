"""Files that are either whole or absent: written under a temporary name, flushed to disk, then renamed."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from spiritlm.errors import InputError

TEMPORARY = ".partial-"


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` to write a file to; renamed onto `path` when the block ends well."""
    temporary = _temporary(path)
    try:
        yield temporary
        flush_to_disk(temporary)
        temporary.replace(path)
        flush_to_disk(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary folder to fill; takes the name `path`, replacing what stood there, when the block ends well."""
    temporary = _temporary(path)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                flush_to_disk(file)
        if path.exists():
            shutil.rmtree(path)
        temporary.rename(path)
        flush_to_disk(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _temporary(path: Path) -> Path:
    """A name of this process alone, on a file system that several machines share too."""
    return path.with_name(f"{TEMPORARY}{platform.node()}-{os.getpid()}-{path.name}")


def flush_to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, would outlive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_partial(folder: Path, of_this_machine: bool = False) -> None:
    """Delete what a killed process left under a temporary name in `folder` (not in its sub-folders)."""
    for left in folder.glob(f"{TEMPORARY}{platform.node()}-*" if of_this_machine else f"{TEMPORARY}*"):
        if left.is_dir():
            shutil.rmtree(left)
        else:
            left.unlink()


def sha256_files(files: Iterable[Path], root: Path) -> str:
    """Of contents, and of names below `root`, in whatever order."""
    return sha256_json({str(path.relative_to(root)): sha256_file(path) for path in files})


def files_below(folder: Path) -> list[Path]:
    """Files at whatever depth, in order of name, links followed; hidden ones and hidden folders are passed over."""
    found: list[Path] = []
    entered: set[Path] = set()  # a folder may be linked into itself
    for at, folders, names in os.walk(folder, followlinks=True):
        entered.add(Path(at).resolve())
        folders[:] = sorted(name for name in folders if name[0] != "." and Path(at, name).resolve() not in entered)
        found += (Path(at, name) for name in names if name[0] != "." and Path(at, name).is_file())
    return sorted(found)


def read_bytes(path: Path) -> bytes:
    """Raises `InputError` where the file cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None


def write_text(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Keys keep the order they were given in; floats round-trip."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Raises `InputError` where the file is absent, unreadable or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON: {error}") from None


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """One dictionary a line. Raises `InputError` naming the line that is not JSON."""
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise InputError(f"{path}, line {number}: not valid JSON: {error}") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None


def sha256_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_json(value: Any) -> str:
    """Digest of a JSON value that does not depend on the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
