"""The batch scripts of `launch/slurm/`, filled in: directives of sbatch, and the block of settings they begin with.

A template is a whole script that works by hand. Filling it in replaces the values of its directives, adds others, and
replaces what stands between the two lines of the settings; the rest is the same text.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from spiritlm.cluster.site import SiteRecipe
from spiritlm.errors import InputError

SETTINGS, END_OF_SETTINGS = "# ---- settings", "# ---- end of settings"
Setting = str | int | Path | Sequence[str]
"""A shell variable, or an array of words."""


@dataclass(frozen=True)
class Job:
    """What a batch script runs, and on how much."""

    program: str
    """Path in the code, for example training/pretrain.py."""
    run: Path
    """The folder of the run."""
    recipe: Path
    """The resolved recipe."""
    code: Path
    """The snapshot of programs and library."""
    workdir: Path
    """What relative paths of the recipe begin at."""
    python: str
    nodes: int = 1
    gpus_per_node: int = 0
    ranks_per_node: int = 1
    """Processes a node."""


def render(template: str, job: Job, site: SiteRecipe) -> str:
    """The batch script. Raises `InputError` for a name that a script cannot hold."""
    for name in (job.run, job.recipe, job.code, job.workdir, job.python):
        if not str(name).isprintable():
            raise InputError(f"{str(name)!r}: expected a name of one line")
    script = _with_directives(template, _directives(job, site))
    lines = [f"export {name}={shlex.quote(value)}" for name, value in site.environment.items()]
    if site.modules:  # not all of them know all variables
        lines = [f"set +u\nmodule load {shlex.join(site.modules)} || exit 1\nset -u", *lines]
    return _with_settings(script, _settings(job, site), lines)


def _directives(job: Job, site: SiteRecipe) -> dict[str, str | bool]:
    """True is a directive without a value, and False takes one of the template's away."""
    return {
        "job-name": re.sub(r"[^\w.-]", "-", f"{Path(job.program).stem}-{job.run.parent.name}-{job.run.name}"),
        "nodes": str(job.nodes),
        "gpus-per-node": str(job.gpus_per_node) if job.gpus_per_node else False,
        "time": site.time,
        "signal": f"B:USR1@{site.save_seconds}",
        "chdir": str(job.workdir),
        "output": f"{str(job.run).replace('%', '%%')}/slurm-%j.log",
        **{name: getattr(site, name) for name in ("account", "partition", "qos") if getattr(site, name)},
        **site.sbatch,
    }


def _settings(job: Job, site: SiteRecipe) -> dict[str, Setting]:
    container = []
    if site.container_image:
        container += [f"--container-image={site.container_image}", f"--container-workdir={job.workdir}"]
    if site.container_mounts:
        container.append(f"--container-mounts={','.join(site.container_mounts)}")
    return {
        "code": job.code,
        "run": job.run,
        "command": [job.program, str(job.recipe)],
        "python": job.python,
        "ranks": job.ranks_per_node,
        "container": container,
        "stall_seconds": site.stall_seconds,
        "patience": site.patience,
    }


def _with_directives(template: str, directives: Mapping[str, str | bool]) -> str:
    left, lines, last = dict(directives), list[str](), 0
    for line in template.splitlines():
        found = re.match(r"#SBATCH --([\w-]+)", line)
        if found and found[1] in left:
            value = left.pop(found[1])
            line = _directive(found[1], value)
        if line or not found:
            lines.append(line)
        last = len(lines) if found else last
    lines[last:last] = [_directive(name, value) for name, value in left.items() if value]
    return "\n".join(lines) + "\n"


def _directive(name: str, value: str | bool) -> str:
    """sbatch reads a value up to a space, and double quotes as its own."""
    if isinstance(value, bool):
        return f"#SBATCH --{name}" if value else ""
    if '"' in value or "\\" in value or not value.isprintable():
        raise InputError(f"{name} = {value!r}: expected no quotes, backslashes or line ends")
    if not re.fullmatch(r"[\w-]+", name):
        raise InputError(f"sbatch option {name!r}: expected its long name")
    quoted = value if re.fullmatch(r"[\w./:,=%@+-]*", value) else f'"{value}"'
    return f"#SBATCH --{name}={quoted}"


def _with_settings(template: str, settings: Mapping[str, Setting], more: Sequence[str]) -> str:
    """Those of the template's own settings, in its order, with its comments."""
    head, _, rest = template.partition(SETTINGS)
    block, _, tail = rest.partition(END_OF_SETTINGS)
    title, *lines = block.splitlines()
    filled = []
    for line in lines:
        name = line.partition("=")[0]
        if name in settings:
            comment = re.search(r"\s+# .*$", line)
            line = f"{name}={_quoted(settings[name])}" + (f"  # {comment[0].strip()[2:]}" if comment else "")
        filled.append(line)
    return f"{head}{SETTINGS}{title}\n" + "\n".join([*filled, *more]) + f"\n{END_OF_SETTINGS}{tail}"


def _quoted(setting: Setting) -> str:
    if isinstance(setting, (str, int, Path)):
        return shlex.quote(str(setting))
    return f"({shlex.join(setting)})"
