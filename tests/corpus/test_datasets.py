from pathlib import Path

import numpy as np
import pytest

from spiritlm.corpus.datasets import InterleavedDataset, Mixture, dev_samples, unigram_entropy
from spiritlm.corpus.store import NamedDocument
from spiritlm.errors import InputError
from spiritlm.tokens.documents import compose
from spiritlm.tokens.interleave import SPEECH, TEXT
from spiritlm.tokens.vocabulary import Vocabulary

SHORT = Mixture(text_words=(2, 6), speech_words=(2, 5))


def dataset(store: Path, seed: int = 0, mixture: Mixture = SHORT, length: int = 128) -> InterleavedDataset:
    return InterleavedDataset(store, "train", length, mixture, seed)


def test_a_row_is_a_pure_function_of_seed_and_position(store: Path) -> None:
    forward, backward = dataset(store), dataset(store)
    ahead = [forward[position].input_ids for position in range(8)]
    behind = [backward[position].input_ids for position in reversed(range(8))][::-1]
    np.testing.assert_array_equal(ahead, behind)
    assert not np.array_equal(ahead[0], ahead[1])
    assert not np.array_equal(ahead[0], dataset(store, seed=1)[0].input_ids)


def test_labels_follow_inputs_and_markers_have_their_spans_modality(store: Path, vocabulary: Vocabulary) -> None:
    for position in range(20):
        row = dataset(store)[position]
        np.testing.assert_array_equal(row.input_ids[1:], row.labels[:-1])
        assert np.all(row.modality[vocabulary.is_unit(row.labels)] == SPEECH)
        assert np.all(row.modality[vocabulary.is_text(row.labels)] == TEXT)
        assert np.all(row.modality[row.labels == vocabulary.speech_marker] == SPEECH)
        np.testing.assert_array_equal(row.loss_mask == 0, row.labels == vocabulary.bos)
        assert row.input_ids[0] == vocabulary.bos


@pytest.mark.parametrize("weights", [(1, 0, 0), (0, 1, 0), (1, 3, 0)])
def test_the_mixture_holds_by_tokens(store: Path, weights: tuple[float, float, float]) -> None:
    mixture = Mixture(text=weights[0], speech=weights[1], interleaved=weights[2])
    rows = [dataset(store, mixture=mixture, length=1024)[position] for position in range(100)]
    speech = np.mean([row.modality.mean() for row in rows])
    assert speech == pytest.approx(weights[1] / sum(weights), abs=0.03)


def test_impossible_mixtures_are_refused() -> None:
    with pytest.raises(InputError, match="one must be above 0"):
        Mixture(text=0, speech=0, interleaved=0)
    for words in ((0, 0), (5, 2)):
        with pytest.raises(InputError, match="expected 1 <= least <= most"):
            Mixture(text_words=words)


def test_dev_rows_hold_every_document_once_in_each_modality(
    store: Path, documents: list[NamedDocument], vocabulary: Vocabulary
) -> None:
    rows = dev_samples(store, "dev", 128)
    for modality in (TEXT, SPEECH):
        found = [r.labels[(r.loss_mask > 0) & (r.modality == modality)] for r in rows]
        spans = [n.document.text_span() if modality == TEXT else n.document.speech_span() for n in documents[:3]]
        expected = [compose(n.document, s, vocabulary).ids[1:] for n, s in zip(documents, spans, strict=False)]
        np.testing.assert_array_equal(np.concatenate(found), np.concatenate(expected))


def test_unigram_entropy_of_uniform_units(store: Path) -> None:
    entropy = unigram_entropy(dataset(store), 200, dev_samples(store, "dev", 128))
    assert entropy[SPEECH] == pytest.approx(np.log(50), abs=0.25)
    assert entropy[TEXT] < np.log(30)
