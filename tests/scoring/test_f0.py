import math

import numpy as np
import pytest

from spiritlm.scoring.f0 import f0_correlation, f0_errors


def test_each_kind_of_error_is_counted() -> None:
    reference = np.array([100, 100, 100, 100, 0, 0, 100, 0], np.float32)
    judged = np.array([100, 109, 85, 130, 0, 90, 0, 0], np.float32)
    found = f0_errors([(reference, judged)])
    assert found.near.value == 2 / 5
    assert found.gross.value == 1 / 4
    assert found.voicing.value == 2 / 8
    assert found.voiced == 5
    distances = [0.0, *(abs(1200 * math.log2(f / 100)) for f in (109, 85, 130))]
    assert found.cents == pytest.approx(np.median(distances), abs=1e-3)


def test_an_octave_is_1200_cents_and_equal_contours_are_0() -> None:
    f0 = np.array([0, 120, 130.0, 0])
    assert f0_errors([(f0, 2 * f0)]).cents == 1200
    same = f0_errors([(f0, f0), (f0, f0)])
    assert (same.near.value, same.gross.value, same.voicing.value, same.cents) == (1, 0, 0, 0)


def test_nothing_voiced_is_no_figure() -> None:
    found = f0_errors([(np.zeros(4), np.zeros(4))])
    assert math.isnan(found.near.value) and math.isnan(found.cents)
    assert found.voicing.value == 0
    assert math.isnan(f0_errors([]).voicing.value)


def test_correlation_is_of_octaves_where_both_are_voiced() -> None:
    rising = np.linspace(100, 200, 50)
    octave_higher = np.where(np.arange(50) < 10, 0.0, 2 * rising)
    assert f0_correlation([(rising, octave_higher)]).value == pytest.approx(1)
    assert f0_correlation([(rising, 1 / rising), (rising, rising)]).value == pytest.approx(0)
    few = np.where(np.arange(50) < 40, 0.0, rising)
    assert f0_correlation([(rising, few), (rising, rising)]).value == pytest.approx(1)
    assert np.isnan(f0_correlation([(rising, few), (rising, np.full(50, 120.0))]).value)
