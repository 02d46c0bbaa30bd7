"""Export a trained language model as a stock Hugging Face Llama folder, with its ears and its voice.

In:  a pretrain stage, a unit tokenizer (fit units) and a speech decoder (train voice).
Out: `config.json`, `model.safetensors` (the float32 main weights of the newest checkpoint), the tokenizer, the
     vocabulary, and in `speech_tokenizer/` and `voice/` what turns speech into units and back.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from spiritlm.config import validate_recipe
from spiritlm.corpus.datasets import MAIN_STORE
from spiritlm.engine.checkpoint import load_main_weights
from spiritlm.engine.hf import export as export_model
from spiritlm.engine.model import ModelConfig, build_chunks
from spiritlm.engine.parallel import process_groups
from spiritlm.errors import InputError
from spiritlm.run.checkpoints import CheckpointPolicy, Checkpoints
from spiritlm.run.files import atomic_folder, read_json
from spiritlm.run.program import run_program
from spiritlm.run.stage import Input, Stage, StageRecipe, read_stage, require_same_input
from spiritlm.tokens.huggingface import save_huggingface_tokenizer
from spiritlm.tokens.vocabulary import Vocabulary


class ExportRecipe(StageRecipe):
    run: Input
    speech_tokenizer: Input
    voice: Input


def export(recipe: ExportRecipe, stage: Stage) -> dict[str, Any]:
    require_same_input(recipe.voice, "units", stage.input_fingerprints["speech_tokenizer"])
    require_same_input(recipe.voice, "store", read_stage(recipe.run)["inputs"][f"stores.{MAIN_STORE}"])
    vocabulary = Vocabulary.load(recipe.run)
    shape = read_json(recipe.run / "model.json")
    config = validate_recipe(ModelConfig, shape["model"], str(recipe.run / "model.json"))
    checkpoints = Checkpoints(recipe.run / "checkpoints", CheckpointPolicy())
    checkpoint = checkpoints.newest()
    if checkpoint is None:
        raise InputError(f"{checkpoints.root}: expected a complete checkpoint, found none")
    vocabulary.require_hash(checkpoints.state(checkpoint)["vocabulary"], checkpoint)
    with process_groups(seed=0):
        (model,) = build_chunks(config, shape["vocabulary_size"], "fp32")
        load_main_weights(checkpoint, [model])
        export_model(model.state_dict(), config, stage.folder, vocabulary.bos, vocabulary.eos)
    vocabulary.save(stage.folder)
    save_huggingface_tokenizer(vocabulary, stage.folder)
    _copy(recipe.speech_tokenizer / "model", stage.folder / "speech_tokenizer")
    _copy(recipe.voice / "model", stage.folder / "voice")
    return {
        "step": checkpoints.state(checkpoint)["step"],
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "vocabulary": vocabulary.size,
    }


def _copy(source: Path, target: Path) -> None:
    with atomic_folder(target) as temporary:
        shutil.copytree(source, temporary, dirs_exist_ok=True)


if __name__ == "__main__":
    run_program("export", ExportRecipe, export, __doc__)
