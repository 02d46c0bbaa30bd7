import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from spiritlm.tokens.interleave import SPEECH, TEXT, alternate, deduplicate, word_boundaries


@given(
    st.lists(st.integers(-1_000, 60_000), max_size=80).map(sorted),
    st.integers(0, 1500),
    st.sampled_from([6.25, 12.5, 24.99, 25.0, 50.0]),
)
def test_every_unit_is_in_exactly_one_word(milliseconds: list[int], units: int, rate: float) -> None:
    starts = np.array(milliseconds or [0]) / 1000
    boundaries = word_boundaries(starts, units, rate)
    assert len(boundaries) == len(starts) + 1
    assert boundaries[0] == 0
    assert boundaries[-1] == units
    assert np.all(np.diff(boundaries) >= 0)


def test_a_unit_goes_to_the_last_word_that_has_started_at_its_centre() -> None:
    # 25 Hz: centres at 0.02, 0.06, 0.10, 0.14, ...
    assert word_boundaries(np.array([0.05, 0.10, 0.13]), 6, 25.0).tolist() == [0, 2, 3, 6]


@given(st.integers(1, 200), st.integers(1, 12), st.integers(0, 20), st.integers(0, 2**32))
def test_spans_cover_the_words_in_turns(words: int, least: int, more: int, seed: int) -> None:
    text, speech = (least, least + more), (least + 1, least + 1 + more)
    spans = alternate(words, text, speech, np.random.default_rng(seed))
    assert [span.start for span in spans] == [0, *(span.end for span in spans[:-1])]
    assert spans[-1].end == words
    assert all(a.modality != b.modality for a, b in itertools.pairwise(spans))
    for span in spans[:-1]:
        low, high = speech if span.modality == SPEECH else text
        assert low <= span.end - span.start <= high


def test_either_modality_begins() -> None:
    first = {alternate(20, (2, 4), (2, 4), np.random.default_rng(seed))[0].modality for seed in range(20)}
    assert first == {TEXT, SPEECH}


@given(st.lists(st.integers(0, 3)))
def test_deduplication_loses_nothing(units: list[int]) -> None:
    values, lengths = deduplicate(np.array(units, dtype=np.int64))
    assert np.repeat(values, lengths).tolist() == units
    assert np.all(values[1:] != values[:-1])
