"""What units tell of phones: phone purity, cluster purity and PNMI, as HuBERT's paper defines them.

Units and phones are compared on one grid of 100 Hz whatever the rate of the units, so that tokenizers of different
rates are asked the same: at the centre of each 10 ms, which unit covers it, which phone is heard? A pause is a phone
of its own, as it is in the alignments that published figures are made with. Alphabets that mean nothing to each other
are measured apart and averaged by their frames.

All three grow with the vocabulary and shrink with the amount of speech (a unit seen once is pure): compare figures of
equal amounts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from spiritlm.corpus.phones import Phone, phone_numbers
from spiritlm.scoring.jackknife import Estimate, estimate, groups_of

GRID = 100
"""Frames a second."""


class Purity(NamedTuple):
    phone: float
    """How often the commonest phone of a unit is right: the accuracy of guessing phones from units."""
    cluster: float
    """How often the commonest unit of a phone is the one that is heard: 1 where each phone is one unit."""
    pnmi: float
    """Mutual information over the entropy of phones: how much of the phone a unit tells."""


@dataclass(frozen=True)
class PurityEstimates:
    phone: Estimate
    cluster: Estimate
    pnmi: Estimate
    frames: int
    """Of 10 ms."""


class FrameCounts:
    """How often a phone and a unit are heard together, by recording."""

    def __init__(self, vocabulary_size: int) -> None:
        self.vocabulary_size = vocabulary_size
        self._phones: dict[str, dict[str, int]] = {}
        self._recordings: list[tuple[str, np.ndarray]] = []

    def add(self, units: np.ndarray, rate: float, phones: Sequence[Phone], duration: float, alphabet: str = "") -> None:
        """One recording. `units`: int `[units]` at `rate` Hz, at least one; `duration`: seconds."""
        times = (np.arange(int(duration * GRID)) + 0.5) / GRID
        heard = units[np.minimum((times * rate).astype(np.int64), len(units) - 1)]
        known = self._phones.setdefault(alphabet, {"": 0})
        numbers = np.array([*(known.setdefault(p.text, len(known)) for p in phones), 0])  # the last one is the pause
        said = numbers[phone_numbers(phones, times)]
        self._recordings.append((alphabet, said * self.vocabulary_size + heard))

    def estimates(self) -> PurityEstimates:
        """Raises `ValueError` where nothing was added."""
        groups = groups_of(len(self._recordings))
        count = int(groups.max()) + 1
        tables = {}
        for alphabet, known in self._phones.items():
            table = np.zeros((count, len(known) * self.vocabulary_size), np.int64)
            for group, (spoken, joint) in zip(groups, self._recordings, strict=True):
                if spoken == alphabet:
                    table[group] += np.bincount(joint, minlength=table.shape[1])
            tables[alphabet] = table.reshape(count, len(known), self.vocabulary_size)
        totals = {alphabet: table.sum(axis=0) for alphabet, table in tables.items()}
        whole = _average(list(totals.values()))
        without = np.array([_average([totals[a] - tables[a][group] for a in tables]) for group in range(count)])
        phone, cluster, pnmi = (estimate(value, without[:, i]) for i, value in enumerate(whole))
        return PurityEstimates(phone, cluster, pnmi, int(sum(total.sum() for total in totals.values())))


def purity(counts: np.ndarray) -> Purity:
    """`counts`: `[phones, units]`, of frames. PNMI is NaN where there is one phone only, all are without a frame."""
    joint = counts / counts.sum() if counts.any() else np.full(counts.shape, np.nan)
    phones, units = joint.sum(axis=1), joint.sum(axis=0)
    some = joint > 0
    information = (joint[some] * np.log((joint / np.outer(phones, units).clip(1e-300))[some])).sum()
    entropy = -(phones[phones > 0] * np.log(phones[phones > 0])).sum()
    pnmi = information / entropy if entropy > 0 else float("nan")
    return Purity(float(joint.max(axis=0).sum()), float(joint.max(axis=1).sum()), float(pnmi))


def _average(tables: list[np.ndarray]) -> Purity:
    """Of several alphabets, by their frames."""
    weighed = [(purity(table), table.sum()) for table in tables if table.any()]
    total = sum(weight for _, weight in weighed)
    if not total:
        return Purity(np.nan, np.nan, np.nan)
    return Purity(*(float(sum(p[i] * w for p, w in weighed) / total) for i in range(3)))
