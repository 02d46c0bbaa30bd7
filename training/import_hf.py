"""Import a Hugging Face language model, grown to the vocabulary of a store, as the checkpoint that runs start from.

In:  a folder of the Llama, Qwen2, Qwen3 or GLM family, and a store (encode).
Out: `checkpoints/step-00000000` (weights only, float32), `model.json`, the vocabulary. `init_from` of pretraining takes
     the folder: every rank then reads its own part of it, where from the Hugging Face folder each would read all.
Several processes, each with a part of the model: torchrun --nproc-per-node N training/import_hf.py RECIPE.toml
parallel.tensor=N
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from spiritlm.engine.checkpoint import save_main_weights
from spiritlm.engine.hf_config import model_config_of
from spiritlm.engine.model import build_chunks, require_shared
from spiritlm.engine.parallel import ParallelConfig, process_groups, world_size
from spiritlm.engine.start import starting_weights, write_shape
from spiritlm.run.checkpoints import CheckpointPolicy, Checkpoints
from spiritlm.run.program import run_program
from spiritlm.run.stage import Input, Stage, StageRecipe, is_main_process
from spiritlm.tokens.vocabulary import Vocabulary


class ImportRecipe(StageRecipe):
    free: ClassVar[frozenset[str]] = StageRecipe.free | {"parallel"}
    model: Path
    """The Hugging Face folder; its text ids must be those of the store's text tokenizer."""
    store: Input
    seed: int = 0
    """Of the new rows; pretraining with the same `training.seed` grows the same ones."""
    parallel: ParallelConfig = ParallelConfig()


def import_model(recipe: ImportRecipe, stage: Stage) -> dict[str, Any]:
    vocabulary, config = Vocabulary.load(recipe.store), model_config_of(recipe.model)
    start = starting_weights(config, recipe.model, vocabulary, recipe.seed)
    recipe.parallel.data_parallel(world_size())
    require_shared(config, recipe.parallel, vocabulary.padded_size)
    with process_groups(recipe.seed, recipe.parallel):
        chunks = build_chunks(config, vocabulary.padded_size, "fp32", recipe.parallel)
        start(chunks)
        checkpoints = Checkpoints(stage.folder / "checkpoints", CheckpointPolicy())
        save_main_weights(checkpoints, 0, chunks, {"vocabulary": vocabulary.hash})
    if is_main_process():
        vocabulary.save(stage.folder)
        write_shape(stage.folder, config, vocabulary.padded_size)
    return {"vocabulary": vocabulary.size, "text_ids": vocabulary.layout.text_size}


if __name__ == "__main__":
    run_program("import hf", ImportRecipe, import_model, __doc__)
