"""Train a vocoder against discriminators: HiFT, which speaks mel frames, or the unit HiFi-GAN, which speaks units.

In:  a corpus (speak, ingest or align); for the unit HiFi-GAN also a unit tokenizer and a store of units made with it
     (encode), with pitch and style units where it is `expressive`.
Out: `model/`; `samples/` with dev recordings as they were and as they are spoken, and a picture of their mel frames;
     `rejects.jsonl`. Of HiFT the model is a vocoder, which `training/train_flow.py` takes, and learns from F0 (tracked
     as the crops are read) too. Of the unit HiFi-GAN (Spirit LM, section 3.1) it is a whole speech decoder, which
     learns how long units last beside it.
Several processes: torchrun --nproc-per-node N training/train_vocoder.py RECIPE.toml
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator
from torch import nn

from spiritlm.audio.f0 import track_frames
from spiritlm.audio.files import write_wav
from spiritlm.audio.vocoder_mel import VocoderMel, vocoder_log_mel
from spiritlm.config import validate_recipe
from spiritlm.corpus.frames import audio_of
from spiritlm.corpus.manifest import SpokenDocument, corpus_root, read_manifest, require_speakers, splits_of
from spiritlm.corpus.store import DocumentStore, Record
from spiritlm.errors import InputError
from spiritlm.pipelines.vocoders import FromMel, FromUnits, Vocoder, pitch_hertz
from spiritlm.pipelines.wave_crops import Crops, Told, UnitWaveCrops, WaveCrops
from spiritlm.run.fit import FitRecipe, fit, process_group
from spiritlm.run.program import run_program
from spiritlm.run.rejects import Rejects
from spiritlm.run.stage import Input, OptionalInput, Stage, StageRecipe, is_main_process, require_same_input
from spiritlm.scoring.f0 import f0_errors
from spiritlm.scoring.styles import Span, label_spans, labels_of_units
from spiritlm.synthesis.adversarial import AdversarialLosses
from spiritlm.synthesis.discriminators import AdversarialWeights, Discriminators, DiscriminatorShape
from spiritlm.synthesis.hift import HiftShape
from spiritlm.synthesis.picture import draw_mels
from spiritlm.synthesis.unit_decoder import UnitDecoderConfig
from spiritlm.synthesis.unit_hifigan import HifiganSizes, UnitHifiganShape
from spiritlm.synthesis.vocoder import VocoderConfig


class TrainVocoderRecipe(StageRecipe):
    speech: Input
    units: OptionalInput = None
    """Of the unit HiFi-GAN, as is `store`."""
    store: OptionalInput = None
    speakers: tuple[str, ...] = ()
    """Whose recordings are used; all by default."""
    default_speaker: str = ""
    """Of the unit HiFi-GAN: speaks where nobody is asked for; the first by name by default."""
    mel: VocoderMel = VocoderMel()
    """What HiFT hears, and whose distance is taken."""
    mel_sizes: tuple[PositiveInt, ...] = ()
    """Windows, in samples, over which the distance of mel is taken too."""
    model: HiftShape | None = None
    hifigan: HifiganSizes | None = None
    """The unit HiFi-GAN is trained where it is there."""
    expressive: bool = False
    """Whether it hears pitch and style units."""
    label: str = ""
    """What `custom` of the corpus calls the style of a recording (`mood`): the base one hears it, in the expressive one
    it gives style units a name."""
    discriminators: DiscriminatorShape = DiscriminatorShape()
    weights: AdversarialWeights = AdversarialWeights()
    duration_weight: NonNegativeFloat = 1.0
    adversarial_from: NonNegativeInt = 0
    """Steps before it learn from mel distance and the model's own losses alone."""
    training: FitRecipe
    batch_size: PositiveInt = 16
    """Crops of a step, over all processes."""
    crop_frames: PositiveInt = 96
    """Mel frames of a crop."""
    most_runs: PositiveInt = 40
    """Deduplicated units whose durations are learnt of a crop."""
    dev_recordings: int = 8
    """That are measured; the first three are kept as sound and picture."""
    pitch_recordings: PositiveInt = 60
    """On which it is found how high pitch units are."""
    max_bad_fraction: float = 0.01
    """Largest share of pieces of recordings that may be rejected."""

    @property
    def samples(self) -> int:
        """Of a crop."""
        return self.crop_frames * self.mel.hop

    @model_validator(mode="after")
    def _fits_together(self) -> TrainVocoderRecipe:
        for size in (self.mel.size, *self.mel_sizes, *self.discriminators.windows):
            if not 16 <= size < 2 * self.samples:
                raise ValueError(
                    f"a window of {size} samples: expected 16 to less than twice the crop's {self.samples}"
                )
        if self.hifigan is None:
            if self.units or self.store or self.expressive or self.label or self.default_speaker:
                raise ValueError(
                    "units, store, expressive, label, default_speaker: of the unit HiFi-GAN, and there is no [hifigan]"
                )
            return self
        if self.model is not None or not self.units or not self.store:
            raise ValueError("[hifigan]: expected with units and store, and without [model]")
        if self.hifigan.sample_rate != self.mel.sample_rate or self.samples % self.hifigan.hop:
            raise ValueError(
                f"a crop of {self.samples} samples at {self.mel.sample_rate} Hz: expected a multiple of the unit's "
                f"{self.hifigan.hop} at {self.hifigan.sample_rate} Hz"
            )
        return self


