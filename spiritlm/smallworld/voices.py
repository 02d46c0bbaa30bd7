"""Voices by name (`flite:slt`, `espeak:en-us+f3`) and moods that are heard: level and range of pitch, rate, volume."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import soxr
from pydantic import Field, model_validator

from spiritlm.config import Recipe
from spiritlm.errors import InputError
from spiritlm.run.workers import map_in_workers
from spiritlm.smallworld import espeak, flite
from spiritlm.smallworld.retelling import Ratios, retold
from spiritlm.smallworld.spoken import Spoken

SAMPLE_RATE = 16_000
"""Hz, of everything that is spoken here."""
PEAK = 0.6
"""Largest amplitude of an utterance in a mood of gain 1."""


@dataclass(frozen=True)
class Style:
    """What a mood does to a voice: about the same to voices of both synthesizers."""

    manner: espeak.Manner
    """Of an espeak-ng voice."""
    ratios: Ratios
    """Of a flite voice, to how it speaks by itself: it has no control that all its speakers obey."""
    gain: float
    """Volume; 1 is the loudest."""


STYLES = {
    "excited": Style(espeak.Manner(rate=195, pitch=75, range=80), Ratios(pitch=1.3, range=1.6, rate=1.15), gain=1.0),
    "happy": Style(espeak.Manner(rate=180, pitch=60, range=60), Ratios(pitch=1.12, range=1.2, rate=1.06), gain=0.8),
    "angry": Style(espeak.Manner(rate=185, pitch=35, range=70), Ratios(pitch=0.85, range=1.4, rate=1.09), gain=1.0),
    "sad": Style(espeak.Manner(rate=145, pitch=30, range=20), Ratios(pitch=0.8, range=0.4, rate=0.85), gain=0.45),
}


class VoicesRecipe(Recipe):
    """Voices by name (`flite:slt`, `espeak:en-us+f3`); a name given twice is drawn twice as often."""

    train: tuple[str, ...] = Field(min_length=1)
    held_out: tuple[str, ...] = Field(min_length=2)
    """Never heard in training."""
    train_without_flite: tuple[str, ...] = Field(min_length=1)
    held_out_without_flite: tuple[str, ...] = Field(min_length=2)
    """The same two on a machine where flite is not installed."""
    held_out_share: float = Field(default=0.25, ge=0, le=1)
    """Share of dev and test stories in held-out voices."""

    @model_validator(mode="after")
    def _check(self) -> VoicesRecipe:
        for suffix in ("", "_without_flite"):
            train, held_out = (getattr(self, f"{field}{suffix}") for field in ("train", "held_out"))
            for name in held_out:
                if name in train:
                    raise InputError(f"voices.held_out{suffix}: {name!r} is in voices.train{suffix} too")
        return self


def voices_here(recipe: VoicesRecipe) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Training and held-out voices of this machine; raises `InputError` for one that is absent."""
    train, held_out = recipe.train, recipe.held_out
    if not flite.is_installed() and any(name.startswith("flite:") for name in (*train, *held_out)):
        print("  flite is not installed: speaking with espeak-ng voices only")
        train, held_out = recipe.train_without_flite, recipe.held_out_without_flite
    list(map_in_workers(check_voices, [(*train, *held_out)], workers=1))
    return train, held_out


def check_voices(names: Iterable[str]) -> None:
    """Raises `InputError`, naming the nearest voice there is, for a voice that is absent on this machine.

    Loads the synthesizers into this process: call it in one that does not speak itself afterwards.
    """
    for name in names:
        engine, _, voice = name.partition(":")
        if engine == "flite" and flite.is_installed() and voice in flite.VOICES:
            continue
        if engine == "espeak" and espeak.is_voice(voice):
            continue
        known = [f"flite:{v}" for v in flite.VOICES] if flite.is_installed() else []
        known += [f"espeak:en-us{variant}" for variant in ("", *(f"+{s}{n}" for s in "fm" for n in range(1, 6)))]
        nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
        raise InputError(f"voice {name!r} is not on this machine; the nearest is {nearest!r}")


def way(voice: str) -> str:
    """Voices of one way pronounce a spelling alike: flite's, and those of each language of espeak-ng."""
    return voice.partition(":")[0] if voice.startswith("flite:") else voice.partition("+")[0]


def pronouncers(voices: Iterable[str]) -> dict[str, Callable[[str], tuple[str, ...]]]:
    """What gives the phones of a spelling, for each `way` of the voices. Loads the synthesizers into this process, as
    `check_voices` does."""
    return {
        name: flite.pronounce if name == "flite" else partial(espeak.pronounce, voice=name.removeprefix("espeak:"))
        for name in sorted(set(map(way, voices)))
    }


def speak(text: str, voice: str, mood: str) -> Spoken:
    """`text` in a voice and a mood, at 16 kHz. `mood`: a key of `STYLES`."""
    engine, _, name = voice.partition(":")
    style = STYLES[mood]
    if engine == "flite":
        spoken = retold(flite.speak(text, name), style.ratios)
    else:
        spoken = espeak.speak(text, name, style.manner)
    wave = soxr.resample(spoken.wave, spoken.sample_rate, SAMPLE_RATE)
    loudest = float(np.abs(wave).max(initial=1e-6))
    return replace(spoken, wave=(wave * (PEAK * style.gain / loudest)).astype(np.float32), sample_rate=SAMPLE_RATE)
