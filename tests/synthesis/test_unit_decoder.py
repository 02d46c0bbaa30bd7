import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spiritlm.errors import InputError
from spiritlm.synthesis.loading import load_speech_decoder
from spiritlm.synthesis.protocol import as_given
from spiritlm.synthesis.unit_decoder import UnitDecoder, UnitDecoderConfig, shift_pitch
from spiritlm.synthesis.unit_hifigan import F0_REACH, UnitHifigan, UnitHifiganShape
from spiritlm.tokens.streams import Prosody

SIZES = {
    "units": 30, "embedding": 8, "channels": 16, "up_rates": (4, 4), "up_kernels": (8, 8), "kernels": (3, 5),
    "dilations": ((1, 3), (1, 2)), "duration_width": 8,
}  # fmt: skip
VOICES = {"speakers": ("kal", "slt"), "default_speaker": 1}
BASE = UnitDecoderConfig(
    shape=UnitHifiganShape(**SIZES, speakers=2, styles=3), styles=("sad", "plain", "happy"), default_style=1, **VOICES
)
EXPRESSIVE = UnitDecoderConfig(
    shape=UnitHifiganShape(**SIZES, speakers=2, pitch_units=5, style_units=4),
    styles=("happy", "sad"), style_units=(3, 1), pitch_hertz=(0.0, 100.0, 112.0, 126.0, 200.0), **VOICES,
)  # fmt: skip


VOICED = EXPRESSIVE.model_copy(
    update={"shape": EXPRESSIVE.shape.model_copy(update={"harmonics": 4, "f0_width": 8, "context": (1,)})}
)


def decoder_of(config: UnitDecoderConfig) -> UnitDecoder:
    torch.manual_seed(0)
    model = UnitHifigan(config.shape)
    for parameter in model.parameters():  # of sizes that let samples and durations differ
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    if model.dur_predictor is not None:
        torch.nn.init.constant_(model.dur_predictor.proj.bias, 1.0)
    if config.shape.harmonics:
        torch.nn.init.constant_(model.f0_predictor.last.bias, 1.0)
        torch.nn.init.constant_(model.m_source.l_linear.weight, 3.0)
    return UnitDecoder(model, config)