SAMPLES = 3


def train_vocoder(recipe: TrainVocoderRecipe, stage: Stage) -> dict[str, Any]:
    documents = read_manifest(recipe.speech, "train")
    require_speakers(recipe.speakers, {document.speaker for document in documents}, recipe.speech)
    documents = [document for document in documents if not recipe.speakers or document.speaker in recipe.speakers]
    if is_main_process() and (lowest := min(d.sample_rate for d in documents)) < recipe.mel.sample_rate:
        print(f"recordings of {lowest} Hz and more are resampled to {recipe.mel.sample_rate} Hz")
    with process_group() as (rank, ranks):
        if recipe.batch_size % ranks:
            raise InputError(f"batch_size = {recipe.batch_size}: expected a multiple of the {ranks} processes")
        rejects = Rejects(stage.folder, recipe.max_bad_fraction)
        crops = Crops(recipe.mel.sample_rate, recipe.samples, recipe.batch_size, recipe.training.seed, rank, ranks)
        vocoder = (_from_units if recipe.hifigan else _from_mel)(recipe, stage, documents, crops, rejects)
        torch.manual_seed(recipe.training.seed)
        judges = Discriminators(recipe.discriminators)
        model = nn.ModuleDict({"vocoder": vocoder.network(), "discriminators": judges})
        losses = AdversarialLosses(vocoder.make, _distances(recipe), recipe.weights)
        figures = fit(
            model,
            losses,
            vocoder.batch,
            recipe.training,
            stage.folder,
            "train vocoder",
            before_step=lambda step: losses.begin(model, step >= recipe.adversarial_from),
        )
        rejected = rejects.close(len(vocoder.crops.sounds.stretches))
    network = model["vocoder"].eval()
    counts = {
        "recordings": len(documents),
        "rejected": rejected,
        "hours": round(sum(d.duration for d in documents) / 3600, 3),
        "parameters": sum(p.numel() for p in network.parameters()),
        "steps": recipe.training.steps,
        "train": {name: round(value, 4) for name, value in figures.items()},
    }
    if is_main_process():
        vocoder.save(network, stage.folder / "model")
        counts |= _measure(recipe.mel, vocoder, network, stage.folder / "samples")
    return counts


