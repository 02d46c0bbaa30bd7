"""Recordings and what is said in them become documents of a store: the steps of `tokenizers/encode.py`.

A shard is a run of documents of one split.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from datatrove.pipeline.base import PipelineStep

from spiritlm.audio.files import read_audio
from spiritlm.corpus.manifest import Sentence, SpokenDocument, Word, corpus_root, read_manifest
from spiritlm.corpus.store import Record
from spiritlm.errors import InputError
from spiritlm.pipelines.shards import Rejected
from spiritlm.tokens.emit import Document, document_of
from spiritlm.tokens.interleave import partition_units
from spiritlm.tokens.text import words_to_ids
from spiritlm.tokens.vocabulary import Vocabulary
from spiritlm.units.loading import load_speech_tokenizer
from spiritlm.units.protocol import SpeechTokenizer, UnitStreams


@dataclass(frozen=True)
class Shard:
    """Documents `[first, end)` of a split."""

    split: str
    first: int
    end: int


def shards_of(split: str, documents: Sequence[SpokenDocument], hours: float) -> list[Shard]:
    """Cut a split into runs of documents of about `hours` of audio each."""
    ends, seconds = [0], 0.0
    for number, document in enumerate(documents, start=1):
        seconds += document.duration
        if seconds >= 3600 * hours:
            ends.append(number)
            seconds = 0.0
    if ends[-1] < len(documents):
        ends.append(len(documents))
    return [Shard(split, first, end) for first, end in pairwise(ends)]


class ReadDocuments(PipelineStep):
    """The documents of shard number `rank`."""

    name, type = "read documents", "reader"

    def __init__(self, corpus: Path, shards: Sequence[Shard]) -> None:
        super().__init__()
        self.corpus, self.shards = corpus, shards

    def run(self, data: None = None, rank: int = 0, world_size: int = 1) -> Iterator[SpokenDocument]:
        shard = self.shards[rank]
        yield from _manifest(self.corpus, shard.split)[shard.first : shard.end]


@cache
def _manifest(corpus: Path, split: str) -> list[SpokenDocument]:
    return read_manifest(corpus, split)


class EncodeSpeech(PipelineStep):
    """Units of each document; a document without a transcript becomes one for each stretch of speech in it."""

    name, type = "encode speech", "units"

    def __init__(self, corpus: Path, model: Path, vocabulary: Path, untranscribed: bool) -> None:
        """`untranscribed`: take documents without any text, which are rejected otherwise."""
        super().__init__()
        self.corpus, self.model, self.vocabulary, self.untranscribed = corpus, model, vocabulary, untranscribed

    def run(
        self, data: Iterable[SpokenDocument], rank: int = 0, world_size: int = 1
    ) -> Iterator[tuple[Record, Document] | Rejected]:
        tokenizer, vocabulary = _tokenizer(self.model), Vocabulary.load(self.vocabulary)
        root = corpus_root(self.corpus)
        for document in data:
            with self.track_time():
                try:
                    yield from self._encode(document, root, tokenizer, vocabulary)
                except InputError as error:
                    self.stat_update("rejected")
                    yield Rejected(document.id, str(error))

    def _encode(
        self, document: SpokenDocument, root: Path, tokenizer: SpeechTokenizer, vocabulary: Vocabulary
    ) -> list[tuple[Record, Document]]:
        transcribed = any(sentence.text for sentence in document.sentences)
        if not transcribed and not self.untranscribed:
            raise InputError("empty transcript")
        if transcribed:
            check_times(document, 1 / tokenizer.rate)
        wave = read_audio(root / document.audio, tokenizer.sample_rate)
        rate = tokenizer.sample_rate
        found = [(_record(document), wave)] if transcribed else list(_stretches(document, wave, rate))
        streams = tokenizer.encode_batch([part for _, part in found], rate)
        self.stat_update("seconds", value=int(document.duration), unit="s")
        sentences = document.sentences if transcribed else ()
        return [(r, align(sentences, u, vocabulary)) for (r, _), u in zip(found, streams, strict=True)]


@cache
def _tokenizer(model: Path) -> SpeechTokenizer:
    torch.set_num_threads(1)
    return load_speech_tokenizer(model)


def _record(document: SpokenDocument) -> Record:
    return Record(document.id, document.speaker, str(document.audio), 0.0, document.duration)


def _stretches(document: SpokenDocument, wave: np.ndarray, rate: int) -> Iterator[tuple[Record, np.ndarray]]:
    for number, sentence in enumerate(document.sentences):
        part = wave[round(sentence.start * rate) : round(sentence.end * rate)]
        if len(part):
            seconds = round(len(part) / rate, 4)
            id = f"{document.id}-{number:04d}"
            yield Record(id, document.speaker, str(document.audio), sentence.start, seconds), part


def check_times(document: SpokenDocument, tolerance: float) -> None:
    """Raises `InputError` where words are out of order or outside the recording by more than `tolerance` seconds."""
    words = _words(document.sentences)
    starts = np.array([word.start for word in words])
    ends = np.array([word.end for word in words])
    if np.any(np.diff(starts) < 0) or np.any(ends < starts):
        raise InputError("word times are not in order")
    if starts[0] < 0 or ends.max() > document.duration + tolerance:
        raise InputError(f"word times do not lie within its {document.duration:.2f} s")


def _words(sentences: Sequence[Sentence]) -> list[Word]:
    """The words of all sentences that have text; a sentence without word times counts as one long word."""
    return [
        word
        for sentence in sentences
        if sentence.text
        for word in sentence.words or (Word(sentence.text, sentence.start, sentence.end),)
    ]


def align(sentences: Sequence[Sentence], streams: UnitStreams, vocabulary: Vocabulary) -> Document:
    """Text ids, words and units of one recording as a document of a store."""
    words = _words(sentences)
    ids, text_starts = words_to_ids([word.text for word in words], vocabulary.text)
    semantic = streams.semantic
    bounds = partition_units(
        np.array([word.start for word in words]),
        np.array([word.end for word in words]),
        len(semantic.values),
        semantic.rate,
    )
    table = np.concatenate([np.array(text_starts[:-1], np.int32).reshape(-1, 1), bounds], axis=1)
    lengths = [len(sentence.words) or 1 for sentence in sentences if sentence.text]
    firsts = np.cumsum([0, *lengths[:-1]]) if lengths else ()
    return document_of(ids, table, firsts, **{name: stream.values for name, stream in streams.items()})
