import numpy as np
import pytest

from spiritlm.corpus.phones import Phone
from spiritlm.scoring.purity import FrameCounts, purity


def test_units_that_are_the_phones_in_other_words_tell_everything() -> None:
    found = purity(np.array([[0, 5, 0], [7, 0, 0], [0, 0, 9]]))
    assert found == pytest.approx((1, 1, 1))


def test_units_that_know_nothing_leave_the_commonest_phone() -> None:
    found = purity(np.array([[3, 3], [1, 1]]))  # 3/4 of all frames are the first phone, whatever the unit
    assert found == pytest.approx((0.75, 0.5, 0))


def test_a_case_by_hand() -> None:
    """Unit 0: twice phone 0. Unit 1: once each. I = H(phone) - H(phone | unit) = 0.8113 - 1/2 bits."""
    found = purity(np.array([[2, 1], [0, 1]]))
    assert found.phone == pytest.approx(3 / 4)
    assert found.cluster == pytest.approx((2 + 1) / 4)
    assert found.pnmi == pytest.approx((0.811278 - 0.5) / 0.811278, abs=1e-5)


def test_splitting_a_pure_unit_costs_cluster_purity_only() -> None:
    one, split = purity(np.array([[4, 0], [0, 4]])), purity(np.array([[2, 2, 0], [0, 0, 4]]))
    assert split.phone == one.phone == 1
    assert split.pnmi == pytest.approx(one.pnmi)
    assert split.cluster == pytest.approx(0.75)


@pytest.mark.parametrize("rate", [12.5, 25.0, 50.0])
def test_all_rates_are_asked_on_one_grid_and_pauses_count(rate: float) -> None:
    """One second: a phone of 400 ms, 160 ms of pause, another of 440 ms; a unit changes where the phone does."""
    starts = np.arange(round(rate)) / rate if rate != 12.5 else np.arange(13) / rate
    units = np.select([starts < 0.39, starts < 0.55], [0, 1], 2)
    counts = FrameCounts(3)
    counts.add(units, rate, [Phone("a", 0.0, 0.4), Phone("b", 0.56, 1.0)], 1.0)
    found = counts.estimates()
    assert found.frames == 100
    assert (found.phone.value, found.cluster.value, found.pnmi.value) == pytest.approx((1, 1, 1))


def test_alphabets_are_measured_apart_and_weighed_by_their_frames() -> None:
    """Unit 0 is "a" to one synthesizer and "A" to the other: pure in both; unit 1 of the other knows nothing."""
    counts = FrameCounts(2)
    counts.add(np.array([0, 1]), 1.0, [Phone("a", 0, 1), Phone("b", 1, 2)], 2.0, "one")
    counts.add(np.array([0]), 1.0, [Phone("A", 0, 0.5), Phone("B", 0.5, 1)], 1.0, "other")
    found = counts.estimates()
    assert found.phone.value == pytest.approx((2 * 1 + 1 * 0.5) / 3)
    assert found.pnmi.value == pytest.approx(2 / 3)


def test_the_error_is_how_far_other_recordings_would_have_told_otherwise() -> None:
    found = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        counts = FrameCounts(4)
        for _ in range(60):
            said = rng.integers(0, 4, 50)
            heard = np.where(rng.random(50) < 0.7, said, rng.integers(0, 4, 50))
            counts.add(heard, 10.0, [Phone("abcd"[p], i / 10, (i + 1) / 10) for i, p in enumerate(said)], 5.0)
        found.append(counts.estimates().pnmi)
    values, errors = (np.array(column) for column in zip(*found, strict=True))
    assert 0.7 < errors.mean() / values.std(ddof=1) < 1.4
