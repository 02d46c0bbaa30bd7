"""Train a speech decoder by flow matching: units become mel frames, which a trained vocoder speaks.

In:  a corpus, a unit tokenizer, a store of units made with it (encode), a vocoder (train_vocoder).
Out: `model/`, a whole speech decoder (see `spiritlm/synthesis/decoder.py`) with the speakers that were trained on;
     `samples/` with dev recordings as they were and as their units are spoken, and a picture of their mel frames.
     Stage 1 trains on many speakers; stage 2 goes on from it (`start`) with one (`speakers`), on prefixes of recordings
     (`prefixes`), as far as a stream has come (GLM-4-Voice, section 3.2).
Several processes: torchrun --nproc-per-node N training/train_flow.py RECIPE.toml
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat, PositiveInt

from spiritlm.audio.files import read_audio, write_wav
from spiritlm.audio.vocoder_mel import VocoderMel, vocoder_log_mel
from spiritlm.config import Recipe, validate_recipe
from spiritlm.corpus.frames import FRAMES_FILE, Front, Recording, audio_of, mean_and_deviation, split_frames
from spiritlm.corpus.manifest import require_speakers, splits_of
from spiritlm.corpus.store import DocumentStore
from spiritlm.errors import InputError
from spiritlm.run.fit import Batch, FitRecipe, Losses, fit, process_group
from spiritlm.run.program import run_program
from spiritlm.run.stage import Input, Stage, StageRecipe, is_main_process, require_same_input
from spiritlm.scoring.respoken import Recorded, respoken
from spiritlm.synthesis.conformer import EncoderShape
from spiritlm.synthesis.crops import UnitCrops
from spiritlm.synthesis.decoder import FlowDecoder, FlowDecoderConfig, UnitsToMel
from spiritlm.synthesis.estimator import EstimatorShape
from spiritlm.synthesis.flow import FlowConfig, Known, frame_mask
from spiritlm.synthesis.picture import draw_mels
from spiritlm.synthesis.protocol import as_given
from spiritlm.synthesis.vocoder import VocoderConfig, load_vocoder
from spiritlm.units.loading import load_speech_tokenizer
from spiritlm.units.protocol import SpeechTokenizer

SAMPLES = 3


class FlowShape(Recipe):
    """Size of the flow; its layout is the causal one of CosyVoice 2, whose sizes are given here."""

    input_size: PositiveInt = 512
    """Of a unit's embedding."""
    speaker_size: PositiveInt = 192
    encoder: EncoderShape = EncoderShape(look_ahead=3, up_layers=4, up_stride=4, norm_eps=1e-5, left_blocks=8)
    """`up_stride`: mel frames of a unit."""
    estimator: EstimatorShape = EstimatorShape(channels=(256,), causal=True, block=40, left_blocks=8)


class TrainFlowRecipe(StageRecipe):
    speech: Input
    units: Input
    store: Input
    vocoder: Input
    start: Input | None = None
    """Of another training of this kind, to go on from: same model, same units, another choice of speakers."""
    speakers: tuple[str, ...] = ()
    """Whose recordings are used; all by default."""
    default_speaker: str = ""
    """Speaks where nobody is asked for, if it is among the speakers; else the first by name."""
    prefixes: bool = False
    """Every crop begins with its recording and ends with a block."""
    model: FlowShape = FlowShape()
    training: FitRecipe
    batch_size: PositiveInt = 16
    """Crops of a step, over all processes."""
    crop_units: PositiveInt = 40
    """Units of a crop at most."""
    unknown: float = Field(0.2, ge=0, lt=1)
    """How often a crop's flow is told nothing, for guidance."""
    streaming: float = Field(0.5, ge=0, le=1)
    """How often a batch hears by blocks, as in a stream; otherwise all of a crop hears all of it."""
    prompted: float = Field(0.5, ge=0, le=1)
    """How often a crop's first mel frames are given,"""
    most_prompt: float = Field(0.3, gt=0, le=1)
    """and how much of it at most."""
    prior_weight: NonNegativeFloat = 0.0
    """Of the distance of mel from what the encoder alone says (Matcha-TTS): small models learn faster."""
    duration_weight: NonNegativeFloat = 1.0
    steps: PositiveInt = 10
    """Of the trained flow, when it speaks,"""
    temperature: NonNegativeFloat = 1.0
    """and the deviation of the noise that it begins with; small models are better understood below 1."""
    dev_recordings: int = 10
    """Recordings of the dev split, of known speakers, that the trained decoder is measured on."""


