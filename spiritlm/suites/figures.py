"""From the scores of pairs to figures: accuracy by sum and by mean per token, among all tokens and among those of the
modality, each with its standard error; tables by label; the items behind them.

Pairs of one item in several voices are averaged first, and errors are over items: voices of one word are no independent
observations. A pair whose scores are nearer than `TIE` counts one half.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, get_args

import numpy as np

from spiritlm.scoring.accuracy import pair_win
from spiritlm.scoring.protocol import Score
from spiritlm.suites.pairs import ITEM, Among, Normalisation, Task


class PairScore(NamedTuple):
    right: Score
    wrong: Score


def value_of(score: Score, normalisation: Normalisation, among: Among) -> float | None:
    """None where the model does not know it."""
    total = score.total if among == "full" else score.restricted
    return total if total is None or normalisation == "sum" else total / score.tokens


def figures(task: Task, scores: Sequence[PairScore]) -> dict[str, Any]:
    """As JSON; `scores`: in the order of the task's pairs, finite."""
    items = [pair.labels.get(ITEM, pair.id) for pair in task.pairs]
    accuracy: dict[str, dict[str, Any]] = {}
    for normalisation in get_args(Normalisation):
        accuracy[normalisation] = {}
        for among in get_args(Among):
            wins = _wins(scores, normalisation, among)
            accuracy[normalisation][among] = None if wins is None else _accuracy(wins, items)
    normalisation, among = task.published
    found = {
        "version": task.version,
        "split": task.split,
        "n": len(task.pairs),
        "skipped": task.skipped,
        "published": {"normalisation": normalisation, "among": among},
        "accuracy": accuracy,
    }
    published = _wins(scores, *task.published)
    return found | ({"by": _tables(task, published, items)} if published is not None else {})


def published(found: dict[str, Any]) -> dict[str, Any] | None:
    """The accuracy of `figures` that published ones are to be compared with."""
    choice = found["published"]
    accuracy: dict[str, Any] | None = found["accuracy"][choice["normalisation"]][choice["among"]]
    return accuracy


def rows(task: Task, scores: Sequence[PairScore]) -> Iterator[dict[str, Any]]:
    """What is kept of each pair."""
    for pair, score in zip(task.pairs, scores, strict=True):
        (win,) = _wins([score], *task.published) or (None,)
        yield {
            "id": pair.id,
            **pair.labels,
            "right": score.right._asdict(),
            "wrong": score.wrong._asdict(),
            "win": win,
        }


def _wins(scores: Sequence[PairScore], normalisation: Normalisation, among: Among) -> list[float] | None:
    wins = []
    for score in scores:
        right, wrong = (value_of(one, normalisation, among) for one in score)
        if right is None or wrong is None:
            return None
        wins.append(pair_win(right, wrong))
    return wins


def _accuracy(wins: Sequence[float], items: Sequence[str]) -> dict[str, Any]:
    """The mean over items of the mean over their pairs; its error is None for a single item."""
    by_item: dict[str, list[float]] = defaultdict(list)
    for win, item in zip(wins, items, strict=True):
        by_item[item].append(win)
    means = np.array([np.mean(own) for own in by_item.values()])
    error = float(means.std(ddof=1)) / math.sqrt(len(means)) if len(means) > 1 else None
    return {"value": float(means.mean()), "standard_error": error, "items": len(means), "pairs": len(wins)}


def _tables(task: Task, wins: Sequence[float], items: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Accuracy of the published choice by each label and its values, numbers in their order."""
    tables: dict[str, dict[str, Any]] = {}
    for label in dict.fromkeys(label for pair in task.pairs for label in pair.labels if label != ITEM):
        told = [pair.labels.get(label, "") for pair in task.pairs]
        tables[label] = {}
        for value in sorted(set(told), key=_order):
            own = [number for number, one in enumerate(told) if one == value]
            tables[label][value] = _accuracy([wins[n] for n in own], [items[n] for n in own])
    return tables


def _order(value: str) -> tuple[int, str]:
    """`oov`, `1-5`, `6-20`, `>100`."""
    number = re.match(r"\W?(\d+)", value)
    return (int(number[1]) if number else -1, value)
