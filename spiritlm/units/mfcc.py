"""K-means over MFCC: the targets that HuBERT's own training starts from, as a tokenizer of 25 or 50 Hz.

Sound at 16 kHz comes in; MFCC with slopes (100 Hz, 39 numbers) are normalised over the recording, averaged in
fours (25 Hz) or twos (50 Hz) and replaced by the nearest of `vocabulary_size` centroids. It is fitted in seconds and
needs no network, and knows far less of words than a trained encoder; the normalisation sees the whole recording, so it
does not stream.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from spiritlm.audio.mel import COEFFICIENTS, FRAME_RATE, SAMPLE_RATE, log_mel, mfcc
from spiritlm.config import Recipe
from spiritlm.errors import InputError
from spiritlm.run.weights import MODEL_FILE, read_config, read_tensors, save_model
from spiritlm.units.clustering import streaming_kmeans
from spiritlm.units.protocol import Precision, StreamShape, UnitEncoding, UnitStream, UnitStreams, checked_wave

FEATURES = 3 * COEFFICIENTS


def unit_features(wave: np.ndarray, rate: float) -> np.ndarray:
    """float32 `[samples]` at 16 kHz -> float32 `[units, 39]` at `rate` Hz, each feature of mean 0 and deviation 1.

    The last unit averages the frames that are left, at least one, so that every sample belongs to a unit.
    """
    frames = mfcc(log_mel(wave)).numpy()  # [frames, 39]
    frames = (frames - frames.mean(axis=0)) / (frames.std(axis=0) + 1e-3)
    starts = np.arange(0, len(frames), round(FRAME_RATE / rate))
    lengths = np.diff(np.append(starts, len(frames)))
    return np.add.reduceat(frames, starts, axis=0) / lengths[:, None].astype(np.float32)


class MfccKmeansConfig(Recipe):
    """What `config.json` of a tokenizer holds."""

    type: Literal["mfcc-kmeans"] = "mfcc-kmeans"
    vocabulary_size: int
    rate: Literal[25, 50] = 25
    sample_rate: int = SAMPLE_RATE


class MfccKmeansTokenizer:
    """A `SpeechTokenizer` (see `spiritlm/units/protocol.py`)."""

    def __init__(self, centroids: np.ndarray, rate: Literal[25, 50] = 25) -> None:
        """`centroids`: float32 `[vocabulary_size, 39]`. `rate`: units per second."""
        self.centroids = centroids
        self.config = MfccKmeansConfig(vocabulary_size=len(centroids), rate=rate)
        self.rate, self.sample_rate = float(rate), self.config.sample_rate
        self.vocabulary_size = len(centroids)
        self.precision: Precision = "fp32"
        self._squares = np.square(centroids).sum(axis=1)

    @property
    def streams(self) -> dict[str, StreamShape]:
        return {"semantic": StreamShape(self.rate, self.vocabulary_size)}

    def encode(self, wave: np.ndarray, sample_rate: int) -> UnitStreams:
        """See `SpeechTokenizer.encode`; gives `ceil(samples * rate / 16000)` units."""
        features = unit_features(checked_wave(wave, sample_rate, self.sample_rate), self.rate)
        units = np.argmin(self._squares - 2 * features @ self.centroids.T, axis=1).astype(np.int32)
        return UnitStreams(UnitStream(units, self.rate))

    def encode_batch(self, waves: Sequence[np.ndarray], sample_rate: int) -> list[UnitStreams]:
        """One recording at a time: there is no network to keep busy, and nothing to pad."""
        return [self.encode(wave, sample_rate) for wave in waves]

    def stream(self) -> UnitEncoding:
        raise InputError("units of mfcc-kmeans do not stream: their normalisation sees the whole recording")

    def save_pretrained(self, folder: Path) -> None:
        """See `SpeechTokenizer.save_pretrained`."""
        save_model(folder, self.config.model_dump(mode="json"), {"centroids": torch.from_numpy(self.centroids)})

    @classmethod
    def from_pretrained(cls, folder: Path) -> MfccKmeansTokenizer:
        """Raises `InputError` where `folder` holds no tokenizer of this kind, or files that do not fit together."""
        config = read_config(folder, MfccKmeansConfig)
        centroids = read_tensors(folder / MODEL_FILE).get("centroids", torch.zeros(0)).numpy()
        if centroids.shape != (config.vocabulary_size, FEATURES):
            expected = [config.vocabulary_size, FEATURES]
            raise InputError(f"{folder / MODEL_FILE}: centroids {list(centroids.shape)}, expected {expected}")
        return cls(centroids, config.rate)


def fit_mfcc_kmeans(
    waves: Iterable[np.ndarray], clusters: int, seed: int, rate: Literal[25, 50] = 25
) -> MfccKmeansTokenizer:
    """Fit the centroids to recordings, float32 `[samples]` at 16 kHz each; the same input gives the same centroids.

    Raises `InputError` where the recordings have fewer units than `clusters`.
    """
    features = (unit_features(wave, rate) for wave in waves)
    return MfccKmeansTokenizer(streaming_kmeans(features, clusters, seed), rate)
