"""The code and the recipe a job runs, copied into the folder of its run: what is edited later changes no job."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import tomli_w

from spiritlm.run.files import atomic_folder, write_text

FOLDERS = ("spiritlm", "synth_data", "tokenizers", "training", "evals", "launch")
KINDS = ("*.py", "*.toml", "*.sh", "*.sbatch")


def snapshot_code(checkout: Path, target: Path) -> None:
    """Copy programs and library to `target`, in the place of an earlier copy, with `COMMIT`: what git says they are."""
    with atomic_folder(target) as temporary:
        for folder in FOLDERS:
            for kind in KINDS:
                for file in (checkout / folder).rglob(kind):
                    copy = temporary / file.relative_to(checkout)
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(file, copy)
        (temporary / "COMMIT").write_text(commit(checkout) + "\n", encoding="utf-8")


def commit(checkout: Path) -> str:
    """The commit of a checkout and which files differ from it, or that it is none."""
    command = ["git", "-C", str(checkout)]
    try:
        head = subprocess.run([*command, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout
        changed = subprocess.run([*command, "status", "--short"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return "no git checkout"
    return (head + changed).strip()


def write_recipe(path: Path, recipe: dict[str, Any]) -> None:
    """A resolved recipe, as `model_dump(mode="json")` gives it, as TOML; what is None is left out."""
    write_text(path, tomli_w.dumps(_said(recipe)))


def _said(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _said(inner) for key, inner in value.items() if inner is not None}
    return [_said(inner) for inner in value] if isinstance(value, list) else value
