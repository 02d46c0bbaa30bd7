"""Check a recipe, put its code into the folder of its run, and submit it to SLURM.

    python launch/submit.py training/recipes/spirit-base-7b.toml --nodes 8 [key=value ...]

What SLURM runs lies in the run's folder: code/ (programs and library as they are now), recipe.toml (every setting) and
submit.sbatch, which may be read, changed and submitted again. --dry-run checks all and writes nothing; --print shows
the batch script. What is particular to a cluster stands in a file, launch/site.toml (see launch/site.example.toml).
Exit status: 0 submitted, 1 it does not fit in the GPUs' memory, 2 it cannot run.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spiritlm.cluster.batch import Job, render
from spiritlm.cluster.site import SiteRecipe
from spiritlm.cluster.snapshot import snapshot_code, write_recipe
from spiritlm.config import load_recipe, validate_recipe
from spiritlm.corpus.datasets import MAIN_STORE
from spiritlm.engine.plan import GPUS, RESERVED, human, memory
from spiritlm.engine.recipe import PretrainRecipe
from spiritlm.engine.start import starting_weights
from spiritlm.errors import InputError, RunError
from spiritlm.run.checkpoints import Checkpoints
from spiritlm.run.files import write_text
from spiritlm.run.program import guarded
from spiritlm.run.slurm import queued_job, sbatch, write_job
from spiritlm.run.stage import Stage
from spiritlm.tokens.vocabulary import Vocabulary

CHECKOUT = Path(__file__).resolve().parents[1]
SITE = CHECKOUT / "launch" / "site.toml"
PROGRAMS = {"pretrain": "training/pretrain.py", "encode": "tokenizers/encode.py", "evaluate": "evals/run.py"}


def main() -> None:
    options = parse()
    sys.exit(guarded(lambda: submit(options), options.debug))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path, metavar="RECIPE", help="recipe of the job's program (TOML)")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="recipe values to replace")
    parser.add_argument("--job", choices=PROGRAMS, default="pretrain", help="what to run (default: %(default)s)")
    parser.add_argument("--nodes", type=int, default=1, help="nodes, for pretraining (default: %(default)s)")
    parser.add_argument("--site", type=Path, help="file of the cluster's particulars (default: launch/site.toml)")
    for name in ("partition", "account", "qos", "time"):
        parser.add_argument(f"--{name}", metavar=name.upper(), help="in the place of the site's")
    parser.add_argument("--gpus-per-node", type=int, metavar="N", help="in the place of the site's; 0 for CPUs")
    parser.add_argument("--print", action="store_true", dest="show", help="print the batch script, write nothing")
    parser.add_argument("--dry-run", action="store_true", help="check everything, SLURM's view too; write nothing")
    parser.add_argument("--debug", action="store_true", help="show the trace of an error")
    return parser.parse_intermixed_args()


def submit(options: argparse.Namespace) -> None:
    site = load_site(options)
    if options.nodes < 1 or (options.nodes > 1 and options.job != "pretrain"):
        raise InputError(f"--nodes {options.nodes}: expected 1 or more for pretrain, 1 for the others")
    if options.job == "pretrain":
        pretraining = load_recipe(PretrainRecipe, options.recipe, options.overrides)
        if Stage("pretrain", pretraining).is_done() and not options.show:
            print(f"pretrain: done before, {pretraining.out}")
            return
        recipe = pretraining.model_dump(mode="json")
        job = job_of(options.job, recipe, options.nodes, site)
        require_topology(pretraining, job, site)
    else:
        recipe = checked_recipe(PROGRAMS[options.job], options.recipe, options.overrides)
        job = job_of(options.job, recipe, options.nodes, site)
    script = render((CHECKOUT / "launch" / "slurm" / f"{options.job}.sbatch").read_text(encoding="utf-8"), job, site)
    if options.show:
        print(script, end="")
        return
    if shutil.which("sbatch") is None:
        raise InputError("sbatch: not found; --print shows the batch script without SLURM")
    if number := queued_job(job.run):
        raise InputError(f"{job.run}: job {number} has it; scancel {number} first")
    require_writable(job.run)
    if options.dry_run:
        sbatch(["--test-only"], script)
        print(f"{options.job}: can be submitted; would write {job.run}")
        return
    write_run(job, recipe, script)
    number = sbatch(["--parsable", str(job.run / "submit.sbatch")]).split(";")[0].strip()
    write_job(job.run, number)
    print(f"submitted job {number}: {job.nodes} nodes, {job.nodes * job.ranks_per_node} ranks")
    print(f"  log      {job.run}/slurm-{number}.log")
    print(f"  status   python launch/status.py {shlex.quote(str(job.run))}")
    print(f"  again    sbatch {shlex.quote(str(job.run / 'submit.sbatch'))}")


def load_site(options: argparse.Namespace) -> SiteRecipe:
    """The site file, with what the command line says in its place."""
    path = options.site or (SITE if SITE.is_file() else None)
    given = {
        name: value
        for name in ("partition", "account", "qos", "time", "gpus_per_node")
        if (value := getattr(options, name)) is not None
    }
    found = load_recipe(SiteRecipe, path, kind="site file").model_dump() if path else {}
    return validate_recipe(SiteRecipe, {**found, **given}, f"site file {path}" if path else "site")


def checked_recipe(program: str, recipe: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """The resolved recipe, as the program itself checks and prints it. Raises `InputError` with what it finds."""
    command = [sys.executable, str(CHECKOUT / program), str(recipe), *overrides, "--dry-run"]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise InputError(done.stderr.strip().removeprefix("error: ") or f"{program} ended with {done.returncode}")
    said, _, printed = done.stdout.partition("\n{")
    if not printed:
        raise InputError(said.strip())
    resolved: dict[str, Any] = json.loads("{" + printed)
    return resolved


def job_of(name: str, recipe: dict[str, Any], nodes: int, site: SiteRecipe) -> Job:
    run = Path(recipe["out"]).resolve()
    gpus = {"pretrain": site.gpus_per_node, "encode": 0, "evaluate": min(1, site.gpus_per_node)}[name]
    python = site.python or sys.executable
    if not site.container_image and not Path(python).is_file():
        raise InputError(f"python = {python}: there is no such file")
    return Job(
        PROGRAMS[name], run, run / "recipe.toml", run / "code", Path.cwd(), python,
        nodes, gpus, ranks_per_node=max(1, gpus) if name == "pretrain" else 1,
    )  # fmt: skip


def require_topology(recipe: PretrainRecipe, job: Job, site: SiteRecipe) -> None:
    """Raises `InputError` where the ranks cannot share model, rows or step, `RunError` where memory does not do."""
    ranks, vocabulary = job.nodes * job.ranks_per_node, Vocabulary.load(recipe.stores[MAIN_STORE])
    recipe.require_layout(ranks, vocabulary.padded_size)
    if recipe.parallel.tensor > job.ranks_per_node:
        raise InputError(
            f"parallel.tensor = {recipe.parallel.tensor}: expected no more than the ranks of a node, "
            f"{job.ranks_per_node}, whose GPUs exchange fast enough"
        )
    if Checkpoints(job.run / "checkpoints", recipe.checkpoint).newest() is None:
        starting_weights(recipe.model, recipe.init_from, vocabulary, recipe.training.seed)
    if site.gpu and job.gpus_per_node:
        needed = memory(recipe, vocabulary.padded_size, recipe.parallel.data_parallel(ranks))
        if not needed.fits(GPUS[site.gpu]):
            raise RunError(
                f"a rank needs {human(needed.total + RESERVED, 'B')}, and {site.gpu} has "
                f"{human(GPUS[site.gpu].memory, 'B')}; try parallel.recompute=layers, more tensor or pipeline ranks"
            )


def require_writable(run: Path) -> None:
    there = next(folder for folder in (run, *run.parents) if folder.exists())
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        raise InputError(f"out = {run}: cannot be written")


def write_run(job: Job, recipe: dict[str, Any], script: str) -> None:
    try:
        snapshot_code(CHECKOUT, job.code)
        write_recipe(job.recipe, {**recipe, "out": str(job.run)})
        write_text(job.run / "submit.sbatch", script)
    except OSError as error:
        raise InputError(f"out = {job.run}: cannot be written: {error.strerror or error}") from None


if __name__ == "__main__":
    main()
