"""Export a trained language model as a stock Hugging Face folder, with its ears and its voice.

In:  a run (pretrain, import hf), finished or not, and where there are any a unit tokenizer (fit units) and a speech
     decoder (train voice).
Out: `config.json`, safetensors (the float32 main weights of a checkpoint), the tokenizer, the vocabulary, and
     in `speech_tokenizer/` and `voice/` what turns speech into units and back.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import NonNegativeInt, model_validator

from spiritlm.corpus.datasets import MAIN_STORE
from spiritlm.engine.export import export_checkpoint
from spiritlm.engine.start import is_run
from spiritlm.errors import InputError
from spiritlm.run.files import atomic_folder
from spiritlm.run.program import run_program
from spiritlm.run.stage import (
    BegunInput,
    OptionalInput,
    Stage,
    StageRecipe,
    is_finished,
    read_begun,
    read_stage,
    require_same_input,
)


class ExportRecipe(StageRecipe):
    run: BegunInput
    step: NonNegativeInt | None = None
    """Of the checkpoint; the newest where nothing is said. An unfinished run needs it."""
    speech_tokenizer: OptionalInput = None
    """What turns speech into the units of the run's stores; left out, the folder has no ears."""
    voice: OptionalInput = None
    """A decoder of those units; left out, the folder has no voice."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the weights. The run keeps them in float32."""

    @model_validator(mode="after")
    def _check(self) -> ExportRecipe:
        if self.voice and not self.speech_tokenizer:
            raise InputError("voice: expected with the speech_tokenizer whose units it speaks")
        if self.step is None and self.run.is_dir() and not is_finished(self.run):
            raise InputError(f"run = {self.run}: is not finished; say the step of the checkpoint")
        return self


def export(recipe: ExportRecipe, stage: Stage) -> dict[str, Any]:
    run = read_begun(recipe.run)
    if not is_run(recipe.run):
        raise InputError(
            f"run = {recipe.run}: a stage {run.get('stage')!r}, expected one that trained or imported a model"
        )
    if recipe.voice:
        store = run["inputs"].get(f"stores.{MAIN_STORE}") or run["inputs"]["store"]
        require_same_input(recipe.voice, "units", stage.input_fingerprints["speech_tokenizer"])
        require_same_input(recipe.voice, "store", store)
    parts = {"speech_tokenizer": recipe.speech_tokenizer, "voice": recipe.voice}
    for name, part in parts.items():
        if part and not (part / "model").is_dir():
            raise InputError(
                f"{name} = {part}: a stage {read_stage(part).get('stage')!r}, expected one that made a model/"
            )
    exported = export_checkpoint(recipe.run, stage.folder, recipe.step, getattr(torch, recipe.dtype))
    for name, part in parts.items():
        if part:
            _copy(part / "model", stage.folder / name)
    return exported._asdict()


def _copy(source: Path, target: Path) -> None:
    with atomic_folder(target) as temporary:
        shutil.copytree(source, temporary, dirs_exist_ok=True)


if __name__ == "__main__":
    run_program("export", ExportRecipe, export, __doc__)
