"""How a voice sounds, in 82 numbers: what a small classifier of moods is told of a stretch of speech.

In: a wave of any rate and loudness. Out: the level, range and steps of its pitch; how much of it is voiced, in pieces
of which length; how its loudness moves, and how fast; 20 bands of its spectrum, their spread and their steps. The whole
is brought to one loudness first: what a recording's gain tells of a mood does not outlive a vocoder, so it is not
listened to. Silence at both ends is left out. 16 ms for 6 s of speech. The tracker of pitch is one for synthetic
voices: on other people's recordings a published classifier is the better judge.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from spiritlm.audio.mel import FRAME_RATE, HOP, MELS, SAMPLE_RATE, log_mel
from spiritlm.inference.request import Speech
from spiritlm.smallworld.pitch import HOP as PITCH_HOP
from spiritlm.smallworld.pitch import track_pitch, voiced_stretches

VERSION: Literal[1] = 1
"""Raised whenever the same wave gives other features."""
BANDS = 20
LOUDNESS = 0.1
"""Root mean square of what is listened to."""
RANGE = 3.5
"""Powers of ten below the loudest frame at which silence begins."""
TEMPI = (1.0, 2.0, 3.0, 4.0, 5.0, 6.5, 8.0, 11.0, 16.0)
"""Hz between which changes of loudness are told apart: phrases, syllables, phones."""
LEAST = 0.1
"""Seconds that are listened to; a shorter wave gets silence behind it."""
STEP = 0.1
"""Octaves from one frame of pitch to the next that are no error of the tracker."""
UNVOICED = 7.0
"""Octaves, the pitch of what has none: 128 Hz."""


def voice_features(speech: Speech) -> np.ndarray:
    """float64 `[82]`, finite for whatever finite wave, also for an empty one."""
    wave = _listened(speech)
    mel = log_mel(wave.astype(np.float32)).double().numpy()  # [frames, mel]
    power = np.log10((10**mel).sum(1))
    heard = np.flatnonzero(power > power.max() - RANGE)
    first, last = int(heard[0]), int(heard[-1]) + 1
    mel, power = mel[first:last], power[first:last]
    f0 = track_pitch(wave[first * HOP : last * HOP].astype(np.float32), SAMPLE_RATE)
    return np.concatenate([_of_pitch(f0), _of_loudness(power), _of_spectrum(mel, power > power.max() - RANGE)])


def _listened(speech: Speech) -> np.ndarray:
    """At 16 kHz and of one loudness."""
    wave = speech.at(SAMPLE_RATE).astype(np.float64)
    wave = np.pad(wave, (0, max(0, round(LEAST * SAMPLE_RATE) - len(wave))))
    wave = wave - wave.mean()
    return wave * LOUDNESS / max(1e-9, float(np.sqrt(np.square(wave).mean())))


def _of_pitch(f0: np.ndarray) -> np.ndarray:
    """Hz `[frames]` -> level, range in octaves, steps, share and pieces of voice: `[11]`."""
    pieces, seconds = voiced_stretches(f0), max(1, len(f0)) * PITCH_HOP
    octaves = np.log2(f0[f0 > 0]) if pieces else np.full(2, UNVOICED)
    lowest, low, middle, high, highest = np.percentile(octaves, [5, 25, 50, 75, 95])
    steps = np.abs(np.diff(octaves))
    small = steps[steps < STEP]
    level = [octaves.mean(), middle]
    spread = [octaves.std(), highest - lowest, high - low, highest - middle, middle - lowest]
    lengths = [(end - start) * PITCH_HOP for start, end in pieces]
    voice = [float((f0 > 0).sum()) * PITCH_HOP / seconds, len(pieces) / seconds, float(np.mean(lengths or [0.0]))]
    return np.array([*level, *spread, small.sum() / max(1, len(small)), *voice])


def _of_loudness(power: np.ndarray) -> np.ndarray:
    """log10 of power `[frames]` -> spread, share of sound, steps, and the share of each tempo: `[11]`."""
    loud = power > power.max() - RANGE
    curve = np.maximum(power - power[loud].mean(), -RANGE)
    changes = np.square(np.abs(np.fft.rfft((curve - curve.mean()) * np.hanning(len(curve)))))
    tempo = np.fft.rfftfreq(len(curve), 1 / FRAME_RATE)
    parts = np.histogram(tempo, TEMPI, weights=changes)[0]
    shares = np.log10(parts / max(1e-9, float(parts.sum())) + 1e-4)
    return np.array([curve[loud].std(), loud.mean(), np.abs(np.diff(curve, append=curve[-1])).mean(), *shares])


def _of_spectrum(mel: np.ndarray, loud: np.ndarray) -> np.ndarray:
    """log10 of mel power `[frames, 80]` -> of 20 bands the mean against that of all, the spread, the steps: `[60]`."""
    bands = mel.reshape(len(mel), BANDS, MELS // BANDS).mean(2)
    mean = bands[loud].mean(0)
    steps = np.abs(np.diff(bands, axis=0, append=bands[-1:])).mean(0)
    return np.concatenate([mean - mean.mean(), bands[loud].std(0), steps])
