"""Train the unit tokenizer: k-means over MFCC, or over a layer of a HuBERT that was trained here.

In:  a corpus (speak or ingest; its training and its dev split); with `encoder`, a train_hubert stage.
Out: `model/` (see `spiritlm/units/`); `rejects.jsonl` names recordings that could not be read. With `quantizer =
     "ctc"` a small network takes the place of the centroids: it is trained to give a recording that was made worse
     the units that the centroids (in `clean/`) give the recording itself.
     Measured on the dev split: how many clusters are used, and how much noise changes the units.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Literal

import numpy as np
import torch
from pydantic import PositiveFloat, PositiveInt

from spiritlm.audio.augment import AugmentRecipe, noisy
from spiritlm.audio.files import read_audio
from spiritlm.audio.mel import SAMPLE_RATE
from spiritlm.config import Recipe
from spiritlm.corpus.manifest import SpokenDocument, corpus_root, read_manifest, splits_of
from spiritlm.corpus.sounds import draw_hours
from spiritlm.errors import InputError
from spiritlm.pipelines.unit_targets import NO_UNIT, TargetCrops, encode_targets
from spiritlm.run.fit import FitRecipe, fit
from spiritlm.run.program import run_program
from spiritlm.run.progress import track
from spiritlm.run.rejects import Rejects
from spiritlm.run.stage import Input, OptionalInput, Stage, StageRecipe
from spiritlm.run.weights import CONFIG_FILE
from spiritlm.scoring.error_rates import error_rate
from spiritlm.tokens.interleave import deduplicate
from spiritlm.units.clustering import streaming_kmeans
from spiritlm.units.hubert import HubertFeatures, HubertTokenizer
from spiritlm.units.hubert_encoder import load_encoder
from spiritlm.units.mfcc import fit_mfcc_kmeans
from spiritlm.units.protocol import SpeechTokenizer
from spiritlm.units.quantizers import KmeansQuantizer, LinearQuantizer, ctc_losses, default_widths
from spiritlm.units.usage import perplexity

TOGETHER = 8
"""Recordings that are encoded in one batch."""
NOISE = 10.0
"""dB that noise is under the recording, where it is measured what noise changes."""


class CtcRecipe(Recipe):
    """How the linear quantizer is trained."""

    training: FitRecipe = FitRecipe(steps=2000, learning_rate=1e-3)
    batch_size: PositiveInt = 32
    """Crops of a step."""
    crop_seconds: PositiveFloat = 4.0
    augment: AugmentRecipe = AugmentRecipe(speed=0.3, reverberation=0.3, resampling=0.3, noise=0.7, gain=0.5)


class FitUnitsRecipe(StageRecipe):
    speech: Input
    encoder: OptionalInput = None
    """A train_hubert stage; without one, MFCC are clustered."""
    layer: PositiveInt | None = None
    """Of the encoder, from 1: the one that is clustered."""
    quantizer: Literal["kmeans", "ctc"] = "kmeans"
    ctc: CtcRecipe = CtcRecipe()
    standardize: bool = False
    """Each feature of the layer is brought to mean 0 and deviation 1 over a chunk, against the speaker."""
    chunk_seconds: PositiveFloat = 100.0
    """Longer recordings are encoded in pieces that know nothing of each other."""
    mfcc_rate: Literal[25, 50] = 25
    """Units per second, of MFCC: that of the HuBERT whose targets they are to be."""
    clusters: PositiveInt = 200
    max_hours: PositiveFloat = 1.5
    """Hours of training audio used; recordings are drawn at random, without repetition, until they exceed it."""
    seed: int = 0
    max_bad_fraction: float = 0.01
    """Largest share of recordings that may be rejected."""


def fit_units(recipe: FitUnitsRecipe, stage: Stage) -> dict[str, Any]:
    if (recipe.encoder is None) != (recipe.layer is None):
        raise InputError("encoder and layer: expected both or neither")
    if recipe.encoder is None and recipe.quantizer == "ctc":
        raise InputError('quantizer = "ctc": expected an encoder, MFCC have k-means only')
    rejects = Rejects(stage.folder, recipe.max_bad_fraction)
    chosen = draw_hours(read_manifest(recipe.speech, "train"), recipe.max_hours, recipe.seed)
    tokenizers: dict[str, SpeechTokenizer] = {"kmeans": _fit_kmeans(recipe, stage, chosen, rejects)}
    counts: dict[str, Any] = {"recordings": len(chosen), "hours": round(sum(d.duration for d in chosen) / 3600, 3)}
    if recipe.quantizer == "ctc":
        clean = tokenizers["kmeans"]
        assert isinstance(clean, HubertTokenizer)
        tokenizers["ctc"], losses = _fit_ctc(recipe, stage, chosen, clean, rejects)
        counts["ctc"] = {name: round(value, 4) for name, value in losses.items()}
    dev = read_manifest(recipe.speech, "dev") if "dev" in splits_of(recipe.speech) else []
    figures = _measure(recipe, dev, tokenizers, rejects)
    rejected = rejects.close(len(chosen) + len(dev))
    tokenizers[recipe.quantizer].save_pretrained(stage.folder / "model")
    return {**counts, "rejected": rejected, **figures}


def _fit_kmeans(
    recipe: FitUnitsRecipe, stage: Stage, chosen: Sequence[SpokenDocument], rejects: Rejects
) -> SpeechTokenizer:
    clean = stage.folder / "clean"
    if (clean / CONFIG_FILE).is_file():  # the stage goes on after a stop
        return HubertTokenizer.from_pretrained(clean)
    waves = (wave for _, wave in _readable(track(chosen, "read train", len(chosen)), recipe, rejects))
    if recipe.encoder is None:
        return fit_mfcc_kmeans(waves, recipe.clusters, recipe.seed, recipe.mfcc_rate)
    encoder = load_encoder(recipe.encoder / "model", recipe.layer)
    features = HubertFeatures(encoder, recipe.chunk_seconds, recipe.standardize)
    batches = iter(lambda: list(islice(waves, TOGETHER)), [])
    frames = (chunk.cpu().numpy() for batch in batches for chunks in features(batch) for chunk in chunks)
    quantizer = KmeansQuantizer.of(torch.from_numpy(streaming_kmeans(frames, recipe.clusters, recipe.seed)))
    tokenizer = _hubert(recipe, features, quantizer)
    if recipe.quantizer == "ctc":
        tokenizer.save_pretrained(clean)
    return tokenizer


def _hubert(
    recipe: FitUnitsRecipe, features: HubertFeatures, quantizer: KmeansQuantizer | LinearQuantizer
) -> HubertTokenizer:
    return HubertTokenizer(
        features.encoder, quantizer, standardize=recipe.standardize, chunk_seconds=recipe.chunk_seconds
    )


def _fit_ctc(
    recipe: FitUnitsRecipe, stage: Stage, chosen: Sequence[SpokenDocument], clean: HubertTokenizer, rejects: Rejects
) -> tuple[HubertTokenizer, dict[str, float]]:
    """The tokenizer with the linear quantizer, and its last losses."""
    root, seed, shape = corpus_root(recipe.speech), recipe.ctc.training.seed, clean.encoder.shape
    targets = encode_targets(chosen, root, clean, stage.folder, clean.rate)
    frames = max(1, round(recipe.ctc.crop_seconds * clean.rate))
    for id, reason in targets.unreadable.items():  # the first reading may lie before a stop
        rejects.add(id, reason)
    rejects.require_few(len(chosen))
    crops = TargetCrops(chosen, root, targets, frames, rejects, recipe.ctc.augment)

    def batches(step: int) -> dict[str, torch.Tensor]:
        batch = crops.batch(seed, step, recipe.ctc.batch_size, shape.window)
        rows = [torch.from_numpy(deduplicate(row[row != NO_UNIT])[0]) for row in batch.pop("targets").numpy()]
        labels = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        return {**batch, "labels": labels, "label_counts": torch.tensor([len(row) for row in rows])}

    def losses(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        rows = clean.features.of_batch(batch["waves"], batch["samples"])
        lengths = torch.tensor([len(row) for row in rows], device=batch["samples"].device)
        return ctc_losses(model, torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), lengths, batch)

    torch.manual_seed(seed)
    quantizer = LinearQuantizer(shape.width, default_widths(shape.width, recipe.clusters), recipe.clusters)
    last = fit(quantizer, losses, batches, recipe.ctc.training, stage.folder, "train quantizer")
    targets.remove_file(stage.folder)
    return _hubert(recipe, clean.features, quantizer), last


def _measure(
    recipe: FitUnitsRecipe, dev: Sequence[SpokenDocument], tokenizers: dict[str, SpeechTokenizer], rejects: Rejects
) -> dict[str, Any]:
    """Of the tokenizer that is kept, the clusters used; of each, the error rate between the deduplicated units of a
    recording and those of the same with noise."""
    usage = np.zeros(recipe.clusters, dtype=np.int64)
    pairs: dict[str, list[tuple[list[int], list[int]]]] = {name: [] for name in tokenizers}
    for number, wave in _readable(track(dev, "encode dev", len(dev)), recipe, rejects):
        worse = np.clip(noisy(wave, NOISE, np.random.default_rng((recipe.seed, number))), -1, 1)
        for name, tokenizer in tokenizers.items():
            units, changed = (s.semantic.values for s in tokenizer.encode_batch([wave, worse], SAMPLE_RATE))
            pairs[name].append((deduplicate(units)[0].tolist(), deduplicate(changed)[0].tolist()))
            if name == recipe.quantizer:
                usage += np.bincount(units, minlength=recipe.clusters)
    return {
        "dev_units": int(usage.sum()),
        "dev_clusters_used": int(np.count_nonzero(usage)),
        "dev_perplexity": round(perplexity(usage), 1),
        "dev_error_in_noise": {name: round(error_rate(found).value, 4) for name, found in pairs.items()},
    }


def _readable(
    documents: Iterable[SpokenDocument], recipe: FitUnitsRecipe, rejects: Rejects
) -> Iterator[tuple[int, np.ndarray]]:
    """Numbers and waves of the recordings that can be read."""
    root = corpus_root(recipe.speech)
    for number, document in enumerate(documents):
        try:
            yield number, read_audio(root / document.audio, SAMPLE_RATE)
        except InputError as error:
            rejects.add(document.id, str(error))


if __name__ == "__main__":
    run_program("fit units", FitUnitsRecipe, fit_units, __doc__)
