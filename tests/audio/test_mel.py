import librosa
import numpy as np
import pytest
import torch

from spiritlm.audio.mel import frame_count, log_mel, mfcc


def noise(samples, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def test_equals_librosa():
    wave = noise(8000)
    power = librosa.feature.melspectrogram(
        y=np.pad(wave, (120, 280)), sr=16000, n_fft=400, hop_length=160, n_mels=80, center=False
    )
    expected = np.log10(np.maximum(power, 1e-6)).T[:50]
    np.testing.assert_allclose(log_mel(wave), expected, atol=1e-4)


@pytest.mark.parametrize("samples", [1, 159, 160, 161, 4001])
def test_every_sample_has_a_frame(samples):
    mel = log_mel(noise(samples))
    assert mel.shape == (frame_count(samples), 80) == (-(-samples // 160), 80)
    assert mel.dtype == torch.float32 and mel.isfinite().all()


def test_frame_is_centred_on_its_hop():
    click = np.zeros(1600, dtype=np.float32)
    click[5 * 160 + 80] = 1
    assert int(log_mel(click).sum(dim=1).argmax()) == 5


def test_later_sound_changes_no_earlier_frame():
    wave, louder = noise(16000), noise(16000, seed=1) * 100
    longer = log_mel(np.concatenate([wave, louder]))
    torch.testing.assert_close(longer[:98], log_mel(wave)[:98], rtol=0, atol=1e-5)


def test_padding_with_silence_changes_nothing():
    wave = noise(16000)
    torch.testing.assert_close(log_mel(np.pad(wave, (0, 7777)))[:100], log_mel(wave), rtol=0, atol=1e-5)


def test_batch_equals_single():
    waves = np.stack([noise(5000, seed) for seed in range(3)])
    for row, wave in zip(log_mel(waves), waves, strict=True):
        torch.testing.assert_close(row, log_mel(wave), rtol=0, atol=1e-5)


def test_silence_is_the_floor():
    assert torch.equal(log_mel(np.zeros(1600, dtype=np.float32)), torch.full((10, 80), -6.0))


def test_slopes_of_a_ramp():
    ramp = torch.arange(40.0)[:, None].expand(40, 80)
    features = mfcc(ramp)
    assert features.shape == (40, 39)
    rise = torch.full((24,), float(features[9, 0] - features[8, 0]))
    torch.testing.assert_close(features[8:32, 13], rise, rtol=1e-4, atol=0)
    torch.testing.assert_close(features[8:32, 26:], torch.zeros(24, 13), atol=1e-4, rtol=0)
