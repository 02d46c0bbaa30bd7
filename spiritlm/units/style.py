"""Style units: how a second of speech is said, one unit a second, heard from it and from what came just before.

Sound at 16 kHz comes in. Unit `i` looks at second `i` and at `context_seconds` before it and at nothing else: five
numbers every 20 ms (energy, peak, how much the spectrum changes, pitch, how sure that is), a few convolutions, means,
deviations and maxima over the second and over all that is seen, a classifier. The spectrum itself is left out: it tells
the voice, and a network that hears few voices learns style voice by voice. Nothing is normalised over the recording, so
units follow a change of style inside it, loudness counts, and a stream gives the units of the file. The price is that a
second alone is less sure than a whole file would be, and that who is quiet may be taken for sad.

Every wave has its units: silence gets the class that the network gives to zeros, the same each time; the last second
may be short (50 ms, or one sample), and what is not there is no part of the means; clipped sound is heard as it is.

`tokenizers/train_style.py` trains it: classes are clusters of features that tell moods apart (Spirit LM, section 3.2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import NonNegativeFloat, PositiveInt
from torch import nn

from spiritlm.audio.mel import FLOOR, SAMPLE_RATE
from spiritlm.config import Recipe
from spiritlm.run.device import training_device
from spiritlm.run.weights import MODEL_FILE, load_weights, read_config, read_tensors, save_model
from spiritlm.units.protocol import UnitEncoding, UnitStream, checked_wave

UNIT = SAMPLE_RATE
"""Samples of a unit."""
HOP = 320
"""Samples from frame to frame, 20 ms."""
WINDOW, POINTS = 800, 1024
"""Samples in a frame of 50 ms, and points of its Fourier transform."""
BANDS = 20
PITCHES = 64
LOWEST, MIDDLE, HIGHEST = 60.0, 160.0, 600.0
"""Hz, of the pitch periods that frames are compared at."""
OCTAVE_BONUS = 0.05
"""Of a pitch an octave above another: two periods are as alike as one."""
SHAKEN_PITCH, SHAKEN_ENERGY, SHAKEN_CHANGE = 0.2, 0.1, 0.1
"""Deviation of what is added in training to pitch (octaves) and energy (log10 of power), and of what the change of the
spectrum is multiplied with: about as voices differ in the same mood, so that few voices are enough."""
PITCHED = 1000.0
"""Hz, under which periods are sought."""
WINDOWS_AT_A_TIME = {"cpu": 64, "cuda": 1024}
SPECTRA_AT_A_TIME = {"cpu": 8, "cuda": 1024}
"""Windows whose spectra are in memory together: a CPU takes twice as long where its caches are too small for them."""


class StyleShape(Recipe):
    """Size of the network."""

    width: PositiveInt = 96
    blocks: PositiveInt = 3
    reach: PositiveInt = 4
    """Frames of 20 ms on either side that each block's convolution sees."""
    features: PositiveInt = 32
    """Width of what is clustered."""
    context_seconds: NonNegativeFloat = 1.0
    """Before a second, heard with it."""

    @property
    def context(self) -> int:
        """Samples before the unit, whole frames."""
        return HOP * round(self.context_seconds * SAMPLE_RATE / HOP)

    @property
    def window(self) -> int:
        """Samples that a unit sees."""
        return self.context + UNIT


class StyleConfig(Recipe):
    """What `config.json` of a tokenizer holds."""

    type: Literal["style"] = "style"
    shape: StyleShape
    vocabulary_size: PositiveInt
    labels: tuple[str, ...] = ()
    """Of each unit, the label that it had most often in training."""
    rate: float = SAMPLE_RATE / UNIT
    sample_rate: int = SAMPLE_RATE


