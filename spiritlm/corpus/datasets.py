"""What a trainer reads: packed rows of a mixture of sources, each row a pure function of its position.

A source is one kind of token sequence over one split of a store: text, speech, interleaved, ASR or TTS pairs. Its
documents are packed back to back by a plan per epoch (`spiritlm/corpus/plan.py`), so every row holds as many tokens
and a share of the rows is a share of the tokens. Which source a position reads is megatron-core's blending, worked
out once for a block of positions and repeated. Position -> row needs no state: a run resumes from one integer, with
any number of readers.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from pydantic import Field, PositiveFloat, model_validator

from spiritlm.config import Recipe
from spiritlm.corpus.packing import fill, split_of
from spiritlm.corpus.plan import EpochPlan, Plans
from spiritlm.corpus.store import DocumentStore
from spiritlm.errors import InputError
from spiritlm.run.files import sha256_json
from spiritlm.tokens.emit import BEGINS, empty_row, ids_of
from spiritlm.tokens.interleave import MODALITIES
from spiritlm.tokens.samplers import ASR, POISSON, SENTENCES, SPANS, SPEECH_ONLY, TEXT_ONLY, TTS
from spiritlm.tokens.vocabulary import Vocabulary

Kind = Literal["text", "speech", "spans", "poisson", "sentences", "asr", "tts"]
KINDS = dict(zip(get_args(Kind), (TEXT_ONLY, SPEECH_ONLY, SPANS, POISSON, SENTENCES, ASR, TTS), strict=True))
READS_REMEMBERED = 8
"""Rows after which the mapped pages of a store are given back, so that memory does not grow with what was read."""
MAIN_STORE = "main"
BLEND_BLOCK = 1 << 16
"""Positions that are blended together; the shares are exact to one row in so many."""


class SourceRecipe(Recipe):
    """One part of a mixture."""

    kind: Kind
    """`text`, `speech`; interleaved by Spirit LM's `spans`, GLM-4-Voice's `poisson` or whole `sentences` in turn;
    `asr` (speech, then its text) and `tts` pairs."""
    store: str = MAIN_STORE
    """Which of the run's stores."""
    split: str = "train"
    share: PositiveFloat = 1.0
    """Of the tokens, relative to the other sources."""
    text_words: tuple[int, int] = (10, 30)
    """Spans: least and most words of a text span (Spirit LM, section 3.1)."""
    speech_words: tuple[int, int] = (5, 15)
    """Spans: least and most words of a speech span."""
    poisson_mean: PositiveFloat = 10.0
    """Poisson: mean words of a speech span (GLM-4-Voice: lambda)."""
    spoken_share: float = Field(default=0.3, ge=0, le=1)
    """Poisson: share of the words that are spoken (GLM-4-Voice: eta)."""
    sentences: tuple[int, int] = (1, 1)
    """Sentences, asr, tts: least and most sentences of a turn or a pair."""
    words: tuple[int, int] | None = None
    """Asr, tts: least and most words of a pair, wherever sentences end. None: pairs of whole sentences."""

    @model_validator(mode="after")
    def _check(self) -> SourceRecipe:
        bounds = {name: getattr(self, name) for name in ("text_words", "speech_words", "sentences", "words")}
        for name, (least, most) in ((name, bound) for name, bound in bounds.items() if bound):
            if not 1 <= least <= most < 1 << 31:
                raise InputError(f"mixture.{name} = [{least}, {most}]: expected 1 <= least <= most")
        return self

    def settings(self) -> np.ndarray:
        """float64 `[4]` for `samplers.cut`."""
        given: tuple[float, ...] = (*self.sentences, *(self.words or (0, 0)))
        if self.kind == "spans":
            given = (*self.text_words, *self.speech_words)
        elif self.kind == "poisson":
            given = (self.poisson_mean, self.spoken_share, 0, 0)
        elif self.kind in ("text", "speech"):
            given = (0, 0, 0, 0)
        elif self.kind == "sentences":
            given = (*self.sentences, 0, 0)
        return np.array(given, dtype=np.float64)


@dataclass(frozen=True)
class PackedSample:
    """One row for the model; arrays are `[sequence_length]` but for `cu_seqlens`."""

    input_ids: np.ndarray
    """int64."""
    labels: np.ndarray
    """int64: the id that follows each input id."""
    loss_mask: np.ndarray
    """float32: 0 where the label is `<s>` or padding."""
    modality: np.ndarray
    """uint8: modality of each label."""
    cu_seqlens: np.ndarray
    """int32 `[documents + 1]`: where documents begin in the row, from 0, then `sequence_length`."""


@dataclass(frozen=True)
class Origin:
    """Where the tokens of a row come from; arrays are `[sequence_length + 1]`: the inputs, then the last label."""

    ids: np.ndarray
    """int32."""
    document: np.ndarray
    """int32: index in the store; -1 for padding."""
    word: np.ndarray
    """int32: see `emit.Row`."""
    frame: np.ndarray
    """int32: see `emit.Row`."""


