"""What style units tell of moods: which mood each unit stands for, how often that is right, how soon after a change.

A recording has one mood, or several one after the other; units come at their own rate, and the mood of a unit is the
one that holds in its middle. Units are given the mood that they have most often in training, and are right where the
mood of a held-out recording is that one. numpy only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from spiritlm.corpus.manifest import SpokenDocument
from spiritlm.errors import InputError
from spiritlm.scoring.jackknife import Estimate, ratio


class Span(NamedTuple):
    """One mood, in seconds of the recording."""

    label: str
    start: float
    end: float


def label_spans(document: SpokenDocument, label: str) -> list[Span]:
    """The moods of a recording in order of time: `custom.LABELs` (`moods`: lists of mood, start and end in seconds)
    where it is there, or `custom.LABEL` all along; neighbours of one mood are one span. Raises `InputError` where
    neither is there, or the former is malformed."""
    custom: Mapping[str, Any] = document.custom
    if not (several := custom.get(f"{label}s")):
        if not custom.get(label):
            raise InputError(f"recording {document.id}: expected custom.{label} in its manifest, found none")
        return [Span(str(custom[label]), 0.0, document.duration)]
    try:
        spans = sorted((Span(str(name), float(start), float(end)) for name, start, end in several), key=lambda s: s[1:])
    except (TypeError, ValueError):
        raise InputError(
            f"recording {document.id}: custom.{label}s is {several!r}, expected lists of {label}, start and end"
        ) from None
    merged = spans[:1]
    for span in spans[1:]:
        if span.label == merged[-1].label:
            merged[-1] = merged[-1]._replace(end=span.end)
        else:
            merged.append(span)
    return merged


def label_at(spans: Sequence[Span], second: float) -> str:
    """The last that has begun; before the first, the first."""
    begun = [span.label for span in spans if span.start <= second]
    return begun[-1] if begun else spans[0].label


def labels_of_units(spans: Sequence[Span], units: int, rate: float, duration: float) -> list[str]:
    """The label in the middle of each unit, of what there is of it; `rate`: Hz, `duration`: seconds."""
    return [label_at(spans, (n + min(n + 1, max(duration * rate, n))) / 2 / rate) for n in range(units)]


class UnitLabels:
    """How often units and labels meet, and the label that each unit stands for."""

    def __init__(self, vocabulary_size: int) -> None:
        self.names: list[str] = []
        self._vocabulary_size = vocabulary_size
        self._columns: list[np.ndarray] = []

    def add(self, units: np.ndarray, labels: Sequence[str]) -> None:
        """A recording of training. `units`: int `[units]`, `labels`: of each."""
        for unit, label in zip(units, labels, strict=True):
            if label not in self.names:
                self.names.append(label)
                self._columns.append(np.zeros(self._vocabulary_size, np.int64))
            self._columns[self.names.index(label)][unit] += 1

    @property
    def counts(self) -> np.ndarray:
        """int64 `[vocabulary_size, labels]`."""
        return np.stack(self._columns, axis=1) if self._columns else np.zeros((self._vocabulary_size, 0), np.int64)

    def commonest(self) -> list[str]:
        """The label of each unit; of one that was never met, the commonest of all. Raises `ValueError` where nothing
        was added."""
        counts = self.counts
        numbers = np.where(counts.any(axis=1), counts.argmax(axis=1), counts.sum(axis=0).argmax())
        return [self.names[number] for number in numbers]


class StyleAccuracy(NamedTuple):
    """Shares in [0, 1], each with its standard error."""

    unit: Estimate
    """Of units that tell the right label."""
    recording: Estimate
    """Of recordings whose commonest label among units is the commonest true one."""
    units: int
    recordings: int


def style_accuracy(pairs: Sequence[tuple[Sequence[str], Sequence[str]]]) -> StyleAccuracy:
    """`pairs`: for each recording, the labels that its units tell and the true ones, at least one of each. The figures
    are NaN where there is no recording."""
    right = np.array([sum(a == b for a, b in zip(told, true, strict=True)) for told, true in pairs], np.float64)
    counts = np.array([len(true) for _, true in pairs], np.float64)
    whole = np.array([majority(told) == majority(true) for told, true in pairs], np.float64)
    return StyleAccuracy(ratio(right, counts), ratio(whole, np.ones_like(whole)), int(counts.sum()), len(pairs))


def majority(labels: Sequence[str]) -> str:
    """The commonest; of several, the one that is met first."""
    names = list(dict.fromkeys(labels))
    return names[int(np.argmax([labels.count(name) for name in names]))]


def change_lags(told: Sequence[str], spans: Sequence[Span], rate: float) -> np.ndarray:
    """Seconds from each change of label in a recording until units tell the new one, float `[changes]`.

    `told`: labels of its units at `rate` Hz; `spans`: neighbours differ. Counted to the start of the first unit that
    tells it and ends after the change, 0 where that lies before it; NaN where none does until the label changes again.
    """
    lags = []
    for after in spans[1:]:
        first, last = int(after.start * rate), min(len(told), int(np.ceil(after.end * rate)))
        found = next((n for n in range(first, last) if told[n] == after.label), None)
        lags.append(np.nan if found is None else max(0.0, found / rate - after.start))
    return np.array(lags, np.float64)
