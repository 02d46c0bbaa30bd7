"""Recordings by the thousand: shards of tellings, each recorded by a fresh process, resumable.

A shard's file of facts is written after its recordings and says that it is done. Neither the number of workers nor a
run that was killed changes a byte.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spiritlm.audio.files import write_wav
from spiritlm.run.files import read_json, remove_partial, write_json, write_text
from spiritlm.run.progress import progress
from spiritlm.run.workers import in_fresh_processes
from spiritlm.smallworld.telling import Telling, record
from spiritlm.smallworld.voices import SAMPLE_RATE


@dataclass(frozen=True)
class Shard:
    """Some tellings, to become `FOLDER/ID.wav`, and `FOLDER/ID.txt` beside it where `written`."""

    name: str
    folder: Path
    """Relative to the folder of the stage."""
    tellings: tuple[Telling, ...]
    written: bool = False


def cut_shards(
    name: str, folder: Path, items: Sequence[Sequence[Telling]], size: int, written: bool = False
) -> Iterator[Shard]:
    """Shards `NAME-00000` and on, of `size` items each; the tellings of an item stay together."""
    for number, start in enumerate(range(0, len(items), size)):
        chosen = items[start : start + size]
        yield Shard(f"{name}-{number:05d}", folder, tuple(told for item in chosen for told in item), written)


def record_shards(label: str, root: Path, shards: Sequence[Shard], workers: int) -> None:
    """Record what is not recorded yet below `root`; `workers` processes at a time, 0: one a core."""
    for folder in sorted({shard.folder for shard in shards}):
        (root / folder).mkdir(parents=True, exist_ok=True)
        remove_partial(root / folder)
    left = [shard for shard in shards if not _facts(root, shard).is_file()]
    with progress(label, len(shards), len(shards) - len(left)) as bar:
        for _ in in_fresh_processes(functools.partial(_record_shard, root), left, workers):
            bar.advance()


def read_shard(root: Path, shard: Shard) -> list[dict[str, Any]]:
    """Facts about a shard's recordings, in order: `wav` (path below `root`), `duration` in seconds, `sentences` (rows
    of words: text, start, end), `phones` and `moods` (rows likewise)."""
    rows: list[dict[str, Any]] = read_json(_facts(root, shard))
    return rows


def forget_shards(root: Path, shards: Sequence[Shard]) -> None:
    """Remove the facts; the recordings stay."""
    for shard in shards:
        _facts(root, shard).unlink()


def _facts(root: Path, shard: Shard) -> Path:
    return root / f"shard-{shard.name}.json"


def _record_shard(root: Path, shard: Shard) -> None:
    rows = []
    for telling in shard.tellings:
        recording = record(telling)
        wav = shard.folder / f"{telling.id}.wav"
        write_wav(root / wav, recording.wave, SAMPLE_RATE)
        if shard.written:
            write_text((root / wav).with_suffix(".txt"), " ".join(telling.sentences) + "\n")
        rows.append(
            {
                "wav": str(wav),
                "duration": len(recording.wave) / SAMPLE_RATE,
                "sentences": recording.sentences,
                "phones": recording.phones,
                "moods": recording.moods,
            }
        )
    write_json(_facts(root, shard), rows)
