"""Recordings and what is said in them get word times: the steps of `synth_data/align.py`.

Sentence by sentence, each looked for in its own window. A sentence that cannot be aligned is rejected, and the rest of
its recording is kept; a recording of which nothing is left, or that cannot be read, is rejected as a whole. Where the
input has word times already, pairs of found and given word starts are kept, to tell how good the alignment is.
"""

from __future__ import annotations

import math
import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datatrove.pipeline.base import PipelineStep

from spiritlm.alignment.models import SAMPLE_RATE, FrameModel, load_frame_model, log_probs_of
from spiritlm.alignment.readers import read_textgrid
from spiritlm.alignment.words import AlignedWord, align_words, respell, start_errors, windows
from spiritlm.audio.files import read_audio
from spiritlm.corpus.manifest import Sentence, SpokenDocument, Word, corpus_root, inside, write_manifest
from spiritlm.errors import InputError
from spiritlm.pipelines.shards import REJECTS, Rejected, shard_folder
from spiritlm.run.files import atomic_folder, atomic_path, read_json, read_jsonl, write_json, write_jsonl
from spiritlm.run.rejects import Rejects

PART, COUNTS, STARTS = "part", "counts.json", "starts.jsonl"


@dataclass(frozen=True)
class Aligned:
    """A document with word times in every sentence that is left."""

    document: SpokenDocument
    score: float
    """Mean log-probability of a frame of its words."""
    given: tuple[float | None, ...]
    """For each of its words, the start that the input stated, seconds."""


class AlignSpeech(PipelineStep):
    """Word times by a CTC model."""

    name, type = "align speech", "alignment"

    def __init__(self, corpus: Path, model: Path, margin: float, min_score: float) -> None:
        """`margin`: seconds around a sentence in which it is looked for too; see `windows`."""
        super().__init__()
        self.corpus, self.model, self.margin, self.min_score = corpus, model, margin, min_score

    def run(self, data: Iterable[SpokenDocument], rank: int = 0, world_size: int = 1) -> Iterator[Aligned | Rejected]:
        model, root = _model(self.model), corpus_root(self.corpus)
        for document in data:
            with self.track_time():
                yield from self._align(document, root, model)

    def _align(self, document: SpokenDocument, root: Path, model: FrameModel) -> Iterator[Aligned | Rejected]:
        if not document.text.strip():
            yield Rejected(document.id, "empty transcript")
            return
        try:
            wave = read_audio(root / document.audio, SAMPLE_RATE)
            log_probs = log_probs_of(model, wave)
        except InputError as error:
            yield Rejected(document.id, str(error))
            return
        sentences = document.sentences
        places = windows([s.start for s in sentences], [s.end for s in sentences], document.duration, self.margin)
        kept: list[tuple[Sentence, list[AlignedWord]]] = []
        for number, (sentence, (start, end)) in enumerate(zip(sentences, places, strict=True)):
            if not sentence.text.strip():
                continue
            try:
                kept.append((sentence, self._words(sentence, log_probs, start, end, model)))
            except InputError as error:
                yield Rejected(f"{document.id}-{number}", str(error))
        if kept:
            yield aligned(document, kept)

    def _words(
        self, sentence: Sentence, log_probs: np.ndarray, start: float, end: float, model: FrameModel
    ) -> list[AlignedWord]:
        first, last = round(start * model.frame_rate), round(end * model.frame_rate)
        offset = first / model.frame_rate
        texts, part = sentence.text.split(), log_probs[first:last]
        words = align_words(texts, part, model.alphabet, model.frame_rate, offset, model.lag)
        if (score := _mean_score(words)) < self.min_score:
            raise InputError(f"score {score:.2f} is under min_score = {self.min_score}")
        return words


@cache
def _model(folder: Path) -> FrameModel:
    torch.set_num_threads(1)
    return load_frame_model(folder)


class ReadAlignments(PipelineStep):
    """Word times from TextGrid files: `FOLDER/audio/path.TextGrid` for `audio/path.wav`."""

    name, type = "read alignments", "alignment"

    def __init__(self, textgrids: Path, tier: str) -> None:
        super().__init__()
        self.textgrids, self.tier = textgrids, tier

    def run(self, data: Iterable[SpokenDocument], rank: int = 0, world_size: int = 1) -> Iterator[Aligned | Rejected]:
        for document in data:
            try:
                yield self._align(document)
            except InputError as error:
                yield Rejected(document.id, str(error))

    def _align(self, document: SpokenDocument) -> Aligned:
        path = document.audio.with_suffix(".TextGrid")
        if not inside(self.textgrids, path):
            raise InputError(f"the path {path} leaves {self.textgrids}")
        words = read_textgrid(self.textgrids / path, self.tier)
        spoken = [sentence for sentence in document.sentences if sentence.text.strip()]
        if not spoken:
            raise InputError("empty transcript")
        texts = [sentence.text.split() for sentence in spoken]
        found = iter(respell([text for part in texts for text in part], words))
        result = aligned(document, [(s, [next(found) for _ in t]) for s, t in zip(spoken, texts, strict=True)])
        if words[-1].end > document.duration + 0.1:
            raise InputError(f"the alignment ends at {words[-1].end:.2f} s, the recording at {document.duration:.2f} s")
        return result


