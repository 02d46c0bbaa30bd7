"""Train the language model on text, speech and both interleaved.

In:  stores of units and text (encode, encode text) that share a vocabulary.
Out: `checkpoints/`, `metrics.jsonl`, the vocabulary, `model.json`, which says the shape of the model, and `plan/`:
     which documents each epoch packs into which row.
Several processes: torchrun --nproc-per-node N training/pretrain.py RECIPE.toml
"""

from __future__ import annotations

from typing import Any

from pydantic import model_validator

from spiritlm.corpus.datasets import MAIN_STORE, MixedDataset, SourceRecipe, dev_samples
from spiritlm.engine.parallel import process_groups
from spiritlm.engine.trainer import Trainer, TrainerRecipe
from spiritlm.errors import InputError
from spiritlm.run.files import write_json
from spiritlm.run.program import run_program
from spiritlm.run.stage import Inputs, Stage, is_main_process


class PretrainRecipe(TrainerRecipe):
    stores: Inputs
    """Stores by the names that the mixture uses; the dev split of `main` is evaluated on."""
    mixture: tuple[SourceRecipe, ...] = tuple(SourceRecipe(kind=kind) for kind in ("text", "speech", "spans"))
    """Spirit LM (table 2): a third each of text, speech and both interleaved."""

    @model_validator(mode="after")
    def _check_stores(self) -> PretrainRecipe:
        if MAIN_STORE not in self.stores:
            raise InputError(f"stores: expected a store named {MAIN_STORE!r}, found {', '.join(self.stores) or 'none'}")
        return self


def pretrain(recipe: PretrainRecipe, stage: Stage) -> dict[str, Any]:
    length, seed = recipe.training.sequence_length, recipe.training.seed
    dataset = MixedDataset(recipe.stores, recipe.mixture, length, seed, stage.folder / "plan")
    vocabulary = dataset.vocabulary
    with process_groups(seed):
        plans = dataset.prepare()
        dev = dev_samples(recipe.stores[MAIN_STORE], "dev", length, vocabulary)
        trainer = Trainer(recipe, dataset, dev, vocabulary.padded_size, vocabulary.hash)
        if is_main_process():
            vocabulary.save(stage.folder)
            shape = {"model": recipe.model.model_dump(), "vocabulary_size": vocabulary.padded_size}
            write_json(stage.folder / "model.json", shape)
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
