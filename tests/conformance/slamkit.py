"""Interleaving of a public trainer: exact strings, and statistics of its random cuts.

The statistics are those of one draw of so many documents. We draw `TIMES` as many, with a seed of our own, and compare
as two samples: means by z-scores, histograms of span lengths by chi-square. Spans of one document are not independent,
so the limits are wide; they still see a change of a percent.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from conformance.registry import Case, kind
from scipy.stats import chi2_contingency

from spiritlm.tokens.published_interleave import Word, poisson_words, units_by_words

TIMES = 4
Z_LIMIT = 4.5
P_LIMIT = 1e-4
BIN = 10
"""Fewest spans of the golden sample in a bin of a histogram."""


@kind("slamkit_interleave")
def slamkit_interleave(case: Case) -> None:
    for number, item in enumerate(case.read("units_by_word.json")):
        words = [Word(*word) for word in item["words_start_end"]]
        spoken = [modality == "audio" for modality in item["modality"]]
        found = units_by_words(item["units"], item["durations_in_frames"], item["unit_seconds"], words, spoken)
        case.report.equal(f"units_by_word {number}", found, item["string"])
    for number, item in enumerate(case.read("statistics.json")):
        _statistics(case, f"setting {number}", item)


class Documents(NamedTuple):
    """Many documents cut; arrays float64 `[documents]`."""

    words: np.ndarray
    spoken: np.ndarray
    spans: np.ndarray
    begins: np.ndarray
    """1 where the first word is spoken."""
    lengths: dict[bool, Counter[int]]
    """Spoken or not -> length of a span in words -> how often."""


def _draw(item: Mapping[str, Any]) -> Documents:
    rng = np.random.default_rng(20_261_121)
    low, high = item["doc_words_uniform"]
    lengths: dict[bool, Counter[int]] = {True: Counter(), False: Counter()}
    rows = []
    for _ in range(TIMES * item["docs"]):
        spoken = poisson_words(int(rng.integers(low, high + 1)), item["lambda"], item["eta"], rng)
        edges = [0, *(np.flatnonzero(np.diff(spoken)) + 1).tolist(), len(spoken)]
        runs = [(bool(spoken[start]), end - start) for start, end in pairwise(edges)]
        for modality, length in runs:
            lengths[modality][length] += 1
        rows.append((len(spoken), spoken.sum(), sum(modality for modality, _ in runs), spoken[0]))
    words, spoken_words, spans, begins = np.array(rows, dtype=np.float64).T
    return Documents(words, spoken_words, spans, begins, lengths)


def _statistics(case: Case, what: str, item: Mapping[str, Any]) -> None:
    ours, docs = _draw(item), item["docs"]
    share, pooled = ours.spoken / ours.words, ours.spoken.sum() / ours.words.sum()
    spread = (share - share.mean()) ** 2
    residual = (ours.spoken - pooled * ours.words) / ours.words.mean()  # a ratio's linear part
    for name, found, per_document in [
        ("mean_fraction_per_doc", share.mean(), share),
        ("std_fraction_per_doc", share.std(), spread / (2 * share.std())),
        ("pooled_fraction", pooled, residual),
        ("mean_speech_spans_per_doc", ours.spans.mean(), ours.spans),
        ("fraction_docs_starting_in_speech", ours.begins.mean(), ours.begins),
    ]:
        error = per_document.std() * math.sqrt(1 / docs + 1 / len(share))
        case.report.below(f"{what} {name}", _z(found - item[name], error), Z_LIMIT, "z")
    low, high = item["min_fraction"], item["max_fraction"]
    for name, beyond in (("min_fraction", share < low), ("max_fraction", share > high)):
        # how unlikely that none of the golden documents was beyond its own extreme
        unlikely = -docs * math.log1p(-min(beyond.mean(), 1 - 1e-12))
        case.report.below(f"{what} {name}", unlikely, -math.log(P_LIMIT), "-log p")
    for name, modality in (("speech_span_words", True), ("text_span_words", False)):
        _histogram(case, f"{what} {name}", ours.lengths[modality], item[name])


def _z(difference: float, error: float) -> float:
    """Where nothing varies, any difference is infinitely far."""
    if error:
        return abs(difference) / error
    return 0.0 if abs(difference) < 1e-9 else math.inf


def _histogram(case: Case, what: str, ours: Mapping[int, int], item: Mapping[str, Any]) -> None:
    golden = {int(length): count for length, count in item["histogram"].items()}
    mean = sum(length * count for length, count in golden.items()) / item["count"]
    case.report.near(f"{what} mean against its histogram", mean, item["mean"], 1e-6)
    table = np.array(_bins(golden, ours)).T
    p = chi2_contingency(table)[1] if table.shape[1] > 1 else 1.0
    case.report.below(f"{what} histogram", -math.log(max(p, 1e-300)), -math.log(P_LIMIT), "-log p")


def _bins(golden: Mapping[int, int], ours: Mapping[int, int]) -> Sequence[tuple[int, int]]:
    """Counts of both in bins of neighbouring lengths with at least `BIN` golden spans each."""
    bins, left = [], (0, 0)
    for length in range(1, max([*golden, *ours]) + 1):
        left = left[0] + golden.get(length, 0), left[1] + ours.get(length, 0)
        if left[0] >= BIN:
            bins.append(left)
            left = (0, 0)
    if bins:
        bins[-1] = bins[-1][0] + left[0], bins[-1][1] + left[1]
    return bins or [left]