def prosody(waves: torch.Tensor) -> torch.Tensor:
    """float32 `[batch, samples]` at 16 kHz, a multiple of `HOP` samples -> float32 `[batch, frames, 5]` at 50 Hz, each
    about in [-2, 2]: energy, peak, how much the spectrum changes, pitch (octaves from `MIDDLE`, 0 where there is none),
    how surely there is a pitch."""
    frames = waves.unflatten(1, (-1, HOP))
    energy = (frames.square().mean(-1) + FLOOR / 10).log10()
    peak = (frames.abs().amax(-1) + 1e-3).log10()
    power = _power(waves)
    bands = (power @ _bands().to(waves.device) + FLOOR * WINDOW).log10()
    change = F.pad((bands[:, 1:] - bands[:, :-1]).abs().mean(-1), (1, 0))
    likeness = periodicity(power)
    octaves = torch.linspace(math.log2(HIGHEST / MIDDLE), math.log2(LOWEST / MIDDLE), PITCHES, device=waves.device)
    best = (likeness + OCTAVE_BONUS * octaves).argmax(-1)
    sureness = (4 * likeness.gather(-1, best[..., None])[..., 0] - 2).clamp(0, 1)
    return torch.stack([energy / 2 + 2, 2 * peak + 2, 4 * change, 2 * octaves[best] * sureness, sureness], dim=-1)


def _power(waves: torch.Tensor) -> torch.Tensor:
    """float32 `[batch, samples]` -> `[batch, frames, POINTS / 2 + 1]`: spectra of 50 ms."""
    left = (WINDOW - HOP) // 2
    pieces = F.pad(waves, (left, WINDOW - HOP - left)).unfold(1, WINDOW, HOP)
    spectra = torch.fft.rfft(pieces * torch.hann_window(WINDOW, device=waves.device), POINTS)
    return torch.view_as_real(spectra).square().sum(-1)


