"""Fundamental frequency at 200 Hz: what pitch units are made of.

`world` (DIO and StoneMask of WORLD, sixty times faster than real time on one core) serves everywhere; `fcpe` is the
network that Spirit LM encoded its data with, slower and better in noise. Both are gated alike: a frame is voiced where
it is loud enough and repeats itself after one period.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import io
import sys
from contextlib import redirect_stdout
from functools import cache
from types import ModuleType
from typing import Any, Literal

import numpy as np
import soxr

from spiritlm.errors import InputError

Tracker = Literal["world", "fcpe"]
SAMPLE_RATE, HOP = 16_000, 80
FLOOR, CEILING = 50.0, 1100.0
"""Hz; Spirit LM's range."""
LEAST_SAMPLES = 3200
"""Shorter waves are tracked with silence behind them."""
DECIMATION = 2
"""DIO looks for periods at 8 kHz, StoneMask refines them at 16 kHz. At 4 kHz harmonics hide a pitch above 600 Hz."""
GATE_SAMPLES = 320
"""Around a frame, that are compared with those one period later."""
LEAST_RMS = 1e-3
"""-60 dB of full scale; what is softer is silence."""
LEAST_CORRELATION = 0.5
"""Of neighbouring periods; white noise is below it, breathy vowels are above."""
FCPE_THRESHOLD = 0.05
"""Least confidence, as Spirit LM's."""


