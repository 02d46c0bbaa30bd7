"""How far one F0 contour is from another: what pitch units keep, and how trackers compare.

Contours are float `[frames]` of Hz, 0 where unvoiced, as `spiritlm/audio/f0.py` gives them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from spiritlm.scoring.jackknife import Estimate, ratio

NEAR, GROSS = 0.1, 0.2
"""Relative errors of F0: below the first it is kept; above the second is a gross error (GPE)."""


class F0Errors(NamedTuple):
    """Shares in [0, 1], each with its standard error, NaN where there is nothing to count."""

    near: Estimate
    """Of frames that are voiced in the reference: voiced here too, and within 10 %."""
    gross: Estimate
    """Of frames that are voiced in both: more than 20 % off."""
    voicing: Estimate
    """Of all frames: voiced in one of them only."""
    cents: float
    """Median distance of frames that are voiced in both, hundredths of a semitone."""
    voiced: int
    """Frames that are voiced in the reference."""


def f0_errors(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> F0Errors:
    """`pairs`: of each recording, the reference and the contour that is judged, of equal length."""
    counts, distances = [], [np.zeros(0)]
    for reference, judged in pairs:
        voiced, both = reference > 0, (reference > 0) & (judged > 0)
        off = np.abs(judged[both].astype(np.float64) / reference[both] - 1)
        row = (np.sum(off <= NEAR), voiced.sum(), np.sum(off > GROSS), both.sum(), np.sum(voiced != (judged > 0)))
        counts.append((*row, len(reference)))
        distances.append(np.abs(1200 * np.log2(judged[both].astype(np.float64) / reference[both])))
    near, known, gross, shared, wrong, frames = np.array(counts, np.float64).reshape(-1, 6).T
    cents = np.concatenate(distances)
    middle = float(np.median(cents)) if len(cents) else float("nan")
    return F0Errors(ratio(near, known), ratio(gross, shared), ratio(wrong, frames), middle, int(known.sum()))


def f0_correlation(pairs: Sequence[tuple[np.ndarray, np.ndarray]], least: int = 20) -> Estimate:
    """Correlation of the logarithms of two contours over the frames that are voiced in both: mean over recordings that
    have at least `least` of them. NaN where none has."""
    found = []
    for one, other in pairs:
        both = (one > 0) & (other > 0)
        if both.sum() >= least and np.ptp(one[both]) and np.ptp(other[both]):
            found.append(np.corrcoef(np.log2(one[both]), np.log2(other[both]))[0, 1])
    return ratio(np.array(found), np.ones(len(found)))
