import numpy as np
import torch

from spiritlm.audio.mel import log_mel
from spiritlm.synthesis.griffin_lim import griffin_lim


def chirp(samples=8000):
    time = np.arange(samples) / 16000
    return (0.3 * np.sin(2 * np.pi * (200 + 800 * time) * time)).astype(np.float32)


def test_same_frames_give_the_same_samples():
    mel = log_mel(chirp())
    torch.manual_seed(1)
    first = griffin_lim(mel)
    torch.manual_seed(2)
    assert torch.equal(first, griffin_lim(mel))
    assert first.shape == (8000,) and first.dtype == torch.float32 and first.isfinite().all()


def test_frames_come_back():
    mel = log_mel(chirp())
    loud = mel > -1
    assert (log_mel(griffin_lim(mel)) - mel)[2:-2].abs()[loud[2:-2]].mean() < 0.1


def test_smooth_frames_come_back():
    """The mel of a network has no fine structure, and the filters' inverse must not invent any."""
    band, time = torch.arange(80.0), torch.arange(100.0)[:, None]
    mel = -2 + torch.cos(band / 9 + time / 30)
    wave = griffin_lim(mel)
    assert wave.abs().max() < 1
    assert (log_mel(wave) - mel)[2:-2].abs().mean() < 0.1


def test_sound_stays_in_its_place():
    click = np.zeros(8000, dtype=np.float32)
    click[4000] = 0.5
    assert abs(int(griffin_lim(log_mel(click)).abs().argmax()) - 4000) < 80


def test_silence_is_quiet():
    assert griffin_lim(torch.full((20, 80), -6.0)).abs().max() < 1e-2


def test_shortest():
    assert griffin_lim(torch.zeros(2, 80)).shape == (320,)
