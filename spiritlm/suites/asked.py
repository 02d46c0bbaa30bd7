"""Benchmarks that ask a model to answer: what is asked, what is right, and from answers to a figure with its error.

A task has items, each a question in text and sound; a judge says of every answer how much of it counts (`points` of
`out_of`: 1 of 1 for right and wrong, edits of words for error rates). The figure is the sum of points over the sum of
what they are out of; its error is over items, several repetitions of one item (other seeds, other examples) together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from spiritlm.audio.files import write_wav
from spiritlm.errors import InputError
from spiritlm.inference.request import Speech
from spiritlm.run.files import write_jsonl
from spiritlm.scoring.jackknife import as_json, ratio
from spiritlm.scoring.protocol import Answer, Question, SpeechTextModel
from spiritlm.suites.pairs import ITEM, file_name

Metric = Literal["accuracy", "WER", "CER", "perplexity", "auto-BLEU"]
LOWER_IS_BETTER: tuple[Metric, ...] = ("WER", "CER", "perplexity", "auto-BLEU")


@dataclass(frozen=True)
class Item:
    id: str
    """Unique in its task."""
    question: Question
    expected: tuple[str, ...] = ()
    """What the judge compares with: transcripts, accepted answers, a label."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """What tables group by; items of one `item` are repetitions of each other."""


class Grade(NamedTuple):
    points: float
    out_of: float
    heard: str
    """The answer in words: as written, as a recogniser heard it, or the label that it was given."""
    chance: float | None = None
    """Points that the answers to other items get here on average; None where nothing is to be learned from them."""


Judge = Callable[[Sequence[Item], Sequence[Answer]], list[Grade]]
"""Grades in the order of the items."""


@dataclass(frozen=True)
class AskedTask:
    name: str
    version: int
    """Raised whenever a figure of the task could come out otherwise."""
    split: str
    items: Sequence[Item]
    judge: Judge
    metric: Metric
    skipped: int = 0
    """Items of the folder that are not asked, by a rule that the task states; never for what is missing."""
    note: str = ""
    """Who judges, and what else a figure depends on."""

    @property
    def is_spoken(self) -> bool:
        """Whether it wants spoken answers."""
        return any(item.question.output == "speech" for item in self.items)


def ask(model: SpeechTextModel, tasks: Sequence[AskedTask], folder: Path) -> dict[str, dict[str, Any]]:
    """Figures by name of task; writes `FOLDER/items/NAME.jsonl` and spoken answers into `FOLDER/answers/NAME/`.
    Tasks that share their items are asked once. Raises `InputError` where the model cannot be asked an item, or the
    judge cannot hear it."""
    alike: dict[int, list[AskedTask]] = {}
    for task in tasks:
        if not task.items:
            raise InputError(f"task {task.name}: has no items")
        alike.setdefault(id(task.items), []).append(task)
    found: dict[str, dict[str, Any]] = {}
    for some in alike.values():
        answers = model.generate([item.question for item in some[0].items])
        found |= {task.name: _judged(task, answers, folder) for task in some}
    return {task.name: found[task.name] for task in tasks}


def _judged(task: AskedTask, answers: Sequence[Answer], folder: Path) -> dict[str, Any]:
    grades = task.judge(task.items, answers)
    name = file_name(task.name)
    (folder / "items").mkdir(parents=True, exist_ok=True)
    write_jsonl(folder / "items" / f"{name}.jsonl", _rows(task, answers, grades, folder / "answers" / name, folder))
    return asked_figures(task, grades)


def asked_figures(task: AskedTask, grades: Sequence[Grade]) -> dict[str, Any]:
    """As JSON: `value` (a share, or the mean of a perplexity), `standard_error`, `n`, by label, and where judges give
    it `chance` and `difference`, the figure of answers behind other prompts, and how far the own one is from it."""
    items = [item.labels.get(ITEM, item.id) for item in task.items]
    found: dict[str, Any] = {
        "version": task.version,
        "split": task.split,
        "metric": task.metric,
        "note": task.note,
        "skipped": task.skipped,
        **_shown(task.metric, _figure([grade.points for grade in grades], grades, items)),
    }
    if all(grade.chance is not None for grade in grades):
        chance = [grade.chance or 0.0 for grade in grades]
        found["chance"] = _figure(chance, grades, items)
        found["difference"] = _figure([g.points - c for g, c in zip(grades, chance, strict=True)], grades, items)
    labels = dict.fromkeys(label for item in task.items for label in item.labels if label != ITEM)
    found["by"] = {
        label: {value: _shown(task.metric, one) for value, one in _by(label, task.items, grades, items)}
        for label in labels
    }
    return found


def _shown(metric: Metric, found: dict[str, Any]) -> dict[str, Any]:
    """A perplexity is the exponential of what is averaged, nats a token, and its error follows."""
    if metric != "perplexity" or found["value"] is None:
        return found
    value, error = math.exp(found["value"]), found["standard_error"]
    return found | {"value": value, "standard_error": None if error is None else value * error}


def _figure(points: Sequence[float], grades: Sequence[Grade], items: Sequence[str]) -> dict[str, Any]:
    order = {name: number for number, name in enumerate(dict.fromkeys(items))}
    places = [order[item] for item in items]
    above = np.bincount(places, points, len(order))
    below = np.bincount(places, [grade.out_of for grade in grades], len(order))
    return {**as_json(ratio(above, below)), "n": len(grades), "items": len(order)}


def _by(
    label: str, items: Sequence[Item], grades: Sequence[Grade], names: Sequence[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    told = [item.labels.get(label, "") for item in items]
    for value in sorted(set(told)):
        own = [number for number, one in enumerate(told) if one == value]
        some = [grades[number] for number in own]
        yield value, _figure([grade.points for grade in some], some, [names[number] for number in own])


def _rows(
    task: AskedTask, answers: Sequence[Answer], grades: Sequence[Grade], sounds: Path, root: Path
) -> Iterator[dict[str, Any]]:
    for number, (item, answer, grade) in enumerate(zip(task.items, answers, grades, strict=True)):
        row: dict[str, Any] = {"id": item.id, **item.labels, "expected": list(item.expected), **grade._asdict()}
        if isinstance(answer, Speech) and len(answer.wave):
            sounds.mkdir(parents=True, exist_ok=True)
            path = sounds / f"{number:05d}.wav"
            write_wav(path, answer.wave, answer.sample_rate)
            row["wav"] = str(path.relative_to(root))
        elif isinstance(answer, str):
            row["text"] = answer
        yield row
