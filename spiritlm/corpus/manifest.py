"""Recordings and what is said in them, on disk as lhotse manifests.

A corpus folder holds, for each split, `recordings-SPLIT.jsonl` and `supervisions-SPLIT.jsonl`. A supervision is
a sentence, or a stretch of speech that nobody has written down; its `word` alignment, where there is one, holds the
words in time of the recording (not of the sentence). A word item may hold several words of text where the aligner
gave them one interval ("of the"). Audio paths are relative to the root of the corpus and may not leave it: the root
is the folder itself, or what `corpus.json` names for a corpus that stands elsewhere.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lhotse.audio import AudioSource, Recording
from lhotse.supervision import AlignmentItem, SupervisionSegment

from spiritlm.errors import InputError
from spiritlm.run.files import read_json, read_jsonl, write_jsonl

CORPUS_FILE = "corpus.json"
"""`{"root": FOLDER}`: where the audio of a corpus is that is not in its folder; absolute, or relative to the folder."""


@dataclass(frozen=True)
class Word:
    text: str
    """One word as written, punctuation attached; or several where they share one interval."""
    start: float
    """Seconds from the start of the recording."""
    end: float


@dataclass(frozen=True)
class Sentence:
    """A stretch of speech of one speaker."""

    text: str
    """Empty where it has no transcript."""
    start: float
    """Seconds from the start of the recording."""
    end: float
    words: tuple[Word, ...] = ()
    """In order of time; their texts joined by spaces are `text`. Empty where nothing is aligned."""

    @classmethod
    def of_words(cls, words: Sequence[Word]) -> Sentence:
        """An aligned sentence, from its first word's start to its last word's end."""
        return cls(" ".join(word.text for word in words), words[0].start, words[-1].end, tuple(words))


@dataclass(frozen=True)
class SpokenDocument:
    """One recording and what is said in it."""

    id: str
    audio: Path
    """Relative to the root of the corpus."""
    duration: float
    """Seconds."""
    sample_rate: int
    speaker: str
    sentences: tuple[Sentence, ...]
    """In order of time."""
    custom: dict[str, Any] = field(default_factory=dict)
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
    words = [AlignmentItem(w.text, w.start, round(w.end - w.start, 4)) for w in sentence.words]
    return SupervisionSegment(
        id=f"{document.id}-{number}",
        recording_id=document.id,
        start=sentence.start,
        duration=round(sentence.end - sentence.start, 4),
        text=sentence.text or None,
        language=document.custom.get("language", "English"),
        speaker=document.speaker,
        custom=dict(document.custom),
        alignment={"word": words} if words else None,
    )


def corpus_root(folder: Path) -> Path:
    """The folder that the audio paths of a corpus folder are relative to, and may not leave."""
    described = folder / CORPUS_FILE
    return folder / read_json(described)["root"] if described.is_file() else folder


def splits_of(folder: Path) -> list[str]:
    """Names of the splits of a corpus folder: `train`, `dev` and `test` first, others by name."""
    found = {path.stem.removeprefix("recordings-") for path in folder.glob("recordings-*.jsonl")}
    if not found:
        raise InputError(f"{folder}: expected a corpus folder, but it has no recordings-SPLIT.jsonl")
    first = [split for split in ("train", "dev", "test") if split in found]
    return first + sorted(found.difference(first))


def read_manifest(folder: Path, split: str) -> list[SpokenDocument]:
    """Documents of `split`, in the order of the recordings file, sentences in order of time.

    Raises `InputError` for an absent file, a malformed line, an audio path that leaves `folder`, or a
    recording without supervisions.
    """
    if split not in (known := splits_of(folder)):
        raise InputError(f"{folder}: has no split {split!r}; it has {', '.join(known)}")
    sentences: dict[str, list[SupervisionSegment]] = {}
    for segment in _read(folder / f"supervisions-{split}.jsonl", SupervisionSegment):
        sentences.setdefault(segment.recording_id, []).append(segment)
    root = corpus_root(folder)
    documents = []
    for recording in _read(folder / f"recordings-{split}.jsonl", Recording):
        if recording.id not in sentences:
            raise InputError(f"{folder}: recording {recording.id} has no supervision in split {split}")
        documents.append(_document(folder, root, recording, sorted(sentences[recording.id], key=lambda s: s.start)))
    return documents


def require_speakers(speakers: Sequence[str], known: Collection[str], corpus: Path) -> None:
    """Raises `InputError` for one of `speakers` that has no recordings among those of `known` speakers."""
    for speaker in speakers:
        if speaker not in known:
            raise InputError(f"speakers: {speaker!r} has no recordings in {corpus}; known: {', '.join(sorted(known))}")


def inside(root: Path, path: Path) -> bool:
    """Whether `path`, relative to `root`, stays in it; symbolic links are followed."""
    return (root / path).resolve().is_relative_to(root.resolve())


def _read(path: Path, kind: Any) -> Iterator[Any]:
    for number, row in enumerate(read_jsonl(path), start=1):
        try:
            yield kind.from_dict(row)
        except (TypeError, KeyError, ValueError) as error:
            raise InputError(f"{path}, line {number}: not a lhotse {kind.__name__}: {error}") from None


def _document(folder: Path, root: Path, recording: Recording, segments: list[SupervisionSegment]) -> SpokenDocument:
    audio = Path(recording.sources[0].source)
    if not inside(root, audio):
        raise InputError(f"{folder}: recording {recording.id}: the path {audio} leaves the corpus folder")
    return SpokenDocument(
        id=recording.id,
        audio=audio,
        duration=recording.duration,
        sample_rate=recording.sampling_rate,
        speaker=segments[0].speaker,
        sentences=tuple(
            Sentence(segment.text or "", segment.start, round(segment.end, 4), _words(segment)) for segment in segments
        ),
        custom=dict(segments[0].custom or {}),
    )


def _words(segment: SupervisionSegment) -> tuple[Word, ...]:
    items = (segment.alignment or {}).get("word", ())
    return tuple(Word(item.symbol, item.start, round(item.start + item.duration, 4)) for item in items)
