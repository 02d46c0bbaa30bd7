"""What the official scorer of ZeroSpeech 2021 says of a submission, to the last digit.

A submission is `lexical/SPLIT.txt` and `syntactic/SPLIT.txt`, one `FILENAME SCORE` a line. Words and non-words are
joined on id and voice; sentences BY POSITION, the k-th right one with the k-th wrong one, which is the same thing only
where `gold.csv` lists them alike. A pair scores 1, or 0.5 where both scores are equal (no tolerance; two infinities
are equal, NaN loses); a score that is there twice counts twice. Voices of an item are averaged, then items. Bands of
frequency are half-open: 5 is in "6-20".
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from spiritlm.errors import InputError
from spiritlm.run.files import read_bytes, write_text
from spiritlm.suites.figures import PairScore, value_of
from spiritlm.suites.gold import KEYS, LEXICAL, SYNTACTIC, Row, columns_of, pairs_of, read_gold
from spiritlm.suites.pairs import Task

BANDS = {"oov": (0, 1), "1-5": (1, 5), "6-20": (5, 20), "21-100": (20, 100), ">100": (100, math.inf)}
"""Of the frequency of a word, from the first number to below the second."""

PARTS = {"swuggy": ("lexical", LEXICAL), "sblimp": ("syntactic", SYNTACTIC)}

Named = tuple[str, float]
"""A recording and its score."""


def band_of(frequency: str) -> str:
    """The band of a word's frequency; empty where it has none."""
    if not frequency.strip():
        return ""
    return next((name for name, (low, high) in BANDS.items() if low <= float(frequency) < high), "")


def write_submission(path: Path, scores: Sequence[Named]) -> None:
    write_text(path, "".join(f"{name} {score!r}\n" for name, score in scores))


def read_submission(path: Path) -> list[Named]:
    """Raises `InputError` for a line that is no `FILENAME SCORE`."""
    scores = []
    try:
        lines = read_bytes(path).decode().splitlines()
    except UnicodeDecodeError:
        raise InputError(f"{path}: expected lines of text") from None
    for number, line in enumerate(lines, 1):
        try:
            name, score = line.split(" ")
            scores.append((name, float(score)))
        except ValueError:
            raise InputError(f"{path}: line {number} is {line[:80]!r}, expected 'FILENAME SCORE'") from None
    return scores


class Submission(NamedTuple):
    part: str
    """lexical or syntactic."""
    gold: list[Row]
    scores: list[Named]


def submission(task: Task, scores: Sequence[PairScore]) -> Submission:
    """The published choice of score for each recording of `task.gold`, in its order; `scores`: of the task's pairs."""
    if task.gold is None:
        raise ValueError(f"{task.name}: the official scorer does not know it")
    part, columns = PARTS[task.name]
    gold = read_gold(task.gold, columns)
    rows, named = pairs_of(gold, task.gold), dict[str, float]()
    for pair, both in zip(task.pairs, scores, strict=True):
        for row, score in zip(rows[pair.id], both, strict=True):
            value = value_of(score, *task.published)
            if value is None:
                raise InputError(f"task {task.name}: the model has no score of the published kind")
            named[row["filename"]] = value
    return Submission(part, gold, [(row["filename"], named[row["filename"]]) for row in gold])


class _Judged(NamedTuple):
    right: Row
    wrong: Row
    score: float


def evaluate(gold: Sequence[Row], scores: Sequence[Named]) -> dict[str, Any]:
    """`overall`, tables by band of frequency and length, or by type, and `by_pair`; `in_vocab` without "oov".

    `gold`: rows of the lexical or of the syntactic task. Raises `InputError` where a recording has no score, a score no
    recording, or a recording no other to be compared with.
    """
    rows = _scored(gold, scores)
    lexical = columns_of(gold[0]) == LEXICAL
    items = _by_item(_joined(rows) if lexical else _side_by_side(rows))
    means = [float(np.mean([one.score for one in voices])) for voices in items]
    found: dict[str, Any] = {"n_pairs": len(items), "overall": float(np.mean(means))}
    firsts = [voices[0] for voices in items]
    if not lexical:
        found["by_type"] = _table("type", [one.right["type"] for one in firsts], means)
        texts = [("sentence", "non sentence", one, "transcription") for one in firsts]
    else:
        bands = [band_of(one.right["frequency"]) for one in firsts]
        found["by_frequency"] = _table("frequency", bands, means, list(BANDS))
        known = [(row["n"], row["score"]) for row in found["by_frequency"] if row["n"] and row["frequency"] != "oov"]
        found["in_vocab"] = float(np.average([s for _, s in known], weights=[n for n, _ in known])) if known else None
        found["by_length"] = _table("length", [int(float(one.right["length"])) for one in firsts], means)
        written = all(row["word"] for row in gold if row["correct"] == "0")
        texts = [("word", "non word", one, "word" if written else "phones") for one in firsts]
    found["by_pair"] = [
        {right: one.right[column], wrong: one.wrong[column], "score": mean}
        for (right, wrong, one, column), mean in zip(texts, means, strict=True)
    ]
    return found


