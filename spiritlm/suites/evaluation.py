"""Tasks asked of a model: figures by task, and beside them the files that show where they come from.

FOLDER/items/TASK.jsonl              what the model said of each pair
FOLDER/submission/PART/SPLIT.txt     what the official scorer of sWUGGY and sBLIMP takes
FOLDER/answers/TASK/NUMBER.wav       what the model answered aloud
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spiritlm.run.files import write_jsonl
from spiritlm.run.ranks import wait_for_all
from spiritlm.run.stage import is_main_process
from spiritlm.scoring.protocol import Request, Score, SpeechTextModel
from spiritlm.scoring.resumable import resumable_scores
from spiritlm.suites import official
from spiritlm.suites.asked import AskedTask, ask
from spiritlm.suites.figures import PairScore, figures, rows
from spiritlm.suites.pairs import Task, file_name


def evaluate(model: SpeechTextModel, tasks: Sequence[Task], folder: Path) -> dict[str, dict[str, Any]]:
    """Figures by name of task; under torchrun every process scores its share and the first writes. Raises `InputError`
    where the model cannot score an item."""
    found = {}
    for task in tasks:
        name = file_name(task.name)
        scores = paired(list(_scores(model, task, folder / "scores" / name).values()))
        found[task.name] = figures(task, scores)
        if task.gold is not None:
            found[task.name]["official"] = _submitted(task, scores, folder / "submission")
        if is_main_process():
            (folder / "items").mkdir(parents=True, exist_ok=True)
            write_jsonl(folder / "items" / f"{name}.jsonl", rows(task, scores))
    return found


def ask_all(model: SpeechTextModel, tasks: Sequence[AskedTask], folder: Path) -> dict[str, dict[str, Any]]:
    """Figures by name of task, in the first process of torchrun alone, which asks; none in the others."""
    found = ask(model, tasks, folder) if is_main_process() else {}
    wait_for_all()
    return found


def _scores(model: SpeechTextModel, task: Task, folder: Path) -> dict[str, Score]:
    """In order of the task's pairs, the right one first."""
    keys = [f"{pair.id} {side}" for pair in task.pairs for side in PairScore._fields]
    told = {"name": task.name, "version": task.version, "split": task.split}
    scores = resumable_scores(model, dict(zip(keys, requests_of(task), strict=True)), folder, told)
    return {key: scores[key] for key in keys}


def requests_of(task: Task) -> list[Request]:
    """Right and wrong by turns."""
    return [request for pair in task.pairs for request in (pair.right, pair.wrong)]


def paired(scores: Sequence[Score]) -> list[PairScore]:
    return [PairScore(*both) for both in zip(scores[0::2], scores[1::2], strict=True)]


def _submitted(task: Task, scores: Sequence[PairScore], folder: Path) -> dict[str, Any]:
    """Writes the submission; what the official scorer says of it, without its table by pair."""
    made = official.submission(task, scores)
    if is_main_process():
        (folder / made.part).mkdir(parents=True, exist_ok=True)
        official.write_submission(folder / made.part / f"{task.split}.txt", made.scores)
    said = official.evaluate(made.gold, made.scores)
    return {name: value for name, value in said.items() if name != "by_pair"}
