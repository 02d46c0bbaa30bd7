"""Evaluate an exported model, or a run that trains one, on benchmarks.

    python evals/run.py MODEL|RUN --tasks swuggy,sblimp,storycloze --data ROOT --out DIR [key=value ...]
    python evals/run.py RECIPE.toml [key=value ...]

In:  an exported model, a finished run or one of the checkpoints of a run (beside it perhaps another, `apart`), the
     folder of the benchmarks (docs/evals.md), who judges answers, and for the tasks loss and style_consistency a store.
Out: `results.json`, `results.md`, `results.html`, what was said of every item in `items/TASK.jsonl`, spoken answers in
     `answers/`, and what the official scorer of sWUGGY and sBLIMP takes in `submission/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from spiritlm.corpus.manifest import read_manifest
from spiritlm.corpus.store import DocumentStore
from spiritlm.errors import InputError
from spiritlm.inference.decoding import decode_all
from spiritlm.run.files import write_json, write_text
from spiritlm.run.program import run_on_model
from spiritlm.run.stage import Folder, OptionalFolder, OptionalInput, Stage, is_main_process
from spiritlm.scoring.judges import JudgedRecipe
from spiritlm.scoring.models import CHECKPOINTS, ExportedModel
from spiritlm.suites import dev_loss, sheets, stsp, style_consistency
from spiritlm.suites.asked import AskedTask
from spiritlm.suites.evaluation import ask_all, evaluate
from spiritlm.suites.figures import figures, published
from spiritlm.suites.pairs import Task
from spiritlm.suites.registry import (
    ASKED,
    GROUPS,
    SUITES,
    Asking,
    folder_of,
    lacking_judges,
    read_asked,
    read_tasks,
    require_names,
)
from spiritlm.suites.trigram import Trigrams
from spiritlm.tokens.vocabulary import Vocabulary

STORE_TASKS = {"loss": dev_loss.VERSION, "style_consistency": style_consistency.VERSION}
"""Tasks over a store, and their versions."""


class EvaluateRecipe(JudgedRecipe):
    model: Folder
    apart: OptionalFolder = None
    """A model whose figures stand beside, say one that has read and heard, never both in one document."""
    speech_tokenizer: OptionalFolder = None
    """What the units of a run come from; an exported model has it in its folder."""
    tasks: tuple[str, ...]
    data: OptionalFolder = None
    """The folder of the benchmarks."""
    split: str | None = None
    """Of the benchmarks of pairs that have several: where None, `dev` of the official layouts, the only one of a
    mirror."""
    answers_split: str | None = None
    """Of the benchmarks of answers that have several: where None, `test`, of LibriSpeech every `test-` there is."""
    store: OptionalInput = None
    """For loss and style_consistency; where it is given, trigrams over its documents stand beside all tasks."""
    moods: OptionalInput = None
    """The corpus of a store with style units: whether the model tells on in the mood of what it heard."""
    shots: tuple[NonNegativeInt, ...] = ()
    """Examples before a question, a task for each number; where empty, what is published of a benchmark."""
    template: Literal["published", "plain"] = "published"
    """How asr and tts show examples."""
    most: PositiveInt | None = None
    """Items of a task of answers, at most; evenly spread."""
    repetitions: PositiveInt = 3
    """Answers to each prompt of stsp."""
    seed: int = Field(default=0, ge=0)
    """Of examples, and of answers that are drawn."""
    sequence_length: PositiveInt = 512
    """Row length of the dev loss."""
    unigram_rows: PositiveInt = 400
    """Training rows that the unigram distribution is counted over."""

    @model_validator(mode="after")
    def _has_what_its_tasks_need(self) -> EvaluateRecipe:
        for name in self.names:
            if name not in STORE_TASKS and self.data is None:
                raise InputError(f"task {name}: expected data, the folder of the benchmarks")
            if name in STORE_TASKS and self.store is None:
                raise InputError(f"task {name}: expected store, the folder of an encode stage")
        if "style_consistency" in self.names and self.moods is None:
            raise InputError("task style_consistency: expected moods, the corpus of the store")
        if not self.tasks:
            raise InputError("tasks: expected at least one")
        if self.split is not None and not any(name in SUITES for name in self.names):
            raise InputError(
                f"split = {self.split!r}: of benchmarks of pairs only; expected answers_split for these tasks"
            )
        for folder in self.read_of("data", self.data) if self.data and self.data.is_dir() else []:
            if folder.resolve() in (out := self.out.resolve(), *out.parents):
                raise InputError(f"out = {self.out}: lies in the benchmark {folder}, which it would change")
        return self

    @property
    def names(self) -> list[str]:
        """Of tasks, groups spelt out."""
        return require_names(self.tasks, STORE_TASKS)

    def read_of(self, name: str, folder: Path) -> list[Path]:
        """Of the benchmarks, those that are asked."""
        if name != "data":
            return [folder]
        pairs = [folder_of(task, folder, self.split) for task in self.names if task in SUITES]
        return [*pairs, *(folder_of(task, folder) for task in self.names if task in ASKED)]

    def asking(self) -> Asking:
        """Raises `InputError` where a judge cannot be loaded."""
        return Asking(self.judges(), self.shots, self.template, self.most, self.repetitions, self.seed)


class Tasks(NamedTuple):
    pairs: list[Task]
    asked: list[AskedTask]
    not_judged: list[str]
    """For want of somebody who judges them."""
    prompts: dict[str, Any]
    """How often the judges of STSP are right about its prompts."""

    @property
    def versions(self) -> dict[str, int]:
        return {t.name: t.version for t in self.pairs} | {t.name: t.version for t in self.asked}


def run(recipe: EvaluateRecipe, stage: Stage) -> dict[str, Any]:
    tasks, names = _tasks(recipe), recipe.names
    model = _load(recipe.model, recipe.speech_tokenizer)
    apart = _load(recipe.apart, recipe.speech_tokenizer) if recipe.apart else None
    versions = tasks.versions | {name: version for name, version in STORE_TASKS.items() if name in names}
    results: dict[str, Any] = {"task_versions": versions, "not_judged": tasks.not_judged, "stsp_prompts": tasks.prompts}
    results |= _arm(model, tasks, recipe, stage.folder)
    beside = _arm(apart, tasks, recipe, stage.folder / "apart") if apart else None
    if recipe.store and is_main_process():
        trigrams = Trigrams(recipe.store)
        for task in tasks.pairs:
            if scores := trigrams.scores(model, task):
                results["tasks"][task.name]["trigram"] = published(figures(task, scores))
        results |= _of_the_model(model.model, recipe, recipe.store)
    if beside:
        results["apart"] = beside
    if is_main_process():
        write_json(stage.folder / "results.json", results)
        write_text(stage.folder / "results.md", sheets.markdown(results))
        sheets.page(results).save(stage.folder / "results.html")
        print(sheets.brief(results))
    return _counts(results)


def _tasks(recipe: EvaluateRecipe) -> Tasks:
    """Of benchmarks of answers none in a process that is not the first, for that one asks them all."""
    data, names = recipe.data, recipe.names
    if data is None:
        return Tasks([], [], [], {})
    pairs = [task for name in names if name in SUITES for task in read_tasks(name, data, recipe.split)]
    asked = [name for name in names if name in ASKED] if is_main_process() else []
    asking = recipe.asking() if asked else Asking()
    answers = [task for name in asked for task in read_asked(name, data, recipe.answers_split, asking)]
    if missing := lacking_judges(asked, asking.judges):
        print(f"  nobody judges, and so not asked: {', '.join(missing)}")
    prompts = {}
    if "stsp" in asked:
        prompts = stsp.prompt_figures(folder_of("stsp", data), recipe.answers_split, asking.judges)
    return Tasks(pairs, answers, missing, prompts)


def _load(folder: Path, speech_tokenizer: Path | None) -> ExportedModel:
    """Raises `InputError` where `folder` is neither an exported model nor a run nor a checkpoint of one."""
    if (folder / CHECKPOINTS).is_dir() or folder.parent.name == CHECKPOINTS:
        return ExportedModel.from_checkpoint(folder, speech_tokenizer)
    return ExportedModel.from_pretrained(folder)


def _arm(model: ExportedModel, tasks: Tasks, recipe: EvaluateRecipe, folder: Path) -> dict[str, Any]:
    """What is asked of both models. Raises `InputError` where the store is of another vocabulary."""
    if recipe.store:
        model.vocabulary.require_hash(Vocabulary.load(recipe.store).hash, recipe.store)
    found: dict[str, Any] = {"model": model.identity, "tasks": evaluate(model, tasks.pairs, folder)}
    if any(name in ASKED for name in recipe.names):
        mute = [task for task in tasks.asked if task.is_spoken] if model.voice is None else []
        if mute:
            print(f"  the model has no voice to answer with, and so not asked: {', '.join(task.name for task in mute)}")
        found["asked"] = ask_all(model, [task for task in tasks.asked if task not in mute], folder)
        found["not_asked"] = [task.name for task in mute]
    return found


def _of_the_model(model: torch.nn.Module, recipe: EvaluateRecipe, store: Path) -> dict[str, Any]:
    """What is asked of the first model only."""
    found: dict[str, Any] = {}
    if "loss" in recipe.names:
        found["loss"] = dev_loss.dev_loss(model, store, recipe.sequence_length, recipe.unigram_rows)
    if "style_consistency" in recipe.names and recipe.moods:
        found["style_consistency"] = _style_consistency(model, store, recipe.moods)
    return found


def _style_consistency(model: torch.nn.Module, store: Path, corpus: Path) -> dict[str, Any]:
    test = DocumentStore(store, "test")
    vocabulary = test.vocabulary
    items = style_consistency.read_items(test, read_manifest(corpus, "test"))
    table = style_consistency.moods_of_units(DocumentStore(store, "train"), read_manifest(corpus, "train"))
    return style_consistency.evaluate(items, partial(decode_all, model), vocabulary, table)


def _counts(results: Mapping[str, Any]) -> dict[str, Any]:
    """Each figure and its standard error."""
    counts: dict[str, Any] = {name: _rounded(published(found)) for name, found in results["tasks"].items()}
    if "loss" in results:
        counts["loss"] = results["loss"]
    counts |= {name: _rounded(found) for name, found in results.get("asked", {}).items()}
    if style := results.get("style_consistency"):
        counts["style_consistency"] = {key: style[key]["value"] for key in sheets.STYLE_ROWS}
    if "apart" in results:
        counts["apart"] = _counts(results["apart"])
    return counts


def _rounded(found: Mapping[str, Any] | None) -> list[float | None]:
    pair = [found[key] if found else None for key in ("value", "standard_error")]
    return [None if number is None else round(number, 4) for number in pair]


def main() -> None:
    options = {
        "tasks": f"NAME,NAME of {', '.join([*SUITES, *ASKED, *GROUPS, *STORE_TASKS])}",
        "data": "folder of the benchmarks",
        "split": "of the benchmarks of pairs that have several (default: dev, or the only one)",
        "out": "folder of the results",
    }
    run_on_model("evaluate", EvaluateRecipe, run, __doc__, "MODEL|RUN|RECIPE.toml", options)


if __name__ == "__main__":
    main()
