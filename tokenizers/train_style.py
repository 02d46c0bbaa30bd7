"""Train the style tokenizer: one unit a second that tells how speech is said, not who says it (Spirit LM, section 3.2).

First a network learns to tell the label of a recording (`label`, a field of `custom` in the manifest; `moods` beside
`mood` where it changes inside) from single seconds and what came just before them, which leaves the speaker out.
K-means over its features of seconds gives the classes. Then the same network with a new head, which begins as the
nearest centroid, is distilled into the tokenizer: it learns to tell the classes also where what came before is another
second of the same speaker, so that its units follow a change of style at once.

In:  a corpus (speak, or ingest with labels).
Out: `model/` (see `spiritlm/units/style.py`); `centroids.npy`; `rejects.jsonl` names recordings that could not be read.
     Measured on the dev split, speakers heard in training and others apart: how often the label is told from a unit.
Several processes: torchrun --nproc-per-node N tokenizers/train_style.py RECIPE.toml
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from pydantic import Field, PositiveFloat, PositiveInt

from spiritlm.audio.files import read_audio
from spiritlm.audio.mel import SAMPLE_RATE
from spiritlm.corpus.manifest import SpokenDocument, corpus_root, read_manifest, splits_of
from spiritlm.corpus.sounds import Sounds, Stretch, draw_hours
from spiritlm.errors import InputError
from spiritlm.run.device import training_device
from spiritlm.run.files import atomic_path
from spiritlm.run.fit import Batch, FitRecipe, Losses, fit, process_group
from spiritlm.run.program import run_program
from spiritlm.run.progress import track
from spiritlm.run.rejects import Rejects
from spiritlm.run.stage import Input, Stage, StageRecipe, is_main_process
from spiritlm.scoring.styles import Span, UnitLabels, label_at, label_spans, labels_of_units, style_accuracy
from spiritlm.units.clustering import streaming_kmeans
from spiritlm.units.style import UNIT, StyleNetwork, StyleShape, StyleTokenizer
from spiritlm.units.usage import perplexity

PIECE_SECONDS = 4.0
"""Of a recording, in which a second begins."""
CENTROIDS_FILE = "centroids.npy"


class TrainStyleRecipe(StageRecipe):
    speech: Input
    label: str = Field("mood", min_length=1)
    """Field of `custom` in the manifest that is learnt."""
    classes: PositiveInt = 100
    """Style units."""
    model: StyleShape = StyleShape()
    training: FitRecipe
    """Of the label."""
    distillation: FitRecipe
    """Of the classes."""
    batch_size: PositiveInt = 48
    """Seconds of a step, at random places of the recordings, over all processes."""
    splice: float = Field(0.2, ge=0, le=1)
    """How often another second of the same speaker stands before a second."""
    smoothing: float = Field(0.1, ge=0, lt=1)
    """Of the label's probabilities, so that features stay spread."""
    clustered: PositiveInt = 500
    """Seconds a class that k-means sees."""
    measured: PositiveInt = 300
    """Recordings of a split, at most, that figures are made of."""
    max_hours: PositiveFloat = 1e6
    """Hours of training audio used; recordings are drawn at random, without repetition, until they exceed it."""
    max_bad_fraction: float = 0.01
    """Largest share of pieces that may be rejected."""


