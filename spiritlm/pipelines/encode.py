"""Recordings and what is said in them become documents of a store: the steps of `tokenizers/encode.py`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from datatrove.pipeline.base import PipelineStep

from spiritlm.audio.files import read_audio
from spiritlm.corpus.manifest import SpokenDocument, corpus_root, read_manifest, splits_of
from spiritlm.corpus.parts import Part, parts_of
from spiritlm.corpus.store import Record
from spiritlm.errors import InputError
from spiritlm.pipelines.shards import Rejected
from spiritlm.tokens.emit import Document, document_of
from spiritlm.tokens.interleave import partition_units
from spiritlm.tokens.text import words_to_ids
from spiritlm.tokens.vocabulary import Vocabulary
from spiritlm.units.loading import load_speech_tokenizer
from spiritlm.units.protocol import Precision, SpeechTokenizer, UnitStreams

GROUP_SECONDS = 900.0
"""Of sound that is read and encoded together."""
READERS = 4
"""Threads that read recordings."""
COMPARED = 32
"""Recordings that are encoded twice to see what bf16 changes."""
COMPARED_SECONDS = 60.0
"""Of each, at most."""


@dataclass(frozen=True)
class Heard:
    """A recording that was read: its parts, and the wave of each, float32 `[samples]`."""

    document: SpokenDocument
    parts: list[Part]
    waves: list[np.ndarray]


class EncodeSpeech(PipelineStep):
    """Units and words of each part of each recording.

    Recordings are read by threads, a group ahead of those that the tokenizer is given, and a group is encoded at once:
    the tokenizer puts what is of one length together.
    """

    name, type = "encode speech", "units"

    def __init__(
        self,
        corpus: Path,
        model: Path,
        vocabulary: Path,
        max_pause: float,
        untranscribed: bool,
        precision: Precision = "fp32",
    ) -> None:
        """`max_pause`, `untranscribed`: see `parts_of`. `precision`: see `SpeechTokenizer`."""
        super().__init__()
        self.corpus, self.model, self.vocabulary, self.precision = corpus, model, vocabulary, precision
        self.max_pause, self.untranscribed = max_pause, untranscribed

    def run(
        self, data: Iterable[SpokenDocument], rank: int = 0, world_size: int = 1
    ) -> Iterator[tuple[Record, Document] | Rejected]:
        tokenizer, vocabulary = _tokenizer(self.model, self.precision), Vocabulary.load(self.vocabulary)
        root, groups = corpus_root(self.corpus), _groups(data)
        with ThreadPoolExecutor(READERS) as pool:
            reading = [pool.submit(self._hear, document, root, tokenizer) for document in next(groups, [])]
            while reading:
                with self.track_time():
                    found = [future.result() for future in reading]
                    reading = [pool.submit(self._hear, document, root, tokenizer) for document in next(groups, [])]
                    heard = sum(len(wave) for item in found if isinstance(item, Heard) for wave in item.waves)
                    self.stat_update("seconds", value=round(heard / tokenizer.sample_rate), unit="s")
                    encoded = self._encode(found, tokenizer, vocabulary)
                yield from encoded

    def _hear(self, document: SpokenDocument, root: Path, tokenizer: SpeechTokenizer) -> Heard | Rejected:
        tolerance, rate = 1 / tokenizer.rate, tokenizer.sample_rate
        try:
            parts = parts_of(document, self.max_pause, self.untranscribed, tolerance)
            wave = read_audio(root / document.audio, rate)
            waves = [wave[round(part.start * rate) : round(part.end * rate)] for part in parts]
            needed = max((part.start + word.end for part in parts for word in part.words), default=0.0)
            if not all(map(len, waves)) or needed > len(wave) / rate + tolerance:
                raise InputError(f"its sound ends after {len(wave) / rate:.2f} s, before what is said in it")
        except InputError as error:
            return Rejected(document.id, str(error))
        return Heard(document, parts, waves)

    def _encode(
        self, group: Sequence[Heard | Rejected], tokenizer: SpeechTokenizer, vocabulary: Vocabulary
    ) -> list[tuple[Record, Document] | Rejected]:
        """In the order of the group."""
        waves = [wave for heard in group if isinstance(heard, Heard) for wave in heard.waves]
        try:
            streams = iter(tokenizer.encode_batch(waves, tokenizer.sample_rate))
        except InputError as error:
            if len(group) > 1:  # one of them is to blame
                return [item for heard in group for item in self._encode([heard], tokenizer, vocabulary)]
            assert isinstance(group[0], Heard)
            group, streams = [Rejected(group[0].document.id, str(error))], iter(())
        encoded: list[tuple[Record, Document] | Rejected] = []
        for heard in group:
            if isinstance(heard, Rejected):
                self.stat_update("rejected")
                encoded.append(heard)
                continue
            document = heard.document
            for part in heard.parts:
                place = Record(part.id, document.speaker, str(document.audio), part.start, part.end - part.start)
                encoded.append((place, align(part, next(streams), vocabulary)))
        return encoded


def _groups(documents: Iterable[SpokenDocument]) -> Iterator[list[SpokenDocument]]:
    group: list[SpokenDocument] = []
    for document in documents:
        group.append(document)
        if sum(d.duration for d in group) >= GROUP_SECONDS:
            yield group
            group = []
    if group:
        yield group


def changed_by_bf16(corpus: Path, model: Path) -> float:
    """Share of the units that bf16 changes, over some recordings of the corpus's first split."""
    fp32, bf16 = (load_speech_tokenizer(model, precision) for precision in get_args(Precision))
    documents = read_manifest(corpus, splits_of(corpus)[0])
    waves = []
    for document in documents[:: max(1, -(-len(documents) // COMPARED))]:
        with suppress(InputError):
            waves.append(read_audio(corpus_root(corpus) / document.audio, fp32.sample_rate, end=COMPARED_SECONDS))
    if not waves:
        return 0.0
    pairs = zip(*(ears.encode_batch(waves, ears.sample_rate) for ears in (fp32, bf16)), strict=True)
    changed = np.concatenate([a.semantic.values != b.semantic.values for a, b in pairs])
    return float(changed.mean())


@cache
def _tokenizer(model: Path, precision: Precision) -> SpeechTokenizer:
    torch.set_num_threads(1)
    return load_speech_tokenizer(model, precision)


def align(part: Part, streams: UnitStreams, vocabulary: Vocabulary) -> Document:
    """Text ids, words and units of a part as a document of a store."""
    words, semantic = part.words, streams.semantic
    ids, text_starts = words_to_ids([word.text for word in words], vocabulary.text)
    starts, ends = (np.array([getattr(word, name) for word in words]) for name in ("start", "end"))
    bounds = partition_units(starts, ends, len(semantic.values), semantic.rate)
    table = np.concatenate([np.array(text_starts[:-1], np.int32).reshape(-1, 1), bounds], axis=1)
    firsts = np.cumsum([0, *map(len, part.sentences)])[:-1]
    return document_of(ids, table, firsts, **{name: stream.values for name, stream in streams.items()})
