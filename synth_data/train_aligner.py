"""Train an aligner: a small CTC model that says which letter is spoken when, from sentences and their texts alone.

In:  a corpus (speak or ingest) whose sentences have a start, an end and a text; word times are not used.
Out: `model/` (see `spiritlm/alignment/mel_ctc.py`); `rejects.jsonl` names recordings that could not be read.
     Measured on the dev split: errors of the letters heard, and of word starts where the corpus knows them.
Several processes: torchrun --nproc-per-node N synth_data/train_aligner.py RECIPE.toml
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from spiritlm.alignment.crops import SentenceCrops
from spiritlm.alignment.mel_ctc import (
    BLANK,
    STACKED,
    MelCtc,
    MelCtcConfig,
    MelCtcModel,
    MelCtcShape,
    ctc_losses,
    sound_edges,
)
from spiritlm.alignment.viterbi import ctc_viterbi
from spiritlm.alignment.words import Lag, windows
from spiritlm.audio.files import read_audio
from spiritlm.audio.mel import FLOOR, FRAME_RATE, MELS, SAMPLE_RATE, log_mel
from spiritlm.corpus.manifest import SpokenDocument, corpus_root, read_manifest, splits_of
from spiritlm.corpus.sounds import draw_hours
from spiritlm.errors import InputError
from spiritlm.pipelines.align import Aligned, AlignSpeech, accuracy, word_starts
from spiritlm.run.files import atomic_path, read_json, write_json
from spiritlm.run.fit import FitRecipe, fit, process_group
from spiritlm.run.program import run_program
from spiritlm.run.progress import track
from spiritlm.run.rejects import Rejects
from spiritlm.run.stage import Input, Stage, StageRecipe, is_main_process
from spiritlm.run.workers import map_in_workers
from spiritlm.scoring.error_rates import error_rate

MEL_FILE, UNREADABLE_FILE = "mel.npy", "unreadable.json"
LAG_SENTENCES = 300
"""About as many are looked at to find the model's lag."""
SILENCE = 5
"""Mel frames without sound that tell the beginning or the end of a sentence."""


class TrainAlignerRecipe(StageRecipe):
    speech: Input
    model: MelCtcShape = MelCtcShape()
    training: FitRecipe
    batch_size: PositiveInt = 48
    """Sentences of a step, over all processes."""
    margin: NonNegativeFloat = 0.25
    """Seconds around a sentence that are heard with it; see `windows`."""
    max_hours: PositiveFloat = 20.0
    """Hours of training audio used; recordings are drawn at random, without repetition, until they exceed it."""
    max_seconds: PositiveFloat = 30.0
    """Longer sentences are left out, and so are those with words that cannot be spelt, such as `23`."""
    max_bad_fraction: float = 0.01
    """Largest share of recordings that may be rejected."""


@dataclass(frozen=True)
class Crop:
    """A sentence, its place in its recording, and its labels."""

    document: int
    start: float
    """Seconds."""
    end: float
    labels: np.ndarray
    """int64 `[n]`: letters, and a separator between words."""

    @property
    def first(self) -> int:
        """Mel frame of the recording."""
        return STACKED * round(self.start * FRAME_RATE / STACKED)

    @property
    def frames(self) -> int:
        return max(STACKED, STACKED * round(self.end * FRAME_RATE / STACKED) - self.first)


