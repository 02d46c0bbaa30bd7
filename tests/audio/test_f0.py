import importlib.util

import numpy as np
import pytest

from spiritlm.audio import f0 as module
from spiritlm.audio.f0 import interpolate_f0, track_f0
from spiritlm.errors import InputError


def voice(hertz: float, seconds: float, amplitude: float = 0.3) -> np.ndarray:
    """A few harmonics, float32 `[samples]`."""
    t = np.arange(round(16_000 * seconds)) / 16_000
    harmonics = range(1, max(2, int(min(6, 7000 / hertz))))
    return (amplitude * sum(np.sin(2 * np.pi * k * hertz * t) / k for k in harmonics)).astype(np.float32)


@pytest.mark.parametrize("hertz", [60.0, 110.0, 220.0, 400.0, 900.0])
def test_the_pitch_of_a_voice(hertz):
    f0 = track_f0(voice(hertz, 0.5))
    assert f0.dtype == np.float32 and f0.shape == (100,)
    assert (f0 > 0).mean() > 0.9
    assert np.median(np.abs(f0[f0 > 0] / hertz - 1)) < 0.005


def test_frames_are_where_the_sound_is():
    wave = np.concatenate([np.zeros(8000), voice(150, 0.5), np.zeros(8000)]).astype(np.float32)
    voiced = np.flatnonzero(track_f0(wave))
    assert abs(voiced[0] - 100) <= 3 and abs(voiced[-1] - 200) <= 3


def test_clipping_keeps_the_pitch():
    clipped = np.clip(3 * voice(140, 0.5), -0.5, 0.5)
    f0 = track_f0(clipped)
    assert np.median(np.abs(f0[f0 > 0] / 140 - 1)) < 0.01 and (f0 > 0).mean() > 0.9
    assert np.array_equal(track_f0(4 * voice(140, 0.5)) > 0, track_f0(voice(140, 0.5, 1.2)) > 0)


@pytest.mark.parametrize("samples", [0, 1, 79, 80, 81, 800, 1279, 3200, 5001])
def test_every_length_has_its_frames(samples):
    for wave in (np.zeros(samples, np.float32), voice(120, 1.0)[:samples]):
        f0 = track_f0(wave)
        assert f0.shape == (-(-samples // 80),) and np.isfinite(f0).all()


@pytest.mark.parametrize("level", [0.0, 1e-5, 0.01, 0.5])
def test_silence_and_noise_are_unvoiced(level):
    noise = level * np.random.default_rng(0).standard_normal(48_000)
    assert (track_f0(noise.astype(np.float32)) > 0).mean() < 0.01


def test_what_is_too_soft_or_out_of_range_is_unvoiced():
    assert not track_f0(voice(150, 0.5, 1e-4)).any()
    found = track_f0(voice(30, 0.5))
    assert not found.any() or (found[found > 0].min() >= 50 and found.max() <= 1100)
    assert not track_f0(np.full(8000, 0.5, np.float32)).any(), "a constant"


def test_a_tracker_that_is_absent_is_refused(monkeypatch):
    if importlib.util.find_spec("torchfcpe"):
        f0 = track_f0(voice(150, 1.0), "fcpe")
        assert f0.shape == (200,) and np.median(np.abs(f0[f0 > 0] / 150 - 1)) < 0.02
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for load, package in ((module.pyworld_tools, "pyworld"), (module._fcpe_model, "torchfcpe")):
        load.cache_clear()
        with pytest.raises(InputError, match=f"expected {package}, which is not installed"):
            load()


def test_interpolation():
    f0 = np.array([0, 0, 100, 0, 0, 130, 0], np.float32)
    found = interpolate_f0(f0)
    assert found.dtype == np.float32 and found.tolist() == [100, 100, 100, 110, 120, 130, 130]
    assert interpolate_f0(np.zeros(3, np.float32)).tolist() == [0, 0, 0]
    assert interpolate_f0(np.zeros(2, np.float32), unvoiced=7).tolist() == [7, 7]