def train_flow(recipe: TrainFlowRecipe, stage: Stage) -> dict[str, Any]:
    tokenizer = load_speech_tokenizer(recipe.units / "model")
    store = DocumentStore(recipe.store, "train")
    for key in ("speech", "units"):
        require_same_input(recipe.store, key, stage.input_fingerprints[key])
    vocoder, spoken = load_vocoder(recipe.vocoder / "model")
    speakers = _speakers(recipe, {record.speaker for record in store.records})
    chosen = [number for number, record in enumerate(store.records) if record.speaker in speakers]
    config = _config(recipe, tokenizer, store.files.rates["semantic"], spoken, speakers)
    with process_group() as (rank, ranks):
        if recipe.batch_size % ranks:
            raise InputError(f"batch_size = {recipe.batch_size}: expected a multiple of the {ranks} processes")
        crops = _training_crops(recipe, store, chosen, config, stage.folder)
        block = config.flow.encoder.block or 1

        def batches(step: int) -> Batch:
            prefix = block if recipe.prefixes else 0
            seed, size, length = recipe.training.seed, recipe.batch_size, recipe.crop_units
            return crops.batch(seed, step, size, length, prefix, rank, ranks)

        torch.manual_seed(recipe.training.seed)
        model = _model(recipe, config, *mean_and_deviation(crops.mel))
        losses = fit(model, FlowLosses(recipe), batches, recipe.training, stage.folder, "train flow")
    counts: dict[str, Any] = {
        "recordings": len(chosen),
        "speakers": len(speakers),
        "parameters": sum(p.numel() for p in model.parameters()),
        "vocoder_parameters": sum(p.numel() for p in vocoder.parameters()),
        "steps": recipe.training.steps,
        "train": {name: round(value, 4) for name, value in losses.items()},
    }
    if is_main_process():
        decoder = FlowDecoder(model, vocoder, config)
        decoder.save_pretrained(stage.folder / "model")
        mean_frame = torch.from_numpy(crops.mel[::100].mean(axis=0, dtype=np.float32))
        counts |= _measure(recipe, decoder, tokenizer, mean_frame, stage.folder / "samples")
        (stage.folder / FRAMES_FILE).unlink()
    return counts


def _speakers(recipe: TrainFlowRecipe, known: set[str]) -> tuple[str, ...]:
    """In the decoder's order. Raises `InputError` for one without recordings."""
    require_speakers(recipe.speakers, known, recipe.store)
    return tuple(sorted(recipe.speakers or known, key=lambda name: (name != recipe.default_speaker, name)))


def _config(
    recipe: TrainFlowRecipe, tokenizer: SpeechTokenizer, rate: float, spoken: VocoderConfig, speakers: tuple[str, ...]
) -> FlowDecoderConfig:
    """Raises `InputError` where a unit is no whole number of mel frames."""
    frames, stride = spoken.mel.frame_rate / rate, recipe.model.encoder.up_stride
    if abs(frames - stride) > 1e-6:
        raise InputError(
            f"model.encoder.up_stride = {stride}: units of {rate:g} Hz and mel of {spoken.mel.frame_rate:g} Hz are "
            f"{frames:g} frames a unit, expected that many, whole"
        )
    table = {
        "vocabulary_size": tokenizer.vocabulary_size,
        "unit_rate": rate,
        "mels": spoken.mel.mels,
        "frame_rate": rate * stride,
        "regulator_layers": 0,
        **dict(recipe.model),
    }
    flow = validate_recipe(FlowConfig, table, "model")
    told: dict[str, Any] = {
        "speakers": speakers,
        "durations": True,
        "steps": recipe.steps,
        "temperature": recipe.temperature,
    }
    return FlowDecoderConfig(flow=flow, vocoder=spoken, **told)


def _model(recipe: TrainFlowRecipe, config: FlowDecoderConfig, mean: float, deviation: float) -> UnitsToMel:
    """A new one, or what was trained before, with its scale of mel and those of its voices that are wanted; one that it
    lacks begins as its first. Raises `InputError` where that is another kind of model."""
    model = UnitsToMel(config.flow, len(config.speakers), config.durations, mean, deviation)
    if recipe.start is None:
        return model
    before = FlowDecoder.from_pretrained(recipe.start / "model")
    old, new = ((c.flow, c.durations, c.vocoder.mel) for c in (before.config, config))
    if old != new:
        raise InputError(f"start = {recipe.start}: another model, other units or another mel than this recipe's")
    weights = {name: tensor.cpu() for name, tensor in before.model.state_dict().items()}
    rows = [before.speakers.index(name) if name in before.speakers else 0 for name in config.speakers]
    model.load_state_dict(weights | {"voices.weight": weights["voices.weight"][rows]})
    return model


def _frames(mel: VocoderMel, wave: torch.Tensor) -> torch.Tensor:
    return vocoder_log_mel(wave[None], mel)[0].T


