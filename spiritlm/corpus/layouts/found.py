"""What a layout tells of a corpus before its audio was looked at, and where that audio may stand."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from spiritlm.corpus.manifest import Sentence, inside
from spiritlm.errors import InputError

TO_THE_END = math.inf
"""End of a sentence that lasts as long as its recording."""
UNKNOWN = "unknown"
"""Speaker of a recording whose layout names none."""


@dataclass(frozen=True)
class Found:
    """One recording, as its layout tells of it."""

    id: str
    audio: Path
    """Relative to the root of the corpus, or absolute; not looked at."""
    sentences: tuple[Sentence, ...]
    """In any order; empty in layouts without transcripts."""
    speaker: str = UNKNOWN
    duration: float | None = None
    """Seconds, where the layout states them."""
    sample_rate: int | None = None
    """Hz, where the layout states it."""
    custom: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Reject:
    """What cannot be used: a recording, a sentence, a line of a manifest."""

    item: str
    kind: str
    """A few words, the same for all items with this fault; they are counted by it."""
    detail: str = ""
    sentences: int = 1
    """How many sentences are lost with it."""

    @property
    def reason(self) -> str:
        return f"{self.kind}: {self.detail}" if self.detail else self.kind


def place(root: Path, audio: Path) -> Path | None:
    """`audio` relative to `root`, or None where it leaves it: by `..`, as an absolute path or by a symbolic link.

    Nothing is opened. A path that is not there yet counts as where it would stand.
    """
    for base in (Path(os.path.abspath(root)), root.resolve()):  # noqa: PTH100
        relative = os.path.relpath(os.path.normpath(base / audio), base)
        if not relative.startswith("..") and inside(root, Path(relative)):
            return Path(relative)
    return None


def document_id(root: Path, audio: Path) -> str:
    """The path without its suffix, from the root on; `/` becomes `_`, so that an id can name a file."""
    return str((place(root, audio) or audio).with_suffix("")).strip("/").replace("/", "_")


def matching_files(root: Path, pattern: str) -> list[Path]:
    """Files under `root` that match a glob pattern, sorted. Raises `InputError` for none, and for a link out of it."""
    if pattern.startswith("/") or ".." in Path(pattern).parts:
        raise InputError(f"{pattern!r}: expected a file or glob pattern relative to root = {root}")
    files = sorted(path for path in root.glob(pattern) if path.is_file())
    if not files:
        raise InputError(f"{root}: no file there matches {pattern!r}")
    for path in files:
        if place(root, path.relative_to(root)) is None:
            raise InputError(f"{path}: a link that leaves root = {root}")
    return files


def folder_under(root: Path, name: str) -> Path:
    """Raises `InputError` where `name` is not a folder inside `root`."""
    if place(root, Path(name)) is None or not (root / name).is_dir():
        near = ", ".join(sorted(p.name for p in root.iterdir() if p.is_dir())[:8]) if root.is_dir() else "no folder"
        raise InputError(f"{root / name}: expected a folder inside root; {root} holds {near}")
    return root / name


def walk(root: Path, folder: Path) -> Iterator[Path | Reject]:
    """Files under `folder` in the order of their names. Linked folders are not followed, but named."""
    for name in sorted(os.listdir(folder)):  # noqa: PTH208
        path = folder / name
        if (shown := os.fsencode(name).decode(errors="replace")) != name:
            yield Reject(str((folder / shown).relative_to(root)), "name is not UTF-8")
        elif path.is_dir():
            if path.is_symlink():
                yield Reject(str(path.relative_to(root)), "linked folder", "it is not followed")
            else:
                yield from walk(root, path)
        else:
            yield path
