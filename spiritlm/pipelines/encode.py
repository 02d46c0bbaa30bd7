"""Recordings and what is said in them become documents of a store: the steps of `tokenizers/encode.py`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import torch
from datatrove.pipeline.base import PipelineStep

from spiritlm.audio.files import read_audio
from spiritlm.corpus.manifest import SpokenDocument, corpus_root
from spiritlm.corpus.parts import Part, parts_of
from spiritlm.corpus.store import Record
from spiritlm.errors import InputError
from spiritlm.pipelines.shards import Rejected
from spiritlm.tokens.emit import Document, document_of
from spiritlm.tokens.interleave import partition_units
from spiritlm.tokens.text import words_to_ids
from spiritlm.tokens.vocabulary import Vocabulary
from spiritlm.units.loading import load_speech_tokenizer
from spiritlm.units.protocol import SpeechTokenizer, UnitStreams

CUT_SHORT = 0.25
"""Seconds by which a recording may be shorter than its manifest says."""


class EncodeSpeech(PipelineStep):
    """Units and words of each part of each recording."""

    name, type = "encode speech", "units"

    def __init__(self, corpus: Path, model: Path, vocabulary: Path, max_pause: float, untranscribed: bool) -> None:
        """`max_pause`, `untranscribed`: see `parts_of`."""
        super().__init__()
        self.corpus, self.model, self.vocabulary = corpus, model, vocabulary
        self.max_pause, self.untranscribed = max_pause, untranscribed

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
        tolerance, rate = 1 / tokenizer.rate, tokenizer.sample_rate
        parts = parts_of(document, self.max_pause, self.untranscribed, tolerance)
        wave = read_audio(root / document.audio, rate)
        waves = [wave[round(part.start * rate) : round(part.end * rate)] for part in parts]
        needed = max((part.start + word.end for part in parts for word in part.words), default=0.0)
        if not all(map(len, waves)) or needed > len(wave) / rate + tolerance:
            raise InputError(f"its sound ends after {len(wave) / rate:.2f} s, before what is said in it")
        self.stat_update("seconds", value=round(len(wave) / rate), unit="s")
        streams = tokenizer.encode_batch(waves, rate)
        return [
            (
                Record(part.id, document.speaker, str(document.audio), part.start, part.end - part.start),
                align(part, units, vocabulary),
            )
            for part, units in zip(parts, streams, strict=True)
        ]


@cache
def _tokenizer(model: Path) -> SpeechTokenizer:
    torch.set_num_threads(1)
    return load_speech_tokenizer(model)


def align(part: Part, streams: UnitStreams, vocabulary: Vocabulary) -> Document:
    """Text ids, words and units of a part as a document of a store."""
    words, semantic = part.words, streams.semantic
    ids, text_starts = words_to_ids([word.text for word in words], vocabulary.text)
    starts, ends = (np.array([getattr(word, name) for word in words]) for name in ("start", "end"))
    bounds = partition_units(starts, ends, len(semantic.values), semantic.rate)
    table = np.concatenate([np.array(text_starts[:-1], np.int32).reshape(-1, 1), bounds], axis=1)
    firsts = np.cumsum([0, *map(len, part.sentences)])[:-1]
    return document_of(ids, table, firsts, **{name: stream.values for name, stream in streams.items()})
