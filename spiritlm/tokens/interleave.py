"""What a document is cut into, and which units belong to which word."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from spiritlm.errors import InputError

TEXT, SPEECH = 0, 1
"""Modalities of a span."""
MODALITIES = ("text", "semantic", "pitch", "style")
"""Modalities of a token: a text span holds text only, a speech span units of up to three streams."""


class Span(NamedTuple):
    """Words `[start, end)` of a document, to be written or spoken."""

    modality: int
    start: int
    end: int


def partition_units(starts: np.ndarray, ends: np.ndarray, units: int, rate: float) -> np.ndarray:
    """Which units of a recording are within each word: int32 `[words, 2]`, first unit and end.

    `starts`, `ends`: seconds `[words]`, starts non-decreasing. Unit `i` (its middle is at `(i + 0.5) / rate`) belongs
    to the word whose interval holds its middle; a word that reaches into the next one ends where that one starts.
    What no word holds is a gap: gap `w` lies before word `w`, gap `words` after the last. So every unit is in
    exactly one word or gap. Raises `InputError` where starts decrease, a word ends before it starts or a time is NaN.
    """
    starts, ends = np.asarray(starts, dtype=np.float64), np.asarray(ends, dtype=np.float64)
    if not (np.all(starts[1:] >= starts[:-1]) and np.all(ends >= starts)):
        raise InputError("word times are not in order")
    bounds = np.stack([starts, np.minimum(ends, np.append(starts[1:], np.inf))], axis=1)
    return np.clip(np.ceil(bounds * rate - 0.5), 0, units).astype(np.int32)


def deduplicate(units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Merge runs of equal units `[n]` -> values `[runs]`, run lengths int64 `[runs]`."""
    if not len(units):
        return units, np.zeros(0, dtype=np.int64)
    first = np.flatnonzero(np.concatenate([[True], units[1:] != units[:-1]]))
    return units[first], np.diff(np.append(first, len(units)))
