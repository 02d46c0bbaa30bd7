"""Train the judges of STSP on speech whose moods are known: which mood is in a voice, which sentiment in a text.

In:  a corpus of `synth_data/speak.py`, or any whose manifests have `custom.mood` or `custom.moods`.
Out: `speech_classifier` and `text_classifier`, for `spiritlm/scoring/sentiment.py`, and in `stage.json` how often they
     are right on the test split: about stretches of one mood in voices of training and in others, the same once they
     went through a mel spectrogram and back, and what recordings say in the end.
Speech is heard in stretches as long as an answer, cut wherever a recording keeps its mood. Some are heard again as a
poor vocoder or a poor line leaves them, for answers come out of a decoder. Texts are all runs of one to three
sentences, called as the whole recording is: those that tell nothing come with every sentiment alike and leave their
words without weight.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from scipy.ndimage import gaussian_filter

from spiritlm.audio.augment import AugmentRecipe, augmented
from spiritlm.audio.files import read_audio
from spiritlm.audio.mel import SAMPLE_RATE, log_mel
from spiritlm.corpus.manifest import SpokenDocument, corpus_root, read_manifest
from spiritlm.errors import InputError
from spiritlm.inference.request import Speech
from spiritlm.run.program import run_program
from spiritlm.run.progress import track
from spiritlm.run.stage import Input, Stage, StageRecipe
from spiritlm.scoring.jackknife import as_json, as_percent, ratio
from spiritlm.scoring.sentiment import load_speech_classifier, load_text_classifier, sentiment_of
from spiritlm.scoring.small_classifiers import VoiceMood, WordSentiment
from spiritlm.scoring.styles import label_spans
from spiritlm.scoring.voice_features import voice_features
from spiritlm.synthesis.griffin_lim import griffin_lim

LEAST = 1.5
"""Seconds of a stretch; shorter spans of a mood are passed over."""
LONGEST_TEXT, ENDING = 3, 2
"""Sentences of a text of training, at most; of what is asked of a test recording."""
BLUR = (2.0, 1.0)
"""Frames and mel bands, at most, that a poor vocoder blurs: the deviation of a Gaussian."""
ITERATIONS = 8
"""Of Griffin-Lim: enough for a voice with its pitch."""
POOR_LINE = AugmentRecipe(noise=1.0, snr_range=(8.0, 40.0), resampling=0.5, resampling_range=(6000.0, 12000.0))


class ClassifiersRecipe(StageRecipe):
    speech: Input
    seed: int = 0
    stretches: PositiveInt
    """Of training."""
    respoken: NonNegativeInt
    """Of those, heard again through a blurred mel spectrogram."""
    noisy: NonNegativeInt
    """Of those, heard again with noise, half of them in a narrower band."""
    test_stretches: PositiveInt
    """At most."""
    shortest: PositiveFloat = 3.0
    """Seconds of a stretch, where its mood lasts as long."""
    longest: PositiveFloat = 8.0

    @model_validator(mode="after")
    def _check(self) -> ClassifiersRecipe:
        if self.shortest > self.longest:
            raise InputError(f"shortest = {self.shortest}: expected at most longest = {self.longest}")
        if max(self.respoken, self.noisy) > self.stretches:
            raise InputError(f"stretches = {self.stretches}: expected no fewer than are heard again")
        return self


class Stretch(NamedTuple):
    speaker: str
    mood: str
    audio: Path
    start: float
    """Seconds."""
    end: float

    def read(self) -> np.ndarray:
        return read_audio(self.audio, SAMPLE_RATE, self.start, self.end)


def train_classifiers(recipe: ClassifiersRecipe, stage: Stage) -> dict[str, Any]:
    train, test = (read_manifest(recipe.speech, split) for split in ("train", "test"))
    rng = np.random.default_rng(recipe.seed)
    stretches = _stretches(recipe, train, recipe.stretches)
    heard = track(_heard(recipe, stretches, rng), "listen", recipe.stretches + recipe.respoken + recipe.noisy)
    moods, rows = zip(*((mood, voice_features(Speech(wave, SAMPLE_RATE))) for mood, wave in heard), strict=True)
    VoiceMood.fit(np.stack(rows), moods, recipe.seed).save_pretrained(stage.folder / "speech_classifier")
    texts = [(text, sentiment) for one in train for text, sentiment in _texts(one)]
    if not texts:
        raise InputError(f"speech = {recipe.speech}: expected recordings whose words are known, found none")
    WordSentiment.fit(*zip(*texts, strict=True)).save_pretrained(stage.folder / "text_classifier")
    figures = {
        "speech": _speech_figures(recipe, stage.folder / "speech_classifier", train, test, rng),
        "text": _text_figures(stage.folder / "text_classifier", test),
    }
    for name, found in {**figures["speech"], "text": figures["text"]}.items():
        shares = "  ".join(f"{what} {as_percent(share)}" for what, share in found.items() if what != "n")
        print(f"  {name:14} {shares}  ({found['n']})")
    return {"stretches": len(rows), "texts": len(texts), **figures}


def _stretches(recipe: ClassifiersRecipe, documents: Sequence[SpokenDocument], most: int) -> list[Stretch]:
    """One of each recording in a random order, and again until there are `most`, the same for the same seed."""
    rng, root = random.Random(f"{recipe.seed}-stretches"), corpus_root(recipe.speech)
    shuffled = rng.sample(documents, len(documents))
    long_enough = [(one, s) for one in shuffled for s in label_spans(one, "mood") if s.end - s.start >= LEAST]
    if not long_enough:
        raise InputError(f"speech = {recipe.speech}: expected recordings that keep a mood for {LEAST} s, found none")
    found = []
    for document, span in islice(cycle(long_enough), most):
        seconds = min(rng.uniform(recipe.shortest, recipe.longest), span.end - span.start)
        start = rng.uniform(span.start, span.end - seconds)
        found.append(Stretch(document.speaker, span.label, root / document.audio, start, start + seconds))
    return found


def _heard(
    recipe: ClassifiersRecipe, stretches: Sequence[Stretch], rng: np.random.Generator
) -> Iterator[tuple[str, np.ndarray]]:
    """Mood and wave of all stretches as they are, of the first ones respoken, of the last ones in noise."""
    for stretch in stretches:
        yield stretch.mood, stretch.read()
    for stretch in stretches[: recipe.respoken]:
        yield stretch.mood, respoken(stretch.read(), rng)
    for stretch in stretches[len(stretches) - recipe.noisy :]:
        yield stretch.mood, augmented(stretch.read(), SAMPLE_RATE, POOR_LINE, rng)


def respoken(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """float32 `[samples]` at 16 kHz, as a decoder without detail would say it: half of them are blurred in time, half
    over the bands."""
    blur = [max(0.0, rng.uniform(-most, most)) for most in BLUR]
    mel = gaussian_filter(log_mel(wave).numpy(), blur)
    return griffin_lim(torch.from_numpy(mel), ITERATIONS).numpy()


def _texts(document: SpokenDocument) -> Iterator[tuple[str, str]]:
    """Runs of sentences, and the sentiment of the mood that the recording begins in."""
    sentences, sentiment = [one.text for one in document.sentences if one.text], _sentiment(document)
    for count in range(1, LONGEST_TEXT + 1):
        for first in range(len(sentences) - count + 1):
            yield " ".join(sentences[first : first + count]), sentiment


def _sentiment(document: SpokenDocument) -> str:
    return sentiment_of(label_spans(document, "mood")[0].label)


def _speech_figures(
    recipe: ClassifiersRecipe,
    folder: Path,
    train: Sequence[SpokenDocument],
    test: Sequence[SpokenDocument],
    rng: np.random.Generator,
) -> dict[str, dict[str, Any]]:
    judge, known = load_speech_classifier(folder), {document.speaker for document in train}
    stretches = _stretches(recipe, test, min(recipe.test_stretches, len(test)))
    seen = [stretch for stretch in stretches if stretch.speaker in known]
    asked = {
        "seen voices": [(one, one.read()) for one in seen],
        "unseen voices": [(one, one.read()) for one in stretches if one.speaker not in known],
        "respoken": [(one, respoken(one.read(), rng)) for one in seen[::2]],
    }
    found = {}
    for name, pairs in asked.items():
        told = judge([Speech(wave, SAMPLE_RATE) for _, wave in pairs])
        true = [stretch.mood for stretch, _ in pairs]
        emotion = [one == other for one, other in zip(told, true, strict=True)]
        sentiment = [sentiment_of(one) == sentiment_of(other) for one, other in zip(told, true, strict=True)]
        found[name] = {"emotion": _share(emotion), "sentiment": _share(sentiment), "n": len(pairs)}
    return found


def _text_figures(folder: Path, test: Sequence[SpokenDocument]) -> dict[str, Any]:
    """Of the last sentences of all recordings."""
    texts = {one: " ".join(s.text for s in document.sentences[-ENDING:]) for one, document in enumerate(test)}
    asked = [one for one, text in texts.items() if text.strip()]
    told = load_text_classifier(folder)([texts[one] for one in asked])
    right = [sentiment == _sentiment(test[one]) for one, sentiment in zip(asked, told, strict=True)]
    return {"sentiment": _share(right), "n": len(asked)}


def _share(right: Sequence[bool]) -> dict[str, float | None]:
    return as_json(ratio(np.array(right, np.float64), np.ones(len(right))))


if __name__ == "__main__":
    run_program("classifiers", ClassifiersRecipe, train_classifiers, __doc__)
