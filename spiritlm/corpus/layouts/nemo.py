"""NeMo's JSON lines: `{"audio_filepath", "duration", "text"[, "offset", "speaker", "lang"]}`, a sentence a line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from spiritlm.corpus.layouts.found import UNKNOWN, Found, Reject, document_id, matching_files
from spiritlm.corpus.layouts.lines import RowFault, json_lines, number_of, text_of
from spiritlm.corpus.manifest import Sentence


class _Line(NamedTuple):
    sentence: Sentence
    speaker: str
    language: str
    whole: bool
    """The sentence is the whole recording: the line has no offset."""


def read_nemo(root: Path, pattern: str) -> Iterator[Found | Reject]:
    """One recording an audio file, of the manifests that match `pattern`; its lines are its sentences.

    Relative audio paths are relative to the folder of their manifest. A manifest is held in memory while it is read,
    since lines of one file may stand anywhere in it. Raises `InputError` where no file matches.
    """
    for path in matching_files(root, pattern):
        name = path.relative_to(root)
        recordings: dict[Path, list[_Line]] = {}
        for line in json_lines(path, str(name)):
            if isinstance(line, Reject):
                yield line
                continue
            try:
                audio = name.parent / text_of(line[1], "audio_filepath")
                recordings.setdefault(audio, []).append(_line(line[1]))
            except RowFault as fault:
                yield Reject(f"{name}:{line[0]}", "malformed row", str(fault))
        for audio, lines in recordings.items():
            yield _found(root, audio, lines)


def _line(row: dict[str, Any]) -> _Line:
    start = number_of(row, "offset", 0.0)
    sentence = Sentence(text_of(row, "text", "").strip(), start, start + number_of(row, "duration"))
    speaker = row.get("speaker")
    return _Line(
        sentence,
        UNKNOWN if speaker in (None, "") else str(speaker),
        text_of(row, "lang" if "lang" in row else "language", ""),
        row.get("offset") is None,
    )


def _found(root: Path, audio: Path, lines: list[_Line]) -> Found:
    first = lines[0]
    return Found(
        id=document_id(root, audio),
        audio=audio,
        sentences=tuple(line.sentence for line in lines),
        speaker=first.speaker,
        duration=first.sentence.end if len(lines) == 1 and first.whole else None,
        custom={"language": first.language} if first.language else {},
    )
