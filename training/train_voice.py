"""Train the speech decoder: units of the training recordings become their mel frames, voice by voice.

In:  a speak stage (recordings), a unit tokenizer (fit units), a store of units made with it (encode).
Out: `model/` (see `spiritlm/synthesis/regression.py`) with the speakers of the training split.
Several processes: torchrun --nproc-per-node N training/train_voice.py RECIPE.toml
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from pydantic import PositiveInt

from spiritlm.audio.files import read_audio
from spiritlm.audio.mel import FRAME_RATE, HOP, MELS, SAMPLE_RATE, log_mel
from spiritlm.corpus.manifest import corpus_root, inside
from spiritlm.corpus.store import DocumentStore, Record
from spiritlm.errors import InputError
from spiritlm.run.files import atomic_path
from spiritlm.run.fit import FitRecipe, fit, process_group
from spiritlm.run.program import run_program
from spiritlm.run.progress import track
from spiritlm.run.stage import Input, Stage, StageRecipe, is_main_process, require_same_input
from spiritlm.run.workers import map_in_workers
from spiritlm.synthesis.crops import UnitMelCrops
from spiritlm.synthesis.griffin_lim import griffin_lim
from spiritlm.synthesis.regression import ModelShape, RegressionConfig, RegressionDecoder, UnitToMel, regression_losses
from spiritlm.tokens.interleave import deduplicate
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
        model = UnitToMel(config, *_mean_and_deviation(crops.mel))
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
        _mel_file(stage.folder).unlink()
    return counts


def _mel_file(folder: Path) -> Path:
    return folder / "mel.npy"


def _training_crops(
    recipe: TrainVoiceRecipe, store: DocumentStore, config: RegressionConfig, folder: Path
) -> UnitMelCrops:
    """The first process computes the mel frames of the whole split into a file; all of them map it."""
    units = [document.semantic for document in store]
    if is_main_process() and not _mel_file(folder).is_file():
        frames = config.frames_per_unit
        work = [
            (_audio(recipe.speech, record), record.start, frames * len(u))
            for record, u in zip(store.records, units, strict=True)
        ]
        _write_mels(_mel_file(folder), work)
    if dist.is_initialized():
        dist.barrier()
    mel = np.load(_mel_file(folder), mmap_mode="r", allow_pickle=False)
    speakers = [config.speakers.index(record.speaker) for record in store.records]
    return UnitMelCrops(units, speakers, mel, config.frames_per_unit)


def _audio(corpus: Path, record: Record) -> Path:
    """Raises `InputError` for a path that leaves the corpus."""
    root = corpus_root(corpus)
    if not inside(root, Path(record.audio)):
        raise InputError(f"{record.id}: the path {record.audio} leaves {root}")
    return root / record.audio


def _write_mels(path: Path, work: list[tuple[Path, float, int]]) -> None:
    """Log-mel float16 `[frames, 80]` one after the other: of each file, from a second on, a number of frames."""
    with atomic_path(path) as temporary:
        shape = (sum(frames for _, _, frames in work), MELS)
        mel = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float16, shape=shape)
        start = 0
        for part in track(map_in_workers(_mel_of_file, work), "mel", len(work)):
            mel[start : start + len(part)] = part
            start += len(part)
        mel.flush()


def _mel_of_file(work: tuple[Path, float, int]) -> np.ndarray:
    """float16 `[frames, 80]`: silence is added, or the end cut, to have exactly as many frames as asked for."""
    torch.set_num_threads(1)
    path, start, frames = work
    wave = read_audio(path, SAMPLE_RATE)[round(start * SAMPLE_RATE) :][: frames * HOP]
    return log_mel(np.pad(wave, (0, frames * HOP - len(wave)))).half().numpy()


def _mean_and_deviation(mel: np.ndarray) -> tuple[float, float]:
    """Of a hundredth of the frames."""
    sample = mel[::100].astype(np.float64)
    return float(sample.mean()), float(sample.std())


def _measure(
    recipe: TrainVoiceRecipe, decoder: RegressionDecoder, tokenizer: SpeechTokenizer, mean_frame: torch.Tensor
) -> dict[str, float]:
    """Means over dev recordings of known speakers; see `_measure_recording`."""
    store = DocumentStore(recipe.store, "dev")
    known = [i for i, record in enumerate(store.records) if record.speaker in decoder.speakers]
    known = known[: recipe.dev_recordings]
    rows = []
    for i in track(known, "measure", len(known)):
        record, units = store.records[i], store[i].semantic
        audio = _audio(recipe.speech, record), record.start
        rows.append(_measure_recording(decoder, tokenizer, mean_frame, audio, units, record.speaker))
    means = {name: round(float(np.mean([row[name] for row in rows])), 4) for name in (rows[0] if rows else {})}
    return {"dev_recordings": len(rows), **means}


def _measure_recording(
    decoder: RegressionDecoder,
    tokenizer: SpeechTokenizer,
    mean_frame: torch.Tensor,
    audio: tuple[Path, float],
    units: np.ndarray,
    speaker: str,
) -> dict[str, float]:
    """`dev_mel_distance`: mean absolute difference of log10 mel power, at the recording's own durations.

    `dev_mean_frame_distance`: that of a decoder which knows nothing. `dev_units_kept`: share of units that the unit
    tokenizer hears again. `dev_length_ratio`: predicted over true length. `real_time_factor`: seconds to decode a
    second of sound.
    """
    values, durations = deduplicate(units)
    target = torch.from_numpy(_mel_of_file((*audio, decoder.config.frames_per_unit * len(units)))).float()
    mel = decoder.mel(values, speaker, durations).cpu()
    heard = tokenizer.encode(griffin_lim(mel).numpy(), SAMPLE_RATE).semantic.values
    started = time.monotonic()
    wave = decoder.decode(values, speaker)
    seconds = time.monotonic() - started
    return {
        "dev_mel_distance": float((mel - target).abs().mean()),
        "dev_mean_frame_distance": float((mean_frame - target).abs().mean()),
        "dev_units_kept": float(np.mean(heard == units)),
        "dev_length_ratio": len(wave) / (len(target) * HOP),
        "real_time_factor": seconds * SAMPLE_RATE / len(wave),
    }


if __name__ == "__main__":
    run_program("train voice", TrainVoiceRecipe, train_voice, __doc__)
