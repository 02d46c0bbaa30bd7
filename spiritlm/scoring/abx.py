"""ABX: is a phone nearer to another token of itself than to a token of another phone, as ZeroSpeech asks it?

Items are triphones: A and X say the same, B differs in the phone in the middle. Distance of two items is the mean
along the cheapest path of dynamic time warping, where two units cost 0 if they are the same and 1 if not (not
deduplicated: how long a unit lasts is heard). Within speakers, all three are of one; across, X is of another than A and
B. Errors, ties one half, are averaged over contexts (and speakers of X), then speakers, then ordered pairs of phones.

An item is the units whose centres lie between its start and its end, or, where there is none, the unit at its middle; a
triphone of three short phones still has two or three units at 12.5 Hz. The rules, down to ties of paths, are those of
fastabx's `identical` distance.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numba
import numpy as np

from spiritlm.corpus.phones import Triphone
from spiritlm.scoring.jackknife import Estimate, estimate

_njit = numba.njit(cache=True, nogil=True)

Pools = dict[tuple[str, str], list[int]]
"""Items of one context by (phone in the middle, speaker)."""


class Cell(NamedTuple):
    """All triples of one context, pair of phones and choice of speakers."""

    context: int
    a: int
    b: int
    x: int
    """Pools."""
    pair: int
    speaker: int
    """Of A and B."""
    speaker_x: int


@dataclass(frozen=True)
class AbxScore:
    error: Estimate
    """In [0, 1]; NaN where there was nothing to compare."""
    triples: int
    pairs: int
    """Ordered pairs of phones."""


class AbxTask:
    """What is compared with what; the same for every tokenizer."""

    def __init__(
        self,
        items: Sequence[Triphone],
        groups: np.ndarray,
        seed: int = 0,
        most_items: int = 10,
        most_speakers: int = 5,
    ) -> None:
        """`groups`: int `[recordings]`, the part of a jackknife that each recording is in. Of one phone, context and
        speaker at most `most_items` are taken, and at most `most_speakers` speakers of X for an A and B: those of
        Libri-Light and ZeroSpeech."""
        rng = np.random.default_rng(seed)
        self.speakers = {name: number for number, name in enumerate(sorted({item.speaker for item in items}))}
        self._pairs: dict[tuple[str, str, str], int] = {}
        by_context: dict[tuple[str, str, str], Pools] = defaultdict(dict)
        for number, item in enumerate(items):
            by_context[item.context].setdefault((item.phone, item.speaker), []).append(number)
        compared = [(c, pools) for c, pools in sorted(by_context.items()) if len({phone for phone, _ in pools}) > 1]
        within: list[Cell] = []
        across: list[Cell] = []
        chosen: list[list[int]] = []
        self._contexts = []  # first pool and end of each
        for number, (context, pools) in enumerate(compared):
            kept = {k: [pool[i] for i in rng.permutation(len(pool))[:most_items]] for k, pool in sorted(pools.items())}
            within += self._within(number, context[0], kept, len(chosen))
            across += self._across(number, context[0], kept, len(chosen), most_speakers, rng)
            self._contexts.append((len(chosen), len(chosen) + len(kept)))
            chosen += kept.values()
        self._cells = [np.array(cells, np.int64).reshape(-1, len(Cell._fields)) for cells in (within, across)]
        self.items = [items[i] for pool in chosen for i in pool]
        self._pool_starts = np.cumsum([0, *map(len, chosen)])
        self._groups = np.array([groups[item.recording] for item in self.items], np.int64)
        self._group_count = int(groups.max(initial=-1)) + 1

    def _pair(self, alphabet: str, phone: str, other: str) -> int:
        return self._pairs.setdefault((alphabet, phone, other), len(self._pairs))

    def _within(self, context: int, alphabet: str, pools: Pools, first: int) -> Iterator[Cell]:
        numbers = {key: first + i for i, key in enumerate(pools)}
        for (phone, speaker), same in numbers.items():
            for (other, its_speaker), different in numbers.items():
                if its_speaker == speaker and other != phone and len(pools[phone, speaker]) > 1:
                    pair, who = self._pair(alphabet, phone, other), self.speakers[speaker]
                    yield Cell(context, same, different, same, pair, who, who)

    def _across(
        self, context: int, alphabet: str, pools: Pools, first: int, most_speakers: int, rng: np.random.Generator
    ) -> Iterator[Cell]:
        numbers = {key: first + i for i, key in enumerate(pools)}
        for (phone, speaker), same in numbers.items():
            others = [name for said, name in pools if said == phone and name != speaker]
            for (other, its_speaker), different in numbers.items():
                if its_speaker != speaker or other == phone:
                    continue
                pair, who = self._pair(alphabet, phone, other), self.speakers[speaker]
                for i in rng.permutation(len(others))[:most_speakers]:
                    yield Cell(context, same, different, numbers[phone, others[i]], pair, who, self.speakers[others[i]])

    def score(
        self, units: Sequence[np.ndarray], rate: float, across: bool, speakers_of_x: Collection[str] | None = None
    ) -> AbxScore:
        """`units`: int `[units]` of each recording, at `rate` Hz; `speakers_of_x`: only triples whose X is of one of
        them, all where None."""
        wanted = [i for name, i in self.speakers.items() if speakers_of_x is None or name in speakers_of_x]
        cells = self._cells[across][np.isin(self._cells[across][:, -1], wanted)]
        if not len(cells):
            return AbxScore(Estimate(float("nan"), float("nan")), 0, 0)
        pieces = [item_units(units[item.recording], rate, item.start, item.end) for item in self.items]
        errors, triples = _score_cells(
            np.concatenate(pieces).astype(np.int32),
            np.cumsum([0, *map(len, pieces)]),
            self._pool_starts,
            np.array(self._contexts),
            np.searchsorted(cells[:, 0], np.arange(len(self._contexts) + 1)),
            np.ascontiguousarray(cells[:, 1:4]),
            self._groups,
            self._group_count,
        )
        with np.errstate(invalid="ignore"):
            collapsed = _collapse(errors / triples, cells[:, 4], cells[:, 5])
        pairs = len(np.unique(cells[:, 4]))
        return AbxScore(estimate(float(collapsed[0]), collapsed[1:]), int(triples[:, 0].sum()), pairs)


def item_units(units: np.ndarray, rate: float, start: float, end: float) -> np.ndarray:
    """Those of `units` whose centres are in `[start, end]` seconds; the one at its middle where there is none."""
    first, last = int(np.ceil(start * rate - 0.5)), int(np.floor(end * rate - 0.5))
    chosen = units[max(0, first) : last + 1]
    middle = min(int((start + end) / 2 * rate), len(units) - 1)
    return chosen if len(chosen) else units[middle : middle + 1]


def _collapse(errors: np.ndarray, pair: np.ndarray, speaker: np.ndarray) -> np.ndarray:
    """`errors`: `[cells, columns]`, NaN where a cell has no triple. Means over cells of a pair and speaker, then over
    speakers, then over pairs: `[columns]`."""
    keys, inverse = np.unique(np.stack([pair, speaker], axis=1), axis=0, return_inverse=True)
    by_speaker = _means(errors, inverse.reshape(-1), len(keys))
    _, inverse = np.unique(keys[:, 0], return_inverse=True)
    by_pair = _means(by_speaker, inverse, int(inverse.max()) + 1)
    return _means(by_pair, np.zeros(len(by_pair), np.int64), 1)[0]


def _means(values: np.ndarray, group: np.ndarray, groups: int) -> np.ndarray:
    """`[n, columns]` -> `[groups, columns]`, of what is not NaN."""
    known = ~np.isnan(values)
    sums, counts = np.zeros((groups, values.shape[1])), np.zeros((groups, values.shape[1]))
    np.add.at(sums, group, np.where(known, values, 0))
    np.add.at(counts, group, known)
    return np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)


@_njit
def dtw(x: np.ndarray, y: np.ndarray) -> float:
    """Mean cost along the cheapest path from start to end of two sequences of units, int `[n]`, neither empty."""
    costs, lengths = np.empty(len(y), np.int64), np.empty(len(y), np.int64)
    for i in range(len(x)):
        diagonal, diagonal_length = 0, 0
        for j in range(len(y)):
            cost, length = diagonal, diagonal_length
            if i > 0 and j > 0:
                if not (diagonal <= costs[j - 1] and diagonal <= costs[j]):
                    from_left = costs[j - 1] <= costs[j]
                    cost = costs[j - 1] if from_left else costs[j]
                    length = lengths[j - 1] if from_left else lengths[j]
            elif j > 0:
                cost, length = costs[j - 1], lengths[j - 1]
            elif i > 0:
                cost, length = costs[0], lengths[0]
            if i > 0:
                diagonal, diagonal_length = costs[j], lengths[j]
            costs[j] = cost + (x[i] != y[j])
            lengths[j] = length + 1
    return costs[-1] / lengths[-1]


@_njit
def _score_cells(
    units: np.ndarray,
    item_starts: np.ndarray,
    pool_starts: np.ndarray,
    contexts: np.ndarray,
    cell_starts: np.ndarray,
    cells: np.ndarray,
    groups: np.ndarray,
    group_count: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Errors and triples of each cell, float64 `[cells, 1 + groups]`: of all, and without each group."""
    errors = np.zeros((len(cells), 1 + group_count))
    triples = np.zeros((len(cells), 1 + group_count))
    for context in range(len(contexts)):
        first, end = pool_starts[contexts[context, 0]], pool_starts[contexts[context, 1]]
        distances = np.full((end - first, end - first), np.nan)
        for number in range(cell_starts[context], cell_starts[context + 1]):
            a0, a1 = pool_starts[cells[number, 0]], pool_starts[cells[number, 0] + 1]
            b0, b1 = pool_starts[cells[number, 1]], pool_starts[cells[number, 1] + 1]
            x0, x1 = pool_starts[cells[number, 2]], pool_starts[cells[number, 2] + 1]
            for x in range(x0, x1):
                for a in range(a0, a1):
                    if a == x:
                        continue
                    near = _distance(distances, units, item_starts, first, x, a)
                    for b in range(b0, b1):
                        far = _distance(distances, units, item_starts, first, x, b)
                        error = 1.0 if near > far else (0.5 if near == far else 0.0)
                        gx, ga, gb = groups[x], groups[a], groups[b]
                        errors[number, :] += error
                        triples[number, :] += 1
                        errors[number, 1 + gx] -= error
                        triples[number, 1 + gx] -= 1
                        if ga != gx:
                            errors[number, 1 + ga] -= error
                            triples[number, 1 + ga] -= 1
                        if gb != gx and gb != ga:
                            errors[number, 1 + gb] -= error
                            triples[number, 1 + gb] -= 1
    return errors, triples


@_njit
def _distance(distances: np.ndarray, units: np.ndarray, starts: np.ndarray, first: int, x: int, other: int) -> float:
    """Of two items, computed once; `distances` is of one context, whose items begin at `first`."""
    if np.isnan(distances[x - first, other - first]):
        low, high = min(x, other), max(x, other)
        found = dtw(units[starts[low] : starts[low + 1]], units[starts[high] : starts[high + 1]])
        distances[x - first, other - first] = found
        distances[other - first, x - first] = found
    return distances[x - first, other - first]
