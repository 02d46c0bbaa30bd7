from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiritlm.errors import InputError
from spiritlm.tokens.interleave import deduplicate, partition_units

RATES = [Fraction(25, 4), Fraction(25, 2), Fraction(2499, 100), Fraction(25), Fraction(50)]


@st.composite
def words(draw: st.DrawFn) -> list[tuple[int, int]]:
    """Starts and ends in ticks of 1/8192 s, which floats hold exactly; words may overlap and lie anywhere."""
    starts = sorted(draw(st.lists(st.integers(-8_000, 480_000), max_size=40)))
    return [(start, start + draw(st.integers(0, 20_000))) for start in starts]


def partition(words: list[tuple[int, int]], units: int, rate: Fraction) -> np.ndarray:
    times = np.array(words, dtype=np.float64).reshape(-1, 2) / 8192
    return partition_units(times[:, 0], times[:, 1], units, float(rate))


@given(words(), st.integers(0, 1500), st.sampled_from(RATES))
def test_every_unit_is_in_exactly_one_word_or_gap(words: list[tuple[int, int]], units: int, rate: Fraction) -> None:
    bounds = partition(words, units, rate)
    assert bounds.shape == (len(words), 2)
    assert bounds.dtype == np.int32
    parts = [list(range(start, end)) for start, end in bounds.tolist()]
    edges = [0, *bounds.ravel().tolist(), units]
    gaps = [list(range(start, end)) for start, end in zip(edges[0::2], edges[1::2], strict=True)]
    assert edges == sorted(edges)
    told = [unit for gap, part in zip(gaps, [*parts, []], strict=True) for unit in (*gap, *part)]
    assert told == list(range(units))


@given(words(), st.integers(0, 400), st.sampled_from([Fraction(25, 2), Fraction(25), Fraction(50)]))
def test_a_word_has_the_units_whose_middle_it_holds(words: list[tuple[int, int]], units: int, rate: Fraction) -> None:
    """Against exact arithmetic; where words overlap, a unit is the last one's that has begun."""
    found = partition(words, units, rate)
    for unit in range(units):
        middle = (unit + Fraction(1, 2)) / rate
        begun = [number for number, (start, _) in enumerate(words) if Fraction(start, 8192) <= middle]
        holds = begun[-1:] if begun and middle < Fraction(words[begun[-1]][1], 8192) else []
        assert [number for number, (start, end) in enumerate(found.tolist()) if start <= unit < end] == holds


@given(words(), st.integers(0, 400), st.integers(0, 400))
def test_a_shorter_recording_only_loses_its_end(words: list[tuple[int, int]], units: int, more: int) -> None:
    longer = partition(words, units + more, Fraction(25))
    assert np.array_equal(partition(words, units, Fraction(25)), np.minimum(longer, units))


def test_words_and_gaps_by_hand() -> None:
    # 25 Hz: middles at 0.02, 0.06, 0.10, 0.14, ...; the third word begins before the second has ended
    starts, ends = np.array([0.05, 0.15, 0.25]), np.array([0.09, 0.9, 0.31])
    assert partition_units(starts, ends, 9, 25.0).tolist() == [[1, 2], [4, 6], [6, 8]]


def test_words_outside_of_the_recording_have_no_units() -> None:
    bounds = partition_units(np.array([-2.0, 0.0, 7.0, np.inf]), np.array([-1.0, 0.1, 8.0, np.inf]), 5, 25.0)
    assert bounds.tolist() == [[0, 0], [0, 2], [5, 5], [5, 5]]


def test_no_words_and_no_units() -> None:
    none = np.zeros(0)
    assert partition_units(none, none, 10, 25.0).shape == (0, 2)
    assert partition_units(np.array([0.0]), np.array([1.0]), 0, 25.0).tolist() == [[0, 0]]


@pytest.mark.parametrize(
    ("starts", "ends"),
    [([1.0, 0.5], [1.2, 1.3]), ([1.0], [0.9]), ([np.nan], [1.0]), ([0.0], [np.nan]), ([0.0, np.nan], [1.0, 2.0])],
)
def test_times_that_are_not_in_order_are_refused(starts: list[float], ends: list[float]) -> None:
    with pytest.raises(InputError, match="not in order"):
        partition_units(np.array(starts), np.array(ends), 50, 25.0)


@given(st.lists(st.integers(0, 3)))
def test_deduplication_loses_nothing(units: list[int]) -> None:
    values, lengths = deduplicate(np.array(units, dtype=np.int64))
    assert np.repeat(values, lengths).tolist() == units
    assert np.all(values[1:] != values[:-1])
