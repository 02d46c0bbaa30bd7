"""Train the speech decoder: units of the training recordings become their mel frames, voice by voice.

In:  a speak stage (recordings), a unit tokenizer (fit units), a store of units made with it (encode).
Out: `model/` (see `spiritlm/synthesis/regression.py`) with the speakers of the training split.
Several processes: torchrun --nproc-per-node N training/train_voice.py RECIPE.toml
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import PositiveInt

from spiritlm.audio.mel import FRAME_RATE, HOP, MELS, SAMPLE_RATE, log_mel
from spiritlm.corpus.frames import FRAMES_FILE, Front, Recording, audio_of, mean_and_deviation, split_frames
from spiritlm.corpus.manifest import splits_of
from spiritlm.corpus.store import DocumentStore
from spiritlm.errors import InputError
from spiritlm.run.fit import FitRecipe, fit, process_group
from spiritlm.run.program import run_program
from spiritlm.run.stage import Input, Stage, StageRecipe, is_main_process, require_same_input
from spiritlm.scoring.respoken import Recorded, respoken
from spiritlm.synthesis.crops import UnitMelCrops
from spiritlm.synthesis.regression import ModelShape, RegressionConfig, RegressionDecoder, UnitToMel, regression_losses
from spiritlm.units.loading import load_speech_tokenizer
from spiritlm.units.protocol import SpeechTokenizer


class TrainVoiceRecipe(StageRecipe):
    speech: Input
    units: Input
    store: Input
    model: ModelShape = ModelShape()
    training: FitRecipe
    default_speaker: str = ""
    """Speaks where nobody is asked for, if it is among the training speakers; else the first by name."""
    batch_size: PositiveInt = 12
    """Crops of a step, over all processes."""
    crop_units: PositiveInt = 32
    """Deduplicated units of a crop."""
    dev_recordings: int = 10
    """Recordings of the dev split, of known speakers, that the trained decoder is measured on."""


FRONT = Front(SAMPLE_RATE, HOP, MELS, log_mel)


def train_voice(recipe: TrainVoiceRecipe, stage: Stage) -> dict[str, Any]:
    tokenizer = load_speech_tokenizer(recipe.units / "model")
    store = DocumentStore(recipe.store, "train")
    for key in ("speech", "units"):
        require_same_input(recipe.store, key, stage.input_fingerprints[key])
    config = RegressionConfig(
        vocabulary_size=tokenizer.vocabulary_size,
        speakers=tuple(
            sorted(
                {record.speaker for record in store.records}, key=lambda name: (name != recipe.default_speaker, name)
            )
        ),
        frames_per_unit=round(FRAME_RATE / store.files.rates["semantic"]),
        shape=recipe.model,
    )
    with process_group() as (rank, world_size):
        if recipe.batch_size % world_size:
            raise InputError(f"batch_size = {recipe.batch_size}: expected a multiple of the {world_size} processes")
        crops = _training_crops(recipe, store, config, stage.folder)

        def batches(step: int) -> dict[str, torch.Tensor]:
            return crops.batch(
                recipe.training.seed, step, recipe.batch_size, recipe.crop_units, rank=rank, world_size=world_size
            )

        torch.manual_seed(recipe.training.seed)
        model = UnitToMel(config, *mean_and_deviation(crops.mel))
        losses = fit(model, regression_losses, batches, recipe.training, stage.folder, "train voice")
    decoder = RegressionDecoder(model, config)
    counts = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "steps": recipe.training.steps,
        "train": {name: round(value, 4) for name, value in losses.items()},
    }
    if is_main_process():
        decoder.save_pretrained(stage.folder / "model")
        mean_frame = torch.from_numpy(crops.mel[::100].mean(axis=0, dtype=np.float32))
        counts |= _measure(recipe, decoder, tokenizer, mean_frame)
        (stage.folder / FRAMES_FILE).unlink()
    return counts


def _training_crops(
    recipe: TrainVoiceRecipe, store: DocumentStore, config: RegressionConfig, folder: Path
) -> UnitMelCrops:
    units, frames = [document.semantic for document in store], config.frames_per_unit
    mel = split_frames(folder, recipe.speech, store.records, [frames * len(row) for row in units], FRONT)
    speakers = [config.speakers.index(record.speaker) for record in store.records]
    return UnitMelCrops(units, speakers, mel, config.frames_per_unit)


def _measure(
    recipe: TrainVoiceRecipe, decoder: RegressionDecoder, tokenizer: SpeechTokenizer, mean_frame: torch.Tensor
) -> dict[str, float]:
    """Over dev recordings of known speakers."""
    if "dev" not in splits_of(recipe.speech):
        return {"dev_recordings": 0}
    store = DocumentStore(recipe.store, "dev")
    known = [i for i, record in enumerate(store.records) if record.speaker in decoder.speakers]
    recordings = []
    for i in known[: recipe.dev_recordings]:
        record, units = store.records[i], store[i].semantic
        frames = decoder.config.frames_per_unit * len(units)
        mel = FRONT.of(Recording(audio_of(recipe.speech, record), record.start, frames))
        recordings.append(Recorded(units, record.speaker, torch.from_numpy(mel).float(), frames * HOP / SAMPLE_RATE))
    return respoken(decoder, tokenizer, recordings, mean_frame)


if __name__ == "__main__":
    run_program("train voice", TrainVoiceRecipe, train_voice, __doc__)