class PackedSource:
    """Rows of one source, `source[row]` for any row >= 0; epochs follow each other without end."""

    def __init__(
        self,
        store: DocumentStore,
        recipe: SourceRecipe,
        sequence_length: int,
        seed: int,
        plan_folder: Path | None = None,
    ) -> None:
        """`plan_folder`: where the plans of epochs are kept; in memory without one."""
        self.store, self.vocabulary, self.sequence_length = store, store.vocabulary, sequence_length
        self._ids, self._split = ids_of(store.vocabulary), split_of(store)
        self.plans = Plans(store, self._ids, KINDS[recipe.kind], recipe.settings(), sequence_length, seed, plan_folder)
        self._reads = 0
        self._ahead: Future[None] | None = None
        self._planned_ahead = 0

    def __getitem__(self, row: int) -> PackedSample:
        origin, modality, known = self._read(row)
        ids, begins = origin.ids.astype(np.int64), origin.frame == BEGINS
        starts = np.flatnonzero(begins[1:-1]) + 1
        if known < self.sequence_length:
            starts = np.append(starts, known)
        cu_seqlens = np.concatenate([[0], starts, [self.sequence_length]]).astype(np.int32)
        learned = ~begins[1:] & (np.arange(1, len(ids)) < known)
        return PackedSample(ids[:-1], ids[1:], learned.astype(np.float32), modality[1:], cu_seqlens)

    def origin(self, row: int) -> Origin:
        """Where each token of a row comes from."""
        return self._read(row)[0]

    def _read(self, row: int) -> tuple[Origin, np.ndarray, int]:
        """The tokens of a row, their modalities, and how many of them are not padding."""
        epoch, plan = self.plans.of_row(row)
        local = row - plan.first_row
        self._plan_ahead(epoch, plan, local)
        place, skip = plan.rows[local]
        tokens = empty_row(self.sequence_length + 1)
        documents = np.empty(self.sequence_length + 1, np.int32)
        known = fill(self._split, self._ids, self.plans.drawing(epoch), plan.order, place, skip, tokens, documents)
        self._reads += 1
        if self._reads % READS_REMEMBERED == 0:
            self.store.files.forget()
        if known < len(documents):
            for array, padding in zip((*tokens, documents), (self.vocabulary.eos, 0, -1, -1, -1), strict=True):
                array[known:] = padding
        return Origin(tokens.ids, documents, tokens.word, tokens.frame), tokens.modality, known

    def _plan_ahead(self, epoch: int, plan: EpochPlan, local: int) -> None:
        """In the second half of an epoch, make the plan of the next one in the background; raises what it raised."""
        if self._ahead and self._ahead.done():
            self._ahead.result()
        if (
            self.plans.folder
            and 2 * local >= len(plan)
            and self._planned_ahead < epoch + 1
            and epoch == self.plans.newest
        ):
            self._planned_ahead = epoch + 1
            self._ahead = _in_background(self.plans.prepare, epoch + 1)

    def all_rows(self) -> list[PackedSample]:
        """The rows of the first epoch."""
        return [self[row] for row in range(len(self.plans.of_row(0)[1]))]


def _in_background(prepare: Callable[[int], None], epoch: int) -> Future[None]:
    """Run in a thread that a program does not wait for at its end: what it leaves half-written is no plan."""
    done: Future[None] = Future()

    def run() -> None:
        try:
            prepare(epoch)
        except BaseException as error:
            done.set_exception(error)
        else:
            done.set_result(None)

    threading.Thread(target=run, daemon=True).start()
    return done


