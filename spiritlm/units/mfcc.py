"""K-means over MFCC: the targets that HuBERT's own training starts from, as a tokenizer of 25 Hz.

Sound at 16 kHz comes in; MFCC with slopes (100 Hz, 39 numbers) are normalised over the recording, averaged in
fours and replaced by the nearest of `vocabulary_size` centroids. It is fitted in seconds and needs no network,
and knows far less of words than a trained encoder; the normalisation sees the whole recording, so it does not stream.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from spiritlm.audio.mel import COEFFICIENTS, FRAME_RATE, SAMPLE_RATE, log_mel, mfcc
from spiritlm.errors import InputError
from spiritlm.run.files import atomic_path, read_json, write_json
from spiritlm.units.protocol import UnitStream, UnitStreams

FRAMES_PER_UNIT = 4
FEATURES = 3 * COEFFICIENTS
MODEL_FILE, CONFIG_FILE = "model.safetensors", "config.json"


def unit_features(wave: np.ndarray) -> np.ndarray:
    """float32 `[samples]` at 16 kHz -> float32 `[units, 39]` at 25 Hz, each feature of mean 0 and deviation 1.

    The last unit averages the one to four frames that are left, so that every sample belongs to a unit.
    """
    frames = mfcc(log_mel(wave)).numpy()  # [frames, 39]
    frames = (frames - frames.mean(axis=0)) / (frames.std(axis=0) + 1e-3)
    starts = np.arange(0, len(frames), FRAMES_PER_UNIT)
    lengths = np.diff(np.append(starts, len(frames)))
    return np.add.reduceat(frames, starts, axis=0) / lengths[:, None].astype(np.float32)


class MfccKmeansTokenizer:
    """A `SpeechTokenizer` (see `spiritlm/units/protocol.py`)."""

    type = "mfcc-kmeans"
    """The `type` field of its `config.json`."""

    def __init__(self, centroids: np.ndarray) -> None:
        """`centroids`: float32 `[vocabulary_size, 39]`."""
        self.centroids = centroids
        self.rate = FRAME_RATE / FRAMES_PER_UNIT
        self.sample_rate = SAMPLE_RATE
        self.vocabulary_size = len(centroids)
        self._squares = np.square(centroids).sum(axis=1)

    def encode(self, wave: np.ndarray, sample_rate: int) -> UnitStreams:
        """`wave`: float32 `[samples]` in [-1, 1] at 16 kHz, at least one sample; gives `ceil(samples / 640)` units.

        Raises `InputError` for another rate, stereo, an empty wave or non-finite samples.
        """
        features = unit_features(self._checked(wave, sample_rate))
        units = np.argmin(self._squares - 2 * features @ self.centroids.T, axis=1).astype(np.int32)
        return UnitStreams(UnitStream(units, self.rate))

    def encode_batch(self, waves: Sequence[np.ndarray], sample_rate: int) -> list[UnitStreams]:
        """One recording at a time: there is no network to keep busy, and nothing to pad."""
        return [self.encode(wave, sample_rate) for wave in waves]

    def _checked(self, wave: np.ndarray, sample_rate: int) -> np.ndarray:
        if sample_rate != self.sample_rate:
            raise InputError(f"wave at {sample_rate} Hz: expected {self.sample_rate} Hz")
        if wave.ndim != 1 or not len(wave):
            raise InputError(f"wave of shape {list(wave.shape)}: expected [samples] of one channel, not empty")
        if not np.isfinite(wave).all():
            raise InputError("wave: expected finite samples, found some that are not")
        return np.ascontiguousarray(wave, dtype=np.float32)

    def save_pretrained(self, folder: Path) -> None:
        """Write `model.safetensors` and `config.json` into `folder`, which is made if absent."""
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(folder / MODEL_FILE) as temporary:
            save_file({"centroids": self.centroids}, temporary)
        config = {"type": self.type, "vocabulary_size": self.vocabulary_size}
        write_json(folder / CONFIG_FILE, {**config, "rate": self.rate, "sample_rate": self.sample_rate})

    @classmethod
    def from_pretrained(cls, folder: Path) -> MfccKmeansTokenizer:
        """Raises `InputError` where `folder` holds no tokenizer of this kind, or files that do not fit together."""
        config = read_json(folder / CONFIG_FILE)
        if config.get("type") != cls.type:
            raise InputError(f"{folder / CONFIG_FILE}: type is {config.get('type')!r}, expected {cls.type!r}")
        try:
            centroids = load_file(folder / MODEL_FILE)["centroids"]
        except (OSError, KeyError, SafetensorError) as error:
            raise InputError(f"{folder / MODEL_FILE}: not the weights of a tokenizer: {error}") from None
        if centroids.shape != (config["vocabulary_size"], FEATURES):
            expected = [config["vocabulary_size"], FEATURES]
            raise InputError(f"{folder / MODEL_FILE}: centroids {list(centroids.shape)}, expected {expected}")
        return cls(centroids)


def fit_mfcc_kmeans(waves: Iterable[np.ndarray], clusters: int, seed: int) -> MfccKmeansTokenizer:
    """Fit the centroids to recordings, float32 `[samples]` at 16 kHz each; the same input gives the same centroids.

    Raises `InputError` where the recordings have fewer units than `clusters`.
    """
    from sklearn.cluster import MiniBatchKMeans  # seconds to import

    features = np.concatenate([np.zeros((0, FEATURES), np.float32), *map(unit_features, waves)])
    if len(features) < clusters:
        raise InputError(f"clusters = {clusters}: the recordings have only {len(features)} units of 40 ms to fit")
    kmeans = MiniBatchKMeans(clusters, n_init=1, batch_size=4096, max_iter=60, random_state=seed).fit(features)
    return MfccKmeansTokenizer(kmeans.cluster_centers_.astype(np.float32))
