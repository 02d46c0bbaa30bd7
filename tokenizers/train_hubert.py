"""Train HuBERT: a network that guesses units of sound it cannot hear, and so learns what speech is made of.

In:  a corpus (speak or ingest), and a stage with a unit tokenizer of the same rate, whose units are the targets:
     k-means over MFCC (fit units) in the first iteration, k-means over a layer of the last HuBERT in those after it.
Out: `model/` (see `spiritlm/units/hubert_encoder.py`), which `fit_units.py` takes as `encoder`; `rejects.jsonl` names
     recordings that could not be read. Measured on the dev split: how often masked units are guessed.
Several processes: torchrun --nproc-per-node N tokenizers/train_hubert.py RECIPE.toml
"""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from spiritlm.audio.augment import AugmentRecipe
from spiritlm.corpus.manifest import corpus_root, read_manifest, splits_of
from spiritlm.corpus.sounds import draw_hours
from spiritlm.errors import InputError
from spiritlm.pipelines.unit_targets import TargetCrops, encode_targets
from spiritlm.run.device import training_device
from spiritlm.run.fit import FitRecipe, fit, process_group
from spiritlm.run.program import run_program
from spiritlm.run.rejects import Rejects
from spiritlm.run.stage import Input, OptionalInput, Stage, StageRecipe, is_main_process
from spiritlm.run.weights import MODEL_FILE, load_weights, read_tensors
from spiritlm.units.hubert_encoder import HubertShape, save_encoder
from spiritlm.units.hubert_pretraining import HubertPretraining, masked_prediction_losses, spans
from spiritlm.units.loading import load_speech_tokenizer

DEV_BATCHES = 8


class TrainHubertRecipe(StageRecipe):
    speech: Input
    targets: Input
    """Its `model/` is a unit tokenizer."""
    start: OptionalInput = None
    """A train_hubert stage whose network is trained on; without one, all weights are drawn, as in the paper."""
    model: HubertShape = HubertShape()
    projected: PositiveInt = 256
    """Width in which units are compared."""
    training: FitRecipe
    batch_size: PositiveInt = 32
    """Crops of a step, over all processes."""
    crop_seconds: PositiveFloat = 15.6
    mask_prob: float = Field(0.16, gt=0, le=1)
    """Share of frames at which a masked span begins; the paper's 0.08 is of frames at 50 Hz."""
    mask_length: PositiveInt = 5
    """Frames of a span; the paper's 10 at 50 Hz are as long."""
    unmasked_weight: NonNegativeFloat = 0.0
    """Of the loss of frames that are heard."""
    augment: AugmentRecipe = AugmentRecipe()
    """Changes of the sound that is heard; targets are those of the sound before them."""
    max_hours: PositiveFloat = 1e6
    """Hours of training audio used; recordings are drawn at random, without repetition, until they exceed it."""
    max_bad_fraction: float = 0.01
    """Largest share of recordings that may be rejected."""


def train_hubert(recipe: TrainHubertRecipe, stage: Stage) -> dict[str, Any]:
    documents = draw_hours(read_manifest(recipe.speech, "train"), recipe.max_hours, recipe.training.seed)
    tokenizer = load_speech_tokenizer(recipe.targets / "model")
    with process_group() as (rank, world_size):
        if recipe.batch_size % world_size:
            raise InputError(f"batch_size = {recipe.batch_size}: expected a multiple of the {world_size} processes")
        root, shape = corpus_root(recipe.speech), recipe.model
        targets = encode_targets(documents, root, tokenizer, stage.folder, shape.rate)
        rejects = Rejects(stage.folder, recipe.max_bad_fraction)
        for id, reason in targets.unreadable.items():
            rejects.add(id, reason)
        rejects.require_few(len(documents))
        crops = TargetCrops(documents, root, targets, _frames(recipe), rejects, recipe.augment)

        def batches(step: int) -> dict[str, torch.Tensor]:
            return _batch(recipe, crops, recipe.training.seed, step, rank, world_size)

        torch.manual_seed(recipe.training.seed)
        model = HubertPretraining(shape, tokenizer.vocabulary_size, recipe.projected)
        if recipe.start is not None:
            start = recipe.start / "model" / MODEL_FILE
            load_weights(model.encoder, read_tensors(start), start)
        losses = fit(model, _losses(recipe), batches, recipe.training, stage.folder, "train hubert")
        rejected = rejects.close(len(crops.firsts) + len(targets.unreadable))
    counts: dict[str, Any] = {"recordings": len(documents), "rejected": rejected}
    counts["hours"] = round(sum(d.duration for d in documents) / 3600, 3)
    counts |= {"parameters": sum(p.numel() for p in model.encoder.parameters()), "steps": recipe.training.steps}
    counts["train"] = {name: round(value, 4) for name, value in losses.items()}
    if is_main_process():
        save_encoder(model.encoder, stage.folder / "model")
        counts["dev"] = _measure(recipe, model.eval(), stage)
        targets.remove_file(stage.folder)
    return counts


def _frames(recipe: TrainHubertRecipe) -> int:
    """Of a crop."""
    return max(1, round(recipe.crop_seconds * recipe.model.rate))


def _batch(
    recipe: TrainHubertRecipe, crops: TargetCrops, seed: int, step: int, rank: int = 0, world_size: int = 1
) -> dict[str, torch.Tensor]:
    batch = crops.batch(seed, step, recipe.batch_size, recipe.model.window, rank, world_size)
    lengths = (batch["samples"].numpy() - recipe.model.window) // recipe.model.hop + 1
    rng = np.random.default_rng((seed, step, rank))
    hidden = spans(lengths, batch["targets"].shape[1], recipe.mask_prob, recipe.mask_length, rng)
    return {**batch, "hidden": torch.from_numpy(hidden)}


def _losses(recipe: TrainHubertRecipe) -> Any:
    return lambda model, batch: masked_prediction_losses(model, batch, recipe.unmasked_weight)


@torch.inference_mode()
def _measure(recipe: TrainHubertRecipe, model: HubertPretraining, stage: Stage) -> dict[str, float]:
    """Loss and accuracies over some crops of the dev split, as they are."""
    if "dev" not in splits_of(recipe.speech):
        return {}
    documents, root = read_manifest(recipe.speech, "dev"), corpus_root(recipe.speech)
    folder = stage.folder / "dev"
    folder.mkdir(exist_ok=True)
    tokenizer = load_speech_tokenizer(recipe.targets / "model")
    targets = encode_targets(documents, root, tokenizer, folder, recipe.model.rate)
    crops = TargetCrops(documents, root, targets, _frames(recipe), Rejects(folder, 1.0), AugmentRecipe())
    found: list[dict[str, torch.Tensor]] = []
    for step in range(DEV_BATCHES):
        batch = _batch(recipe, crops, recipe.training.seed, step)
        found.append(_losses(recipe)(model, {name: part.to(training_device()) for name, part in batch.items()}))
    shutil.rmtree(folder)
    return {name: round(float(np.mean([losses[name].item() for losses in found])), 4) for name in found[0]}


if __name__ == "__main__":
    run_program("train hubert", TrainHubertRecipe, train_hubert, __doc__)
