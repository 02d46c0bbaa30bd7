"""sWUGGY and sBLIMP (ZeroSpeech 2021), heard or read: is the word likelier than the non-word, the sentence that is
grammatical likelier than the one that is not?

    FOLDER/gold.csv, *.wav      the official layout: `lexical/dev` is sWUGGY, `syntactic/dev` sBLIMP
    FOLDER/gold.csv, **/*.tar   the WebDataset mirror: members FILENAME.wav, .ogg or .flac

Pairs are made by item and voice as `gold.csv` tells them. Read instead of heard, an item counts once, however many
voices say it. The published figures take the mean log-likelihood per token among all of the vocabulary (Spirit LM,
table 4), though the sum does better on both (its table 10).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from spiritlm.errors import InputError
from spiritlm.run.files import files_below
from spiritlm.scoring.protocol import Sound
from spiritlm.suites.gold import GOLD, KEYS, LEXICAL, SYNTACTIC, Row, item_of, pairs_of, read_gold
from spiritlm.suites.mirrors import SOUNDS, cell_sound, cell_text, parquet_rows, parquet_split, tar_sounds
from spiritlm.suites.official import band_of
from spiritlm.suites.pairs import ITEM, Pair, Task, whole_pair

VERSION = 1


class _Kind(NamedTuple):
    columns: tuple[str, ...]
    text: str
    """Column of the written form."""
    labels: Callable[[Row], dict[str, str]]
    """Of the right recording."""


def _lexical_labels(row: Row) -> dict[str, str]:
    return {"frequency": band_of(row["frequency"]), "length": row["length"]}


def _syntactic_labels(row: Row) -> dict[str, str]:
    return {"type": row["type"], "subtype": row["subtype"]}


_KINDS = {
    "swuggy": _Kind(LEXICAL, "word", _lexical_labels),
    "sblimp": _Kind(SYNTACTIC, "transcription", _syntactic_labels),
}


def read_spoken(name: str, folder: Path) -> Task:
    """`name`: swuggy or sblimp. Raises `InputError` where a recording of `gold.csv` is absent, or one is there that it
    does not name."""
    kind = _KINDS[name]
    rows = read_gold(folder / GOLD, kind.columns)
    pairs, sounds = pairs_of(rows, folder / GOLD), recordings(folder)
    _require_same(folder, [row["filename"] for row in rows], sounds)

    def pair(id: str, right: Row, wrong: Row) -> Pair:
        labels = {ITEM: item_of(right), "voice": right["voice"], **kind.labels(right)}
        return whole_pair(id, sounds[right["filename"]], sounds[wrong["filename"]], labels)

    found = [pair(id, right, wrong) for id, (right, wrong) in pairs.items()]
    return Task(name, VERSION, folder.name, found, 0, ("mean", "full"), folder / GOLD)


def read_written(name: str, folder: Path) -> Task:
    """`name`: swuggy or sblimp. Raises `InputError` where a recording has no written form, or another voice another."""
    kind = _KINDS[name]
    pairs = pairs_of(read_gold(folder / GOLD, kind.columns), folder / GOLD)
    found: dict[str, Pair] = {}
    for id, (right, wrong) in pairs.items():
        said, other = right[kind.text].strip(), wrong[kind.text].strip()
        if not said or not other:
            raise InputError(f"{folder / GOLD}: {id}: {kind.text} is empty, expected what is said")
        pair = whole_pair(item_of(right), said, other, kind.labels(right))
        if not _same(found.setdefault(pair.id, pair), pair):
            raise InputError(f"{folder / GOLD}: {id}: another {kind.text} than in another voice")
    return Task(f"{name}_text", VERSION, folder.name, list(found.values()), 0, ("mean", "full"))


def _same(pair: Pair, other: Pair) -> bool:
    """Whether both ask the same; a word may have more phones in one voice than in another."""
    return (pair.right, pair.wrong) == (other.right, other.wrong)


def recordings(folder: Path) -> dict[str, Sound]:
    """By file name without its ending; those of tar archives where there are any, at whatever depth."""
    if archives := [path for path in files_below(folder) if path.suffix == ".tar"]:
        return tar_sounds(archives)
    files = sorted(path for path in folder.iterdir() if path.suffix in SOUNDS)
    found: dict[str, Sound] = {}
    for path in files:
        if path.stem in found:
            raise InputError(f"{folder}: recording {path.stem!r} is there twice, expected once")
        found[path.stem] = Sound(str(path), path)
    return found


def _require_same(folder: Path, named: Sequence[str], there: Mapping[str, Sound]) -> None:
    if missing := [name for name in named if name not in there]:
        raise InputError(
            f"{folder}: {len(missing)} of the {len(named)} recordings that {GOLD} names are absent, the first is "
            f"{missing[0]!r}"
        )
    if left := sorted(there.keys() - set(named)):
        raise InputError(f"{folder}: {len(left)} recordings are not named in {GOLD}, the first is {left[0]!r}")


def read_parquet(folder: Path, split: str | None = None, written: bool = False) -> Task:
    """sBLIMP from its parquet mirror (`id, positive audio, negative audio, voice, positive_transcription,
    negative_transcription, type, subtype`), which names no files, so that there is nothing to submit.

    Raises `InputError` for an absent split, column or cell, and for an item that is there twice in one voice.
    """
    split = parquet_split(folder, split)
    what = "transcription" if written else "audio"
    columns = [f"positive_{what}", f"negative_{what}"]
    found: dict[str, Pair] = {}
    for path, number, row in parquet_rows(folder, ["id", "voice", "type", "subtype", *columns], split):
        told = {name: cell_text(path, number, name, row[name]) for name in ("id", "voice", "type", "subtype")}
        item, labels = "/".join(told[name] for name in KEYS[SYNTACTIC]), _syntactic_labels(told)
        if written:
            said, other = (cell_text(path, number, column, row[column]) for column in columns)
            pair = whole_pair(item, said, other, labels)
            if not _same(found.setdefault(item, pair), pair):
                raise InputError(f"{path}: row {number}: {item}: another transcription than in another voice")
            continue
        id = f"{item}-{told['voice']}"
        if id in found:
            raise InputError(f"{path}: row {number}: {id} is there twice, expected once")
        right, wrong = (cell_sound(path, number, column, row[column]) for column in columns)
        found[id] = whole_pair(id, right, wrong, {ITEM: item, "voice": told["voice"], **labels})
    name = "sblimp_text" if written else "sblimp"
    return Task(name, VERSION, split, list(found.values()), 0, ("mean", "full"))
