"""Accuracy over pairs: how often the right answer scores above the wrong one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

TIE = 1e-6
"""Scores closer than this are a tie, which counts one half."""


class Accuracy(NamedTuple):
    value: float
    """Share of pairs won, in [0, 1]."""
    standard_error: float
    """Binomial."""
    pairs: int


def pair_accuracy(right: Sequence[float], wrong: Sequence[float]) -> Accuracy:
    """`right[i]` and `wrong[i]` are the scores of one pair. Raises `ValueError` for no pairs or unequal lengths."""
    if not right:
        raise ValueError("no pairs to score")
    wins = [pair_win(r, w) for r, w in zip(right, wrong, strict=True)]
    value = sum(wins) / len(wins)
    return Accuracy(value, math.sqrt(value * (1 - value) / len(wins)), len(wins))


def pair_win(right: float, wrong: float) -> float:
    """1 won, 0 lost, 0.5 tied."""
    if abs(right - wrong) < TIE:
        return 0.5
    return float(right > wrong)


def percent(value: float, standard_error: float) -> str:
    """Both as percentages, to be read."""
    return f"{100 * value:.1f} ± {100 * standard_error:.1f}"