class MixedDataset:
    """A mixture of sources; `dataset[position]` for any position >= 0. Copies of it in other processes agree."""

    def __init__(
        self,
        stores: Mapping[str, Path],
        mixture: Sequence[SourceRecipe],
        sequence_length: int,
        seed: int,
        plan_folder: Path | None = None,
    ) -> None:
        """`stores`: folders by the names that the mixture uses. Raises `InputError` for an unknown name, an empty
        mixture, a store that holds nothing of a source's kind, and stores of several vocabularies."""
        if not mixture:
            raise InputError("mixture: expected at least one source")
        self._arguments = (stores, mixture, sequence_length, seed, plan_folder)
        self.names = [f"{number}-{r.kind}-{r.store}-{r.split}" for number, r in enumerate(mixture)]
        self.sources: list[PackedSource] = []
        opened: dict[tuple[str, str], DocumentStore] = {}
        for number, recipe in enumerate(mixture):
            if recipe.store not in stores:
                raise InputError(f"mixture: store {recipe.store!r}, expected one of {', '.join(stores)}")
            vocabulary = self.sources[0].vocabulary if self.sources else None
            where = recipe.store, recipe.split
            if where not in opened:
                opened[where] = DocumentStore(stores[recipe.store], recipe.split, vocabulary)
            store = opened[where]
            folder = plan_folder / self.names[number] if plan_folder else None
            own_seed = int(sha256_json([seed, number])[:15], 16)  # sources cut the same documents in other ways
            self.sources.append(PackedSource(store, recipe, sequence_length, own_seed, folder))
        self._blend = _blend(np.array([recipe.share for recipe in mixture]))

    @property
    def vocabulary(self) -> Vocabulary:
        return self.sources[0].vocabulary

    def __getitem__(self, position: int) -> PackedSample:
        source, row = self._locate(position)
        return self.sources[source][row]

    def origin(self, position: int) -> Origin:
        """Where each token of a row comes from, in the source that `source_of` tells."""
        source, row = self._locate(position)
        return self.sources[source].origin(row)

    def documents(self, position: int) -> list[str]:
        """Ids of the documents that a row holds tokens of."""
        source, row = self._locate(position)
        found = np.unique(self.sources[source].origin(row).document)
        return [self.sources[source].store.record(int(index)).id for index in found if index >= 0]

    def source_of(self, position: int) -> int:
        """Index of the source that a position reads."""
        return self._locate(position)[0]

    def _locate(self, position: int) -> tuple[int, int]:
        block, within = divmod(position, BLEND_BLOCK)
        source, row = int(self._blend.source[within]), int(self._blend.row[within])
        return source, block * int(self._blend.rows[source]) + row

    def shares(self, positions: int) -> dict[str, float]:
        """Share of each source in the first `positions` rows: of the tokens, but for the padding that ends an epoch."""
        blocks, rest = divmod(positions, BLEND_BLOCK)
        rows = blocks * self._blend.rows + np.bincount(self._blend.source[:rest], minlength=len(self.names))
        return dict(zip(self.names, (rows / max(1, positions)).tolist(), strict=True))

    def prepare(self) -> dict[str, dict[str, int]]:
        """Make or read the plan of every source's first epoch. Returns their rows and tokens."""
        plans = {name: source.plans.of_row(0)[1] for name, source in zip(self.names, self.sources, strict=True)}
        return {name: {"rows": len(plan), "tokens": plan.tokens} for name, plan in plans.items()}

    def __reduce__(self) -> tuple[Any, ...]:
        return MixedDataset, self._arguments


@dataclass(frozen=True)
class _Blend:
    source: np.ndarray
    """int16 `[BLEND_BLOCK]`."""
    row: np.ndarray
    """int64 `[BLEND_BLOCK]`: row of the source within the block."""
    rows: np.ndarray
    """int64 `[sources]`: rows that a block takes of each source."""


def _blend(shares: np.ndarray) -> _Blend:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from megatron.core.datasets.helpers_cpp import build_blending_indices
    source, row = np.zeros(BLEND_BLOCK, np.int16), np.zeros(BLEND_BLOCK, np.int64)
    build_blending_indices(source, row, shares / shares.sum(), len(shares), BLEND_BLOCK, False)
    return _Blend(source, row, np.bincount(source, minlength=len(shares)))


def dev_samples(
    store: Path, split: str, sequence_length: int, vocabulary: Vocabulary | None = None
) -> list[PackedSample]:
    """Every document of `split` once as text and once as speech, in rows of one kind each.

    `vocabulary`: what the store must be made with.
    """
    documents = DocumentStore(store, split, vocabulary)
    if not len(documents):
        raise InputError(f"{store}: split {split} holds no documents")
    kinds: tuple[tuple[Kind, str], ...] = (("text", "text_ids"), ("speech", "units"))
    rows: list[PackedSample] = []
    for kind, counted in kinds:
        if documents.counts[counted]:
            rows += PackedSource(documents, SourceRecipe(kind=kind), sequence_length, seed=0).all_rows()
    return rows


def unigram_entropy(dataset: MixedDataset, rows: int, dev: list[PackedSample]) -> dict[int, float]:
    """Cross entropy, nats a token, of `dev` under the unigram distribution of `rows` training rows, by modality.

    What a model reaches that knows how often each token occurs and nothing else; add-one smoothed.
    """
    counts = np.ones((len(MODALITIES), dataset.vocabulary.padded_size))
    for position in range(rows):
        sample = dataset[position]
        kept = sample.loss_mask > 0
        np.add.at(counts, (sample.modality[kept], sample.labels[kept]), 1)
    log_p = np.log(counts / counts.sum(axis=1, keepdims=True))
    found = {}
    for modality in range(len(counts)):
        picked = np.concatenate([s.labels[(s.loss_mask > 0) & (s.modality == modality)] for s in dev])
        if len(picked):
            found[modality] = float(-log_p[modality][picked].mean())
    return found
