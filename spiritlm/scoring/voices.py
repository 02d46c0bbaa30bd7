"""Whose voice it is: cepstra on average, beside those of known speakers. Rough, and enough to tell few voices apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from spiritlm.audio.mel import COEFFICIENTS, log_mel, mfcc


class NearestVoice:
    """Speakers by the mean and deviation of their cepstra (the first, loudness, left out)."""

    def __init__(self, waves: Mapping[str, Sequence[np.ndarray]]) -> None:
        """`waves`: of each speaker, float32 `[samples]` at 16 kHz, at least one."""
        means = {name: np.stack([_mean_cepstra(wave) for wave in heard]) for name, heard in waves.items()}
        self.names = list(means)
        self._scale = np.concatenate([rows - rows.mean(axis=0) for rows in means.values()]).std(axis=0) + 1e-3
        self._centres = np.stack([rows.mean(axis=0) for rows in means.values()])

    def __call__(self, wave: np.ndarray) -> str:
        distances = np.linalg.norm((self._centres - _mean_cepstra(wave)) / self._scale, axis=1)
        return self.names[int(distances.argmin())]


def _mean_cepstra(wave: np.ndarray) -> np.ndarray:
    """float64 `[cepstra - 1]`, over the louder half of the frames."""
    cepstra = mfcc(log_mel(wave))[:, :COEFFICIENTS].double().numpy()
    loud = cepstra[:, 0] >= np.median(cepstra[:, 0])
    mean: np.ndarray = cepstra[loud, 1:].mean(axis=0)
    return mean
