"""The same words in another manner: pitch level, pitch range and rate of an utterance, each set by itself.

By pitch-synchronous overlap-add (TD-PSOLA): two periods around each pitch mark are cut out and set down again nearer
or farther apart, some twice or not at all. Formants stay, so the speaker and the phones do. WORLD would do the same
by analysis and resynthesis and takes ten times as long.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from spiritlm.smallworld.pitch import mark_periods, track_pitch
from spiritlm.smallworld.spoken import Interval, Spoken


@dataclass(frozen=True)
class Ratios:
    """What becomes of an utterance, relative to what it was."""

    pitch: float = 1.0
    """Of the level: the geometric mean of the pitch."""
    range: float = 1.0
    """Of the distance of log-pitch from its mean; 0 is monotone."""
    rate: float = 1.0
    """Of the speed: 2 is half as long."""


def retold(spoken: Spoken, ratios: Ratios) -> Spoken:
    """`spoken` with its pitch and rate changed; times of words and phones follow exactly. Itself where all is 1."""
    if ratios == Ratios():
        return spoken
    marks, f0 = mark_periods(spoken.wave, spoken.sample_rate, track_pitch(spoken.wave, spoken.sample_rate))
    words, phones = (
        tuple(Interval(i.text, i.start / ratios.rate, i.end / ratios.rate) for i in intervals)
        for intervals in (spoken.words, spoken.phones)
    )
    wave = _overlap_add(spoken.wave, marks, *_plan(marks, f0, spoken.sample_rate, ratios), ratios.rate)
    return replace(spoken, wave=wave, words=words, phones=phones)


def _plan(marks: np.ndarray, f0: np.ndarray, sample_rate: int, ratios: Ratios) -> tuple[np.ndarray, np.ndarray]:
    """Where each grain is set down, in samples of the new wave, and which mark it comes from; both `[grains]`."""
    voiced = f0 > 0
    lasting = np.diff(marks) / sample_rate / ratios.rate
    log_f0 = np.log(np.where(voiced, f0, 1.0))
    level = np.average(log_f0[voiced], weights=lasting[voiced]) if voiced.any() else 0.0
    wanted = ratios.pitch * np.exp(level + ratios.range * (log_f0 - level))
    grains = np.where(voiced, lasting * wanted, 1 / ratios.rate)
    elapsed = np.concatenate([[0.0], np.cumsum(grains)])
    number = np.arange(int(elapsed[-1]) + 1)
    position = np.interp(number, elapsed, marks) / ratios.rate
    source = np.interp(number, elapsed, np.arange(len(marks)))
    return position.round().astype(np.int64), source.round().astype(np.int64)


def _overlap_add(
    wave: np.ndarray, marks: np.ndarray, position: np.ndarray, source: np.ndarray, rate: float
) -> np.ndarray:
    """float32 `[samples / rate]`: the grain of mark `source[i]`, from the mark before to the mark after, at each
    `position[i]`."""
    gaps = np.diff(marks, prepend=marks[0] - 1, append=marks[-1] + 1)
    reach = int(gaps.max())
    offsets = np.arange(-reach, reach + 1)
    before, after = gaps[source][:, None], gaps[source + 1][:, None]
    distance = np.minimum(np.where(offsets < 0, -offsets / before, offsets / after), 1.0)  # [grains, offsets]
    padded = np.pad(wave, reach)
    grains = (0.5 + 0.5 * np.cos(np.pi * distance)) * padded[marks[source][:, None] + offsets + reach]
    length = round(len(wave) / rate)
    placed = np.bincount((position[:, None] + offsets + reach).ravel(), grains.ravel(), minlength=length + 2 * reach)
    return placed[reach : reach + length].astype(np.float32)