def train_style(recipe: TrainStyleRecipe, stage: Stage) -> dict[str, Any]:
    documents = draw_hours(read_manifest(recipe.speech, "train"), recipe.max_hours, recipe.training.seed)
    spans = [label_spans(document, recipe.label) for document in documents]
    names = sorted({span.label for part in spans for span in part})
    if len(names) < 2:
        raise InputError(f"label = {recipe.label}: all recordings have {names[0]!r}, expected at least two labels")
    if (heard := int(sum(document.duration for document in documents))) < recipe.classes:
        raise InputError(f"classes = {recipe.classes}: expected at most one a second, the recordings have {heard} s")
    with process_group() as (rank, ranks):
        if recipe.batch_size % ranks:
            raise InputError(f"batch_size = {recipe.batch_size}: expected a multiple of the {ranks} processes")
        rejects = Rejects(stage.folder, recipe.max_bad_fraction)
        seconds = Seconds(recipe, documents, spans, names, rejects, rank, ranks)
        torch.manual_seed(recipe.training.seed)
        teacher = StyleNetwork(recipe.model, len(names))
        label_losses = fit(
            teacher, _label_losses(recipe), seconds.of_training, recipe.training, stage.folder, "train style: label"
        )
        centroids = _centroids(recipe, teacher.eval(), seconds, stage.folder)
        network = _student(teacher, centroids)
        losses = fit(
            network,
            _class_losses(teacher, centroids),
            seconds.of_distillation,
            recipe.distillation,
            stage.folder / "distillation",
            "train style: classes",
        )
        rejected = rejects.close(len(seconds.sounds.stretches))
    counts: dict[str, Any] = {"recordings": len(documents), "rejected": rejected}
    counts["hours"] = round(sum(d.duration for d in documents) / 3600, 3)
    counts["labels"] = dict(sorted(Counter(span.label for part in spans for span in part).items()))
    counts |= {"parameters": sum(p.numel() for p in network.parameters()), "steps": recipe.training.steps}
    counts["train"] = {name: round(value, 4) for name, value in label_losses.items()}
    counts["distillation"] = {name: round(value, 4) for name, value in losses.items()}
    if is_main_process():
        told = _labels_told(recipe, StyleTokenizer(network), documents)
        tokenizer = StyleTokenizer(network, told)
        tokenizer.save_pretrained(stage.folder / "model")
        counts["dev"] = _measure(recipe, tokenizer, {d.speaker for d in documents}, len(names))
    return counts


