"""What lies in the folder of STSP (`spiritlm/suites/stsp.py`): records of prompts, and examples with their answers.

A record is a line of JSON: `id`, `sentiment` or an `emotion` that stands for one, `wav_path` or `asr` (the words), and
perhaps `speaker`. An example has `prompt`, `generation` and `sentiment`: words, or the path of a recording, whose first
half is a prompt and whose second half an answer. Paths are relative to `data` and may not leave it.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import soundfile

from spiritlm.audio.files import read_audio
from spiritlm.errors import InputError
from spiritlm.inference.request import SAMPLE_RATE
from spiritlm.run.files import read_jsonl
from spiritlm.scoring.protocol import Segment, Sound
from spiritlm.scoring.sentiment import SENTIMENT_OF_EMOTION, SENTIMENTS
from spiritlm.suites.shots import balanced, prompt, spread

CORPORA = {"T": ("expresso_asr",), "S": ("emov", "expresso_read")}
"""Manifests of written and of spoken prompts."""
LABELS = ("emotion", "speaker")


@dataclass(frozen=True)
class Record:
    """A prompt of a manifest."""

    corpus: str
    id: str
    prompt: Segment
    sentiment: str
    labels: Mapping[str, str]


class Half(NamedTuple):
    """Of a recording."""

    path: Path
    second: bool

    def sound(self) -> Sound:
        """At 16 kHz, as a file in memory. Raises `InputError` where the recording is no sound or too short to cut."""
        wave, name = read_audio(self.path, SAMPLE_RATE), f"{self.path}, {'second' if self.second else 'first'} half"
        if len(wave) < 2:
            raise InputError(f"{name}: expected at least 2 samples, found {len(wave)}")
        middle, file = len(wave) // 2, io.BytesIO()
        soundfile.write(file, wave[middle:] if self.second else wave[:middle], SAMPLE_RATE, format="WAV")
        return Sound(name, file.getvalue())


@dataclass(frozen=True)
class Example:
    """A prompt and its answer, to be shown."""

    pieces: tuple[str | Half, ...]
    sentiment: str


def manifest_of(folder: Path, corpus: str, split: str) -> Path:
    return folder / "manifest" / corpus.partition("_")[0] / f"{corpus}.{split}.jsonl"


def read_prompts(folder: Path, heard: str, split: str) -> dict[str, list[Record]]:
    """Of each manifest of a modality, `T` or `S`, that is there.

    Raises `InputError` where a record lacks a field, is there twice, names a path that leaves `data` or leads nowhere,
    or has no known sentiment.
    """
    paths = {corpus: manifest_of(folder, corpus, split) for corpus in CORPORA[heard]}
    return {corpus: _records(folder, path, corpus) for corpus, path in paths.items() if path.is_file()}


def mixed(records: Mapping[str, Sequence[Record]], most: int | None) -> list[Record]:
    """At most `most` of each manifest, evenly spread, so that every stretch of what is asked has its share of each:
    errors are taken over stretches."""
    placed = []
    for own in records.values():
        chosen = spread(own, most)
        placed += [((number + 0.5) / len(chosen), record) for number, record in enumerate(chosen)]
    return [record for _, record in sorted(placed, key=lambda both: both[0])]


def read_examples(folder: Path, direction: str) -> list[Example]:
    """Those of `T>T`, `T>S`, `S>T` or `S>S`. Raises `InputError` as `read_prompts` does."""
    path = folder / "manifest" / "few_shot" / f"{direction.lower().replace('>', '2')}.jsonl"
    found = []
    for number, row in enumerate(read_jsonl(path), start=1):
        line = f"{path}, line {number}"
        pieces = tuple(
            Half(_recording(folder, row, name, line), name == "generation")
            if modality == "S"
            else _text(row, name, line)
            for name, modality in zip(("prompt", "generation"), direction.split(">"), strict=True)
        )
        found.append(Example(pieces, _sentiment(row, line)))
    if not found:
        raise InputError(f"{path}: holds no examples")
    return found


def draw_examples(pool: Sequence[Example], count: int, key: str, name: str) -> tuple[Segment, ...]:
    """The pieces of `count` examples, as many of each sentiment, give or take one, in a random order; the same for the
    same `key`. Raises `InputError`, with `name`, where there are fewer, or a recording is no sound."""
    kinds = sorted({example.sentiment for example in pool})
    groups = {kind: [example for example in pool if example.sentiment == kind] for kind in kinds}
    shown = (example.pieces for example in balanced(groups, count, key, name))
    return prompt([piece if isinstance(piece, str) else piece.sound() for piece in pieces] for pieces in shown)


def _records(folder: Path, path: Path, corpus: str) -> list[Record]:
    found: dict[str, Record] = {}
    for number, row in enumerate(read_jsonl(path), start=1):
        line = f"{path}, line {number}"
        id, prompt = str(_field(row, "id", line)), _prompt(folder, row, corpus, line)
        if id in found:
            raise InputError(f"{line}: id {id} is there twice, expected once")
        labels = {name: str(row[name]) for name in LABELS if row.get(name)}
        found[id] = Record(corpus, id, prompt, _sentiment(row, line), labels)
    if not found:
        raise InputError(f"{path}: holds no records")
    return list(found.values())


def _prompt(folder: Path, row: Mapping[str, Any], corpus: str, line: str) -> Segment:
    if corpus in CORPORA["T"]:
        return _text(row, "asr", line)
    path = _recording(folder, row, "wav_path", line)
    return Sound(str(path), path)


def _field(row: Any, name: str, line: str) -> Any:
    if not isinstance(row, dict):
        raise InputError(f"{line}: expected a record, found {type(row).__name__}")
    if row.get(name) is None:
        raise InputError(f"{line}: has no {name!r}, it has {', '.join(row) or 'nothing'}")
    return row[name]


def _text(row: Mapping[str, Any], name: str, line: str) -> str:
    if not (text := str(_field(row, name, line)).strip()):
        raise InputError(f"{line}: {name} is empty, expected text")
    return text


def _recording(folder: Path, row: Mapping[str, Any], name: str, line: str) -> Path:
    """In `data`, which it may not leave."""
    told = PurePosixPath(str(_field(row, name, line)))
    if told.is_absolute() or ".." in told.parts:
        raise InputError(f"{line}: {name} is {str(told)!r}, expected a path below {folder / 'data'}")
    if not (path := folder / "data" / told).is_file():
        raise InputError(f"{line}: {name}: {path} does not exist")
    return path


def _sentiment(row: Mapping[str, Any], line: str) -> str:
    """As told, or else that of the emotion."""
    told = row.get("sentiment") or SENTIMENT_OF_EMOTION.get(str(row.get("emotion")))
    if told not in SENTIMENTS:
        raise InputError(
            f"{line}: sentiment is {row.get('sentiment')!r}, emotion {row.get('emotion')!r}, expected a sentiment "
            f"({', '.join(SENTIMENTS)}) or an emotion ({', '.join(SENTIMENT_OF_EMOTION)})"
        )
    return str(told)
