"""Tasks asked of a model: figures by task, and beside them the files that show where they come from.

FOLDER/items/TASK.jsonl              what the model said of each pair
FOLDER/submission/PART/SPLIT.txt     what the official scorer of sWUGGY and sBLIMP takes
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from spiritlm.run.files import write_jsonl
from spiritlm.run.stage import is_main_process
from spiritlm.scoring.protocol import Request, Score
from spiritlm.suites import official
from spiritlm.suites.figures import PairScore, figures, rows
from spiritlm.suites.pairs import Task

Scorer = Callable[[str, Sequence[Request]], list[Score]]
"""A name for files, and requests, to scores in their order."""


def evaluate(tasks: Sequence[Task], score: Scorer, folder: Path) -> dict[str, dict[str, Any]]:
    """Figures by name of task; under torchrun all ranks score and the first writes. Raises `InputError` where a score
    is no number."""
    found = {}
    for task in tasks:
        scores = paired(score(file_name(task.name), requests_of(task)))
        found[task.name] = figures(task, scores)
        if task.gold is not None:
            found[task.name]["official"] = _submitted(task, scores, folder / "submission")
        if is_main_process():
            path = folder / "items" / f"{file_name(task.name)}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_jsonl(path, rows(task, scores))
    return found


def requests_of(task: Task) -> list[Request]:
    """Right and wrong by turns."""
    return [request for pair in task.pairs for request in (pair.right, pair.wrong)]


def paired(scores: Sequence[Score]) -> list[PairScore]:
    return [PairScore(*both) for both in zip(scores[0::2], scores[1::2], strict=True)]


def file_name(task: str) -> str:
    """`storycloze S>T whole` is `storycloze_S_T_whole`."""
    return re.sub(r"\W+", "_", task)


def _submitted(task: Task, scores: Sequence[PairScore], folder: Path) -> dict[str, Any]:
    """Writes the submission; what the official scorer says of it, without its table by pair."""
    made = official.submission(task, scores)
    if is_main_process():
        (folder / made.part).mkdir(parents=True, exist_ok=True)
        official.write_submission(folder / made.part / f"{task.split}.txt", made.scores)
    said = official.evaluate(made.gold, made.scores)
    return {name: value for name, value in said.items() if name != "by_pair"}
