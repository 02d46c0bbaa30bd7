import pytest
import torch
from pydantic import ValidationError

from spiritlm.audio.vocoder_mel import VocoderMel, vocoder_log_mel


@pytest.mark.parametrize("samples", [1, 200, 256, 1024, 1100, 5000])
def test_a_frame_for_every_whole_hop(samples: int) -> None:
    shape = VocoderMel()
    mel = vocoder_log_mel(torch.randn(2, samples), shape)
    assert mel.shape == (2, 80, shape.frames(samples)) and mel.isfinite().all()


def test_a_tone_is_loud_in_its_own_bin() -> None:
    shape = VocoderMel(sample_rate=16_000, size=1280, hop=320)
    assert shape.frame_rate == 50
    tones = torch.tensor([200.0, 1000.0, 3000.0])
    wave = 0.5 * torch.sin(2 * torch.pi * tones[:, None] * torch.arange(16_000) / 16_000)
    loudest = vocoder_log_mel(wave, shape)[:, :, 25].argmax(1)
    assert loudest.tolist() == sorted(set(loudest.tolist()))


def test_hop_must_be_under_the_window() -> None:
    with pytest.raises(ValidationError, match="hop = 1024"):
        VocoderMel(hop=1024)
