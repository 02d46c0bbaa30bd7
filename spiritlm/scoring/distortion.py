"""How far one waveform's spectrum is from another's, frame by frame."""

from __future__ import annotations

import math

import numpy as np

from spiritlm.audio.mel import COEFFICIENTS, MELS, log_mel, mfcc


def mel_cepstral_distortion(reference: np.ndarray, judged: np.ndarray) -> float:
    """dB, of waves float32 `[samples]` at 16 kHz that say the same at the same times: the mean over frames of
    10 / ln 10 * sqrt(2 * sum of squared differences) of 12 mel cepstra, loudness left out; NaN for an empty wave."""
    length = min(len(reference), len(judged))
    if not length:
        return math.nan
    first, second = (_cepstra(wave[:length]) for wave in (reference, judged))
    distances = np.sqrt(2 * np.square(first - second).sum(1))
    return 10 / math.log(10) * float(distances.mean())


def _cepstra(wave: np.ndarray) -> np.ndarray:
    """float `[frames, 12]`, of the natural logarithm of mel magnitude, as cosine series count them."""
    orthonormal = mfcc(log_mel(wave))[:, 1:COEFFICIENTS].numpy()
    return orthonormal * math.log(10) / 2 / math.sqrt(2 * MELS)
