"""Check a pretraining recipe against a number of GPUs before anything is queued, and print what it will need.

    python training/plan.py RECIPE.toml [key=value ...] --gpus 64 --gpu h100 [--mfu 0.4] [--vocabulary 32512]

Exit status: 0 it fits, 1 it does not fit in the GPU's memory, 2 the layout or the recipe is wrong. The rows of the
embedding are those of the main store's vocabulary; before there is one, give --vocabulary.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from spiritlm.config import load_recipe
from spiritlm.corpus.datasets import MAIN_STORE
from spiritlm.engine.plan import GPUS, RESERVED, Plan, human, plan
from spiritlm.engine.recipe import PretrainRecipe
from spiritlm.errors import InputError
from spiritlm.run.program import guarded, print_columns
from spiritlm.tokens.vocabulary import Vocabulary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path, metavar="RECIPE", help="recipe of training/pretrain.py (TOML)")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="recipe values to replace")
    parser.add_argument("--gpus", type=int, required=True, help="GPUs in all")
    parser.add_argument("--gpu", choices=GPUS, required=True, help="their kind")
    parser.add_argument("--mfu", type=float, default=0.4, help="assumed share of the peak (default: %(default)s)")
    parser.add_argument("--vocabulary", type=int, metavar="ROWS", help="rows of the embedding")
    parser.add_argument("--debug", action="store_true", help="show the trace of an error")
    options = parser.parse_intermixed_args()
    fits = True

    def work() -> None:
        nonlocal fits
        recipe = load_recipe(PretrainRecipe, options.recipe, options.overrides)
        rows = options.vocabulary or vocabulary_size(recipe.stores[MAIN_STORE])
        found = plan(recipe, rows, options.gpus, GPUS[options.gpu], options.mfu)
        fits = report(found, recipe, options)

    status = guarded(work, options.debug)
    sys.exit(status or (0 if fits else 1))


def vocabulary_size(store: Path) -> int:
    if not store.is_dir():
        raise InputError(f"{store}: no store to read the vocabulary of; give --vocabulary ROWS")
    return Vocabulary.load(store).padded_size


def report(found: Plan, recipe: PretrainRecipe, options: argparse.Namespace) -> bool:
    """Print the plan; whether it fits."""
    gpu, memory, parallel = GPUS[options.gpu], found.memory, recipe.parallel
    layout = f"tensor {parallel.tensor} x pipeline {parallel.pipeline} x context {parallel.context}"
    print_columns({
        "layout": f"{layout} x data {found.data_ranks} = {options.gpus} {options.gpu}",
        "parameters": human(found.parameters),
        "weights": human(memory.weights, "B"),
        "gradients": human(memory.gradients, "B"),
        "optimizer": human(memory.optimizer, "B"),
        "activations": human(memory.activations, "B"),
        "memory a GPU": f"{human(memory.total, 'B')} + {human(RESERVED, 'B')} reserved, of {human(gpu.memory, 'B')}",
        "tokens": f"{human(found.tokens)} in {recipe.training.steps:,} steps",
        "work": human(found.flops, "FLOP"),
        "speed": f"{human(found.tokens_per_second)} tokens/s at {options.mfu:.0%} of {human(gpu.peak, 'FLOP/s')} a GPU",
        "idle in the pipeline": f"{found.bubble:.1%}",
        "time": f"{found.hours:,.1f} hours, {found.hours * options.gpus:,.0f} GPU hours",
    })  # fmt: skip
    if memory.fits(gpu):
        return True
    print("error: it does not fit; try parallel.recompute=layers, more tensor or pipeline ranks", file=sys.stderr)
    return False


if __name__ == "__main__":
    main()
