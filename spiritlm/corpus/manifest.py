"""Recordings with word times on disk, as lhotse manifests.

A corpus folder holds, for each split, `recordings-SPLIT.jsonl` and `supervisions-SPLIT.jsonl`. A supervision is
a sentence; its `word` alignment holds the words in time of the recording (not of the sentence). A word item may
hold several words of text where the aligner gave them one interval ("of the"). Audio paths are relative to the
corpus folder and may not leave it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lhotse.audio import AudioSource, Recording
from lhotse.supervision import AlignmentItem, SupervisionSegment

from spiritlm.errors import InputError
from spiritlm.run.files import read_jsonl, write_jsonl


@dataclass(frozen=True)
class Word:
    text: str
    """One word as written, punctuation attached; or several where they share one interval."""
    start: float
    """Seconds from the start of the recording."""
    end: float


@dataclass(frozen=True)
class Sentence:
    words: tuple[Word, ...]

    @property
    def text(self) -> str:
        return " ".join(word.text for word in self.words)


@dataclass(frozen=True)
class SpokenDocument:
    """One recording and what is said in it."""

    id: str
    audio: Path
    """Relative to the corpus folder."""
    duration: float
    """Seconds."""
    sample_rate: int
    speaker: str
    sentences: tuple[Sentence, ...]
    custom: dict[str, str] = field(default_factory=dict)
    """Further facts, for example `mood`."""

    @property
    def text(self) -> str:
        return " ".join(sentence.text for sentence in self.sentences)


def write_manifest(folder: Path, split: str, documents: Sequence[SpokenDocument]) -> None:
    """Write both manifest files of `split`; the same documents give the same bytes."""
    write_jsonl(folder / f"recordings-{split}.jsonl", (_recording(d).to_dict() for d in documents))
    write_jsonl(
        folder / f"supervisions-{split}.jsonl",
        (_supervision(d, number).to_dict() for d in documents for number in range(len(d.sentences))),
    )


def _recording(document: SpokenDocument) -> Recording:
    return Recording(
        id=document.id,
        sources=[AudioSource(type="file", channels=[0], source=str(document.audio))],
        sampling_rate=document.sample_rate,
        num_samples=round(document.duration * document.sample_rate),
        duration=document.duration,
    )


def _supervision(document: SpokenDocument, number: int) -> SupervisionSegment:
    sentence = document.sentences[number]
    start, end = sentence.words[0].start, sentence.words[-1].end
    return SupervisionSegment(
        id=f"{document.id}-{number}",
        recording_id=document.id,
        start=start,
        duration=round(end - start, 4),
        text=sentence.text,
        language="English",
        speaker=document.speaker,
        custom=dict(document.custom),
        alignment={"word": [AlignmentItem(w.text, w.start, round(w.end - w.start, 4)) for w in sentence.words]},
    )


def read_manifest(folder: Path, split: str) -> list[SpokenDocument]:
    """Documents of `split`, in the order of the recordings file, sentences in order of time.

    Raises `InputError` for an absent file, a malformed line, an audio path that leaves `folder`, or a
    recording without supervisions.
    """
    sentences: dict[str, list[SupervisionSegment]] = {}
    for segment in _read(folder / f"supervisions-{split}.jsonl", SupervisionSegment):
        sentences.setdefault(segment.recording_id, []).append(segment)
    documents = []
    for recording in _read(folder / f"recordings-{split}.jsonl", Recording):
        if recording.id not in sentences:
            raise InputError(f"{folder}: recording {recording.id} has no supervision in split {split}")
        documents.append(_document(folder, recording, sorted(sentences[recording.id], key=lambda s: s.start)))
    return documents


def _read(path: Path, kind: Any) -> Iterator[Any]:
    for number, row in enumerate(read_jsonl(path), start=1):
        try:
            yield kind.from_dict(row)
        except (TypeError, KeyError, ValueError) as error:
            raise InputError(f"{path}, line {number}: not a lhotse {kind.__name__}: {error}") from None


def _document(folder: Path, recording: Recording, segments: list[SupervisionSegment]) -> SpokenDocument:
    audio = Path(recording.sources[0].source)
    if not (folder / audio).resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{folder}: recording {recording.id}: the path {audio} leaves the corpus folder")
    return SpokenDocument(
        id=recording.id,
        audio=audio,
        duration=recording.duration,
        sample_rate=recording.sampling_rate,
        speaker=segments[0].speaker,
        sentences=tuple(Sentence(_words(segment)) for segment in segments),
        custom=dict(segments[0].custom or {}),
    )


def _words(segment: SupervisionSegment) -> tuple[Word, ...]:
    items = (segment.alignment or {}).get("word")
    if not items:
        raise InputError(f"supervision {segment.id} has no word alignment")
    return tuple(Word(item.symbol, item.start, round(item.start + item.duration, 4)) for item in items)
