"""Encode a corpus: recordings and their word times become stores of aligned documents.

In:  a speak stage, a unit tokenizer (fit units), a text tokenizer (fit text).
Out: a store (see `spiritlm/corpus/store.py`) with the splits `train`, `dev`, `test`, and `written` for the
     documents that exist as text only; `rejects.jsonl` names what could not be used.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import NonNegativeInt

from spiritlm.audio.files import read_audio
from spiritlm.corpus.manifest import SpokenDocument, read_manifest
from spiritlm.corpus.store import NamedDocument, write_split
from spiritlm.errors import InputError
from spiritlm.run.files import read_bytes, read_jsonl
from spiritlm.run.program import run_program
from spiritlm.run.progress import track
from spiritlm.run.rejects import Rejects
from spiritlm.run.stage import Input, Stage, StageRecipe
from spiritlm.run.workers import map_in_workers
from spiritlm.tokens.documents import AlignedDocument
from spiritlm.tokens.interleave import word_boundaries
from spiritlm.tokens.vocabulary import TEXT_MODEL, Vocabulary
from spiritlm.units.loading import load_speech_tokenizer
from spiritlm.units.protocol import SpeechTokenizer

SPLITS = ("train", "dev", "test")


class EncodeRecipe(StageRecipe):
    speech: Input
    units: Input
    text: Input
    workers: NonNegativeInt = 0
    """Processes that encode; 0 means one a core."""
    max_bad_fraction: float = 0.01
    """Largest share of recordings that may be rejected."""


def encode(recipe: EncodeRecipe, stage: Stage) -> dict[str, Any]:
    tokenizer = load_speech_tokenizer(recipe.units / "model")
    vocabulary = Vocabulary(read_bytes(recipe.text / TEXT_MODEL), tokenizer.vocabulary_size)
    vocabulary.save(stage.folder)
    rejects = Rejects(stage.folder, recipe.max_bad_fraction)
    counts: dict[str, Any] = {"vocabulary": vocabulary.size}
    total = 0
    for split in SPLITS:
        spoken = read_manifest(recipe.speech, split)
        total += len(spoken)
        documents = []
        for source, units in zip(spoken, _encode_all(recipe, spoken, split), strict=True):
            try:
                documents.append(_align(source, units, tokenizer.rate, vocabulary))
            except InputError as error:
                rejects.add(source.id, str(error))
        counts[split] = write_split(stage.folder, split, documents, tokenizer.rate, vocabulary)
    counts["rejected"] = rejects.close(total)
    written = [_written(row["id"], row["text"], vocabulary) for row in read_jsonl(recipe.speech / "stories.jsonl")]
    counts["written"] = write_split(stage.folder, "written", written, tokenizer.rate, vocabulary)
    return counts


def _encode_all(recipe: EncodeRecipe, documents: list[SpokenDocument], split: str) -> Iterable[np.ndarray | InputError]:
    """Units of each recording in order, or why it cannot be read."""
    work = [(recipe.units / "model", recipe.speech / document.audio) for document in documents]
    yield from track(map_in_workers(_encode_file, work, recipe.workers), f"encode {split}", len(work))


def _encode_file(work: tuple[Path, Path]) -> np.ndarray | InputError:
    model, audio = work
    tokenizer = _tokenizer(model)
    try:
        wave = read_audio(audio, tokenizer.sample_rate)
        return tokenizer.encode(wave, tokenizer.sample_rate).semantic.values
    except InputError as error:
        return error


@cache
def _tokenizer(model: Path) -> SpeechTokenizer:
    torch.set_num_threads(1)
    return load_speech_tokenizer(model)


def _align(
    source: SpokenDocument, units: np.ndarray | InputError, rate: float, vocabulary: Vocabulary
) -> NamedDocument:
    """Raises `InputError` for audio that could not be read and for word times outside the recording."""
    if isinstance(units, InputError):
        raise units
    words = [word for sentence in source.sentences for word in sentence.words]
    starts = np.array([word.start for word in words])
    if np.any(np.diff(starts) < 0) or starts[0] < 0 or words[-1].end > source.duration + 1 / rate:
        raise InputError(f"word times do not lie in order within its {source.duration:.2f} s")
    text, word_text = _text_ids([word.text for word in words], vocabulary)
    boundaries = word_boundaries(starts, len(units), rate)
    return NamedDocument(source.id, source.speaker, AlignedDocument(text, units, word_text, boundaries))


def _written(id: str, text: str, vocabulary: Vocabulary) -> NamedDocument:
    ids, word_text = _text_ids(text.split(), vocabulary)
    no_units = np.zeros(0, dtype=np.uint16)
    return NamedDocument(id, "", AlignedDocument(ids, no_units, word_text, np.zeros_like(word_text)))


def _text_ids(words: list[str], vocabulary: Vocabulary) -> tuple[np.ndarray, np.ndarray]:
    """Text ids int32 of all words, and where each word's begin int64 `[words + 1]`."""
    pieces = [vocabulary.encode_text(word) for word in words]
    ids = np.array([id for piece in pieces for id in piece], dtype=np.int32)
    return ids, np.cumsum([0, *map(len, pieces)])


if __name__ == "__main__":
    run_program("encode", EncodeRecipe, encode, __doc__)