def prosody_of(units: np.ndarray) -> Prosody:
    return Prosody(units % 5, units // 3 % 4)


UNITS = np.random.default_rng(0).integers(30, size=60)


@pytest.mark.parametrize("config", [BASE, EXPRESSIVE, VOICED], ids=["base", "expressive", "voiced"])
@settings(max_examples=8, deadline=None)
@given(cuts=st.lists(st.integers(0, 60), max_size=12), timed=st.booleans())
def test_a_stream_gives_what_decode_gives(config: UnitDecoderConfig, cuts: list[int], timed: bool) -> None:
    shape = config.shape.model_copy(update={"duration_width": 8 if timed else 0})
    decoder = decoder_of(config.model_copy(update={"shape": shape}))
    told = prosody_of(UNITS)
    stream = decoder.stream("kal")
    pieces = [
        stream.push(UNITS[a:b], Prosody(told.pitch[a:b], told.style[a:b])) for a, b in pairwise([0, *sorted(cuts), 60])
    ]
    wave = np.concatenate([*pieces, stream.finish()])
    expected = decoder.decode(UNITS, "kal", prosody=told)
    assert wave.shape == expected.shape and np.abs(wave - expected).max() < 1e-5
    assert np.abs(np.diff(expected)).max() > 1e-3
    assert decoder.deduplicated == timed and (timed or len(wave) == 60 * 16)


@pytest.mark.parametrize(("config", "more"), [(BASE, 0), (VOICED, F0_REACH)], ids=["base", "voiced"])
def test_a_stream_speaks_before_it_ends(config: UnitDecoderConfig, more: int) -> None:
    decoder, told = decoder_of(config), prosody_of(UNITS)
    stream, waits = decoder.stream(), config.shape.reach + more
    first = [
        len(stream.push(UNITS[n : n + 1], Prosody(told.pitch[n : n + 1], told.style[n : n + 1]))) for n in range(60)
    ]
    wait = next(n for n, samples in enumerate(first) if samples)
    lasting = decoder.model.durations(torch.from_numpy(UNITS)[None])[0]
    assert int(lasting[: wait - 1].sum()) > waits >= int(lasting[: wait - 2].sum())


def test_durations_speakers_and_styles_are_heard() -> None:
    decoder, units = decoder_of(BASE), np.array([3, 7, 1])
    assert len(decoder.decode(units, durations=np.array([1, 2, 4]))) == 7 * 16
    assert np.array_equal(decoder.decode(units), decoder.decode(units, "slt", "plain"))
    for other in (("kal", None), ("slt", "happy")):
        assert not np.array_equal(decoder.decode(units, *other), decoder.decode(units))


def test_pitch_and_style_units_are_heard() -> None:
    decoder, told = decoder_of(EXPRESSIVE), prosody_of(UNITS)
    wave = decoder.decode(UNITS, prosody=told)
    assert not np.array_equal(wave, decoder.decode(UNITS, prosody=told._replace(pitch=0 * UNITS)))
    sad = decoder.decode(UNITS, prosody=told._replace(style=0 * UNITS + 1))
    assert not np.array_equal(wave, sad)
    assert np.array_equal(sad, decoder.decode(UNITS, style="sad", prosody=told))


def test_the_source_is_heard() -> None:
    decoder, told = decoder_of(VOICED), prosody_of(UNITS)
    wave = decoder.decode(UNITS, prosody=told)
    torch.nn.init.constant_(decoder.model.f0_predictor.last.bias, 1.2)
    higher = UnitDecoder(decoder.model, decoder.config)
    assert np.abs(higher.decode(UNITS, prosody=told) - wave).max() > 1e-3


def test_pitch_is_shifted_to_the_nearest_unit() -> None:
    decoder, told = decoder_of(EXPRESSIVE), Prosody(np.array([0, 1, 2, 3, 4]), np.zeros(5, int))

    def shifted(semitones: float) -> list[int]:
        found = shift_pitch(decoder, told, semitones)
        assert found is not None
        return found.pitch.tolist()

    assert shifted(2) == [0, 2, 3, 3, 4]
    assert shifted(-12) == [0, 1, 1, 1, 1]
    assert shifted(0) == told.pitch.tolist()
    for unable, message in (
        (EXPRESSIVE.model_copy(update={"pitch_hertz": ()}), "does not know how high"),
        (BASE, "is told no pitch units"),
    ):
        with pytest.raises(InputError, match=message):
            shift_pitch(decoder_of(unable), None, 2)
    with pytest.raises(InputError, match="a pitch shift of nan"):
        shift_pitch(decoder, told, float("nan"))


def test_units_are_given_once_with_what_was_said_when_they_began() -> None:
    units, told = np.array([4, 4, 4, 2, 2]), Prosody(np.array([1, 2, 3, 4, 0]), np.array([0, 0, 1, 1, 2]))
    values, durations, prosody = as_given(decoder_of(EXPRESSIVE), units, told)
    assert values.tolist() == [4, 2] and durations is not None and durations.tolist() == [3, 2]
    assert prosody is not None and (prosody.pitch.tolist(), prosody.style.tolist()) == ([1, 4], [0, 1])


def test_a_folder_comes_back(tmp_path: Path) -> None:
    decoder = decoder_of(EXPRESSIVE)
    decoder.save_pretrained(tmp_path)
    loaded = load_speech_decoder(tmp_path)
    told = prosody_of(UNITS)
    assert np.array_equal(loaded.decode(UNITS, prosody=told), decoder.decode(UNITS, prosody=told))
    (tmp_path / "config.json").write_text(json.dumps({"type": "unit-hifigan", "speakers": ["kal"]}))
    with pytest.raises(InputError, match="'shape' is absent"):
        load_speech_decoder(tmp_path)


@pytest.mark.parametrize(
    ("units", "speaker", "style", "told", "message"),
    [
        ([3, 30], None, None, True, "unit 30 is outside the vocabulary: expected 0 to 29"),
        ([], None, None, True, "at least one unit"),
        ([3], "klt", None, True, "speaker 'klt' is not one of the decoder's 2; the nearest is 'slt'"),
        ([3], None, "hapy", True, "style 'hapy' is not one of the decoder's 2; the nearest is 'happy'"),
        ([3], None, None, False, "the voice is told the pitch and style of every unit"),
        ([3], None, None, ([1, 2], [0]), "1 units, 2 pitch and 1 style units: expected as many of each"),
        ([3], None, None, ([5], [0]), "pitch unit 5 is outside the vocabulary: expected 0 to 4"),
        ([3], None, None, ([0], [4]), "style unit 4 is outside the vocabulary: expected 0 to 3"),
    ],
)
def test_errors(units: list[int], speaker: str | None, style: str | None, told: object, message: str) -> None:
    decoder, given_units = decoder_of(EXPRESSIVE), np.array(units, dtype=np.int64)
    prosody = prosody_of(given_units) if told is True else None
    if isinstance(told, tuple):
        prosody = Prosody(*map(np.array, told))
    with pytest.raises(InputError, match=message):
        decoder.decode(given_units, speaker, style, prosody)
    with pytest.raises(InputError, match=message if units else "no units"):
        stream = decoder.stream(speaker, style)
        stream.push(given_units, prosody)
        stream.finish()


@pytest.mark.parametrize(
    ("durations", "message"),
    [([1], "2 units and durations of shape"), ([1, 0], "of at least 1"), ([1.0, 2.0], "expected integers")],
)
def test_durations_that_do_not_fit(durations: list, message: str) -> None:
    with pytest.raises(InputError, match=message):
        decoder_of(BASE).decode(np.array([3, 7]), durations=np.array(durations))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"speakers": ("kal",), "default_speaker": 0}, "shape.speakers is 2, and 1 have a name"),
        ({"style_units": (3,)}, "one of style_units for each name"),
        ({"style_units": (3, 4)}, "expected units below 4"),
        ({"pitch_hertz": (1.0,)}, "one for each of 5 pitch units"),
        ({"default_speaker": 2}, "places among those that have a name"),
    ],
)
def test_configurations_that_do_not_fit(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        UnitDecoderConfig(**{**dict(EXPRESSIVE), **change})
