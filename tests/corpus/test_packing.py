"""What is counted is what is written, and a row is a window of it."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spiritlm.corpus.datasets import KINDS, Kind, SourceRecipe
from spiritlm.corpus.packing import NOTHING, Drawing, Split, fill, measure, split_of
from spiritlm.corpus.store import DocumentStore
from spiritlm.tokens.documents import compose, whole
from spiritlm.tokens.emit import Row, empty_row, ids_of
from spiritlm.tokens.interleave import SPEECH, TEXT

DOCUMENTS = 24


@pytest.fixture(scope="module")
def read(store: Path) -> DocumentStore:
    return DocumentStore(store, "train")


@pytest.fixture(scope="module")
def split(read: DocumentStore) -> Split:
    return split_of(read)


def drawing(kind: int, seed: int = 0, epoch: int = 0) -> Drawing:
    recipe = SourceRecipe(kind=get_args(Kind)[kind], text_words=(2, 6), speech_words=(2, 5), sentences=(1, 2))
    return Drawing(KINDS[recipe.kind], recipe.settings(), seed, epoch)


def lengths_of(read: DocumentStore, split: Split, drawn: Drawing) -> np.ndarray:
    lengths = np.empty(DOCUMENTS, np.int64)
    measure(split, ids_of(read.vocabulary), drawn, NOTHING, 0, lengths)
    return lengths


def written(
    read: DocumentStore, split: Split, drawn: Drawing, order: np.ndarray, place: int, skip: int, tokens: int
) -> tuple[Row, np.ndarray]:
    row, documents = empty_row(tokens), np.full(tokens, -1, np.int32)
    count = fill(split, ids_of(read.vocabulary), drawn, order, place, skip, row, documents)
    return Row(*(array[:count] for array in row)), documents[:count]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 6), st.integers(0, 2**63 - 1), st.integers(0, 1000))
def test_lengths_are_those_of_the_tokens(read: DocumentStore, split: Split, kind: int, seed: int, epoch: int) -> None:
    drawn = drawing(kind, seed, epoch)
    for number, length in enumerate(lengths_of(read, split, drawn)):
        row, documents = written(read, split, drawn, np.array([number], np.int32), 0, 0, 10_000)
        assert len(row.ids) == length > 0
        assert set(documents.tolist()) == {number}


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 6), st.integers(0, 2**32), st.integers(0, DOCUMENTS - 1), st.integers(0, 400), st.integers(1, 99))
def test_a_row_is_a_window(
    read: DocumentStore, split: Split, kind: int, seed: int, place: int, skip: int, tokens: int
) -> None:
    drawn, order = drawing(kind, seed), np.random.default_rng(seed).permutation(DOCUMENTS).astype(np.int32)
    everything, documents = written(read, split, drawn, order, 0, 0, 100_000)
    starts = np.concatenate([[0], np.cumsum(lengths_of(read, split, drawn)[order])])
    assert len(everything.ids) == starts[-1]
    first = min(int(starts[place]) + skip, int(starts[-1]) - 1)
    place = int(np.searchsorted(starts, first, side="right")) - 1
    row, of = written(read, split, drawn, order, place, first - int(starts[place]), tokens)
    for found, expected in zip((*row, of), (*everything, documents), strict=True):
        np.testing.assert_array_equal(found, expected[first : first + tokens])


def test_a_document_reads_the_same_wherever_it_stands(read: DocumentStore, split: Split) -> None:
    for kind in range(7):
        alone = [written(read, split, drawing(kind), np.array([n], np.int32), 0, 0, 9999)[0].ids for n in range(9)]
        together = written(read, split, drawing(kind), np.arange(9, dtype=np.int32)[::-1].copy(), 0, 0, 99_999)[0].ids
        np.testing.assert_array_equal(together, np.concatenate(alone[::-1]))


@pytest.mark.parametrize("modality", [TEXT, SPEECH])
def test_whole_documents_are_those_of_compose(read: DocumentStore, split: Split, modality: int) -> None:
    for number, document in enumerate(read):
        row, _ = written(read, split, drawing(modality), np.array([number], np.int32), 0, 0, 9999)
        expected = compose(document, whole(document, modality), read.vocabulary, read.rates.tolist())
        np.testing.assert_array_equal(row.ids, expected.ids)
        np.testing.assert_array_equal(row.modality, expected.modality)
