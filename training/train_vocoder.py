"""Train the vocoder of a speech decoder: mel frames become the waveform that they were taken from.

In:  a corpus (speak, ingest or align); no text and no units are needed.
Out: `model/` (HiFT, see `spiritlm/synthesis/hift.py`), which `training/train_flow.py` takes; `samples/` with dev
     recordings as they were and as they are spoken, and a picture of their mel frames; `rejects.jsonl`.
     The network learns from mel distance, from F0 (tracked as the crops are read) and, from `adversarial_from` on,
     from discriminators that learn beside it.
Several processes: torchrun --nproc-per-node N training/train_vocoder.py RECIPE.toml
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soxr
import torch
from pydantic import NonNegativeInt, PositiveInt, model_validator
from torch import nn

from spiritlm.audio.f0 import SAMPLE_RATE as F0_RATE
from spiritlm.audio.f0 import f0_of_frames, track_f0
from spiritlm.audio.files import read_audio, write_wav
from spiritlm.audio.vocoder_mel import VocoderMel, vocoder_log_mel
from spiritlm.config import validate_recipe
from spiritlm.corpus.manifest import SpokenDocument, corpus_root, read_manifest, require_speakers, splits_of
from spiritlm.corpus.sounds import Sounds, Stretch
from spiritlm.errors import InputError
from spiritlm.run.fit import Batch, FitRecipe, Losses, fit, process_group
from spiritlm.run.program import run_program
from spiritlm.run.rejects import Rejects
from spiritlm.run.stage import Input, Stage, StageRecipe, is_main_process
from spiritlm.scoring.f0 import f0_errors
from spiritlm.synthesis.discriminators import AdversarialWeights, Discriminators, DiscriminatorShape
from spiritlm.synthesis.hift import Hift, HiftShape
from spiritlm.synthesis.picture import draw_mels
from spiritlm.synthesis.vocoder import VocoderConfig, save_vocoder, speak


class TrainVocoderRecipe(StageRecipe):
    speech: Input
    speakers: tuple[str, ...] = ()
    """Whose recordings are used; all by default."""
    mel: VocoderMel = VocoderMel()
    mel_sizes: tuple[PositiveInt, ...] = ()
    """Windows, in samples, over which the distance of mel is taken too."""
    model: HiftShape = HiftShape()
    discriminators: DiscriminatorShape = DiscriminatorShape()
    weights: AdversarialWeights = AdversarialWeights()
    adversarial_from: NonNegativeInt = 0
    """Steps before it learn from mel distance and F0 alone."""
    training: FitRecipe
    batch_size: PositiveInt = 16
    """Crops of a step, over all processes."""
    crop_frames: PositiveInt = 96
    """Mel frames of a crop."""
    dev_recordings: int = 8
    """That are measured; the first three are kept as sound and picture."""
    max_bad_fraction: float = 0.01
    """Largest share of pieces of recordings that may be rejected."""

    @model_validator(mode="after")
    def _fits_together(self) -> TrainVocoderRecipe:
        samples = self.crop_frames * self.mel.hop
        for size in (self.mel.size, *self.mel_sizes, *self.discriminators.windows):
            if not 16 <= size < 2 * samples:
                raise ValueError(f"a window of {size} samples: expected 16 to less than twice the crop's {samples}")
        return self


SAMPLES = 3


def train_vocoder(recipe: TrainVocoderRecipe, stage: Stage) -> dict[str, Any]:
    config = validate_recipe(VocoderConfig, {"mel": recipe.mel, "shape": recipe.model}, "recipe")
    documents = read_manifest(recipe.speech, "train")
    require_speakers(recipe.speakers, {document.speaker for document in documents}, recipe.speech)
    documents = [document for document in documents if not recipe.speakers or document.speaker in recipe.speakers]
    if is_main_process() and (lowest := min(d.sample_rate for d in documents)) < recipe.mel.sample_rate:
        print(f"recordings of {lowest} Hz and more are resampled to {recipe.mel.sample_rate} Hz")
    with process_group() as (rank, ranks):
        if recipe.batch_size % ranks:
            raise InputError(f"batch_size = {recipe.batch_size}: expected a multiple of the {ranks} processes")
        rejects = Rejects(stage.folder, recipe.max_bad_fraction)
        crops = WaveCrops(recipe, documents, rejects, rank, ranks)
        torch.manual_seed(recipe.training.seed)
        model = nn.ModuleDict({"vocoder": Hift(recipe.model), "discriminators": Discriminators(recipe.discriminators)})
        losses = VocoderLosses(recipe)

        def begin(step: int) -> None:
            losses.adversarial = step >= recipe.adversarial_from
            if not losses.adversarial:  # the optimizer is not to count steps without a gradient
                for parameter in model["discriminators"].parameters():
                    parameter.grad = None

        figures = fit(model, losses, crops.batch, recipe.training, stage.folder, "train vocoder", before_step=begin)
        rejected = rejects.close(len(crops.sounds.stretches))
    vocoder = model["vocoder"].eval()
    assert isinstance(vocoder, Hift)
    counts = {
        "recordings": len(documents),
        "rejected": rejected,
        "hours": round(sum(d.duration for d in documents) / 3600, 3),
        "parameters": sum(p.numel() for p in vocoder.parameters()),
        "steps": recipe.training.steps,
        "train": {name: round(value, 4) for name, value in figures.items()},
    }
    if is_main_process():
        save_vocoder(stage.folder / "model", vocoder, config)
        counts |= _measure(recipe, vocoder, config, stage.folder / "samples")
    return counts


PIECE_SECONDS = 4.0
"""Of a recording, that a crop is cut from."""


class WaveCrops:
    """Crops at random places: a batch is a pure function of (seed, step)."""

    def __init__(
        self,
        recipe: TrainVocoderRecipe,
        documents: Sequence[SpokenDocument],
        rejects: Rejects,
        rank: int,
        ranks: int,
    ) -> None:
        self.recipe, self.rank, self.ranks = recipe, rank, ranks
        self.samples = recipe.crop_frames * recipe.mel.hop
        root, longest = corpus_root(recipe.speech), max(PIECE_SECONDS, self.samples / recipe.mel.sample_rate)
        pieces = [
            Stretch(root / document.audio, float(start), min(document.duration, float(start) + longest))
            for document in documents
            for start in np.arange(0, document.duration, longest)
        ]
        self.sounds = Sounds(pieces, recipe.mel.sample_rate, rejects)
        self.chances = np.array([piece.seconds for piece in pieces]) / sum(piece.seconds for piece in pieces)

    def batch(self, step: int) -> Batch:
        """`waves` float32 `[batch, samples]`, and `f0` Hz float32 `[batch, frames]`, 0 where nothing is voiced."""
        recipe = self.recipe
        rng = np.random.default_rng((recipe.training.seed, step))
        numbers = rng.choice(len(self.chances), recipe.batch_size, p=self.chances)[self.rank :: self.ranks]
        places = rng.random(recipe.batch_size)[self.rank :: self.ranks]
        waves = []
        for wave, place in zip(self.sounds.read(numbers)[1], places, strict=True):
            first = int(place * max(0, len(wave) - self.samples))
            crop = wave[first : first + self.samples]
            waves.append(np.pad(crop, (0, self.samples - len(crop))))
        f0 = [f0_of_wave(wave, recipe.mel) for wave in waves]
        return {"waves": torch.from_numpy(np.stack(waves)), "f0": torch.from_numpy(np.stack(f0))}


def f0_of_wave(wave: np.ndarray, mel: VocoderMel) -> np.ndarray:
    """Hz float32 `[frames]` of a wave float32 `[samples]` at the rate of `mel`."""
    heard = wave if mel.sample_rate == F0_RATE else soxr.resample(wave, mel.sample_rate, F0_RATE)
    return f0_of_frames(track_f0(heard), mel.frame_rate, mel.frames(len(wave)))


class VocoderLosses:
    """What vocoder and discriminators learn from, side by side: neither learns from the other's part."""

    def __init__(self, recipe: TrainVocoderRecipe) -> None:
        self.recipe, self.adversarial = recipe, False
        whole = recipe.mel.model_copy(update={"highest": None})
        sizes = (recipe.mel.size, *recipe.mel_sizes)
        self.fronts = [whole.model_copy(update={"size": size, "hop": min(whole.hop, size // 4)}) for size in sizes]

    def __call__(self, model: nn.Module, batch: Batch) -> Losses:
        """`loss`, and its parts: `mel`, mean distance of log-mel; `f0`, of F0 in Hz; with discriminators also
        `fooled`, `features` and `judges`."""
        assert isinstance(model, nn.ModuleDict)
        vocoder, judges = model["vocoder"], model["discriminators"]
        assert isinstance(vocoder, Hift) and isinstance(judges, Discriminators)
        real, f0, weights = batch["waves"], batch["f0"], self.recipe.weights
        mel = vocoder_log_mel(real, self.recipe.mel)
        made = vocoder(mel, vocoder.random_source(f0))
        distances = [
            (vocoder_log_mel(made, front) - vocoder_log_mel(real, front)).abs().mean() for front in self.fronts
        ]
        losses = {"mel": torch.stack(distances).mean(), "f0": (vocoder.f0_predictor(mel) - f0).abs().mean()}
        total = weights.mel * losses["mel"] + weights.f0 * losses["f0"]
        if self.adversarial:
            losses["fooled"], losses["features"] = judges.makers_loss(real, made, weights)
            losses["judges"] = judges.loss(real, made, weights)
            total = total + losses["fooled"] + weights.features * losses["features"] + losses["judges"]
        return {"loss": total, **losses}


@torch.inference_mode()
def _measure(recipe: TrainVocoderRecipe, vocoder: Hift, config: VocoderConfig, folder: Path) -> dict[str, float]:
    """Of dev recordings, spoken against recorded. `dev_mel_distance`: mean of natural log-mel's; `dev_f0_within`: share
    of voiced frames within 10 %; `dev_voicing_error`; `real_time_factor`: seconds to speak a second."""
    dev = read_manifest(recipe.speech, "dev") if "dev" in splits_of(recipe.speech) else []
    chosen = [d for d in dev if not recipe.speakers or d.speaker in recipe.speakers]
    chosen, root, device = chosen[: recipe.dev_recordings], corpus_root(recipe.speech), vocoder.window.device
    distances, contours, spent, heard = [], [], 0.0, 0.0
    folder.mkdir(exist_ok=True)
    for number, document in enumerate(chosen):
        wave = torch.from_numpy(read_audio(root / document.audio, config.mel.sample_rate)).to(device)
        mel = vocoder_log_mel(wave[None], config.mel)[0]
        started = time.monotonic()
        spoken = speak(vocoder, mel).cpu()
        spent, heard = spent + time.monotonic() - started, heard + len(spoken) / config.mel.sample_rate
        mel, again = mel.cpu(), vocoder_log_mel(spoken[None], config.mel)[0]
        distances.append(float((again - mel).abs().mean()))
        recorded, said = (f0_of_wave(x.numpy(), config.mel) for x in (wave[: len(spoken)].cpu(), spoken))
        contours.append((recorded, said))
        if number < SAMPLES:
            write_wav(folder / f"{document.id}-recorded.wav", wave.cpu().numpy(), config.mel.sample_rate)
            write_wav(folder / f"{document.id}-spoken.wav", spoken.cpu().numpy(), config.mel.sample_rate)
            picture = draw_mels(
                [("recorded", mel.cpu().numpy()), ("spoken", again.cpu().numpy())], config.mel.frame_rate
            )
            picture.savefig(folder / f"{document.id}.png", dpi=110)
    if not chosen:
        return {"dev_recordings": 0}
    f0 = f0_errors(contours)
    return {
        "dev_recordings": len(chosen),
        "dev_mel_distance": round(float(np.mean(distances)), 4),
        "dev_f0_within": round(f0.near.value, 4),
        "dev_voicing_error": round(f0.voicing.value, 4),
        "real_time_factor": round(spent / heard, 4),
    }


if __name__ == "__main__":
    run_program("train vocoder", TrainVocoderRecipe, train_vocoder, __doc__)
