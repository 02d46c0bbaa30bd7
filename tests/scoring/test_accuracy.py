import pytest

from spiritlm.scoring.accuracy import pair_accuracy


def test_wins_losses_and_ties() -> None:
    found = pair_accuracy([1.0, 2.0, 3.0, 1.0], [0.0, 3.0, 3.0 + 1e-9, 0.5])
    assert found.value == pytest.approx(2.5 / 4)
    assert found.standard_error == pytest.approx((0.625 * 0.375 / 4) ** 0.5)
    assert found.pairs == 4


def test_never_a_figure_over_nothing_or_over_part() -> None:
    with pytest.raises(ValueError, match="no pairs"):
        pair_accuracy([], [])
    with pytest.raises(ValueError, match="shorter"):
        pair_accuracy([1.0, 2.0], [1.0])