def _scored(gold: Sequence[Row], scores: Sequence[Named]) -> list[tuple[Row, float]]:
    """Rows of gold in order, each as often as it has scores."""
    by_name: dict[str, list[float]] = defaultdict(list)
    for name, score in scores:
        by_name[name].append(score)
    names = [row["filename"] for row in gold]
    for what, lacking in (
        ("recordings have no score", [name for name in names if name not in by_name]),
        ("scores are of no recording of gold.csv", [name for name in by_name if name not in set(names)]),
    ):
        if lacking:
            raise InputError(f"submission: {len(lacking)} {what}, the first is {lacking[0]!r}")
    return [(row, score) for row in gold for score in by_name[row["filename"]]]


def _joined(rows: Sequence[tuple[Row, float]]) -> list[_Judged]:
    sides: tuple[dict[Any, list[tuple[Row, float]]], ...] = (defaultdict(list), defaultdict(list))
    for row, score in rows:
        sides[int(row["correct"])][row["id"], row["voice"]].append((row, score))
    for id, voice in sides[0].keys() ^ sides[1].keys():
        raise InputError(f"gold.csv: id {id}, voice {voice}: expected a word and a non-word, found one of them")
    return [
        _Judged(row, other, _win(score, other_score))
        for row, score in rows
        if row["correct"] == "1"
        for other, other_score in sides[0][row["id"], row["voice"]]
    ]


def _side_by_side(rows: Sequence[tuple[Row, float]]) -> list[_Judged]:
    right, wrong = ([one for one in rows if one[0]["correct"] == side] for side in "10")
    if len(right) != len(wrong):
        raise InputError(f"gold.csv: {len(right)} right and {len(wrong)} wrong sentences, expected as many")
    return [_Judged(r, w, _win(x, y)) for (r, x), (w, y) in zip(right, wrong, strict=True)]


def _win(right: float, wrong: float) -> float:
    return 0.5 if right == wrong else float(right > wrong)


def _by_item(judged: Sequence[_Judged]) -> list[list[_Judged]]:
    """The voices of each item, in order of its key; ids are numbers where all of them are."""
    items: dict[tuple[str, ...], list[_Judged]] = defaultdict(list)
    for one in judged:
        items[tuple(one.right[name] for name in KEYS[columns_of(one.right)])].append(one)
    numbers = all(key[-1].removeprefix("-").isdecimal() for key in items)

    def order(key: tuple[str, ...]) -> tuple[Any, ...]:
        return (*key[:-1], int(key[-1]) if numbers else key[-1])

    return [items[key] for key in sorted(items, key=order)]


def _table(
    name: str, groups: Sequence[Any], scores: Sequence[float], order: Sequence[Any] | None = None
) -> list[dict[str, Any]]:
    """Count, mean and deviation (n - 1) by group; None where there is none."""
    rows = []
    for group in order if order is not None else sorted(set(groups)):
        own = [score for which, score in zip(groups, scores, strict=True) if which == group]
        mean = float(np.mean(own)) if own else None
        rows.append({name: group, "n": len(own), "score": mean, "std": _deviation(own)})
    return rows


def _deviation(scores: Sequence[float]) -> float | None:
    """Of n - 1, in one pass (Welford), as the scorer's own library has it: another rounding in the last digit."""
    mean = squares = 0.0
    for number, score in enumerate(scores, 1):
        before, mean = mean, mean + (score - mean) / number
        squares += (score - before) * (score - mean)
    return math.sqrt(squares / (len(scores) - 1)) if len(scores) > 1 else None
