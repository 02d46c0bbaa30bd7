from pathlib import Path

import numpy as np
import pytest
import soundfile

from spiritlm.audio.files import read_audio, write_wav
from spiritlm.errors import InputError


def tone(seconds, rate, hertz=440.0):
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def test_written_is_read_to_16_bits(tmp_path):
    wave = tone(0.1, 16000)
    write_wav(tmp_path / "a.wav", wave, 16000)
    read = read_audio(tmp_path / "a.wav", 16000)
    assert read.dtype == np.float32 and read.shape == wave.shape
    np.testing.assert_allclose(read, wave, atol=2**-15)
    assert soundfile.info(tmp_path / "a.wav").subtype == "PCM_16"
    assert [p.name for p in tmp_path.iterdir()] == ["a.wav"]


def test_resampling_keeps_pitch_and_length(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(1, 22050), 22050)
    read = read_audio(tmp_path / "a.wav", 16000)
    assert len(read) == 16000
    np.testing.assert_allclose(read[800:-800], tone(1, 16000)[800:-800], atol=2e-3)


def test_channels_are_averaged(tmp_path):
    left, right = tone(0.1, 16000), tone(0.1, 16000, 880)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], axis=1), 16000, subtype="FLOAT")
    np.testing.assert_allclose(read_audio(tmp_path / "a.wav", 16000), (left + right) / 2, atol=1e-6)


def test_loud_samples_are_clipped(tmp_path):
    write_wav(tmp_path / "a.wav", np.array([-2.0, 0.0, 2.0], dtype=np.float32), 16000)
    np.testing.assert_allclose(read_audio(tmp_path / "a.wav", 16000), [-1, 0, 1], atol=1e-4)


@pytest.mark.parametrize(
    ("content", "expected"),
    [(None, "there is none"), (b"not a wav", "cannot be read"), (np.zeros(0), "found none")],
)
def test_not_audio_is_one_line_naming_the_file(tmp_path, content, expected):
    path = tmp_path / "a.wav"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        soundfile.write(path, content, 16000)
    with pytest.raises(InputError, match=expected) as caught:
        read_audio(path, 16000)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_non_finite_samples_are_refused(tmp_path):
    wave = tone(0.1, 16000)
    wave[3] = np.nan
    soundfile.write(tmp_path / "a.wav", wave, 16000, subtype="FLOAT")
    with pytest.raises(InputError, match="1 of 1600"):
        read_audio(tmp_path / "a.wav", 16000)


def test_the_bytes_of_a_file_are_read_as_the_file(tmp_path):
    soundfile.write(tmp_path / "a.flac", tone(1, 22050), 22050)
    content = (tmp_path / "a.flac").read_bytes()
    assert np.array_equal(read_audio(content, 16000), read_audio(tmp_path / "a.flac", 16000))
    part = read_audio(content, 16000, 0.25, 0.5)
    assert np.array_equal(part, read_audio(tmp_path / "a.flac", 16000, 0.25, 0.5)) and len(part) == 4000


@pytest.mark.parametrize("content", [b"", b"not a wav", b"RIFF\x24\x00\x00\x00WAVEfmt "])
def test_bytes_that_are_no_audio_are_called_by_their_name(content):
    with pytest.raises(InputError, match=r"^row 7 of a\.parquet: expected an audio file") as caught:
        read_audio(content, 16000, name="row 7 of a.parquet")
    assert "\n" not in str(caught.value)


def test_an_absent_file_is_called_by_its_name(tmp_path):
    with pytest.raises(InputError, match=r"^the third: expected an audio file, but there is none"):
        read_audio(tmp_path / "a.wav", 16000, name="the third")


def test_a_wav_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    write_wav(tmp_path / "whole.wav", np.zeros(1600, np.float32), 16_000)
    whole = (tmp_path / "whole.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(whole[:-1000])
    with pytest.raises(InputError, match=r"cut\.wav: cut off, 1000 bytes of its samples are missing"):
        read_audio(tmp_path / "cut.wav", 16_000)
    with pytest.raises(InputError, match="inner: cut off"):
        read_audio(whole[:-2], 16_000, name="inner")
    start = whole.index(b"data") + 4
    piped = whole[:start] + b"\xff" * 4 + whole[start + 4 : -1000]
    assert len(read_audio(piped, 16_000)) == 1100