def _front(mel: VocoderMel) -> Front:
    return Front(mel.sample_rate, mel.hop, mel.mels, partial(_frames, mel))


def _training_crops(
    recipe: TrainFlowRecipe, store: DocumentStore, chosen: list[int], config: FlowDecoderConfig, folder: Path
) -> UnitCrops:
    frames, records = config.flow.encoder.up_stride, [store.records[number] for number in chosen]
    units = [store[number].semantic for number in chosen]
    mel = split_frames(folder, recipe.speech, records, [frames * len(row) for row in units], _front(config.vocoder.mel))
    return UnitCrops(units, [config.speakers.index(record.speaker) for record in records], mel, frames)


class FlowLosses:
    """What the flow and the durations learn from."""

    def __init__(self, recipe: TrainFlowRecipe) -> None:
        self.recipe = recipe

    def __call__(self, model: torch.nn.Module, batch: Batch) -> Losses:
        """`loss`, and its parts: `flow`, mean square of the velocity's error; `prior`, mean distance of the encoder's
        own mel; `duration`, mean square of its logarithm's error. Draws from torch's random state."""
        assert isinstance(model, UnitsToMel)
        recipe, flow = self.recipe, model.flow
        mel = model.standardise(batch["mel"]).transpose(1, 2)  # [batch, mels, frames]
        frames = batch["lengths"] * flow.config.encoder.up_stride
        blocks = bool(torch.rand(()) < recipe.streaming)
        condition = flow.batch_condition(batch["units"], batch["lengths"], frames, blocks).transpose(1, 2)
        known = Known(condition, flow.voice(model.voices(batch["speakers"])), mel * self._prompt(frames)[:, None])
        kept = torch.rand(len(mel), device=mel.device) >= recipe.unknown
        moments, noise = torch.rand(len(mel), device=mel.device), torch.randn_like(mel)
        losses = {"flow": flow.matching_loss(mel, frames, known.where(kept), moments, noise, blocks)}
        total = losses["flow"]
        if recipe.prior_weight:
            mask = frame_mask(frames)[:, None]
            losses["prior"] = ((condition - mel).abs() * mask).sum() / (mask.sum() * mel.shape[1])
            total = total + recipe.prior_weight * losses["prior"]
        if model.durations is not None:
            embedded = flow.input_embedding(batch["runs"]).detach()
            losses["duration"] = model.durations.loss(embedded, batch["durations"], batch["whole"])
            total = total + recipe.duration_weight * losses["duration"]
        return {"loss": total, **losses}

    def _prompt(self, frames: torch.Tensor) -> torch.Tensor:
        """bool `[batch, frames]`: those whose mel is given."""
        given = torch.rand(len(frames), device=frames.device) < self.recipe.prompted
        share = self.recipe.most_prompt * torch.rand(len(frames), device=frames.device) * given
        return torch.arange(int(frames.max()), device=frames.device) < (share * frames)[:, None].long()


def _measure(
    recipe: TrainFlowRecipe, decoder: FlowDecoder, tokenizer: SpeechTokenizer, mean_frame: torch.Tensor, folder: Path
) -> dict[str, float]:
    """Over dev recordings of known speakers; the first ones are kept as sound and picture."""
    if "dev" not in splits_of(recipe.speech):
        return {"dev_recordings": 0}
    store, mel = DocumentStore(recipe.store, "dev"), decoder.config.vocoder.mel
    known = [i for i, record in enumerate(store.records) if record.speaker in decoder.speakers]
    recordings, front = [], _front(mel)
    folder.mkdir(exist_ok=True)
    for number, i in enumerate(known[: recipe.dev_recordings]):
        record, units = store.records[i], store[i].semantic
        audio, frames = audio_of(recipe.speech, record), decoder.config.flow.frames(len(units))
        recorded = torch.from_numpy(front.of(Recording(audio, record.start, frames))).float()
        recordings.append(Recorded(units, record.speaker, recorded, frames / mel.frame_rate))
        if number < SAMPLES:
            values, durations, _ = as_given(decoder, units)
            found = decoder.mel(values, record.speaker, durations)
            wave = read_audio(audio, mel.sample_rate, record.start, record.start + frames / mel.frame_rate)
            write_wav(folder / f"{number}-recorded.wav", wave, mel.sample_rate)
            write_wav(folder / f"{number}-spoken.wav", decoder.speak(found).cpu().numpy(), mel.sample_rate)
            picture = draw_mels([("recorded", recorded.T.numpy()), ("spoken", found.T.cpu().numpy())], mel.frame_rate)
            picture.savefig(folder / f"{number}.png", dpi=110)
    return respoken(decoder, tokenizer, recordings, mean_frame)


if __name__ == "__main__":
    run_program("train flow", TrainFlowRecipe, train_flow, __doc__)