@cache
def _bands() -> torch.Tensor:
    """float32 `[POINTS / 2 + 1, BANDS]`: sums over bands as wide as each other on a scale of octaves, from 100 Hz."""
    edges = np.geomspace(100, SAMPLE_RATE / 2, BANDS + 1)
    frequencies = np.arange(POINTS // 2 + 1)[:, None] * SAMPLE_RATE / POINTS
    return torch.from_numpy(((frequencies >= edges[:-1]) & (frequencies < edges[1:])).astype(np.float32))


def periodicity(power: torch.Tensor) -> torch.Tensor:
    """Spectra `[..., POINTS / 2 + 1]` -> `[..., PITCHES]`, in about [-1, 1]: how what is under `PITCHED` Hz correlates
    with itself one period later, from `HIGHEST` to `LOWEST` pitch, whatever its loudness; 0 in silence."""
    waves = _period_waves().to(power.device)
    power = power[..., 1 : 1 + len(waves)]
    return power @ waves / (power.sum(-1, keepdim=True) + FLOOR * WINDOW)


@cache
def _period_waves() -> torch.Tensor:
    """float32 `[bins, PITCHES]`: a cosine over frequency for each pitch period, in equal steps of the logarithm, larger
    for long ones by what the window takes from them."""
    lags = np.geomspace(SAMPLE_RATE / HIGHEST, SAMPLE_RATE / LOWEST, PITCHES)
    angles = 2 * np.pi * np.outer(np.arange(1, int(PITCHED * POINTS / SAMPLE_RATE)), lags) / POINTS
    window = np.hanning(WINDOW)
    whole = np.correlate(window, window, "full")[WINDOW - 1 :]
    fade = np.interp(lags, np.arange(WINDOW), whole / whole[0])
    return torch.from_numpy((np.cos(angles) / fade).astype(np.float32))


def shaken(x: torch.Tensor) -> torch.Tensor:
    """What `prosody` gives, of other voices: each window by draws of its own, `[batch, frames, 5]` both ways."""
    level, loudness, liveliness = torch.randn(3, len(x), 1, device=x.device)
    energy, peak, change, pitch, sureness = x.unbind(-1)
    pitch = pitch + 2 * SHAKEN_PITCH * level * sureness
    change = change * (1 + SHAKEN_CHANGE * liveliness)
    return torch.stack([energy + SHAKEN_ENERGY / 2 * loudness, peak, change, pitch, sureness], dim=-1)


class _Block(nn.Module):
    """Depthwise convolution over time, then a pointwise network, added to the input `[batch, time, width]`."""

    def __init__(self, width: int, reach: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(width, width, 2 * reach + 1, padding=reach, groups=width)
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 2 * width)
        self.project = nn.Linear(2 * width, width)

    def forward(self, x: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
        h = self.depthwise((x * there).transpose(1, 2)).transpose(1, 2)
        return x + self.project(F.gelu(self.expand(self.norm(h))))


class StyleNetwork(nn.Module):
    """Windows of sound that end with a second -> features of that second, and logits of its class.

    In training mode, what it hears is `shaken`."""

    def __init__(self, shape: StyleShape, classes: int) -> None:
        super().__init__()
        self.shape, self.classes = shape, classes
        self.enter = nn.Linear(5, shape.width)
        self.blocks = nn.ModuleList(_Block(shape.width, shape.reach) for _ in range(shape.blocks))
        self.norm = nn.LayerNorm(shape.width)
        self.weigh = nn.Linear(shape.width, 2)
        self.gather = nn.Linear(6 * shape.width, 2 * shape.width)
        self.feature = nn.Linear(2 * shape.width, shape.features)
        self.classifier = nn.Linear(shape.features, classes)

    def features(self, windows: torch.Tensor, starts: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
        """`windows` float32 `[batch, window]`, zeros outside samples `[start, end)` of each, int64 `[batch]`, at least
        one sample of the last second in them -> float `[batch, features]`, of deviation 1 each."""
        with torch.no_grad(), torch.autocast(windows.device.type, enabled=False):
            x = torch.cat([prosody(part) for part in windows.split(SPECTRA_AT_A_TIME[windows.device.type])])
        x = self.enter(shaken(x) if self.training else x)  # [batch, time, width]
        places = HOP * torch.arange(x.shape[1], device=x.device)
        there = (places > starts[:, None] - HOP) & (places < ends[:, None])
        for block in self.blocks:
            x = block(x, there[..., None])
        x = self.norm(x)
        own = there & (places >= self.shape.context)
        scores = self.weigh(x).float()
        pooled = [
            _pooled(x, scores[..., number : number + 1], heard[..., None]) for number, heard in enumerate((own, there))
        ]
        x = self.feature(F.gelu(self.gather(torch.cat(pooled, dim=-1))))
        return F.layer_norm(x.float(), x.shape[-1:])

    def forward(self, windows: torch.Tensor, starts: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
        """As `features`; logits float `[batch, classes]`."""
        return self.classifier(self.features(windows, starts, ends))


def _pooled(x: torch.Tensor, scores: torch.Tensor, heard: torch.Tensor) -> torch.Tensor:
    """`x` `[batch, time, width]`, `scores` and bool `heard` `[batch, time, 1]`, at least one of them true -> mean and
    deviation, weighed by the softmax of scores, and maximum of what is heard, `[batch, 3 * width]`."""
    weights = scores.masked_fill(~heard, -torch.inf).softmax(1)
    mean = (weights * x).sum(1)
    deviation = ((weights * (x - mean[:, None]).square()).sum(1) + 1e-4).sqrt()
    return torch.cat([mean, deviation, x.masked_fill(~heard, -torch.inf).amax(1)], dim=-1)


class StyleTokenizer:
    """A `StreamTokenizer` (see `spiritlm/units/protocol.py`)."""

    def __init__(self, network: StyleNetwork, labels: Sequence[str] = ()) -> None:
        """`labels`: see `StyleConfig`."""
        self.config = StyleConfig(shape=network.shape, vocabulary_size=network.classes, labels=tuple(labels))
        self.network = network.to(training_device()).eval()
        self.rate, self.sample_rate = self.config.rate, self.config.sample_rate
        self.vocabulary_size = network.classes

    def encode(self, wave: np.ndarray, sample_rate: int) -> UnitStream:
        """`wave`: float32 `[samples]` in [-1, 1] -> int32 `[ceil(samples / 16000)]`, one a second. Raises `InputError`
        for another sample rate, stereo, an empty wave or non-finite samples."""
        return self.encode_batch([wave], sample_rate)[0]

    def encode_batch(self, waves: Sequence[np.ndarray], sample_rate: int) -> list[UnitStream]:
        """See `encode`; the windows of all waves go through the network together."""
        checked = [checked_wave(wave, sample_rate, self.sample_rate) for wave in waves]
        context = self.config.shape.context
        padded = [np.pad(wave, (context, -len(wave) % UNIT)) for wave in checked]
        places = [(number, at) for number, wave in enumerate(checked) for at in range(0, len(wave), UNIT)]
        units: list[np.ndarray] = []
        size = WINDOWS_AT_A_TIME[training_device().type]
        for first in range(0, len(places), size):
            batch = places[first : first + size]
            windows = np.stack([padded[number][at : at + context + UNIT] for number, at in batch])
            starts = [max(0, context - at) for _, at in batch]
            ends = [context + min(UNIT, len(checked[number]) - at) for number, at in batch]
            units.append(self.units(windows, starts, ends))
        of_all = np.concatenate(units) if units else np.zeros(0, np.int32)
        bounds = np.cumsum([-(-len(wave) // UNIT) for wave in checked])[:-1]
        return [UnitStream(part, self.rate) for part in np.split(of_all, bounds)] if checked else []

    @torch.inference_mode()
    def units(self, windows: np.ndarray, starts: Sequence[int], ends: Sequence[int]) -> np.ndarray:
        """See `StyleNetwork.features` -> int32 `[batch]`."""
        device = training_device()
        bounds = (torch.tensor(bound, device=device) for bound in (starts, ends))
        logits = self.network(torch.from_numpy(windows).to(device), *bounds)
        return logits.argmax(-1).cpu().numpy().astype(np.int32)

    def stream(self) -> UnitEncoding:
        """A new recording, heard while it is made: a unit as soon as its second is over."""
        return _Stream(self)

    def save_pretrained(self, folder: Path) -> None:
        """Write `model.safetensors` and `config.json` into `folder`, which is made if absent."""
        save_model(folder, self.config.model_dump(mode="json"), self.network.state_dict())

    @classmethod
    def from_pretrained(cls, folder: Path) -> StyleTokenizer:
        """Raises `InputError` where `folder` holds no tokenizer of this kind, or files that do not fit together."""
        config = read_config(folder, StyleConfig)
        network = StyleNetwork(config.shape, config.vocabulary_size)
        tensors = read_tensors(folder / MODEL_FILE)
        return cls(load_weights(network, tensors, folder / MODEL_FILE), config.labels)


class _Stream:
    """A `UnitEncoding`."""

    def __init__(self, tokenizer: StyleTokenizer) -> None:
        self.tokenizer, self.context = tokenizer, tokenizer.config.shape.context
        self.start = self.context
        """First sample of `heard` that is sound: before it, zeros stand for what was not."""
        self.heard = np.zeros(self.context, np.float32)
        """The context, then what of the next unit is there."""

    def push(self, wave: np.ndarray) -> np.ndarray:
        """See `UnitEncoding.push`."""
        rate = self.tokenizer.sample_rate
        self.heard = np.concatenate([self.heard, checked_wave(wave, rate, rate, least=0)])
        units = [np.zeros(0, np.int32)]
        while len(self.heard) >= self.context + UNIT:
            units.append(self._unit(self.context + UNIT))
            self.heard = self.heard[UNIT:]
            self.start = max(0, self.start - UNIT)
        return np.concatenate(units)

    def finish(self) -> np.ndarray:
        """See `UnitEncoding.finish`."""
        end = len(self.heard)
        units = self._unit(end) if end > self.context else np.zeros(0, np.int32)
        self.heard, self.start = np.zeros(self.context, np.float32), self.context
        return units

    def _unit(self, end: int) -> np.ndarray:
        window = self.heard[: self.context + UNIT]
        window = np.pad(window, (0, self.context + UNIT - len(window)))
        return self.tokenizer.units(window[None], [self.start], [end])
