"""The error of a figure that is no mean: how it moves when a part of the recordings is left out.

Recordings are cut into groups of neighbours in the manifest, for neighbours (the parts of a story, the chapters of a
book) depend on each other; the figure is computed without each group in turn. Unlike the bootstrap this draws no
recording twice, which would make units look better informed of phones than they are. Of ABX it says too much rather
than too little (on random units, twice the true error), for comparisons vanish with each of their three recordings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

GROUPS = 20


class Estimate(NamedTuple):
    value: float
    standard_error: float


def groups_of(recordings: int, groups: int = GROUPS) -> np.ndarray:
    """The group of each recording, int64 `[recordings]`: stretches of neighbours, of one size give or take one."""
    return np.arange(recordings) * min(groups, recordings) // max(1, recordings)


def estimate(whole: float, without: np.ndarray) -> Estimate:
    """`whole`: the figure of all; `without`: float `[groups]`, the figure without each group, NaN where there is none.

    The error is NaN for fewer than two groups."""
    known = without[~np.isnan(without)]
    if len(known) < 2:
        return Estimate(whole, float("nan"))
    spread = np.square(known - known.mean()).sum()
    return Estimate(whole, float(np.sqrt((len(known) - 1) / len(known) * spread)))


def ratio(above: np.ndarray, below: np.ndarray) -> Estimate:
    """The sum of `above` over the sum of `below`, both float `[recordings]`; NaN where there is nothing below."""
    groups = groups_of(len(above))
    count = int(groups.max(initial=-1)) + 1
    sums = [values.sum() - np.bincount(groups, values, count) for values in (above, below)]
    with np.errstate(invalid="ignore", divide="ignore"):
        return estimate(float(np.divide(above.sum(), below.sum())), sums[0] / sums[1])


def as_json(found: Estimate) -> dict[str, float | None]:
    """JSON knows no NaN."""
    return {key: None if np.isnan(value) else float(value) for key, value in found._asdict().items()}


def as_percent(found: Mapping[str, float | None]) -> str:
    """What `as_json` gives, to be read."""
    value, error = found["value"], found["standard_error"]
    if value is None:
        return "-"
    return f"{100 * value:.1f}" + (f" ± {100 * error:.1f}" if error is not None else "")
