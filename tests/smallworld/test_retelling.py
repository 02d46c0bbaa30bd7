import hashlib
import os
import subprocess
import sys

import librosa
import numpy as np
import pytest
import scipy.signal

from spiritlm.smallworld import flite
from spiritlm.smallworld.pitch import mark_periods, track_pitch
from spiritlm.smallworld.retelling import Ratios, retold
from spiritlm.smallworld.spoken import Interval, Spoken

RATE = 16000
TEXT = "The ticket was wrong. She ran away from the troll."
NEEDS_FLITE = pytest.mark.skipif(not flite.is_installed(), reason="flite is not installed")
VOICES = [pytest.param(voice, marks=NEEDS_FLITE) for voice in flite.VOICES]
LEVELS = {"awb": 129.0, "kal16": 90.0, "rms": 101.0, "slt": 172.0}
"""Hz."""
MANNERS = [Ratios(1.3, 1.6, 1.15), Ratios(0.8, 0.4, 0.85), Ratios(pitch=1.2), Ratios(range=0.5), Ratios(rate=0.8)]


def sung(f0: np.ndarray) -> np.ndarray:
    """Pulses of the pitch `f0` (Hz, `[samples]`) through three formants."""
    phase = np.cumsum(f0) / RATE
    wave = np.diff(np.floor(phase), prepend=0.0)
    for formant in (600, 1300, 2500):
        radius = np.exp(-np.pi * 90 / RATE)
        wave = scipy.signal.lfilter([1.0], [1, -2 * radius * np.cos(2 * np.pi * formant / RATE), radius**2], wave)
    return (0.5 * wave / np.abs(wave).max()).astype(np.float32)


def vowel(level: float) -> tuple[np.ndarray, np.ndarray]:
    """A second of silence, hiss and voice each, and the pitch of the last."""
    moment = np.arange(RATE) / RATE
    f0 = level * np.exp(0.15 * np.sin(2 * np.pi * 3 * moment))
    hiss = np.random.default_rng(0).normal(size=RATE) * 0.02
    return np.concatenate([np.zeros(RATE), hiss, sung(f0)]).astype(np.float32), f0


def spread(f0: np.ndarray) -> float:
    return float(np.subtract(*np.percentile(np.log(f0), (90, 10))))


@pytest.mark.parametrize("level", [85.0, 120.0, 210.0, 280.0])
def test_a_known_pitch_is_found_and_marked(level: float) -> None:
    wave, truth = vowel(level)
    f0 = track_pitch(wave, RATE)
    assert not f0[:190].any()
    assert (f0[200:395] > 0).mean() < 0.05
    inner = slice(410, 590)
    assert np.abs(np.log(f0[inner] / truth[::80][10:190])).max() < 0.03
    marks, between = mark_periods(wave, RATE, f0)
    assert marks[0] == 0 and marks[-1] == len(wave) - 1
    assert np.all(np.diff(marks) > 0)
    inside = (marks[:-1] > 2.05 * RATE) & (marks[1:] < 2.95 * RATE)
    periods = np.diff(marks)[inside] / RATE
    wanted = 1 / truth[(marks[:-1][inside] - 2 * RATE)]
    assert np.abs(periods - wanted).max() < 0.0004
    assert np.all(between[inside] > 0)


@pytest.mark.parametrize("ratios", MANNERS)
def test_a_known_pitch_becomes_what_is_asked(ratios: Ratios) -> None:
    wave, truth = vowel(130.0)
    new = retold(Spoken(wave, RATE, (), ()), ratios).wave
    f0 = track_pitch(new, RATE)
    inner = f0[round(2.05 * 200 / ratios.rate) : round(2.95 * 200 / ratios.rate)]
    assert np.all(inner > 0)
    assert np.exp(np.log(inner).mean()) == pytest.approx(130 * ratios.pitch, rel=0.02)
    assert spread(inner) == pytest.approx(spread(truth) * ratios.range, rel=0.08)
    assert len(new) == round(len(wave) / ratios.rate)


def test_what_needs_no_change_is_not_touched() -> None:
    spoken = Spoken(vowel(130.0)[0], RATE, (), ())
    assert retold(spoken, Ratios()) is spoken


@pytest.mark.parametrize("seconds", [0.001, 0.02, 0.5])
def test_silence_and_snippets_come_through(seconds: float) -> None:
    for wave in (np.zeros(round(seconds * RATE)), np.random.default_rng(1).normal(size=round(seconds * RATE)) * 0.1):
        new = retold(Spoken(wave.astype(np.float32), RATE, (), ()), Ratios(1.3, 1.6, 1.25)).wave
        assert len(new) == round(len(wave) / 1.25)
        assert np.all(np.isfinite(new))


def level_of(wave: np.ndarray, about: float) -> float:
    """Hz, of the octave and a third around `about`, by another tracker than the one that is tested."""
    f0 = librosa.yin(wave, fmin=about / 1.6, fmax=about * 1.6, sr=RATE)
    rms = librosa.feature.rms(y=wave)[0]
    loud = rms > 0.3 * rms.max()
    return float(np.median(f0[loud[: len(f0)]]))


def loudness(wave: np.ndarray, moments: np.ndarray) -> np.ndarray:
    """RMS of 30 ms around each moment (seconds)."""
    smooth = np.sqrt(np.convolve(np.square(wave), np.ones(480) / 480, "same"))
    return smooth[np.minimum((moments * RATE).round().astype(int), len(wave) - 1)]


@pytest.mark.parametrize("voice", VOICES)
def test_speech_moves_as_asked_and_its_times_follow(voice: str) -> None:
    plain = flite.speak(TEXT, voice)
    level = level_of(plain.wave, LEVELS[voice])
    moments = np.arange(0.05, len(plain.wave) / RATE - 0.05, 0.01)
    for ratios in MANNERS:
        new = retold(plain, ratios)
        assert level_of(new.wave, level * ratios.pitch) / level == pytest.approx(ratios.pitch, rel=0.06)
        assert len(new.wave) == round(len(plain.wave) / ratios.rate)
        for old_times, new_times in ((plain.words, new.words), (plain.phones, new.phones)):
            for old, moved in zip(old_times, new_times, strict=True):
                assert moved == Interval(old.text, old.start / ratios.rate, old.end / ratios.rate)
        before, after = loudness(plain.wave, moments), loudness(new.wave, moments / ratios.rate)
        assert np.corrcoef(before, after)[0, 1] > 0.93


@pytest.mark.parametrize("voice", VOICES)
def test_the_range_of_speech_moves(voice: str) -> None:
    plain = flite.speak(f"{TEXT} Clara went to the harbor and saw the rocket.", voice)
    wide, narrow = (retold(plain, Ratios(range=ratio)) for ratio in (1.6, 0.4))
    old, wider, narrower = (
        spread(f0[f0 > 0]) for f0 in (track_pitch(spoken.wave, RATE) for spoken in (plain, wide, narrow))
    )
    assert wider > 1.3 * old
    assert narrower < 0.85 * old


@NEEDS_FLITE
def test_a_fresh_process_gives_the_same_bytes() -> None:
    code = (
        "import hashlib; from spiritlm.smallworld.voices import speak\n"
        f"print(hashlib.sha256(speak({TEXT!r}, 'flite:kal16', 'sad').wave.tobytes()).hexdigest())"
    )
    from spiritlm.smallworld.voices import speak

    here = hashlib.sha256(speak(TEXT, "flite:kal16", "sad").wave.tobytes()).hexdigest()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=os.environ)
    assert done.stdout.strip() == here, done.stderr