def aligned(document: SpokenDocument, kept: Sequence[tuple[Sentence, list[AlignedWord]]]) -> Aligned:
    """`document` with the sentences in `kept` and the words found in them."""
    words = [word for _, found in kept for word in found]
    last = math.floor(10_000 * document.duration) / 10_000  # as times are rounded
    sentences = tuple(
        Sentence.of_words([Word(w.text, min(w.start, last), min(w.end, last)) for w in found]) for _, found in kept
    )
    given = tuple(start for sentence, _ in kept for start in _given_starts(sentence))
    return Aligned(replace(document, sentences=sentences), _mean_score(words), given)


def _mean_score(words: Sequence[AlignedWord]) -> float:
    """Over the frames of all words."""
    seconds = np.array([word.end - word.start for word in words])
    return float(np.average([word.score for word in words], weights=seconds + 1e-6))


def _given_starts(sentence: Sentence) -> list[float | None]:
    """Of each word of the sentence; None where the input states none, as for the later words of a shared interval."""
    starts: list[float | None] = []
    for word in sentence.words:
        starts += [word.start, *[None] * (len(word.text.split()) - 1)]
    return starts if len(starts) == len(sentence.text.split()) else [None] * len(sentence.text.split())


class WriteAligned(PipelineStep):
    """Shard number `rank` under `folder/RANK`: its manifests, `rejects.jsonl`, counts and pairs of word starts."""

    name, type = "write shard", "writer"

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def run(self, data: Iterable[Aligned | Rejected], rank: int = 0, world_size: int = 1) -> Iterator[None]:
        items = list(data)
        kept = [item for item in items if isinstance(item, Aligned)]
        rejects = [vars(item) for item in items if isinstance(item, Rejected)]
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic_folder(shard_folder(self.folder, rank)) as folder:
            write_manifest(folder, PART, [item.document for item in kept])
            write_jsonl(folder / REJECTS, rejects)
            write_jsonl(folder / STARTS, (word_starts(item) for item in kept))
            write_json(folder / COUNTS, _counts(kept))
        yield from ()


def word_starts(item: Aligned) -> dict[str, Any]:
    """Speaker, and found and given starts of the words whose start the input states."""
    found = [word.start for sentence in item.document.sentences for word in sentence.words]
    pairs = [(f, g) for f, g in zip(found, item.given, strict=True) if g is not None]
    return {"speaker": item.document.speaker, "found": [f for f, _ in pairs], "given": [g for _, g in pairs]}


def _counts(kept: Sequence[Aligned]) -> dict[str, float]:
    sentences = [sentence for item in kept for sentence in item.document.sentences]
    return {
        "recordings": len(kept),
        "seconds": sum(item.document.duration for item in kept),
        "sentences": len(sentences),
        "words": sum(len(sentence.words) for sentence in sentences),
        "score": sum(item.score * item.document.duration for item in kept),
    }


def join_aligned(folder: Path, splits: Sequence[str], out: Path, max_bad_fraction: float) -> dict[str, Any]:
    """Join the shards in `folder` into the splits of corpus folder `out`, and their rejects.

    `splits`: the split of each shard. Returns `rejected`, the counts of each split, and `start_error` where the input
    had word times. Raises `InputError` where more than `max_bad_fraction` of all sentences were rejected; a recording
    rejected as a whole counts as one.
    """
    folders = [shard_folder(folder, rank) for rank in range(len(splits))]
    counts = [read_json(shard / COUNTS) for shard in folders]
    rejects = Rejects(out, max_bad_fraction)
    for shard in folders:
        for row in read_jsonl(shard / REJECTS):
            rejects.add(**row)
    result: dict[str, Any] = {"rejected": rejects.close(sum(c["sentences"] for c in counts) + len(rejects.items))}
    for split in dict.fromkeys(splits):
        parts = [(shard, count) for shard, count, of in zip(folders, counts, splits, strict=True) if of == split]
        for kind in ("recordings", "supervisions"):
            _concatenate([shard / f"{kind}-{PART}.jsonl" for shard, _ in parts], out / f"{kind}-{split}.jsonl")
        result[split] = _total([count for _, count in parts])
    result["start_error"] = accuracy(row for shard in folders for row in read_jsonl(shard / STARTS))
    return result


def _concatenate(parts: Sequence[Path], path: Path) -> None:
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        for part in parts:
            with part.open("rb") as source:
                shutil.copyfileobj(source, file)


def _total(counts: Sequence[dict[str, float]]) -> dict[str, float]:
    total = {key: sum(count[key] for count in counts) for key in ("recordings", "sentences", "words")}
    seconds = sum(count["seconds"] for count in counts)
    score = sum(count["score"] for count in counts) / max(seconds, 1e-9)
    return {**total, "hours": round(seconds / 3600, 3), "score": round(score, 3)}


def accuracy(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Start errors against the word times of the input, overall and by speaker; empty where it had none.

    `rows`: what `word_starts` gives.
    """
    found: dict[str, list[float]] = defaultdict(list)
    given: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        for name in ("overall", row["speaker"]):
            found[name] += row["found"]
            given[name] += row["given"]
    return {name: vars(start_errors(found[name], given[name])) for name in sorted(found) if found[name]}
