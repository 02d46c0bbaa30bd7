import numpy as np
import pytest

from spiritlm.inference.request import Speech
from spiritlm.scoring.voice_features import voice_features
from spiritlm.smallworld.voices import speak

RATE = 16_000


@pytest.fixture(scope="module")
def said() -> np.ndarray:
    return speak("Tom went to the lake with his mother.", "espeak:en-us+f3", "excited").wave


def test_neither_gain_nor_silence_around_it_is_listened_to(said: np.ndarray) -> None:
    plain = voice_features(Speech(said, RATE))
    spread = voice_features(Speech(speak("Tom was sad.", "espeak:en-us+m3", "sad").wave, RATE)) - plain
    silence = np.zeros(RATE // 2, np.float32)
    for other in (0.05 * said, np.concatenate([silence, said, silence])):
        moved = voice_features(Speech(other, RATE)) - plain
        assert np.linalg.norm(moved) < 0.1 * np.linalg.norm(spread)


def test_pitch_is_measured_in_octaves() -> None:
    said = speak("Tom went to the lake with his mother.", "espeak:en-us+m3", "happy").wave
    low, high = voice_features(Speech(said, RATE)), voice_features(Speech(said, round(RATE * 1.3)))
    assert high[0] - low[0] == pytest.approx(np.log2(1.3), abs=0.06)
    assert high[1] - low[1] == pytest.approx(np.log2(1.3), abs=0.06)


@pytest.mark.parametrize("samples", [0, 1, 50, 2000, RATE])
def test_every_wave_has_finite_features(samples: int) -> None:
    rng = np.random.default_rng(0)
    for wave in (np.zeros(samples), np.full(samples, 0.5), 0.1 * rng.standard_normal(samples), np.eye(1, samples)[0]):
        for rate in (RATE, 24_000):
            found = voice_features(Speech(wave.astype(np.float32), rate))
            assert found.shape == (82,) and np.isfinite(found).all()