def _distances(recipe: TrainVocoderRecipe) -> list[VocoderMel]:
    """The mel frames whose distance is taken: of every window, up to the highest frequency."""
    whole = recipe.mel.model_copy(update={"highest": None})
    sizes = (recipe.mel.size, *recipe.mel_sizes)
    return [whole.model_copy(update={"size": size, "hop": min(whole.hop, size // 4)}) for size in sizes]


def _from_mel(
    recipe: TrainVocoderRecipe, _: Stage, documents: Sequence[SpokenDocument], crops: Crops, rejects: Rejects
) -> FromMel:
    config = validate_recipe(VocoderConfig, {"mel": recipe.mel, "shape": recipe.model or HiftShape()}, "recipe")
    root = corpus_root(recipe.speech)
    dev = read_manifest(recipe.speech, "dev") if "dev" in splits_of(recipe.speech) else []
    chosen = [d for d in dev if not recipe.speakers or d.speaker in recipe.speakers][: recipe.dev_recordings]
    recordings = [(root / document.audio, document.duration) for document in documents]
    wave_crops = WaveCrops(crops, recordings, rejects)
    return FromMel(config, wave_crops, [(d.id, root / d.audio) for d in chosen], recipe.weights.f0)


def _from_units(
    recipe: TrainVocoderRecipe, stage: Stage, documents: Sequence[SpokenDocument], crops: Crops, rejects: Rejects
) -> FromUnits:
    assert recipe.hifigan and recipe.store
    for key in ("speech", "units"):
        require_same_input(recipe.store, key, stage.input_fingerprints[key])
    store = DocumentStore(recipe.store, "train")
    rates, sizes = store.rates.tolist(), {name: block.size for name, block in store.vocabulary.blocks.items()}
    if recipe.expressive and not (rates[1] and rates[2]):
        raise InputError(f"expressive: store = {recipe.store} has no pitch and style units")
    if abs(recipe.hifigan.sample_rate / recipe.hifigan.hop - rates[0]) > 1e-6:
        raise InputError(
            f"hifigan.up_rates: {recipe.hifigan.hop} samples a unit; units of {rates[0]:g} Hz at "
            f"{recipe.hifigan.sample_rate} Hz have {recipe.hifigan.sample_rate / rates[0]:g}"
        )
    used = {d.speaker for d in documents}
    if recipe.default_speaker and recipe.default_speaker not in used:
        raise InputError(f"default_speaker: {recipe.default_speaker!r} is not one of the {len(used)} that are used")
    found = sorted(used, key=lambda name: (name != recipe.default_speaker, name))
    styles = Styles(recipe, documents)
    train = _told(recipe, "train", found, styles)
    if not train:
        raise InputError(f"store = {recipe.store}: holds no units of {', '.join(found)}")
    table: dict[str, Any] = {
        **dict(recipe.hifigan),
        "units": sizes["semantic"],
        "pitch_units": sizes["pitch"] if recipe.expressive else 0,
        "style_units": sizes["style"] if recipe.expressive else 0,
        "speakers": len(found),
        "styles": 0 if recipe.expressive else len(styles.names),
    }
    typical: tuple[int, ...] = ()
    heard: tuple[float, ...] = ()
    if recipe.expressive:
        typical = styles.units(train, rates, sizes["style"])
        some = [train[i] for i in np.unique(np.linspace(0, len(train) - 1, recipe.pitch_recordings).astype(int))]
        heard = pitch_hertz(some, rates[1], sizes["pitch"], recipe.mel.sample_rate)
    shape = validate_recipe(UnitHifiganShape, table, "hifigan")
    table = {"shape": shape, "speakers": found, "styles": styles.names, "style_units": typical, "pitch_hertz": heard}
    config = validate_recipe(UnitDecoderConfig, table, "recipe")
    dev = _told(recipe, "dev", found, styles) if "dev" in splits_of(recipe.speech) else []
    unit_crops = UnitWaveCrops(crops, train, rates, recipe.most_runs, 2 * (shape.duration_kernel // 2), rejects)
    return FromUnits(config, unit_crops, dev[: recipe.dev_recordings], recipe.duration_weight, recipe.weights.f0)


class Styles:
    """The styles of recordings, as the corpus calls them; none without a label."""

    def __init__(self, recipe: TrainVocoderRecipe, documents: Sequence[SpokenDocument]) -> None:
        """`documents`: of training. Raises `InputError` for one that has no style."""
        self.label, self.corpus = recipe.label, recipe.speech
        self.names = tuple(sorted({span.label for spans in self._spans(documents).values() for span in spans}))

    def _spans(self, documents: Sequence[SpokenDocument]) -> dict[str, list[Span]]:
        return {str(d.audio): label_spans(d, self.label) for d in documents} if self.label else {}

    def numbers(self, split: str, records: Sequence[Record], units: Sequence[int], rate: float) -> list[np.ndarray]:
        """Of each of so many `units` of each record, the place of its style in `names`; of one that is not among them,
        the first. Zeros without a label."""
        used, places = {record.audio for record in records}, {name: n for n, name in enumerate(self.names)}
        spans, rows = self._spans([d for d in read_manifest(self.corpus, split) if str(d.audio) in used]), []
        for record, n in zip(records, units, strict=True):
            own = [
                s._replace(start=s.start - record.start, end=s.end - record.start) for s in spans.get(record.audio, ())
            ]
            labels = labels_of_units(own, n, rate, record.duration) if own else [""] * n
            rows.append(np.array([places.get(label, 0) for label in labels], np.int64))
        return rows

    def units(self, recordings: Sequence[Told], rates: Sequence[float], style_units: int) -> tuple[int, ...]:
        """The style unit that each name is best told by: often met with it, and seldom with others. `rates`: Hz, of
        semantic, pitch and style units."""
        counts = np.zeros((style_units, len(self.names)))
        for told in recordings if self.names else ():
            middles = (np.arange(len(told.document.style)) + 0.5) * rates[0] / rates[2]
            places = np.minimum(len(told.styles) - 1, middles.astype(np.int64))
            np.add.at(counts, (told.document.style, told.styles[places]), 1)
        typical = counts**2 / np.maximum(1, counts.sum(axis=1, keepdims=True))
        return tuple(typical.argmax(axis=0).tolist())


def _told(recipe: TrainVocoderRecipe, split: str, speakers: Sequence[str], styles: Styles) -> list[Told]:
    """The recordings of a split by `speakers`, which are numbered in that order."""
    assert recipe.store
    store = DocumentStore(recipe.store, split)
    chosen = [(record, store[i]) for i, record in enumerate(store.records) if record.speaker in speakers]
    chosen = [(record, document) for record, document in chosen if len(document.semantic)]
    numbers = styles.numbers(
        split, [record for record, _ in chosen], [len(d.semantic) for _, d in chosen], store.rates[0]
    )
    return [
        Told(record.id, audio_of(recipe.speech, record), record.start, document, speakers.index(record.speaker), places)
        for (record, document), places in zip(chosen, numbers, strict=True)
    ]


def _measure(mel: VocoderMel, vocoder: Vocoder, network: nn.Module, folder: Path) -> dict[str, float]:
    """Of dev recordings, spoken against recorded. `dev_mel_distance`: mean of natural log-mel's; `dev_f0_within`: share
    of voiced frames within 10 %; `dev_voicing_error`; `real_time_factor`: seconds to speak a second."""
    distances, contours, spent, heard = [], [], 0.0, 0.0
    folder.mkdir(exist_ok=True)
    for number in range(len(vocoder.dev)):
        one = vocoder.again(network, number)
        spent, heard = spent + one.seconds, heard + len(one.spoken) / mel.sample_rate
        waves = {"recorded": one.recorded, "spoken": one.spoken}
        frames = {name: vocoder_log_mel(torch.from_numpy(wave)[None], mel)[0].numpy() for name, wave in waves.items()}
        distances.append(float(np.abs(frames["recorded"] - frames["spoken"]).mean()))
        recorded, said = (
            track_frames(wave, mel.sample_rate, mel.frame_rate, mel.frames(len(wave))) for wave in waves.values()
        )
        contours.append((recorded, said))
        if number < SAMPLES:
            for name, wave in waves.items():
                write_wav(folder / f"{one.name}-{name}.wav", wave, mel.sample_rate)
            draw_mels(list(frames.items()), mel.frame_rate).savefig(folder / f"{one.name}.png", dpi=110)
    if not contours:
        return {"dev_recordings": 0}
    f0 = f0_errors(contours)
    return {
        "dev_recordings": len(contours),
        "dev_mel_distance": round(float(np.mean(distances)), 4),
        "dev_f0_within": round(f0.near.value, 4),
        "dev_voicing_error": round(f0.voicing.value, 4),
        "real_time_factor": round(spent / heard, 4),
    }


if __name__ == "__main__":
    run_program("train vocoder", TrainVocoderRecipe, train_vocoder, __doc__)
