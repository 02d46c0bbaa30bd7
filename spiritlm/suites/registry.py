"""The benchmarks that are read from folders, by name: one place."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

from spiritlm.errors import InputError
from spiritlm.suites import salmon, storycloze, zerospeech
from spiritlm.suites.gold import GOLD
from spiritlm.suites.mirrors import parquet_files
from spiritlm.suites.pairs import Task


class Suite(NamedTuple):
    folders: tuple[str, ...]
    """Where it lies in the folder of all benchmarks, the first that is there; SPLIT stands for the split."""
    read: Callable[[Path, str | None], list[Task]]
    """Of its folder and the split, None where none was asked for."""
    asks: str
    """In a line."""


def _zerospeech(name: str, part: str, written: bool) -> Suite:
    def read(folder: Path, split: str | None) -> list[Task]:
        if (folder / GOLD).is_file() or not parquet_files(folder):
            return [(zerospeech.read_written if written else zerospeech.read_spoken)(name, folder)]
        if name == "swuggy":
            raise InputError(f"{folder}: expected {GOLD} and recordings, found parquet files")
        return [zerospeech.read_parquet(folder, split, written)]

    asked = "word or non-word" if name == "swuggy" else "grammatical or not"
    folders = (f"{name}/{part}/SPLIT", f"{part}/SPLIT", name)
    return Suite(folders, read, f"{asked}, {'read' if written else 'heard'}")


def _storycloze(name: str, asked: str) -> Suite:
    return Suite((name,), lambda folder, split: storycloze.read(name, folder, split), asked)


def _salmon(part: str) -> Suite:
    def read(folder: Path, split: str | None) -> list[Task]:
        return [salmon.read(f"salmon_{part}", folder)]

    return Suite((f"salmon/{part}", part), read, part.replace("_", " "))


SUITES = {
    "swuggy": _zerospeech("swuggy", "lexical", written=False),
    "swuggy_text": _zerospeech("swuggy", "lexical", written=True),
    "sblimp": _zerospeech("sblimp", "syntactic", written=False),
    "sblimp_text": _zerospeech("sblimp", "syntactic", written=True),
    "storycloze": _storycloze("storycloze", "which ending belongs to the story, in all directions"),
    "topic_storycloze": _storycloze("topic_storycloze", "the same, with an ending of another story"),
    **{f"salmon_{part}": _salmon(part) for part in salmon.PARTS},
}
SPLIT = "dev"
"""Of the official layouts, where none was asked for."""
GROUPS = {"salmon": tuple(f"salmon_{part}" for part in salmon.PARTS)}
"""Names that stand for several suites."""


def require_names(names: Sequence[str], others: Collection[str] = ()) -> list[str]:
    """`names` with groups spelt out, each once. `others`: names that are known elsewhere. Raises `InputError` for an
    unknown one, with the nearest."""
    known = [*SUITES, *GROUPS, *others]
    for name in names:
        if name not in known:
            raise InputError(
                f"tasks: there is no {name!r}; the nearest is {get_close_matches(name, known, 1, 0.0)[0]!r} "
                f"of {', '.join(known)}"
            )
    return list(dict.fromkeys(member for name in names for member in GROUPS.get(name, (name,))))


def folder_of(name: str, root: Path, split: str | None = None) -> Path:
    """Where in `root` the benchmark of a suite lies. Raises `InputError` where it is not there, or has other splits."""
    require_names([name])
    places = [root / place.replace("SPLIT", split or SPLIT) for place in SUITES[name].folders]
    official = [root / place.removesuffix("/SPLIT") for place in SUITES[name].folders if place.endswith("/SPLIT")]
    for part in official:
        if part.is_dir() and not (part / (split or SPLIT)).is_dir():
            there = sorted(found.name for found in part.iterdir() if found.is_dir())
            raise InputError(f"{part}: has no split {split or SPLIT!r}; it has {', '.join(there) or 'none'}")
    for place in places:
        if place.is_dir():
            return place
    raise InputError(f"task {name}: expected its benchmark in {' or '.join(map(str, places))}, found no such folder")


def read_tasks(name: str, root: Path, split: str | None = None) -> list[Task]:
    """The tasks of a suite whose benchmark lies in `root`; `split`: of the official layouts `dev` where None, of a
    mirror the only one. Raises `InputError` where it is not there, or holds nothing."""
    folder = folder_of(name, root, split)
    tasks = SUITES[name].read(folder, split)
    for task in tasks:
        if not task.pairs:
            raise InputError(f"{folder}: task {task.name} has no items")
    return tasks
