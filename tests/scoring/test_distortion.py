import math

import numpy as np

from spiritlm.scoring.distortion import mel_cepstral_distortion


def test_distortion_grows_with_noise_and_not_with_loudness() -> None:
    rng = np.random.default_rng(0)
    time = np.arange(16_000) / 16_000
    wave = (0.3 * np.sin(2 * np.pi * 200 * time) + 0.1 * rng.standard_normal(16_000)).astype(np.float32)
    noise = rng.standard_normal(16_000).astype(np.float32)
    assert mel_cepstral_distortion(wave, wave) == 0
    assert mel_cepstral_distortion(wave, 0.5 * wave) < 0.05
    little, much = (mel_cepstral_distortion(wave, wave + level * noise) for level in (0.01, 0.3))
    assert 0 < little < much < 60
    assert math.isnan(mel_cepstral_distortion(wave[:0], wave))
