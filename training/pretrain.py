"""Train the language model on text, speech and both interleaved.

In:  stores of units and text (encode, encode text) that share a vocabulary.
Out: `checkpoints/`, `metrics.jsonl`, the vocabulary, `model.json`, which says the shape of the model, `plan/`: which
     documents each epoch packs into which row, and `samples.jsonl` where samples are asked for.
Several processes: torchrun --nproc-per-node N training/pretrain.py RECIPE.toml
"""

from __future__ import annotations

from typing import Any

from spiritlm.corpus.datasets import MAIN_STORE, MixedDataset, dev_samples
from spiritlm.engine.parallel import process_groups, world_size
from spiritlm.engine.recipe import PretrainRecipe
from spiritlm.engine.start import starting_weights, write_shape
from spiritlm.engine.trainer import Trainer
from spiritlm.inference.samples import TrainingSamples
from spiritlm.run.checkpoints import Checkpoints
from spiritlm.run.program import run_program
from spiritlm.run.stage import Stage, is_main_process


def pretrain(recipe: PretrainRecipe, stage: Stage) -> dict[str, Any]:
    length, seed = recipe.training.sequence_length, recipe.training.seed
    dataset = MixedDataset(recipe.stores, recipe.mixture, length, seed, stage.folder / "plan")
    vocabulary = dataset.vocabulary
    begun = Checkpoints(stage.folder / "checkpoints", recipe.checkpoint).newest() is not None
    source = None if begun else recipe.init_from  # what it began with may be gone
    start = starting_weights(recipe.model, source, vocabulary, seed)
    recipe.require_layout(world_size(), vocabulary.padded_size)
    with process_groups(seed, recipe.parallel):
        plans = dataset.prepare()
        dev = dev_samples(recipe.stores[MAIN_STORE], "dev", length, vocabulary)
        asked, samples = recipe.samples, None
        if asked.count:
            samples = TrainingSamples(dev, vocabulary, asked.count, asked.tokens, stage.folder / "samples.jsonl")
        trainer = Trainer(recipe, dataset, dev, vocabulary.padded_size, vocabulary.hash, start, samples)
        if is_main_process():
            vocabulary.save(stage.folder)
            write_shape(stage.folder, recipe.model, vocabulary.padded_size)
        counts = trainer.run()
    rows = recipe.training.steps * recipe.training.global_batch_size
    shares = dataset.shares(rows)
    mixture = {
        name: {**plan, "share": round(shares[name], 6), "epochs": round(shares[name] * rows / plan["rows"], 3)}
        for name, plan in plans.items()
    }
    return {**counts, "mixture": mixture}


if __name__ == "__main__":
    run_program("pretrain", PretrainRecipe, pretrain, __doc__)
