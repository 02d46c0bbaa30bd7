"""What a trainer reads: rows of documents packed back to back, each row a pure function of (seed, position).

A row draws documents, and how each is cut, from a counter-based generator keyed by (seed, position), so a run
resumes from one integer with any number of ranks. Documents are drawn with replacement and the last one of a
row is cut off where the row ends: the corpus issue replaces this by epochs that are planned.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from pydantic import model_validator

from spiritlm.config import Recipe
from spiritlm.corpus.store import DocumentStore
from spiritlm.errors import InputError
from spiritlm.tokens.documents import AlignedDocument, TokenSequence, compose
from spiritlm.tokens.interleave import SPEECH, alternate

KINDS = ("text", "speech", "interleaved")
WRITTEN_SPLIT = "written"
"""Store split of the documents that exist as text only."""


class Mixture(Recipe):
    """Which share of the tokens is of which kind (relative weights), and how interleaving cuts."""

    text: float = 1.0
    speech: float = 1.0
    interleaved: float = 1.0
    text_words: tuple[int, int] = (10, 30)
    """Least and most words of a text span (Spirit LM, section 3.1)."""
    speech_words: tuple[int, int] = (5, 15)
    """Least and most words of a speech span."""

    @model_validator(mode="after")
    def _check(self) -> Mixture:
        self.shares()
        for name in ("text_words", "speech_words"):
            least, most = getattr(self, name)
            if not 1 <= least <= most:
                raise InputError(f"mixture.{name} = [{least}, {most}]: expected 1 <= least <= most")
        return self

    def shares(self) -> np.ndarray:
        weights = np.array([self.text, self.speech, self.interleaved], dtype=np.float64)
        if weights.min() < 0 or weights.sum() == 0:
            raise InputError("mixture: the weights must not be negative and one must be above 0")
        return weights / weights.sum()


@dataclass(frozen=True)
class PackedSample:
    """One row for the model; every array is `[sequence_length]`."""

    input_ids: np.ndarray
    """int64."""
    labels: np.ndarray
    """int64: the id that follows each input id."""
    loss_mask: np.ndarray
    """float32: 0 where the label is `<s>` or padding."""
    modality: np.ndarray
    """uint8: modality of each label."""


class InterleavedDataset:
    """Rows of text, speech and interleaved documents of one split; `dataset[position]` for any position >= 0."""

    def __init__(self, store: Path, split: str, sequence_length: int, mixture: Mixture, seed: int) -> None:
        self._spoken = DocumentStore(store, split)
        self._written = DocumentStore(store, WRITTEN_SPLIT)
        self.vocabulary = self._spoken.vocabulary
        self.sequence_length, self.mixture, self.seed = sequence_length, mixture, seed
        if not len(self._spoken):
            raise InputError(f"{store}: split {split} holds no documents")

    def __getitem__(self, position: int) -> PackedSample:
        rng = _generator(self.seed, position)
        pieces, length = [], 0
        while length <= self.sequence_length:
            kind = KINDS[rng.choice(len(KINDS), p=self._document_shares)]
            pieces.append(self._draw(kind, rng))
            length += len(pieces[-1])
        return _pack(pieces, self.sequence_length, self.vocabulary.bos, self.vocabulary.eos)

    def _draw(self, kind: str, rng: np.random.Generator) -> TokenSequence:
        spoken = len(self._spoken)
        index = int(rng.integers(spoken + len(self._written) if kind == "text" else spoken))
        document = self._spoken[index] if index < spoken else self._written[index - spoken]
        return self._compose(kind, document, rng)

    def _compose(self, kind: str, document: AlignedDocument, rng: np.random.Generator) -> TokenSequence:
        if kind == "text":
            spans = document.text_span()
        elif kind == "speech":
            spans = document.speech_span()
        else:
            spans = alternate(len(document), self.mixture.text_words, self.mixture.speech_words, rng)
        return compose(document, spans, self.vocabulary)

    @cached_property
    def _document_shares(self) -> np.ndarray:
        """Probability that a drawn document is of each kind, so that the shares hold by tokens."""
        rng = _generator(self.seed, -1)
        lengths = [np.mean([len(self._draw(kind, rng)) for _ in range(200)]) for kind in KINDS]
        shares = self.mixture.shares() / lengths
        return shares / shares.sum()


def dev_samples(store: Path, split: str, sequence_length: int) -> list[PackedSample]:
    """Every document of `split` once as text and once as speech, in rows of one kind each, padded."""
    documents = DocumentStore(store, split)
    if not len(documents):
        raise InputError(f"{store}: split {split} holds no documents")
    rows: list[PackedSample] = []
    for kind in ("text", "speech"):
        row: list[TokenSequence] = []
        for document in (documents[i] for i in range(len(documents))):
            spans = document.text_span() if kind == "text" else document.speech_span()
            sequence = compose(document, spans, documents.vocabulary)
            if row and sum(map(len, row)) + len(sequence) > sequence_length + 1:
                rows.append(_pack(row, sequence_length, documents.vocabulary.bos, documents.vocabulary.eos))
                row = []
            row.append(sequence)
        rows.append(_pack(row, sequence_length, documents.vocabulary.bos, documents.vocabulary.eos))
    return rows


def _pack(pieces: list[TokenSequence], sequence_length: int, bos: int, padding: int) -> PackedSample:
    """Join, cut or pad to `sequence_length + 1` ids, and shift."""
    ids = np.concatenate([piece.ids for piece in pieces])[: sequence_length + 1]
    modality = np.concatenate([piece.modality for piece in pieces])[: sequence_length + 1]
    short = sequence_length + 1 - len(ids)
    known = np.arange(1, sequence_length + 1) < len(ids)
    ids = np.pad(ids, (0, short), constant_values=padding)
    modality = np.pad(modality, (0, short))
    loss_mask = (known & (ids[1:] != bos)).astype(np.float32)
    return PackedSample(ids[:-1], ids[1:], loss_mask, modality[1:])


def unigram_entropy(dataset: InterleavedDataset, rows: int, dev: list[PackedSample]) -> dict[int, float]:
    """Cross entropy, nats a token, of `dev` under the unigram distribution of `rows` training rows, by modality.

    What a model reaches that knows how often each token occurs and nothing else; add-one smoothed.
    """
    counts = np.ones((SPEECH + 1, dataset.vocabulary.padded_size))
    for position in range(rows):
        sample = dataset[position]
        kept = sample.loss_mask > 0
        np.add.at(counts, (sample.modality[kept], sample.labels[kept]), 1)
    log_p = np.log(counts / counts.sum(axis=1, keepdims=True))
    found = {}
    for modality in range(len(counts)):
        picked = [s.labels[(s.loss_mask > 0) & (s.modality == modality)] for s in dev]
        found[modality] = float(-log_p[modality][np.concatenate(picked)].mean())
    return found


def _generator(seed: int, position: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, position + 1])))
