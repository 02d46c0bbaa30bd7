import numpy as np
import pytest
from pydantic import ValidationError

from spiritlm.audio.augment import (
    AugmentRecipe,
    augmented,
    change_speed,
    draw_speed,
    narrowed,
    noisy,
    reverberated,
)

RATE = 16_000
TONE = (0.2 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)).astype(np.float32)
ALL = AugmentRecipe(speed=1, reverberation=1, resampling=1, noise=1, gain=1)


def power(wave):
    return float(np.mean(np.square(wave, dtype=np.float64)))


@pytest.mark.parametrize("snr", [0.0, 20.0])
def test_noise_is_as_loud_as_asked_for(snr):
    noise = noisy(TONE, snr, np.random.default_rng(0)) - TONE
    assert 10 * np.log10(power(TONE) / power(noise)) == pytest.approx(snr, abs=0.1)


def test_narrowed_keeps_what_is_under_half_the_lower_rate():
    high = np.sin(2 * np.pi * 5000 * np.arange(RATE) / RATE).astype(np.float32)
    assert power(narrowed(high, RATE, 8000.0)) < 0.01 * power(high)
    low = narrowed(TONE, RATE, 8000.0)
    assert low.shape == TONE.shape and power(low[800:-800] - TONE[800:-800]) < 1e-4 * power(TONE)


def test_reverberation_keeps_loudness_and_place():
    click = np.zeros(RATE, np.float32)
    click[4000] = 0.5
    changed = reverberated(click, RATE, 0.2, np.random.default_rng(0))
    assert changed.shape == click.shape and not np.abs(changed[:3999]).max() > 1e-4
    assert np.argmax(np.abs(changed)) == 4000 and power(changed) == pytest.approx(power(click), rel=1e-3)
    assert np.abs(changed[4001:6000]).max() > 1e-3


@pytest.mark.parametrize("speed", [0.8, 1.0, 1.25])
def test_speed_changes_length_and_pitch(speed):
    changed = change_speed(TONE, speed, 2 * RATE)
    assert len(changed) == pytest.approx(RATE / speed, abs=2)
    spectrum = np.abs(np.fft.rfft(changed[: RATE // 2]))
    assert np.argmax(spectrum) * 2 == pytest.approx(440 * speed, abs=4)
    assert len(change_speed(TONE, speed, 100)) == 100


@pytest.mark.parametrize("samples", [1, 2, 700, RATE])
@pytest.mark.parametrize("wave", [TONE, np.zeros_like(TONE)], ids=["tone", "silence"])
def test_all_changes_together(samples, wave):
    """As many samples, finite, in [-1, 1], the same from the same seed."""
    one, two = (augmented(wave[:samples], RATE, ALL, np.random.default_rng(3)) for _ in range(2))
    assert one.shape == (samples,) and one.dtype == np.float32 and np.array_equal(one, two)
    assert np.isfinite(one).all() and np.abs(one).max() <= 1


def test_nothing_is_changed_by_default():
    rng = np.random.default_rng(0)
    assert np.array_equal(augmented(TONE, RATE, AugmentRecipe(), rng), TONE)
    assert draw_speed(AugmentRecipe(), rng) == 1.0
    speeds = [draw_speed(ALL, rng) for _ in range(200)]
    assert 0.85 <= min(speeds) < 0.9 < 1.1 < max(speeds) <= 1.18


@pytest.mark.parametrize("wrong", [{"noise": 1.5}, {"snr_range": (5, 1)}, {"speed_range": (0, 1)}])
def test_wrong_recipes(wrong):
    with pytest.raises(ValidationError):
        AugmentRecipe(**wrong)
