"""StoryCloze and Topic-StoryCloze, spoken and written: which of two endings does a story have?

Three layouts of a folder:

    NAME_mutual.wav, NAME_correct.wav, NAME_incorrect.wav, and .txt   the story without its end, and the two endings
    0_*.wav, 1_*.wav, 2_*.wav ...                                     whole stories: 0 right, 1 wrong; 2 right, 3 wrong
    **/*.parquet                                                      whole stories, written and spoken (the mirror)

The first may have a table beside it, `items.csv`, of what else is known of the stories: `name`, and columns that
figures are told apart by. It can be asked in four directions: in S>T the story is heard and the endings are read. Two
scopes: the ending alone is scored, after the story; or story and ending are (`whole`), which is what the original
metric of the spoken benchmark compares. Published figures take the mean log-likelihood per token (Spirit LM, table 10).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from spiritlm.errors import InputError
from spiritlm.run.files import read_bytes
from spiritlm.scoring.protocol import Request, Segment, Sound
from spiritlm.suites.gold import read_table
from spiritlm.suites.mirrors import cell_sound, cell_text, parquet_files, parquet_rows, parquet_split
from spiritlm.suites.pairs import ITEM, RESERVED, Pair, Task, whole_pair

VERSION = 2
ENDINGS = {"T": ".txt", "S": ".wav"}
DIRECTIONS = ("T>T", "S>S", "T>S", "S>T")
PARTS = ("mutual", "correct", "incorrect")
WHOLE, ITEMS = "whole", "items.csv"

_PART = re.compile(rf"(.+)_({'|'.join(PARTS)})")
_NUMBERED = re.compile(r"(\d+)_.*")


def read(name: str, folder: Path, split: str | None = None) -> list[Task]:
    """`NAME DIRECTION` and `NAME DIRECTION whole` for all that the folder's files allow; `split`: of the mirror.

    Raises `InputError` where a file of a story is absent, or the folder has none of the three layouts.
    """
    if parquet_files(folder):
        return _mirrored(name, folder, split)
    files = sorted(path for path in folder.iterdir() if path.suffix in ENDINGS.values())
    if any(_PART.fullmatch(path.stem) for path in files):
        return _crossed(name, folder, files)
    sounds = [path for path in files if path.suffix == ".wav"]
    if sounds:
        return [_flat(name, folder, sounds)]
    raise InputError(
        f"{folder}: expected NAME_mutual, NAME_correct and NAME_incorrect (.wav, .txt), or 0_*.wav, 1_*.wav ..., or "
        "*.parquet, found none"
    )


def _task(name: str, split: str, pairs: Sequence[Pair]) -> Task:
    return Task(name, VERSION, split, pairs, 0, ("mean", "full"))


def _crossed(name: str, folder: Path, files: Sequence[Path]) -> list[Task]:
    stories = sorted({found[1] for path in files if (found := _PART.fullmatch(path.stem))})
    if strange := [path for path in files if path.suffix == ".wav" and not _PART.fullmatch(path.stem)]:
        raise InputError(f"{strange[0]}: expected NAME_mutual, NAME_correct or NAME_incorrect")
    there, suffixes = {path.name for path in files}, {path.suffix for path in files}
    pieces: dict[str, Mapping[str, Sequence[Segment]]] = {}
    for modality, suffix in ENDINGS.items():
        if suffix not in suffixes:
            continue
        for file in (f"{story}_{part}{suffix}" for story in stories for part in PARTS):
            if file not in there:
                raise InputError(f"{folder / file}: absent, though the folder has other {suffix} files")
        pieces[modality] = {s: [_piece(folder / f"{s}_{part}{suffix}") for part in PARTS] for s in stories}
    return list(_directions(name, _labels(folder / ITEMS, stories), pieces))


def _labels(path: Path, stories: Sequence[str]) -> dict[str, dict[str, str]]:
    """Of each story, none where there is no table. Raises `InputError` where the table has not the same stories, or one
    twice, or a column that is called as what is kept of every pair."""
    if not path.is_file():
        return {story: {} for story in stories}
    table: dict[str, dict[str, str]] = {}
    for number, row in enumerate(read_table(path, ["name"]), 2):
        if row["name"] in table:
            raise InputError(f"{path}: row {number}: story {row['name']!r} is there twice, expected once")
        table[row["name"]] = {key: value for key, value in row.items() if key != "name"}
        if taken := table[row["name"]].keys() & RESERVED:
            raise InputError(f"{path}: column {min(taken)!r}: expected another name, {', '.join(RESERVED)} are taken")
    if other := sorted(table.keys() ^ set(stories)):
        raise InputError(f"{path}: story {other[0]!r} is in the table or in the folder, not in both")
    return {story: table[story] for story in stories}


def _piece(path: Path) -> Segment:
    if path.suffix == ".wav":
        return Sound(str(path), path)
    try:
        text = read_bytes(path).decode().strip()
    except UnicodeDecodeError:
        raise InputError(f"{path}: expected text in UTF-8") from None
    if not text:
        raise InputError(f"{path}: is empty, expected text")
    return text


def _directions(
    name: str, stories: Mapping[str, Mapping[str, str]], pieces: Mapping[str, Mapping[str, Sequence[Segment]]]
) -> Iterator[Task]:
    for direction in DIRECTIONS:
        heard, told = direction.split(">")
        if heard not in pieces or told not in pieces:
            continue
        told_apart, told_whole = [], []
        for story, labels in stories.items():
            begin, right, wrong = pieces[heard][story][0], *pieces[told][story][1:]
            told_apart.append(Pair(story, Request((begin,), (right,)), Request((begin,), (wrong,)), labels))
            told_whole.append(Pair(story, Request((), (begin, right)), Request((), (begin, wrong)), labels))
        yield _task(f"{name} {direction}", "test", told_apart)
        yield _task(f"{name} {direction} {WHOLE}", "test", told_whole)


def _flat(name: str, folder: Path, files: Sequence[Path]) -> Task:
    numbered: dict[int, Path] = {}
    for path in files:
        if not (found := _NUMBERED.fullmatch(path.stem)):
            raise InputError(f"{path}: expected a name that begins with a number and _")
        if (other := numbered.setdefault(int(found[1]), path)) != path:
            raise InputError(f"{path}: number {found[1]} is that of {other.name} too")
    for number in sorted(numbered):  # an absent file would make pairs of strangers
        if (partner := number ^ 1) not in numbered:
            raise InputError(
                f"{folder}: has no recording number {partner}, which is a pair with {numbered[number].name}"
            )
    sounds = {number: Sound(str(path), path) for number, path in numbered.items()}
    pairs = [whole_pair(str(number), sounds[number], sounds[number + 1]) for number in sorted(numbered)[::2]]
    return _task(f"{name} S>S {WHOLE}", "test", pairs)


def _mirrored(name: str, folder: Path, split: str | None) -> list[Task]:
    """A folder below for each voice."""
    split = parquet_split(folder, split)
    spoken: dict[str, Pair] = {}
    written: dict[str, Pair] = {}
    columns = ["id", "correct_text", "negative_text", "correct_audio", "negative_audio"]
    for path, number, row in parquet_rows(folder, columns, split):
        item, voice = cell_text(path, number, "id", row["id"]), path.parent.name
        id = f"{item}-{voice}"
        if id in spoken:
            raise InputError(f"{path}: row {number}: id {item} is there twice in voice {voice}, expected once")
        said, other = (cell_text(path, number, column, row[column]) for column in columns[1:3])
        right, wrong = (cell_sound(path, number, column, row[column]) for column in columns[3:])
        spoken[id] = whole_pair(id, right, wrong, {ITEM: item, "voice": voice})
        if written.setdefault(item, pair := whole_pair(item, said, other)) != pair:
            raise InputError(f"{path}: row {number}: id {item} is another story than in another voice")
    return [
        _task(f"{name} {direction} {WHOLE}", split, list(pairs.values()))
        for direction, pairs in (("T>T", written), ("S>S", spoken))
    ]
