import numpy as np
import pytest

from spiritlm.units.usage import perplexity, usage


def test_perplexity_counts_what_is_equally_frequent() -> None:
    assert perplexity(np.array([5, 5, 0, 5, 5])) == pytest.approx(4)
    assert perplexity(np.array([7, 0])) == pytest.approx(1)
    assert perplexity(np.zeros(3, int)) == 1
    assert 1 < perplexity(np.array([9, 1])) < 2


def test_bits_by_hand() -> None:
    """4 seconds: 8 units before deduplication, 2 + 2 after it, two kinds equally often: 1 unit and 1 bit a second."""
    found = usage([np.array([0, 0, 1, 1]), np.array([1, 1, 1, 0])], seconds=4.0, rate=2.0, vocabulary_size=8)
    assert (found.units_per_second, found.kept_per_second) == (2.0, 1.0)
    assert found.published_bits == pytest.approx(6)
    assert found.entropy_bits == pytest.approx(1)
    assert found.used == 2
    assert perplexity(np.array([3, 5])) == found.perplexity
