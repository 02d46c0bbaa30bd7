"""Train a pitch tokenizer: a VQ-VAE learns to write down F0 and voicing in 12.5 codes a second.

In:  a corpus (speak, ingest or align); no text is needed.
Out: `model/` (see `spiritlm/units/pitch.py`); `rejects.jsonl` names recordings that could not be read. F0 of all
     recordings is tracked once, by all processes, into files of four bytes a frame, which are removed at the end.
     Measured on the dev split, voices of the train split apart from others: `within_10_percent`, the share of voiced
     frames whose decoded F0 is within 10 % of that of the recording (one that is decoded as unvoiced is not);
     `cents`, the median error of those that are voiced in both; `voicing_error`, the share of frames with the wrong
     voicing; codes used and their perplexity.
Several processes: torchrun --nproc-per-node N tokenizers/train_pitch.py RECIPE.toml
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.distributed as dist
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from spiritlm.audio.f0 import HOP, SAMPLE_RATE, Tracker, track_f0
from spiritlm.audio.files import read_audio
from spiritlm.config import validate_recipe
from spiritlm.corpus.manifest import SpokenDocument, corpus_root, read_manifest, splits_of
from spiritlm.corpus.sounds import draw_hours
from spiritlm.errors import InputError
from spiritlm.run.files import atomic_path, read_json, write_json
from spiritlm.run.fit import Batch, FitRecipe, Losses, fit, process_group
from spiritlm.run.program import run_program
from spiritlm.run.progress import track
from spiritlm.run.rejects import Rejects
from spiritlm.run.stage import Input, Stage, StageRecipe, is_main_process
from spiritlm.scoring.f0 import f0_errors
from spiritlm.units.pitch import PitchBlocks, PitchConfig, PitchTokenizer
from spiritlm.units.pitch_vqvae import PitchVqVae, PitchVqVaeShape
from spiritlm.units.usage import perplexity


class TrainPitchRecipe(StageRecipe):
    speech: Input
    model: PitchVqVaeShape = PitchVqVaeShape()
    tracker: Tracker = "world"
    scale: Literal["hz", "octaves"] = "hz"
    normalization: Literal["none", "utterance", "speaker"] = "speaker"
    """See `PitchConfig`; means of the speakers of the train split are kept with the tokenizer."""
    interpolate: bool = True
    blocks: PitchBlocks | None = None
    """Windows in which the tokenizer works, so that it streams; crops of training are encoded in them too, and decoded
    whole, so that the decoder learns to read codes across their seams."""
    training: FitRecipe
    batch_size: PositiveInt = 16
    """Crops of a step, over all processes."""
    crop_units: PositiveInt = 13
    """Length of a crop, with `blocks` a multiple of their `units`; published: 16,640 samples, 13 units."""
    commitment: NonNegativeFloat = 0.02
    voiced_only: bool = False
    """The error of F0 is of voiced frames alone; published: of all."""
    voicing_weight: PositiveFloat = 1.0
    """Of the error of voicing, beside that of F0."""
    transpose: float = Field(0.0, ge=0, le=2)
    """Octaves that a crop is moved up or down at most, at random: other voices. Published: none."""
    max_hours: PositiveFloat = 1e6
    """Hours of training audio used; recordings are drawn at random, without repetition, until they exceed it."""
    dev_recordings: PositiveInt = 60
    max_bad_fraction: float = 0.01
    """Largest share of recordings that may be rejected."""


def train_pitch(recipe: TrainPitchRecipe, stage: Stage) -> dict[str, Any]:
    config = _config(recipe, {})
    documents = draw_hours(read_manifest(recipe.speech, "train"), recipe.max_hours, recipe.training.seed)
    with process_group() as (rank, ranks):
        if recipe.batch_size % ranks:
            raise InputError(f"batch_size = {recipe.batch_size}: expected a multiple of the {ranks} processes")
        rejects = Rejects(stage.folder, recipe.max_bad_fraction)
        tracks = track_corpus(documents, corpus_root(recipe.speech), recipe.tracker, stage.folder, rejects, rank, ranks)
        if not tracks:
            raise InputError(f"speech = {recipe.speech}: split train has no recording to train on")
        if recipe.normalization == "speaker":
            config = _config(recipe, speaker_means(config, documents, tracks))
        crops = PitchCrops(recipe, config, documents, tracks)
        torch.manual_seed(recipe.training.seed)
        model = PitchVqVae(recipe.model)
        losses = fit(
            model,
            lambda module, batch: pitch_losses(model, batch, crops.blocks, recipe),
            lambda step: crops.batch(step, rank, ranks),
            recipe.training,
            stage.folder,
            "train pitch",
        )
        rejected = rejects.close(len(documents))
    counts: dict[str, Any] = {"recordings": len(documents), "rejected": rejected}
    counts["hours"] = round(sum(d.duration for d in documents) / 3600, 3)
    counts["voiced"] = round(sum(np.count_nonzero(f0) for f0 in tracks.values()) / sum(map(len, tracks.values())), 4)
    counts |= {"parameters": sum(p.numel() for p in model.parameters()), "steps": recipe.training.steps}
    counts["train"] = {name: round(value, 4) for name, value in losses.items()}
    if is_main_process():
        tokenizer = PitchTokenizer(model, config)
        tokenizer.save_pretrained(stage.folder / "model")
        counts["dev"] = _measure(recipe, tokenizer)
        for file in stage.folder.glob("f0-*"):
            file.unlink()
    return counts


def _config(recipe: TrainPitchRecipe, means: dict[str, float]) -> PitchConfig:
    if recipe.blocks is not None and recipe.crop_units % recipe.blocks.units:
        raise InputError(
            f"crop_units = {recipe.crop_units}: expected a multiple of blocks.units, {recipe.blocks.units}"
        )
    told = recipe.model_dump(include={"tracker", "scale", "normalization", "interpolate", "blocks"})
    if recipe.transpose and (recipe.scale != "octaves" or recipe.normalization != "none"):
        raise InputError("transpose: expected scale = octaves and normalization = none")
    return validate_recipe(PitchConfig, {**told, "shape": recipe.model.model_dump(), "speaker_means": means}, "recipe")


def track_corpus(
    documents: Sequence[SpokenDocument],
    root: Path,
    tracker: Tracker,
    folder: Path,
    rejects: Rejects,
    rank: int = 0,
    ranks: int = 1,
) -> dict[int, np.ndarray]:
    """F0 float32 `[frames]` of each of `documents` that can be read, by number, memory-mapped: tracked by all processes
    into a file of each, unless it is there already."""
    mine = np.array_split(np.arange(len(documents)), ranks)[rank].tolist()
    data, index = (folder / f"f0-{rank}-of-{ranks}.{kind}" for kind in ("bin", "json"))
    if not index.is_file():
        frames, unreadable = {}, {}
        with atomic_path(data) as temporary, temporary.open("wb") as file:
            for number in track(mine, "track F0", len(mine)):
                try:
                    wave = read_audio(root / documents[number].audio, SAMPLE_RATE)
                except InputError as error:
                    unreadable[documents[number].id] = str(error)
                    continue
                f0 = track_f0(wave, tracker)
                frames[str(number)] = len(f0)
                f0.tofile(file)
        for id, reason in unreadable.items():
            rejects.add(id, reason)
        rejects.require_few(len(documents))  # or files that are mended would stay unreadable
        write_json(index, {"frames": frames, "unreadable": unreadable})
    if dist.is_initialized():
        dist.barrier()
    tracks: dict[int, np.ndarray] = {}
    for other in range(ranks):
        told = read_json(folder / f"f0-{other}-of-{ranks}.json")
        for id, reason in told["unreadable"].items():
            rejects.add(id, reason)
        rejects.require_few(len(documents))
        if not told["frames"]:
            continue
        values, at = np.memmap(folder / f"f0-{other}-of-{ranks}.bin", np.float32, "r"), 0
        for number, count in told["frames"].items():
            tracks[int(number)] = values[at : at + count]
            at += count
    return tracks


def speaker_means(
    config: PitchConfig, documents: Sequence[SpokenDocument], tracks: dict[int, np.ndarray]
) -> dict[str, float]:
    """Of the voiced frames of each speaker, in the scale."""
    voiced: dict[str, list[np.ndarray]] = {}
    for number, f0 in tracks.items():
        voiced.setdefault(documents[number].speaker, []).append(config.scaled(f0[f0 > 0]))
    joined = {speaker: np.concatenate(parts) for speaker, parts in voiced.items()}
    return {speaker: float(f0.mean(dtype=np.float64)) for speaker, f0 in joined.items() if len(f0)}


class PitchCrops:
    """Crops at random places of recordings, each second equally likely."""

    def __init__(
        self,
        recipe: TrainPitchRecipe,
        config: PitchConfig,
        documents: Sequence[SpokenDocument],
        tracks: dict[int, np.ndarray],
    ) -> None:
        self.recipe, self.config, self.tracks = recipe, config, list(tracks.values())
        self.speakers = [documents[number].speaker for number in tracks]
        lengths = np.array([len(f0) for f0 in self.tracks])
        self.chances = lengths / lengths.sum()
        self.blocks = recipe.blocks or PitchBlocks(context=0, units=recipe.crop_units, ahead=0)
        self.windows = recipe.crop_units // self.blocks.units
        """Of a crop."""

    def batch(self, step: int, rank: int = 0, ranks: int = 1) -> Batch:
        """`windows` float32 `[batch, windows, 2, frames]`, a pure function of the step; with several ranks, every
        `ranks`-th crop. Without `blocks`, a crop is one window."""
        rng = np.random.default_rng((self.recipe.training.seed, step))
        numbers = rng.choice(len(self.tracks), self.recipe.batch_size, p=self.chances)[rank::ranks]
        seeds = rng.integers(2**32, size=self.recipe.batch_size)[rank::ranks]
        rows = [self._crop(number, np.random.default_rng(s)) for number, s in zip(numbers, seeds, strict=True)]
        return {"windows": torch.from_numpy(np.stack(rows))}

    def _crop(self, number: int, rng: np.random.Generator) -> np.ndarray:
        """Windows of the tokenizer, float32 `[windows, 2, frames]`; context may lie before the recording, and what is
        ahead behind it."""
        whole, hop, blocks = self.tracks[number], self.recipe.model.hop, self.blocks
        frames = (blocks.window + (self.windows - 1) * blocks.units) * hop
        before, after = blocks.context * hop, blocks.ahead * hop
        start = int(rng.integers(-before, max(1 - before, len(whole) + after - frames + 1)))
        part = whole[max(0, start) : max(0, start + frames)]
        f0 = np.zeros(frames, np.float32)
        f0[max(0, -start) : max(0, -start) + len(part)] = part
        if self.recipe.transpose:
            f0 *= np.float32(2 ** rng.uniform(-self.recipe.transpose, self.recipe.transpose))
        mean = self.config.mean(whole, whole > 0, self.speakers[number])
        starts = range(0, self.windows * blocks.units * hop, blocks.units * hop)
        return np.stack([self.config.features(f0[at : at + blocks.window * hop], mean) for at in starts])


def pitch_losses(model: PitchVqVae, batch: Batch, blocks: PitchBlocks, recipe: TrainPitchRecipe) -> Losses:
    """`batch`: see `PitchCrops.batch`, whose `blocks` these are."""
    windows, hop = batch["windows"], model.shape.hop
    made = slice(blocks.context, blocks.context + blocks.units)
    vectors = model.encoder(windows.flatten(0, 1))[..., made].unflatten(0, windows.shape[:2])
    quantized, _, commitment = model.codebook(vectors.transpose(1, 2).flatten(2))  # [batch, width, units of the crop]
    decoded = model.decoder(quantized)
    frames = windows[..., made.start * hop : made.stop * hop].transpose(1, 2).flatten(2)
    wrong = (decoded.float() - frames).square()
    voiced = frames[:, 1]
    pitch = (wrong[:, 0] * voiced).sum() / voiced.sum().clamp(min=1) if recipe.voiced_only else wrong[:, 0].mean()
    voicing = wrong[:, 1].mean()
    loss = (pitch + recipe.voicing_weight * voicing) / (1 + recipe.voicing_weight) + recipe.commitment * commitment
    return {"loss": loss, "pitch": pitch, "voicing": voicing, "commitment": commitment, **model.codebook.usage()}


def _measure(recipe: TrainPitchRecipe, tokenizer: PitchTokenizer) -> dict[str, Any]:
    """Of the dev split: what units keep of the F0 that is tracked over whole recordings."""
    if "dev" not in splits_of(recipe.speech):
        return {}
    root, config = corpus_root(recipe.speech), tokenizer.config
    known = {document.speaker for document in read_manifest(recipe.speech, "train")}
    documents = list(islice(read_manifest(recipe.speech, "dev"), recipe.dev_recordings))
    found: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    usage = np.zeros(tokenizer.vocabulary_size, np.int64)
    for document in track(documents, "measure dev", len(documents)):
        try:
            wave = read_audio(root / document.audio, SAMPLE_RATE)
        except InputError:
            continue
        f0 = track_f0(wave, recipe.tracker)
        units = tokenizer.encode(wave, SAMPLE_RATE, document.speaker).values
        usage += np.bincount(units, minlength=len(usage))
        decoded = tokenizer.decode_f0(units, config.mean(f0, f0 > 0, document.speaker))
        whose = "seen_speakers" if document.speaker in known else "unseen_speakers"
        found.setdefault(whose, []).append((f0, decoded[: len(f0)]))
    figures: dict[str, Any] = {whose: _figures(pairs) for whose, pairs in sorted(found.items())}
    return {**figures, "codes_used": int(np.count_nonzero(usage)), "perplexity": round(perplexity(usage), 1)}


def _figures(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> dict[str, float | None]:
    """F0 of recordings and as decoded, `[frames]` of Hz each."""
    errors = f0_errors(pairs)
    figures = {"within_10_percent": errors.near.value, "voicing_error": errors.voicing.value, "cents": errors.cents}
    return {
        "recordings": len(pairs),
        "hours": round(sum(len(f0) for f0, _ in pairs) * HOP / SAMPLE_RATE / 3600, 3),
        **{name: None if np.isnan(value) else round(value, 4) for name, value in figures.items()},
    }


if __name__ == "__main__":
    run_program("train pitch", TrainPitchRecipe, train_pitch, __doc__)
