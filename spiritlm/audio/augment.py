"""Sound made worse, or another speaker's, while what is said stays: for units that should not change with it.

All work on float32 `[samples]` in [-1, 1] and draw from the generator they are given, so that a batch is a function
of its seed.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import soxr
from pydantic import Field, model_validator
from scipy.signal import fftconvolve

from spiritlm.config import Recipe

Share = Annotated[float, Field(ge=0, le=1)]
Range = tuple[float, float]


class AugmentRecipe(Recipe):
    """How often each change is made, and between which bounds it is drawn; all shares 0: nothing is changed."""

    speed: Share = 0.0
    """Played faster or slower, which changes pitch and vocal tract too."""
    speed_range: Range = (0.85, 1.18)
    reverberation: Share = 0.0
    reverberation_range: Range = (0.05, 0.4)
    """Seconds until an echo is 60 dB down."""
    resampling: Share = 0.0
    """To a lower rate and back: a narrow band."""
    resampling_range: Range = (4000.0, 12000.0)
    """Hz."""
    noise: Share = 0.0
    snr_range: Range = (0.0, 25.0)
    """dB."""
    gain: Share = 0.0
    gain_range: Range = (-15.0, 6.0)
    """dB."""

    @model_validator(mode="after")
    def _in_order(self) -> AugmentRecipe:
        for name, value in self:
            if name.endswith("_range") and not value[0] <= value[1]:
                raise ValueError(f"{name} = {list(value)}: expected the lower bound first")
        if min(self.speed_range[0], self.reverberation_range[0], self.resampling_range[0]) <= 0:
            raise ValueError("speed_range, reverberation_range and resampling_range: expected bounds above 0")
        return self


def draw_speed(recipe: AugmentRecipe, rng: np.random.Generator) -> float:
    """1 where the speed stays; up and down are equally likely in proportion."""
    if rng.uniform() >= recipe.speed:
        return 1.0
    low, high = recipe.speed_range
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def change_speed(wave: np.ndarray, speed: float, samples: int) -> np.ndarray:
    """`wave` played `speed` times as fast, cut to `samples` or, where it has fewer, as long as it is."""
    if speed == 1.0:
        return wave[:samples]
    changed: np.ndarray = soxr.resample(wave, speed, 1.0, quality="QQ")
    return changed[:samples]


def augmented(wave: np.ndarray, sample_rate: int, recipe: AugmentRecipe, rng: np.random.Generator) -> np.ndarray:
    """All changes but that of speed, in the order of the recipe: as many samples, in [-1, 1]."""
    if rng.uniform() < recipe.reverberation:
        wave = reverberated(wave, sample_rate, rng.uniform(*recipe.reverberation_range), rng)
    if rng.uniform() < recipe.resampling:
        wave = narrowed(wave, sample_rate, rng.uniform(*recipe.resampling_range))
    if rng.uniform() < recipe.noise:
        wave = noisy(wave, rng.uniform(*recipe.snr_range), rng, tilt=rng.uniform())
    if rng.uniform() < recipe.gain:
        wave = wave * np.float32(10 ** (rng.uniform(*recipe.gain_range) / 20))
    return np.clip(wave, -1.0, 1.0)


def noisy(wave: np.ndarray, snr: float, rng: np.random.Generator, tilt: float = 0.0) -> np.ndarray:
    """With noise between white (`tilt` 0) and brown (1), `snr` dB under the mean power of `wave`."""
    samples = len(wave)
    spectrum = np.fft.rfft(rng.standard_normal(samples, dtype=np.float32))
    slope = np.maximum(np.arange(len(spectrum)) / max(1, samples), 1e-3) ** -tilt
    noise = np.fft.irfft(spectrum * slope, samples).astype(np.float32) if samples > 1 else np.ones(1, np.float32)
    power = float(np.mean(np.square(wave)) / max(float(np.mean(np.square(noise))), 1e-12))
    return wave + noise * np.float32(np.sqrt(power * 10 ** (-snr / 10)))


def narrowed(wave: np.ndarray, sample_rate: int, rate: float) -> np.ndarray:
    """To `rate` Hz and back."""
    there = soxr.resample(wave, sample_rate, rate, quality="LQ")
    back = soxr.resample(there, rate, sample_rate, quality="LQ")[: len(wave)] if len(there) else there
    return np.pad(back, (0, len(wave) - len(back))).astype(np.float32)


def reverberated(wave: np.ndarray, sample_rate: int, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """In a room whose echo is noise that dies away, 60 dB in `seconds`; as loud as before and no later."""
    times = np.arange(int(seconds * sample_rate)) / sample_rate
    response = 0.1 * rng.standard_normal(len(times)) * 10 ** (-3 * times / seconds)
    response = np.concatenate([[1.0], response]).astype(np.float32)
    changed = fftconvolve(wave, response)[: len(wave)].astype(np.float32)
    loudness = float(np.sqrt(np.mean(np.square(wave)) / max(float(np.mean(np.square(changed))), 1e-12)))
    return changed * np.float32(loudness)