def train_aligner(recipe: TrainAlignerRecipe, stage: Stage) -> dict[str, Any]:
    documents = draw_hours(read_manifest(recipe.speech, "train"), recipe.max_hours, recipe.training.seed)
    crops, left_out = _crops(documents, recipe)
    with process_group() as (rank, world_size):
        if recipe.batch_size % world_size:
            raise InputError(f"batch_size = {recipe.batch_size}: expected a multiple of the {world_size} processes")
        data, counts = _training_data(recipe, documents, crops, stage.folder)

        def batches(step: int) -> dict[str, torch.Tensor]:
            return data.batch(recipe.training.seed, step, recipe.batch_size, rank, world_size)

        torch.manual_seed(recipe.training.seed)
        model = MelCtc(recipe.model, *_mean_and_deviation(data.mel))
        losses = fit(model, ctc_losses, batches, recipe.training, stage.folder, "train aligner")
    counts |= {"sentences": len(data.labels), "sentences_left_out": left_out}
    counts |= {"parameters": sum(p.numel() for p in model.parameters()), "steps": recipe.training.steps}
    counts["train"] = {name: round(value, 4) for name, value in losses.items()}
    if is_main_process():
        lag = _lag(MelCtcModel(model, MelCtcConfig(shape=recipe.model)), data)
        counts |= {"lag": vars(lag)}
        aligner = MelCtcModel(model, MelCtcConfig(shape=recipe.model, lag_start=lag.start, lag_end=lag.end))
        aligner.save_pretrained(stage.folder / "model")
        counts["dev"] = _measure(recipe, aligner, stage.folder / "model")
        (stage.folder / MEL_FILE).unlink()
        (stage.folder / UNREADABLE_FILE).unlink()
    return counts


def _crops(documents: Sequence[SpokenDocument], recipe: TrainAlignerRecipe) -> tuple[list[Crop], int]:
    """The sentences to train on, and how many were left out."""
    crops, left_out = [], 0
    for number, document in enumerate(documents):
        sentences = document.sentences
        places = windows([s.start for s in sentences], [s.end for s in sentences], document.duration, recipe.margin)
        for sentence, (start, end) in zip(sentences, places, strict=True):
            labels = spell_sentence(sentence.text)
            crop = Crop(number, start, end, labels)
            needed = len(labels) + np.count_nonzero(labels[1:] == labels[:-1])  # a blank between equal letters
            if not len(labels) or end - start > recipe.max_seconds or STACKED * needed > crop.frames:
                left_out += 1
            else:
                crops.append(crop)
    return crops, left_out


def spell_sentence(text: str) -> np.ndarray:
    """Labels of a sentence, int64 `[n]`; none where a word in it cannot be spelt."""
    alphabet = MelCtcModel.alphabet
    spelt = [alphabet.spell(word) for word in text.split()]
    if any(ids is None for ids in spelt):
        return np.zeros(0, np.int64)
    labels: list[int] = []
    for ids in filter(None, spelt):
        labels += [alphabet.separator, *ids] if labels and alphabet.separator is not None else ids
    return np.array(labels, np.int64)


def _training_data(
    recipe: TrainAlignerRecipe, documents: Sequence[SpokenDocument], crops: Sequence[Crop], folder: Path
) -> tuple[SentenceCrops, dict[str, Any]]:
    """The first process computes the mel frames of all sentences into a file; all of them map it."""
    if is_main_process() and not (folder / UNREADABLE_FILE).is_file():
        _write_mels(recipe, documents, crops, folder)
    if dist.is_initialized():
        dist.barrier()
    unreadable = dict(read_json(folder / UNREADABLE_FILE))
    rejects = Rejects(folder, recipe.max_bad_fraction)
    for id, reason in unreadable.items():
        rejects.add(id, reason)
    rejected = rejects.close(len(documents))
    ends = np.cumsum([crop.frames for crop in crops])
    kept = [number for number, crop in enumerate(crops) if documents[crop.document].id not in unreadable]
    if not kept:
        raise InputError(f"{recipe.speech}: split train has no sentence to train on")
    mel = np.load(folder / MEL_FILE, mmap_mode="r", allow_pickle=False)
    starts = ends - [crop.frames for crop in crops]
    hours = round(sum(d.duration for d in documents) / 3600, 3)
    data = SentenceCrops([crops[number].labels for number in kept], starts[kept], ends[kept], mel)
    return data, {"recordings": len(documents), "hours": hours, "rejected": rejected}


