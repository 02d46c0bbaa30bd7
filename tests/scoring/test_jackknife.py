import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiritlm.scoring.jackknife import estimate, groups_of, ratio


@given(st.integers(1, 200), st.integers(1, 30))
def test_groups_are_neighbours_of_about_one_size(recordings: int, groups: int) -> None:
    found = groups_of(recordings, groups)
    sizes = np.bincount(found)
    assert len(sizes) == min(groups, recordings)
    assert sizes.max() - sizes.min() <= 1
    assert (np.diff(found) >= 0).all()


def test_of_a_mean_it_is_the_textbook_error() -> None:
    values = np.random.default_rng(0).normal(size=20)
    without = (values.sum() - values) / 19
    assert estimate(values.mean(), without).standard_error == pytest.approx(values.std(ddof=1) / np.sqrt(20))


def test_a_ratio_is_of_sums_not_of_recordings() -> None:
    found = ratio(np.array([1.0, 1.0]), np.array([1.0, 9.0]))
    assert found.value == pytest.approx(0.2)
    assert found.standard_error == pytest.approx(abs(1 / 9 - 1) / 2)


def test_one_recording_tells_no_error() -> None:
    assert np.isnan(ratio(np.array([1.0]), np.array([2.0])).standard_error)
