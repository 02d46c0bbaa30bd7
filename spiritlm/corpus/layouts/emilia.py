"""Emilia: a JSON object a recording, in one `.jsonl` or each in a `.json` beside its sound.

    {"id", "wav" or "mp3": path, "text", "duration", "speaker", "language", "dnsmos"}

Paths are relative to the file they stand in; a sound of the same name beside a `.json` goes before its path. Tar files
must be unpacked before.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from spiritlm.corpus.layouts.found import TO_THE_END, UNKNOWN, Found, Reject, matching_files
from spiritlm.corpus.layouts.lines import RowFault, id_of, json_file, json_lines, number_of, text_of
from spiritlm.corpus.manifest import Sentence

SUFFIXES = (".mp3", ".wav", ".flac", ".ogg", ".opus")


def read_emilia(root: Path, pattern: str) -> Iterator[Found | Reject]:
    """One recording an object, of the files that match `pattern`, for example `EN/**/*.json` or `EN/*.jsonl`.

    Raises `InputError` where no file matches.
    """
    for path in matching_files(root, pattern):
        name = str(path.relative_to(root))
        for line in json_file(path, name) if path.suffix == ".json" else json_lines(path, name):
            if isinstance(line, Reject):
                yield line
                continue
            try:
                yield _found(root, path, line[1])
            except RowFault as fault:
                yield Reject(f"{name}:{line[0]}", "malformed row", str(fault))


def _found(root: Path, path: Path, row: dict[str, Any]) -> Found:
    custom = {}
    if language := text_of(row, "language", ""):
        custom["language"] = language
    if row.get("dnsmos") is not None:
        custom["dnsmos"] = str(number_of(row, "dnsmos"))
    return Found(
        id=id_of(row, "id", path.stem if path.suffix == ".json" else None),
        audio=_audio(path.relative_to(root), path, row),
        sentences=(Sentence(text_of(row, "text", "").strip(), 0.0, TO_THE_END),),
        speaker=text_of(row, "speaker", UNKNOWN),
        duration=number_of(row, "duration") if "duration" in row else None,
        custom=custom,
    )


def _audio(name: Path, path: Path, row: dict[str, Any]) -> Path:
    """From the root on. `name`: `path` from the root on."""
    if path.suffix == ".json":
        for suffix in SUFFIXES:
            if path.with_suffix(suffix).is_file():
                return name.with_suffix(suffix)
    return name.parent / text_of(row, "wav" if "wav" in row else "mp3")
