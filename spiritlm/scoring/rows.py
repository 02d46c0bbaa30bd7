"""Requests in tokens, and the rows that a model reads to score them: what several requests begin with is read once.

A row is a beginning and, behind it, what each of its requests goes on with (a branch), every token at the position
that it has in its own request. Members of a pair share their prompt, and where a whole story is scored they share the
story, for it is the tokens that are compared and not who called them a prompt.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np


class TokenRequest(NamedTuple):
    """How likely is `continuation` after `prompt`?"""

    prompt: np.ndarray
    """int `[n]`, at least one, `<s>` say."""
    continuation: np.ndarray
    """int `[m]`, at least one."""
    scored: np.ndarray | None = None
    """bool `[m]`: tokens of the continuation that count, at least one; None for all. Markers do not."""

    @property
    def ids(self) -> np.ndarray:
        """int64 `[n + m]`."""
        return np.concatenate([self.prompt, self.continuation]).astype(np.int64)

    @property
    def targets(self) -> np.ndarray:
        """Places in `ids` of the tokens that count, int64."""
        counted = np.arange(len(self.continuation)) if self.scored is None else np.flatnonzero(self.scored)
        return len(self.prompt) + counted


class Row(NamedTuple):
    ids: np.ndarray
    """int64 `[row]`."""
    positions: np.ndarray
    """int64 `[row]`."""
    branches: np.ndarray
    """int64 `[row]`: 0 for the beginning, which all see; a token of branch n sees those and branch n only."""
    owners: np.ndarray
    """int64 `[scored]`: the request of each token that is scored."""
    places: np.ndarray
    """int64 `[scored]`: where in the row it is predicted."""
    targets: np.ndarray
    """int64 `[scored]`: its id."""


def rows_of(requests: Sequence[TokenRequest], share: bool, most_tokens: int) -> list[Row]:
    """Longest row first; which rows there are does not depend on the order of `requests`.

    With `share`, branches of one row are together at most twice as long as its beginning, so that attention over a row
    costs little more than over its requests one by one; a row of several is at most `most_tokens` long.
    """
    whole = [request.ids for request in requests]
    read = [ids[:-1] for ids in whole]  # of the last token, nothing is asked
    groups = _groups(read, most_tokens) if share else [([i], len(ids)) for i, ids in enumerate(read)]
    rows = [_row(members, common, requests, whole) for members, common in groups]
    return sorted(rows, key=lambda row: (-len(row.ids), row.ids.tobytes()))


def _groups(sequences: Sequence[np.ndarray], most_tokens: int) -> Iterator[tuple[list[int], int]]:
    """Numbers of sequences that are read as one row, and how many tokens they have in common.

    In alphabetical order, what a run of sequences has in common is what each two neighbours have.
    """
    order = sorted(range(len(sequences)), key=lambda i: sequences[i].astype(">u4").tobytes())
    if not order:
        return
    members, common = order[:1], len(sequences[order[0]])
    for before, number in pairwise(order):
        joined = min(common, _common(sequences[before], sequences[number]))
        branches = sum(len(sequences[i]) - joined for i in [*members, number])
        saves = len(members) * joined > (len(members) - 1) * common
        if saves and branches <= 2 * joined and joined + branches <= most_tokens:
            members, common = [*members, number], joined
        else:
            yield members, common
            members, common = [number], len(sequences[number])
    yield members, common


def _common(a: np.ndarray, b: np.ndarray) -> int:
    """Tokens that both begin with."""
    most = min(len(a), len(b))
    differ = np.flatnonzero(a[:most] != b[:most])
    return int(differ[0]) if len(differ) else most


def _row(members: Sequence[int], common: int, requests: Sequence[TokenRequest], whole: Sequence[np.ndarray]) -> Row:
    first = whole[members[0]][:common]
    ids, positions, branches = [first], [np.arange(common)], [np.zeros(common, np.int64)]
    owners, places, targets, end = [], [], [], common
    for branch, number in enumerate(members, start=1):
        rest = whole[number][common:-1]
        ids.append(rest)
        positions.append(common + np.arange(len(rest)))
        branches.append(np.full(len(rest), branch))
        asked = requests[number].targets
        before = asked - 1
        owners.append(np.full(len(asked), number))
        places.append(np.where(before < common, before, before + end - common))
        targets.append(whole[number][asked])
        end += len(rest)
    return Row(*(np.concatenate(parts) for parts in (ids, positions, branches, owners, places, targets)))


def batches_of(rows: Sequence[Row], most_tokens: int, most_rows: int | None = None) -> Iterator[Sequence[Row]]:
    """Neighbours that are at most `most_tokens` with their padding, or one longer row. `rows`: longest first."""
    first = 0
    while first < len(rows):
        fitting = max(1, most_tokens // len(rows[first].ids))
        end = first + min(fitting, most_rows or fitting)
        yield rows[first:end]
        first = end