class Seconds:
    """Windows that end with a second at a random place, and its label: a batch is a pure function of its number."""

    def __init__(
        self,
        recipe: TrainStyleRecipe,
        documents: Sequence[SpokenDocument],
        spans: Sequence[Sequence[Span]],
        names: Sequence[str],
        rejects: Rejects,
        rank: int,
        ranks: int,
    ) -> None:
        self.recipe, self.names, self.spans, self.rank, self.ranks = recipe, names, spans, rank, ranks
        root, before = corpus_root(recipe.speech), recipe.model.context / SAMPLE_RATE
        speakers = {name: number for number, name in enumerate(sorted({d.speaker for d in documents}))}
        self.speakers = [speakers[document.speaker] for document in documents]
        self.places: list[tuple[int, float]] = []
        """Of each piece: the number of its document, and the second where it begins."""
        stretches, lengths = [], []
        for number, document in enumerate(documents):
            for first in np.arange(0, document.duration, PIECE_SECONDS):
                end = min(document.duration, first + PIECE_SECONDS + UNIT / SAMPLE_RATE)
                stretches.append(Stretch(root / document.audio, max(0.0, first - before), end))
                self.places.append((number, float(first)))
                lengths.append(min(PIECE_SECONDS, document.duration - first))
        self.sounds = Sounds(stretches, SAMPLE_RATE, rejects)
        self.chances = np.array(lengths) / np.sum(lengths)

    def of_training(self, step: int) -> Batch:
        return self.batch((self.recipe.training.seed, 0, step))

    def of_distillation(self, step: int) -> Batch:
        return self.batch((self.recipe.distillation.seed, 1, step))

    def batch(self, seed: Sequence[int]) -> Batch:
        """`windows` float32 `[batch, window]`, `starts` and `ends` of the sound in them, `labels`; `heard` and
        `heard_starts`: the same windows and starts where some have another second before theirs. All int64."""
        rng = np.random.default_rng(seed)
        numbers = rng.choice(len(self.places), self.recipe.batch_size, p=self.chances)[self.rank :: self.ranks]
        seeds = rng.integers(2**32, size=self.recipe.batch_size)[self.rank :: self.ranks]
        read, waves = self.sounds.read(numbers)
        rows = [self._window(n, wave, int(own)) for n, wave, own in zip(read, waves, seeds, strict=True)]
        windows = np.stack([window for window, _, _, _, _ in rows])
        starts, ends, labels, speakers = (np.array(column) for column in list(zip(*rows, strict=True))[1:])
        heard, heard_starts = self._spliced(windows, starts, ends, speakers, np.random.default_rng(int(seeds[0])))
        arrays = {"windows": windows, "starts": starts, "ends": ends, "labels": labels}
        arrays |= {"heard": heard, "heard_starts": heard_starts}
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def _window(self, piece: int, wave: np.ndarray, seed: int) -> tuple[np.ndarray, int, int, int, int]:
        """A window of a piece, start and end of the sound in it, label and speaker."""
        rng, context = np.random.default_rng(seed), self.recipe.model.context
        document, first = self.places[piece]
        skipped = min(context, round(first * SAMPLE_RATE), len(wave) - 1)
        at = int(rng.integers(skipped, min(len(wave), skipped + round(PIECE_SECONDS * SAMPLE_RATE))))
        part, start = wave[max(0, at - context) : at + UNIT], max(0, context - at)
        window = np.pad(part, (start, context + UNIT - start - len(part)))
        middle = first + (at - skipped + min(UNIT, len(wave) - at) / 2) / SAMPLE_RATE
        label = self.names.index(label_at(self.spans[document], middle))
        return window, start, start + len(part), label, self.speakers[document]

    def _spliced(
        self,
        windows: np.ndarray,
        starts: np.ndarray,
        ends: np.ndarray,
        speakers: np.ndarray,
        rng: np.random.Generator,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Before some seconds, the end of another full window of the same speaker."""
        windows, starts, context = windows.copy(), starts.copy(), self.recipe.model.context
        sources = windows.copy()
        for number in np.flatnonzero(rng.random(len(windows)) < self.recipe.splice) if context else ():
            others = np.flatnonzero((speakers == speakers[number]) & (ends == context + UNIT))
            others = others[others != number]
            if len(others):
                chosen = rng.choice(others)
                windows[number, :context] = sources[chosen, -context:]
                starts[number] = max(0, starts[chosen] - UNIT)
        return windows, starts


def _label_losses(recipe: TrainStyleRecipe) -> Any:
    def losses(model: torch.nn.Module, batch: Batch) -> Losses:
        logits = model(batch["heard"], batch["heard_starts"], batch["ends"]).float()
        loss = F.cross_entropy(logits, batch["labels"], label_smoothing=recipe.smoothing)
        return {"loss": loss, "accuracy": (logits.argmax(-1) == batch["labels"]).float().mean()}

    return losses


def _class_losses(teacher: StyleNetwork, centroids: np.ndarray) -> Any:
    """Of telling the classes that the teacher's features of unspliced windows have."""
    nearest = torch.from_numpy(centroids).to(training_device())

    def losses(model: torch.nn.Module, batch: Batch) -> Losses:
        with torch.no_grad():
            features = teacher.features(batch["windows"], batch["starts"], batch["ends"])
            classes = torch.cdist(features, nearest).argmin(-1)
        logits = model(batch["heard"], batch["heard_starts"], batch["ends"]).float()
        return {
            "loss": F.cross_entropy(logits, classes),
            "accuracy": (logits.argmax(-1) == classes).float().mean(),
        }

    return losses


def _centroids(recipe: TrainStyleRecipe, teacher: StyleNetwork, seconds: Seconds, folder: Path) -> np.ndarray:
    """Of the classes, float32 `[classes, features]`, found by the first process once and read by all."""
    path = folder / CENTROIDS_FILE
    if is_main_process() and not path.is_file():
        wanted = recipe.clustered * recipe.classes
        batches = -(-wanted * seconds.ranks // recipe.batch_size)
        found = (_features(teacher, seconds.batch((recipe.training.seed, 2, n))) for n in range(batches))
        centroids = streaming_kmeans(track(found, "cluster", batches), recipe.classes, recipe.training.seed)
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.save(file, centroids)
    if dist.is_initialized():
        dist.barrier()
    return np.asarray(np.load(path, allow_pickle=False), dtype=np.float32)


@torch.inference_mode()
def _features(teacher: StyleNetwork, batch: Batch) -> np.ndarray:
    on_device = [batch[name].to(training_device()) for name in ("windows", "starts", "ends")]
    found: np.ndarray = teacher.features(*on_device).cpu().numpy()
    return found


def _student(teacher: StyleNetwork, centroids: np.ndarray) -> StyleNetwork:
    """The teacher's network whose head tells the nearest centroid."""
    network = StyleNetwork(teacher.shape, len(centroids)).to(training_device())
    state = {name: tensor for name, tensor in teacher.state_dict().items() if not name.startswith("classifier.")}
    network.load_state_dict(state, strict=False)
    own = torch.from_numpy(centroids).to(training_device())
    with torch.no_grad():
        network.classifier.weight.copy_(2 * own)
        network.classifier.bias.copy_(-own.square().sum(1))
    return network


def _encoded(
    recipe: TrainStyleRecipe, tokenizer: StyleTokenizer, documents: Sequence[SpokenDocument]
) -> Iterator[tuple[SpokenDocument, np.ndarray, list[str]]]:
    """Each of the first recordings that can be read, its units and their true labels."""
    root = corpus_root(recipe.speech)
    for document in track(documents[: recipe.measured], "measure", min(recipe.measured, len(documents))):
        try:
            wave = read_audio(root / document.audio, SAMPLE_RATE)
        except InputError:
            continue  # training names what cannot be read
        units, seconds = tokenizer.encode(wave, SAMPLE_RATE).values, len(wave) / SAMPLE_RATE
        yield document, units, labels_of_units(label_spans(document, recipe.label), len(units), tokenizer.rate, seconds)


def _labels_told(recipe: TrainStyleRecipe, tokenizer: StyleTokenizer, documents: Sequence[SpokenDocument]) -> list[str]:
    """The label that each unit has most often in training."""
    table = UnitLabels(tokenizer.vocabulary_size)
    for _, units, labels in _encoded(recipe, tokenizer, documents):
        table.add(units, labels)
    return table.commonest()


def _measure(recipe: TrainStyleRecipe, tokenizer: StyleTokenizer, known: set[str], labels: int) -> dict[str, Any]:
    """How often units of dev recordings tell the label, and how many of them are used."""
    if "dev" not in splits_of(recipe.speech):
        return {}
    told: dict[str, list[tuple[list[str], list[str]]]] = {"seen_speakers": [], "unseen_speakers": []}
    usage = np.zeros(tokenizer.vocabulary_size, np.int64)
    for document, units, true in _encoded(recipe, tokenizer, read_manifest(recipe.speech, "dev")):
        usage += np.bincount(units, minlength=len(usage))
        whose = "seen_speakers" if document.speaker in known else "unseen_speakers"
        told[whose].append(([tokenizer.config.labels[unit] for unit in units], true))
    figures: dict[str, Any] = {}
    for whose, pairs in told.items():
        if pairs:
            found = style_accuracy(pairs)
            figures[whose] = {
                "accuracy": round(found.unit.value, 4),
                "accuracy_error": round(found.unit.standard_error, 4),
                "recording_accuracy": round(found.recording.value, 4),
                "seconds": found.units,
                "recordings": found.recordings,
            }
    used = {"classes_used": int(np.count_nonzero(usage)), "perplexity": round(perplexity(usage), 1)}
    return {**figures, "chance": round(1 / labels, 4), **used}


if __name__ == "__main__":
    run_program("train style", TrainStyleRecipe, train_style, __doc__)
