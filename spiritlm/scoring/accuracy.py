"""Of two answers, is the right one likelier?"""

from __future__ import annotations

TIE = 1e-6
"""Scores closer than this are a tie, which counts one half."""


def pair_win(right: float, wrong: float) -> float:
    """1 won, 0 lost, 0.5 tied."""
    if abs(right - wrong) < TIE:
        return 0.5
    return float(right > wrong)
