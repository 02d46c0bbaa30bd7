import math

import numpy as np
import pytest

from spiritlm.tokens.published_interleave import Word, poisson_words, units_by_words


@pytest.mark.parametrize(("words", "mean", "share"), [(37, 10, 0.3), (200, 5, 0.5), (400, 1, 0.2), (9, 10, 0)])
def test_the_share_is_reached(words: int, mean: float, share: float) -> None:
    for seed in range(20):
        spoken = poisson_words(words, mean, share, np.random.default_rng(seed))
        assert spoken.shape == (words,)
        assert spoken.sum() >= math.ceil(words * share)


def test_the_word_behind_a_span_is_never_spoken_after_it() -> None:
    """A share of 1 stalls: every span but one at the very end has a word of text behind it."""
    shares = [poisson_words(100, 10, 1.0, np.random.default_rng(seed)).mean() for seed in range(50)]
    assert 0.89 < np.mean(shares) < 0.94


def test_equal_generators_cut_equally() -> None:
    first, second = (poisson_words(300, 10, 0.3, np.random.default_rng(4)) for _ in range(2))
    assert np.array_equal(first, second)


def brute_force(words: int, mean: float, share: float, rng: np.random.Generator) -> np.ndarray:
    """The rule as it is said, with rejection."""
    spoken, closed = np.zeros(words, bool), np.zeros(words + 1, bool)
    while spoken.sum() < math.ceil(words * share):
        free = np.flatnonzero(~spoken & ~closed[:words])
        if not len(free):
            break
        start = rng.choice(free)
        end = min(words, start + rng.poisson(mean))
        if not spoken[start:end].any():
            spoken[start:end] = True
            closed[end] = True
    return spoken


@pytest.mark.parametrize(("words", "mean", "share"), [(8, 2, 0.6), (12, 3, 0.9)])
def test_conditional_draws_are_those_of_rejection(words: int, mean: float, share: float) -> None:
    rng, n = np.random.default_rng(0), 4000
    ours = np.array([poisson_words(words, mean, share, rng) for _ in range(n)])
    theirs = np.array([brute_force(words, mean, share, rng) for _ in range(n)])
    error = np.sqrt((ours.var(0) + theirs.var(0)) / n)
    assert np.all(np.abs(ours.mean(0) - theirs.mean(0)) < 4.5 * error)
    both = np.sqrt(2 * 0.25 / n)
    assert np.all(np.abs(ours.T @ ours.astype(float) - theirs.T @ theirs.astype(float)) / n < 4.5 * both)


def test_units_belong_to_a_run_by_their_ends() -> None:
    words = [Word("a ", 0.0, 0.1), Word("b ", 0.1, 0.3), Word("c", 0.3, 0.5)]
    units, durations = [1, 2, 3, 4, 5], [1, 1, 2, 2, 2]  # ends: 0.05 0.1 0.2 0.3 0.4

    def string(*spoken: bool) -> str:
        return units_by_words(units, durations, 0.05, words, spoken)

    assert string(False, False, False) == "<text>a b c"
    assert string(True, False, False) == "<speech><Un1><Un2><text>b c"
    assert string(False, False, True) == "<text>a b <speech><Un4><Un5>"
    assert string(True, True, False).endswith("<text>c")
    assert units_by_words([], [], 0.05, [], []) == ""