def track_f0(wave: np.ndarray, tracker: Tracker = "world") -> np.ndarray:
    """F0 of `wave`, float `[samples]` at 16 kHz: float32 `[ceil(samples / 80)]` of Hz, frame `t` about sample `80 * t`.

    0 where a frame is unvoiced: silence, noise, a pitch outside 50 to 1100 Hz. `world` needs a tenth of a second of
    voice, so that a file of 50 ms has 10 frames that are all unvoiced, as the one frame of a single sample is; an empty
    wave has none. Samples beyond [-1, 1] are allowed; clipping leaves periods, and with them F0, in place unless it is
    so hard that hardly a waveform is left. Never NaN. Raises `InputError` where the tracker's package is not installed.
    """
    frames = -(-len(wave) // HOP)
    if not np.any(wave):
        return np.zeros(frames, np.float32)
    samples = np.zeros(max(len(wave), LEAST_SAMPLES), np.float64)
    samples[: len(wave)] = wave
    found = (_world if tracker == "world" else _fcpe)(samples)[:frames]
    found = np.where(np.isfinite(found) & (found >= FLOOR) & (found <= CEILING), found, 0.0)
    voiced = np.flatnonzero(found)
    found[voiced[~_periodic(samples, voiced, found[voiced])]] = 0.0
    return found.astype(np.float32)


def f0_of_frames(f0: np.ndarray, frame_rate: float, frames: int) -> np.ndarray:
    """`f0` `[n]` at 200 Hz in the middles of `frames` frames of another rate, Hz; 0 behind the end."""
    places = np.rint((np.arange(frames) + 0.5) / frame_rate * SAMPLE_RATE / HOP).astype(np.int64)
    return np.where(places < len(f0), f0[np.minimum(places, len(f0) - 1)], 0.0).astype(f0.dtype)


def track_frames(wave: np.ndarray, sample_rate: int, frame_rate: float, frames: int) -> np.ndarray:
    """Hz float32 `[frames]` in the middles of frames of `frame_rate` Hz, 0 where unvoiced and behind the end; `wave`
    float32 `[samples]` of any rate."""
    heard = wave if sample_rate == SAMPLE_RATE else soxr.resample(wave, sample_rate, SAMPLE_RATE)
    return f0_of_frames(track_f0(heard), frame_rate, frames)


def interpolate_f0(f0: np.ndarray, unvoiced: float = 0.0) -> np.ndarray:
    """`f0` float `[frames]` with straight lines through its zeros, and the nearest voiced value before the first and
    behind the last; `unvoiced` everywhere where nothing is voiced. The same dtype."""
    voiced = np.flatnonzero(f0)
    if not len(voiced):
        return np.full_like(f0, unvoiced)
    return np.interp(np.arange(len(f0)), voiced, f0[voiced]).astype(f0.dtype)


def _periodic(samples: np.ndarray, frames: np.ndarray, f0: np.ndarray) -> np.ndarray:
    """Whether `frames` int `[n]` are loud enough and periodic with `f0` `[n]`: bool `[n]`."""
    lags = np.rint(SAMPLE_RATE / f0).astype(np.int64)
    most = int(SAMPLE_RATE / FLOOR) + 1
    padded = np.pad(samples, (GATE_SAMPLES + most, GATE_SAMPLES + most))
    starts = frames * HOP + GATE_SAMPLES + most - (GATE_SAMPLES + lags) // 2
    places = starts[:, None] + np.arange(GATE_SAMPLES)  # [n, samples]
    first, second = padded[places], padded[places + lags[:, None]]
    rms = np.sqrt(np.square(first).mean(1))
    first, second = first - first.mean(1, keepdims=True), second - second.mean(1, keepdims=True)
    energies = np.square(first).sum(1) * np.square(second).sum(1)
    correlation = (first * second).sum(1) / np.sqrt(np.maximum(energies, 1e-20))
    return (rms >= LEAST_RMS) & (correlation >= LEAST_CORRELATION)


def _world(samples: np.ndarray) -> np.ndarray:
    world = pyworld_tools()
    period = 1000.0 * HOP / SAMPLE_RATE
    rough, times = world.dio(samples, SAMPLE_RATE, FLOOR, CEILING, frame_period=period, speed=DECIMATION)
    return np.asarray(world.stonemask(samples, rough, times, SAMPLE_RATE))


@cache
def pyworld_tools() -> Any:
    """The compiled part of pyworld alone: its `__init__` asks for pkg_resources, which new setuptools do not have."""
    package = importlib.util.find_spec("pyworld")
    folders = list(package.submodule_search_locations or ()) if package else []
    spec = importlib.machinery.PathFinder.find_spec("pyworld", folders)
    if spec is None or spec.loader is None:
        raise InputError("tracker world: expected pyworld, which is not installed; pip install pyworld")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _fcpe(samples: np.ndarray) -> np.ndarray:
    import torch

    wave = torch.from_numpy(samples.astype(np.float32)).clamp(-1, 1)[None, :, None]
    frames = -(-len(samples) // HOP)
    found = _fcpe_model().infer(
        wave, SAMPLE_RATE, "local_argmax", FCPE_THRESHOLD, FLOOR, CEILING, output_interp_target_length=frames
    )
    return np.asarray(found[0, :, 0].numpy(), dtype=np.float64)


@cache
def _fcpe_model() -> Any:
    """torchfcpe's own network. It imports torchaudio for a resampler that 16 kHz never needs, and torchaudio does not
    import beside every torch: then an empty one stands in for it, during the import only."""
    import torch

    if importlib.util.find_spec("torchfcpe") is None:
        raise InputError("tracker fcpe: expected torchfcpe, which is not installed; pip install torchfcpe")
    stand_ins = {}
    try:
        importlib.import_module("torchaudio.transforms")
    except (ImportError, OSError):
        stand_ins = {name: ModuleType(name) for name in ("torchaudio", "torchaudio.transforms")}
        stand_ins["torchaudio.transforms"].Resample = torch.nn.Identity  # type: ignore[attr-defined]
    sys.modules.update(stand_ins)
    try:
        torchfcpe = importlib.import_module("torchfcpe")
    except ImportError as error:
        raise InputError(f"tracker fcpe: torchfcpe is installed but does not import: {error}") from None
    finally:
        for name in stand_ins:
            del sys.modules[name]
    with redirect_stdout(io.StringIO()):  # pages of [WARN]
        return torchfcpe.spawn_bundled_infer_model("cpu")