def _write_mels(
    recipe: TrainAlignerRecipe, documents: Sequence[SpokenDocument], crops: Sequence[Crop], folder: Path
) -> None:
    """Log-mel float16 `[frames, 80]` of all sentences in `mel.npy`; then what could not be read, with reasons."""
    root = corpus_root(recipe.speech)
    places: list[list[tuple[int, int]]] = [[] for _ in documents]
    for crop in crops:
        places[crop.document].append((crop.first, crop.frames))
    work = [(root / document.audio, part) for document, part in zip(documents, places, strict=True)]
    unreadable: dict[str, str] = {}
    with atomic_path(folder / MEL_FILE) as temporary:
        shape = (sum(crop.frames for crop in crops), MELS)
        mel = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float16, shape=shape)
        start = 0
        found = track(map_in_workers(_mel_of_sentences, work), "mel", len(work))
        for document, part, part_places in zip(documents, found, places, strict=True):
            if isinstance(part, str):
                unreadable[document.id] = part
            else:
                mel[start : start + len(part)] = part
            start += sum(frames for _, frames in part_places)
        mel.flush()
    write_json(folder / UNREADABLE_FILE, unreadable)


def _mel_of_sentences(work: tuple[Path, list[tuple[int, int]]]) -> np.ndarray | str:
    """float16 `[frames, 80]` of stretches of a recording (first frame, number of frames), or why it is unreadable."""
    torch.set_num_threads(1)
    path, places = work
    try:
        mel = log_mel(read_audio(path, SAMPLE_RATE)).half().numpy()
    except InputError as error:
        return str(error)
    padded = np.full((max((first + frames for first, frames in places), default=0), MELS), math.log10(FLOOR), mel.dtype)
    padded[: len(mel)] = mel[: len(padded)]
    return np.concatenate([padded[:0], *(padded[first : first + frames] for first, frames in places)])


def _mean_and_deviation(mel: np.ndarray) -> tuple[float, float]:
    """Of a hundredth of the frames."""
    sample = mel[::100].astype(np.float64)
    return float(sample.mean()), float(sample.std())


def _lag(aligner: MelCtcModel, data: SentenceCrops) -> Lag:
    """Medians over training sentences that begin and end in silence: from where sound begins to the first letter, and
    from the last letter to where sound ends. No word times are used."""
    starts, ends = [], []
    for number in range(0, len(data.labels), max(1, len(data.labels) // LAG_SENTENCES)):
        mel = data.mel[data.starts[number] : data.ends[number]].astype(np.float32)
        first, end = sound_edges(mel)
        path = ctc_viterbi(aligner.log_probs_of_mel(torch.from_numpy(mel)), data.labels[number], BLANK)
        if first >= SILENCE:
            starts.append(path.first[0] / aligner.frame_rate - first / FRAME_RATE)
        if end <= len(mel) - SILENCE:
            ends.append(end / FRAME_RATE - (path.last[-1] + 1) / aligner.frame_rate)
    return Lag(*(round(float(np.median(part)), 4) if part else 0.0 for part in (starts, ends)))


def _measure(recipe: TrainAlignerRecipe, aligner: MelCtcModel, folder: Path) -> dict[str, Any]:
    """Errors on the dev split: letters and spaces heard without knowing the text, and word starts found with it."""
    if "dev" not in splits_of(recipe.speech):
        return {}
    documents = read_manifest(recipe.speech, "dev")
    crops, _ = _crops(documents, recipe)
    root, pairs = corpus_root(recipe.speech), []
    for crop in track(crops, "letters", len(crops)):
        mel = _mel_of_sentences((root / documents[crop.document].audio, [(crop.first, crop.frames)]))
        if not isinstance(mel, str):
            heard = _heard(aligner.log_probs_of_mel(torch.from_numpy(mel).float()))
            pairs.append((crop.labels.tolist(), heard.tolist()))
    step = AlignSpeech(recipe.speech, folder, recipe.margin, min_score=-math.inf)
    found = step.run(iter(track(documents, "align", len(documents))))
    errors = accuracy(word_starts(item) for item in found if isinstance(item, Aligned))
    return {"recordings": len(documents), "cer": round(error_rate(pairs).value, 4), "start_error": errors}


def _heard(log_probs: np.ndarray) -> np.ndarray:
    """Labels of the likeliest symbol of each frame, int64 `[n]`."""
    best = log_probs.argmax(axis=1)
    changed = np.concatenate([[True], best[1:] != best[:-1]])
    return best[changed & (best != BLANK)]


if __name__ == "__main__":
    run_program("train aligner", TrainAlignerRecipe, train_aligner, __doc__)
