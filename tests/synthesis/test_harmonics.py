import numpy as np
import pytest
import torch

from spiritlm.audio.f0 import track_f0
from spiritlm.synthesis.harmonics import Amplitudes, Harmonics, SourceShape, SourceStream

HOP = 320
F0 = torch.tensor([[0.0] * 20 + [150.0] * 20 + [190.0] * 20 + [0.0] * 20])
"""Hz, at 50 Hz."""


def harmonics(bank: int) -> Harmonics:
    torch.manual_seed(0)
    return Harmonics(SourceShape(sample_rate=16_000, bank=bank), HOP)


@pytest.mark.parametrize("bank", [0, 12])
@pytest.mark.parametrize("frames", [1, 7, 80])
def test_pieces_are_the_whole(bank: int, frames: int) -> None:
    both = [SourceStream(harmonics(bank)) for _ in range(2)]
    with torch.inference_mode():
        pieces = torch.cat([both[0].push(piece) for piece in F0.split(frames, dim=1)], dim=2)
        whole = both[1].push(F0)
    assert whole.shape == (1, 1 + bank, 80 * HOP)
    torch.testing.assert_close(pieces, whole, atol=1e-5, rtol=0)


def test_the_phase_does_not_drift() -> None:
    f0 = torch.full((1, 50 * 60), 123.4)  # a minute
    stream = SourceStream(harmonics(0))
    with torch.inference_mode():
        for piece in f0.split(501, dim=1):
            stream.push(piece)
    exact = float(f0[0, 0]) * 60 * torch.arange(1, 10, dtype=torch.float64) % 1
    apart = (stream._phase[0] - exact + 0.5) % 1 - 0.5
    assert apart.abs().max() < 1e-7


def test_a_bank_has_the_f0_that_is_asked_for_and_nothing_too_high() -> None:
    with torch.inference_mode():
        sines = harmonics(50).at_random(F0)[:, 1:]
        wave = Amplitudes(4, 50)(torch.zeros(1, 4, 80), sines)[0].numpy()
    heard = track_f0(np.clip(3 * wave, -1, 1))[::4]
    assert np.abs(heard[23:37] - 150).max() < 3 and np.abs(heard[43:57] - 190).max() < 3
    assert not heard[:18].any() and not heard[62:].any()
    loudness = sines[0].abs().amax(1)
    assert (loudness[:37] > 0.9).all() and not loudness[48:].any()  # 7200 Hz
