import copy

import pytest
import torch

from spiritlm.synthesis.harmonics import SourceStream
from spiritlm.synthesis.hift import Hift, HiftShape
from spiritlm.synthesis.vocoder_stream import VocoderStream

DILATIONS = ((1, 3, 5),) * 3
SHAPE = HiftShape(
    sample_rate=16_000, mels=12, channels=16, up_rates=(8, 5, 2), up_kernels=(16, 11, 4), source_kernels=(7, 7, 11),
    source_dilations=DILATIONS, f0_channels=8,
)  # fmt: skip


def vocoder(causal: bool, bank: int = 0) -> Hift:
    torch.manual_seed(0)
    hift = Hift(SHAPE.model_copy(update={"causal": causal, "bank": bank})).eval()
    with torch.no_grad():  # so that it has a voice
        if bank:
            hift.amplitudes.conv.bias.fill_(-1.0)
        hift.f0_predictor.classifier.bias.fill_(120.0)
        hift.f0_predictor.classifier.weight.mul_(300)
    return hift


@torch.inference_mode()
def whole(hift: Hift, mel: torch.Tensor) -> torch.Tensor:
    f0 = copy.deepcopy(hift.f0_predictor).double()(mel[None].double())
    return hift(mel[None], SourceStream(hift.m_source).push(f0))[0]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("bank", [0, 7])
@pytest.mark.parametrize("frames", [1, 4, 100])
def test_pieces_are_the_whole(causal: bool, bank: int, frames: int) -> None:
    hift, mel = vocoder(causal, bank), torch.randn(12, 110)
    stream = VocoderStream(hift)
    pieces = [stream.push(piece) for piece in mel.split(frames, dim=1)] + [stream.finish()]
    torch.testing.assert_close(torch.cat(pieces), whole(hift, mel), atol=1e-4, rtol=0)


def test_a_causal_vocoder_speaks_all_but_one_frame_at_once() -> None:
    stream = VocoderStream(vocoder(causal=True))
    assert [len(stream.push(torch.randn(12, 20))) // SHAPE.hop for _ in range(3)] == [19, 20, 20]
    assert len(stream.finish()) == SHAPE.hop


def test_a_causal_vocoder_does_not_hear_what_comes() -> None:
    hift, mel = vocoder(causal=True), torch.randn(12, 60)
    other = mel.clone()
    other[:, 40:] = torch.randn(12, 20)
    heard = 39 * SHAPE.hop
    torch.testing.assert_close(whole(hift, mel)[:heard], whole(hift, other)[:heard], atol=1e-5, rtol=0)


def test_one_vocoder_at_any_rate() -> None:
    shape = HiftShape(mels=12, channels=16, f0_channels=8)
    assert (shape.hop, SHAPE.hop) == (256, 320)
    mel = torch.randn(1, 12, 7)
    hift = Hift(shape).eval()
    with torch.inference_mode():
        assert hift(mel, hift.m_source.at_random(hift.f0_predictor(mel))).shape == (1, 7 * 256)
