import json

import numpy as np
import pytest
import torch

from spiritlm.audio.vocoder_mel import VocoderMel
from spiritlm.errors import InputError
from spiritlm.synthesis.conformer import EncoderShape
from spiritlm.synthesis.decoder import FlowDecoder, FlowDecoderConfig, UnitsToMel
from spiritlm.synthesis.estimator import EstimatorShape
from spiritlm.synthesis.flow import FlowConfig
from spiritlm.synthesis.hift import Hift, HiftShape
from spiritlm.synthesis.loading import load_speech_decoder
from spiritlm.synthesis.vocoder import VocoderConfig

ENCODER = EncoderShape(
    width=16, heads=2, feed_forward=32, layers=1, block=5, left_blocks=2, look_ahead=3, up_layers=1, up_stride=4
)
ESTIMATOR = EstimatorShape(
    channels=(16,), blocks=1, mid_blocks=1, heads=2, head_size=8, causal=True, block=20, left_blocks=2
)
FLOW = FlowConfig(
    vocabulary_size=30, unit_rate=12.5, mels=12, frame_rate=50, input_size=16, speaker_size=8, encoder=ENCODER,
    regulator_layers=0, estimator=ESTIMATOR,
)  # fmt: skip
VOCODER = HiftShape(
    sample_rate=16_000, mels=12, channels=16, up_rates=(8, 5, 2), up_kernels=(16, 11, 4), source_kernels=(7, 7, 11),
    source_dilations=((1, 3, 5),) * 3, f0_channels=8, causal=True,
)  # fmt: skip
MEL = VocoderMel(sample_rate=16_000, size=1280, hop=320, mels=12)
SPOKEN = VocoderConfig(mel=MEL, shape=VOCODER)


def decoder_of(durations: bool = True) -> FlowDecoder:
    torch.manual_seed(0)
    config = FlowDecoderConfig(flow=FLOW, vocoder=SPOKEN, speakers=("kal", "slt"), durations=durations, steps=3)
    return FlowDecoder(UnitsToMel(FLOW, 2, durations, -4.0, 2.0), Hift(VOCODER), config)


@pytest.mark.parametrize("durations", [True, False])
@pytest.mark.parametrize("size", [1, 5, 10, 25])
def test_a_stream_gives_what_decode_gives(durations: bool, size: int) -> None:
    decoder, units = decoder_of(durations), np.random.default_rng(0).integers(30, size=47)
    stream = decoder.stream("slt")
    pieces = [stream.push(units[start : start + size]) for start in range(0, 47, size)] + [stream.finish()]
    wave = np.concatenate(pieces)
    assert np.allclose(wave, decoder.decode(units, "slt"), atol=1e-4)
    assert wave.dtype == np.float32 and np.abs(wave).max() <= 1
    if not durations:
        assert len(wave) == 47 * 1280


def test_from_no_noise_the_same_is_said_at_every_place() -> None:
    decoder, units = decoder_of(durations=False), np.full(40, 7)
    assert not torch.allclose(decoder.mel(units)[80:100], decoder.mel(units)[100:120], atol=0.5)
    decoder.config = decoder.config.model_copy(update={"temperature": 0.0})
    calm = decoder.mel(units)
    assert torch.allclose(calm[80:100], calm[100:120], atol=0.05)
    stream = decoder.stream()
    wave = np.concatenate([stream.push(units), stream.finish()])
    assert np.allclose(wave, decoder.decode(units), atol=1e-4)


def test_speakers_and_durations_are_heard() -> None:
    decoder, units = decoder_of(), np.array([3, 7, 1])
    assert np.array_equal(decoder.decode(units), decoder.decode(units, "kal"))
    assert not np.array_equal(decoder.decode(units, "slt"), decoder.decode(units, "kal"))
    assert decoder.mel(units, durations=np.array([1, 2, 4])).shape == (28, 12)


def test_saved_and_loaded_it_says_the_same(tmp_path) -> None:
    decoder, units = decoder_of(), np.arange(9)
    decoder.save_pretrained(tmp_path / "voice")
    loaded = load_speech_decoder(tmp_path / "voice")
    assert isinstance(loaded, FlowDecoder) and loaded.speakers == ("kal", "slt")
    assert np.array_equal(loaded.decode(units, "slt"), decoder.decode(units, "slt"))


@pytest.mark.parametrize(
    ("units", "speaker", "message"),
    [
        ([], None, "at least one unit"),
        ([30], None, "unit 30 is outside the vocabulary: expected 0 to 29"),
        ([-1], None, "unit -1 is outside"),
        ([0.5], None, "expected integers"),
        ([1], "kall", "speaker 'kall' is not one of the decoder's 2; the nearest is 'kal'"),
    ],
)
def test_what_it_refuses(units: list, speaker: str | None, message: str) -> None:
    decoder = decoder_of()
    with pytest.raises(InputError, match=message):
        decoder.decode(np.array(units), speaker)
    with pytest.raises(InputError, match=message.replace("at least one unit", "at least one")):
        stream = decoder.stream(speaker)
        stream.push(np.array(units))
        stream.finish()


def test_folders_that_hold_no_decoder(tmp_path) -> None:
    with pytest.raises(InputError, match="it does not exist"):
        load_speech_decoder(tmp_path / "nothing")
    decoder_of().save_pretrained(tmp_path / "model")
    with pytest.raises(InputError, match="its model/ has one"):
        load_speech_decoder(tmp_path)
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    for change, message in (
        (("type", "hubert"), "type is 'hubert', expected one of"),
        (("speakers", ["a"]), "voices.weight"),
    ):
        (tmp_path / "model" / "config.json").write_text(json.dumps(config | {change[0]: change[1]}))
        with pytest.raises(InputError, match=message):
            load_speech_decoder(tmp_path / "model")


def test_flow_and_vocoder_must_agree_on_mel() -> None:
    with pytest.raises(ValueError, match=r"hears 12 mels at 86\.1328 Hz, the flow gives 12 at 50 Hz"):
        other = VocoderConfig(mel=VocoderMel(mels=12), shape=HiftShape(mels=12))
        FlowDecoderConfig(flow=FLOW, vocoder=other, speakers=("a",), durations=False)
