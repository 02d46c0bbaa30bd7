"""lhotse manifests: recordings with supervisions, or cuts (`.jsonl`, `.jsonl.gz`, `.jsonl.zst`).

A cut's supervisions are timed from the start of the cut, their alignments from the start of the recording (lhotse's own
`with_offset` and `truncate` leave alignments where they are). So here all is put into time of the recording, and a
supervision that a cut shows in part is taken whole, since its text is whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spiritlm.corpus.layouts.found import UNKNOWN, Found, Reject, matching_files
from spiritlm.corpus.layouts.lines import RowFault, id_of, json_lines, list_of, number_of, table_of, text_of
from spiritlm.corpus.manifest import Sentence, Word
from spiritlm.errors import InputError


@dataclass
class _Said:
    """What the supervisions of one recording say."""

    sentences: dict[str, Sentence] = field(default_factory=dict)
    """By the id of the supervision: two cuts may show the same one."""
    seconds: dict[str, float] = field(default_factory=dict)
    """How long each speaker speaks."""
    custom: dict[str, str] = field(default_factory=dict)
    """Language and further facts of the first supervision that states them; what is not text is left out."""

    def add(self, row: dict[str, Any], offset: float) -> None:
        """`offset`: seconds from the start of the recording to the zero of the supervision's start."""
        start = round(offset + number_of(row, "start"), 6)
        sentence = _sentence(row, start, round(start + number_of(row, "duration"), 6))
        speaker = text_of(row, "speaker", UNKNOWN)
        if self.sentences.setdefault(text_of(row, "id"), sentence) is sentence:
            self.seconds[speaker] = self.seconds.get(speaker, 0.0) + sentence.end - sentence.start
        facts = {"language": row.get("language"), **table_of(row, "custom")}
        self.custom = {key: text_of(facts, key) for key in facts if isinstance(facts[key], str)} | self.custom


def read_lhotse(root: Path, pattern: str) -> Iterator[Found | Reject]:
    """One recording a recording, of the files that match `pattern`: cuts, or recordings.

    The supervisions of `recordings-train.jsonl.gz` are in `supervisions-train.jsonl.gz` beside it. Audio paths are
    relative to `root`. Sentences are held in memory while a manifest is read. The document's speaker is who speaks
    longest; `custom.speakers` names all of several. Raises `InputError` where no file matches.
    """
    for path in matching_files(root, pattern):
        rows = json_lines(path, str(path.relative_to(root)))
        first = next((row for row in rows if not isinstance(row, Reject)), None)
        is_cuts = first is not None and "type" in first[1]
        yield from _read_cuts(root, path) if is_cuts else _read_recordings(root, path)


def _read_recordings(root: Path, path: Path) -> Iterator[Found | Reject]:
    partner = path.with_name(path.name.replace("recordings", "supervisions"))
    if partner == path or not partner.is_file():
        raise InputError(f"{path}: expected lhotse cuts, or recordings with their supervisions in {partner.name}")
    said: dict[str, _Said] = {}
    for line in json_lines(partner, name := str(partner.relative_to(root))):
        if isinstance(line, Reject):
            yield line
            continue
        try:
            said.setdefault(id_of(line[1], "recording_id"), _Said()).add(line[1], 0.0)
        except RowFault as fault:
            yield Reject(f"{name}:{line[0]}", "malformed row", str(fault))
    for line in json_lines(path, name := str(path.relative_to(root))):
        yield line if isinstance(line, Reject) else _found(line[1], said, f"{name}:{line[0]}")


def _read_cuts(root: Path, path: Path) -> Iterator[Found | Reject]:
    said: dict[str, _Said] = {}
    recordings: dict[str, dict[str, Any]] = {}
    for line in json_lines(path, name := str(path.relative_to(root))):
        if isinstance(line, Reject):
            yield line
            continue
        try:
            row = line[1]
            if row.get("type") != "MonoCut":
                yield Reject(f"{name}:{line[0]}", "not a MonoCut", f"found {row.get('type')!r}")
                continue
            recording = table_of(row, "recording")
            id = id_of(recording, "id")
            recordings.setdefault(id, recording)
            for supervision in list_of(row, "supervisions"):
                if not isinstance(supervision, dict):
                    raise RowFault(f"a supervision is {str(supervision)[:40]!r}, expected an object")
                said.setdefault(id, _Said()).add(supervision, number_of(row, "start"))
        except RowFault as fault:
            yield Reject(f"{name}:{line[0]}", "malformed row", str(fault))
    for recording in recordings.values():
        yield _found(recording, said, name)


def _found(recording: dict[str, Any], said: dict[str, _Said], place: str) -> Found | Reject:
    try:
        id = id_of(recording, "id")
        sources = list_of(recording, "sources")
        if len(sources) != 1 or not isinstance(sources[0], dict) or sources[0].get("type") != "file":
            return Reject(id, "not one audio file", f"its sources are {str(sources)[:80]}")
        if recording.get("transforms"):
            return Reject(id, "transformed recording", "expected the audio as it is in the file")
        spoken = said.get(id, _Said())
        custom = dict(spoken.custom)
        if len(spoken.seconds) > 1:
            custom["speakers"] = ",".join(sorted(spoken.seconds))
        return Found(
            id=id,
            audio=Path(text_of(sources[0], "source")),
            sentences=tuple(spoken.sentences.values()),
            speaker=max(sorted(spoken.seconds), key=lambda s: spoken.seconds[s], default=UNKNOWN),
            duration=number_of(recording, "duration"),
            sample_rate=round(number_of(recording, "sampling_rate")),
            custom=custom,
        )
    except RowFault as fault:
        return Reject(place, "malformed row", str(fault))


def _sentence(row: dict[str, Any], start: float, end: float) -> Sentence:
    text, items = " ".join(text_of(row, "text", "").split()), list_of(table_of(row, "alignment"), "word")
    try:
        words = [Word(str(i[0]), float(i[1]), round(float(i[1]) + float(i[2]), 6)) for i in items if str(i[0]).strip()]
    except (TypeError, ValueError, IndexError, KeyError):
        raise RowFault(f"its word alignment is {str(items)[:60]}, expected [word, start, duration]") from None
    return _aligned(text, start, end, sorted(words, key=lambda word: word.start))


def _aligned(text: str, start: float, end: float, words: list[Word]) -> Sentence:
    """The words take the spelling of the text, whose punctuation aligners drop; where they do not fit, none is kept."""
    if not text and words:
        text = " ".join(word.text for word in words)
    if " ".join(word.text for word in words) != text:
        spelt = text.split()
        fit = len(spelt) == len(words)
        words = [Word(s, w.start, w.end) for s, w in zip(spelt, words, strict=True)] if fit else []
    return Sentence(text, start, end, tuple(words))
