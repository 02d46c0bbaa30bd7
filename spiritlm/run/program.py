"""The command line every stage program has:

    python FOLDER/PROGRAM.py RECIPE.toml [key=value ...] [--dry-run] [--debug]

Exit status: 0 done (or done before), 2 the input cannot be used, 143 stopped by a signal with its state
saved, 1 anything else. Errors of the person's input and of the machine are one line on stderr; `--debug` adds the
trace.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.markup import escape

from spiritlm.config import load_recipe
from spiritlm.errors import InputError, RunError, Stopped
from spiritlm.run.ranks import rank
from spiritlm.run.stage import FAILED_FILE, STOPPED_FILE, Stage, StageRecipe, is_main_process

R = TypeVar("R", bound=StageRecipe)

PATIENCE = 5.0
"""Seconds that a process which is not the first of its machine waits before it tells of bad input."""


def run_program(
    name: str,
    recipe_class: type[R],
    run: Callable[[R, Stage], dict[str, Any]],
    description: str | None,
    argv: list[str] | None = None,
) -> None:
    """Parse the command line, run `run(recipe, stage) -> counts` unless the stage is done, and exit.

    `counts` (numbers worth reading: files, tokens, accuracies) go into `stage.json`.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path, metavar="RECIPE", help="recipe file (TOML)")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="recipe values to replace")
    parser.add_argument("--dry-run", action="store_true", help="check the recipe and say what would be done")
    parser.add_argument("--debug", action="store_true", help="show the trace of an error")
    options = parser.parse_intermixed_args(argv)

    def work() -> None:
        recipe = load_recipe(recipe_class, options.recipe, options.overrides)
        run_stage(Stage(name, recipe), recipe, run, options.dry_run)

    sys.exit(guarded(work, options.debug))


def run_on_model(
    name: str,
    recipe_class: type[R],
    run: Callable[[R, Stage], dict[str, Any]],
    description: str | None,
    model: str,
    options: Mapping[str, str],
) -> None:
    """The same for a stage that asks a model: in the place of a recipe the folder of the model may be given, called
    `model`, and what is said of it in `options`, help by name; several of `tasks` are parted by commas."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, metavar=model, help="what to evaluate, or recipe (TOML)")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="recipe values to replace")
    for option, told in options.items():
        parser.add_argument(f"--{option}", help=told)
    parser.add_argument("--dry-run", action="store_true", help="check the recipe and say what would be done")
    parser.add_argument("--debug", action="store_true", help="show the trace of an error")
    asked = parser.parse_intermixed_args()

    def work() -> None:
        given: dict[str, Any] = {option: getattr(asked, option) for option in options}
        if given["tasks"]:
            given["tasks"] = [task.strip() for task in given["tasks"].split(",")]
        path = asked.model if asked.model.suffix == ".toml" else None
        if path is None:
            given["model"] = str(asked.model)
        overrides = [f"{key}={json.dumps(value)}" for key, value in given.items() if value is not None]
        recipe = load_recipe(recipe_class, path, [*overrides, *asked.overrides])
        run_stage(Stage(name, recipe), recipe, run, asked.dry_run)

    sys.exit(guarded(work, asked.debug))


def run_stage(stage: Stage, recipe: R, run: Callable[[R, Stage], dict[str, Any]], dry_run: bool) -> None:
    """Run `run(recipe, stage) -> counts` unless the stage is done."""
    console = Console(highlight=False, soft_wrap=True, quiet=not is_main_process())
    if stage.is_done():
        console.print(f"{stage.name}: done before, {escape(str(stage.folder))}")
    elif dry_run:
        console.print(f"{stage.name}: would write {escape(str(stage.folder))}")
        console.print_json(recipe.model_dump_json())
    else:
        console.print(f"[bold]{stage.name}[/] -> {escape(str(stage.folder))}")
        stage.begin()
        try:
            counts = run(recipe, stage)
        except InputError as error:
            stage.release(FAILED_FILE, str(error))
            raise
        except Stopped as stop:
            stage.release(STOPPED_FILE, str(stop))
            raise
        except RunError:  # another machine, or another hour, may do
            stage.release()
            raise
        stage.finish(counts)
        if counts.get("rejected"):
            console.print(f"  {counts['rejected']} rejected: {escape(str(stage.folder / 'rejects.jsonl'))}")


def print_columns(rows: Mapping[str, str]) -> None:
    """Names, and what is said of each, below each other."""
    width = max(map(len, rows), default=0) + 2
    for name, said in rows.items():
        print(f"{name:<{width}}{said}")


def guarded(work: Callable[[], None], debug: bool = False) -> int:
    """Run `work` and return the exit status the project promises for how it ended."""
    try:
        work()
    except (InputError, PermissionError, RunError) as error:
        if debug:
            traceback.print_exc()
        if isinstance(error, RunError) or os.environ.get("LOCAL_RANK", "0") == "0":
            print(f"error: {error}", file=sys.stderr)
        else:  # in its share of the work, or all found the same: then torchrun ends this one while it waits
            time.sleep(PATIENCE)
            print(f"error: rank {rank()}: {error}", file=sys.stderr)
        return 1 if isinstance(error, RunError) else 2
    except Stopped as stop:
        if is_main_process():
            print(f"stopped: {stop}", file=sys.stderr)
        return 143
    except KeyboardInterrupt:
        return 130
    return 0
