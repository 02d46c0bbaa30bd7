"""Ask an exported model tasks of lm-evaluation-harness, in text.

    python evals/text.py MODEL --tasks NAME,NAME --out DIR [--include DIR] [key=value ...]
    python evals/text.py RECIPE.toml [key=value ...]

In:  an exported model, names of tasks (`lm_eval ls tasks` lists those that come with lm-eval; they are fetched from the
     Hugging Face Hub), and perhaps a folder of tasks of one's own, which may hold Python that is run.
Out: `results.json`, as `lm_eval` writes it, with the digests of the model; every document with what the model made of
     it in `items/TASK.jsonl`.
"""

from __future__ import annotations

import json
from difflib import get_close_matches
from typing import Any

from pydantic import NonNegativeInt, PositiveInt, model_validator

from spiritlm.errors import InputError
from spiritlm.run.files import write_json, write_jsonl
from spiritlm.run.program import print_columns, run_on_model
from spiritlm.run.ranks import world_size
from spiritlm.run.stage import Folder, OptionalFolder, Stage, StageRecipe
from spiritlm.scoring.models import ExportedModel


class TextRecipe(StageRecipe):
    model: Folder
    tasks: tuple[str, ...]
    """Tasks, groups and tags of lm-eval, and of `include`."""
    include: OptionalFolder = None
    """A folder of task files (YAML) of one's own; of two of one name, its own counts."""
    few_shot: NonNegativeInt | None = None
    """Examples before each question; where nothing is said, as many as the task says."""
    limit: PositiveInt | None = None
    """Documents of each task, the first ones: to try it out. Figures are then no figures of the task."""

    @model_validator(mode="after")
    def _asks_something(self) -> TextRecipe:
        if not self.tasks:
            raise InputError("tasks: expected at least one")
        return self


def run(recipe: TextRecipe, stage: Stage) -> dict[str, Any]:
    if world_size() > 1:
        raise InputError(f"{world_size()} processes: expected one, without torchrun")
    model = ExportedModel.from_pretrained(recipe.model)
    found, shortened = _asked(recipe, model)
    samples = found.pop("samples")
    (stage.folder / "items").mkdir(exist_ok=True)
    for name, rows in samples.items():
        write_jsonl(stage.folder / "items" / f"{name}.jsonl", rows)
    write_json(stage.folder / "results.json", {"model": model.identity, "shortened": shortened, **found})
    print_columns(_columns(found["results"]))
    return {"items": {name: len(rows) for name, rows in samples.items()}, "shortened": shortened}


def _asked(recipe: TextRecipe, model: ExportedModel) -> tuple[dict[str, Any], int]:
    """What `lm_eval` says, as JSON, and how many texts did not fit. Raises `InputError` where lm-eval is not installed,
    for a task that it does not know, and for one whose files or data cannot be used."""
    try:
        from lm_eval import simple_evaluate  # seconds to import
        from lm_eval.tasks import TaskManager
        from lm_eval.utils import handle_non_serializable
    except ImportError as error:
        raise InputError(f"expected lm-eval: pip install -e .[eval] ({error})") from None
    from spiritlm.scoring.harness import TextHarness

    harness, known = TextHarness(model), TaskManager(include_path=recipe.include, include_defaults=False)
    if not set(recipe.tasks) <= set(known.all_subtasks):  # seconds to look through all that come with lm-eval
        known = TaskManager(include_path=recipe.include)
    for name in recipe.tasks:
        if name not in known.all_tasks:
            nearest = get_close_matches(name, known.all_tasks, n=1, cutoff=0.0)[0]
            raise InputError(f"task {name!r}: expected one of lm-eval's or of include; the nearest is {nearest!r}")
    try:
        found = simple_evaluate(
            harness, tasks=list(recipe.tasks), task_manager=known, num_fewshot=recipe.few_shot, limit=recipe.limit
        )
    except InputError:
        raise
    except Exception as error:  # lm-eval and datasets raise all kinds for data and task files that cannot be used
        said = next(iter(str(error).splitlines()), "")
        raise InputError(f"tasks {', '.join(recipe.tasks)}: {type(error).__name__}: {said}") from error
    assert found is not None
    found.pop("pretty_env_info", None)
    return json.loads(json.dumps(found, default=handle_non_serializable)), harness.shortened


def _columns(results: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Each figure, with its standard error where it has one."""
    columns = {}
    for task, figures in results.items():
        for key, value in figures.items():
            metric, _, filter = key.partition(",")
            if filter and not metric.endswith("_stderr") and isinstance(value, int | float):
                error = figures.get(f"{metric}_stderr,{filter}")
                within = f" ± {error:.4f}" if isinstance(error, int | float) else ""
                name = metric if filter == "none" else f"{metric} ({filter})"
                columns[f"{task}  {name}"] = f"{value:.4f}{within}"
    return columns


def main() -> None:
    options = {
        "tasks": "NAME,NAME of lm-eval, or of --include",
        "include": "folder of task files (YAML) of your own",
        "out": "folder of the results",
    }
    run_on_model("text tasks", TextRecipe, run, __doc__, "MODEL|RECIPE.toml", options)


if __name__ == "__main__":
    main()
