"""Train the unit tokenizer: k-means over MFCC, the stand-in for a trained speech encoder.

In:  a speak stage (recordings of the training and the dev split).
Out: `model/` (see `spiritlm/units/mfcc.py`); `rejects.jsonl` names recordings that could not be read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import PositiveFloat, PositiveInt

from spiritlm.audio.files import read_audio
from spiritlm.audio.mel import SAMPLE_RATE
from spiritlm.corpus.manifest import SpokenDocument, corpus_root, read_manifest
from spiritlm.errors import InputError
from spiritlm.run.program import run_program
from spiritlm.run.progress import track
from spiritlm.run.rejects import Rejects
from spiritlm.run.stage import Input, Stage, StageRecipe
from spiritlm.units.mfcc import fit_mfcc_kmeans


class FitUnitsRecipe(StageRecipe):
    speech: Input
    clusters: PositiveInt = 200
    max_hours: PositiveFloat = 1.5
    """Hours of training audio used; recordings are drawn at random, without repetition, until they exceed it."""
    seed: int = 0
    max_bad_fraction: float = 0.01
    """Largest share of recordings that may be rejected."""


def fit_units(recipe: FitUnitsRecipe, stage: Stage) -> dict[str, Any]:
    rejects = Rejects(stage.folder, recipe.max_bad_fraction)
    chosen = _choose(read_manifest(recipe.speech, "train"), recipe.max_hours, recipe.seed)
    waves = _readable(track(chosen, "read train", len(chosen)), corpus_root(recipe.speech), rejects)
    tokenizer = fit_mfcc_kmeans(waves, recipe.clusters, recipe.seed)

    dev = read_manifest(recipe.speech, "dev")
    usage = np.zeros(recipe.clusters, dtype=np.int64)
    for wave in _readable(track(dev, "encode dev", len(dev)), corpus_root(recipe.speech), rejects):
        usage += np.bincount(tokenizer.encode(wave, SAMPLE_RATE).semantic.values, minlength=recipe.clusters)
    rejected = rejects.close(len(chosen) + len(dev))
    tokenizer.save_pretrained(stage.folder / "model")
    return {
        "recordings": len(chosen),
        "hours": round(sum(document.duration for document in chosen) / 3600, 3),
        "rejected": rejected,
        "dev_units": int(usage.sum()),
        "dev_clusters_used": int(np.count_nonzero(usage)),
        "dev_perplexity": round(_perplexity(usage), 1),
    }


def _choose(documents: list[SpokenDocument], max_hours: float, seed: int) -> list[SpokenDocument]:
    order = np.random.default_rng(seed).permutation(len(documents))
    seconds = np.cumsum([documents[i].duration for i in order])
    count = np.searchsorted(seconds, 3600 * max_hours) + 1
    return [documents[i] for i in order[:count]]


def _readable(documents: Iterable[SpokenDocument], folder: Path, rejects: Rejects) -> Iterator[np.ndarray]:
    for document in documents:
        try:
            yield read_audio(folder / document.audio, SAMPLE_RATE)
        except InputError as error:
            rejects.add(document.id, str(error))


def _perplexity(counts: np.ndarray) -> float:
    """How many equally frequent clusters would be as hard to guess."""
    share = counts[counts > 0] / max(1, counts.sum())
    return float(np.exp(-(share * np.log(share)).sum()))


if __name__ == "__main__":
    run_program("fit units", FitUnitsRecipe, fit_units, __doc__)
