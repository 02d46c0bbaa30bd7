"""Train the language model on text, speech and both interleaved.

In:  a store of units and text (encode), with its vocabulary.
Out: `checkpoints/`, `metrics.jsonl`, the vocabulary, and `model.json`, which says the shape of the model.
Several processes: torchrun --nproc-per-node N training/pretrain.py RECIPE.toml
"""

from __future__ import annotations

from typing import Any

from spiritlm.corpus.datasets import InterleavedDataset, Mixture, dev_samples
from spiritlm.engine.parallel import process_groups
from spiritlm.engine.trainer import Trainer, TrainerRecipe
from spiritlm.run.files import write_json
from spiritlm.run.program import run_program
from spiritlm.run.stage import Input, Stage, is_main_process


class PretrainRecipe(TrainerRecipe):
    store: Input
    mixture: Mixture = Mixture()


def pretrain(recipe: PretrainRecipe, stage: Stage) -> dict[str, Any]:
    length, seed = recipe.training.sequence_length, recipe.training.seed
    dataset = InterleavedDataset(recipe.store, "train", length, recipe.mixture, seed)
    vocabulary = dataset.vocabulary
    with process_groups(seed):
        dev = dev_samples(recipe.store, "dev", length)
        trainer = Trainer(recipe, dataset, dev, vocabulary.padded_size, vocabulary.hash)
        if is_main_process():
            vocabulary.save(stage.folder)
            shape = {"model": recipe.model.model_dump(), "vocabulary_size": vocabulary.padded_size}
            write_json(stage.folder / "model.json", shape)
        return trainer.run()


if __name__ == "__main__":
    run_program("pretrain", PretrainRecipe, pretrain, __doc__)
