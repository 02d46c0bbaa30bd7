"""Synthesized speech between planted silences."""

from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import soxr

from spiritlm.audio.vad import cut_at_pauses, voiced_segments
from spiritlm.run.workers import map_in_workers
from spiritlm.smallworld import flite
from spiritlm.smallworld.voices import speak

RATE = 16_000
TEXTS = ("Tom went to the lake with his mother.", "He wanted to catch a big fish.", "Sam felt very happy about this.")
VOICES = (
    "espeak:en-us",
    "espeak:en-us+f2",
    *(("flite:slt", "flite:kal16", "flite:awb") if flite.is_installed() else ()),
)
Telling = tuple[np.ndarray, list[tuple[float, float]]]


def telling(voice: str) -> Telling:
    """The wave, and where its loud parts begin and end."""
    parts, spans, seconds = [], [], 0.0
    for spoken in map_in_workers(partial(speak, voice=voice, mood="happy"), TEXTS, workers=1):
        wave = spoken.wave
        loud = np.flatnonzero(np.abs(wave) > 0.01) / RATE
        seconds += 0.8
        spans.append((seconds + float(loud[0]), seconds + float(loud[-1])))
        parts += [np.zeros(int(0.8 * RATE), np.float32), wave]
        seconds += len(wave) / RATE
    return np.concatenate([*parts, np.zeros(RATE, np.float32)]), spans


@pytest.fixture(scope="module")
def tellings() -> dict[str, Telling]:
    return {voice: telling(voice) for voice in VOICES}


@pytest.mark.parametrize("voice", VOICES)
@pytest.mark.parametrize("snr", [None, 20])
def test_edges_are_where_speech_is(tellings: dict[str, Telling], voice: str, snr: float | None) -> None:
    wave, expected = tellings[voice]
    if snr is not None:
        level = np.sqrt(np.mean(wave[np.abs(wave) > 0.01] ** 2)) * 10 ** (-snr / 20)
        wave = wave + np.random.default_rng(0).normal(0, level, len(wave)).astype(np.float32)
    found = voiced_segments(wave, RATE, padding=0.0)
    assert len(found) == len(expected)
    np.testing.assert_allclose(found, expected, atol=0.13)


def test_another_rate_hears_the_same(tellings: dict[str, Telling]) -> None:
    wave, _ = tellings["espeak:en-us"]
    found = voiced_segments(soxr.resample(wave, RATE, 44_100), 44_100)
    np.testing.assert_allclose(found, voiced_segments(wave, RATE), atol=0.061)


def test_padding_widens_within_the_wave_and_keeps_segments_apart(tellings: dict[str, Telling]) -> None:
    wave, _ = tellings["espeak:en-us"]
    tight, wide = voiced_segments(wave, RATE, padding=0.0), voiced_segments(wave, RATE, padding=10.0)
    assert wide[0][0] >= 0 and wide[-1][1] <= len(wave) / RATE
    assert all(a < c and b > d for (a, b), (c, d) in zip(wide, tight, strict=True))
    assert all(before[1] < after[0] for before, after in pairwise(wide))


def test_short_gaps_are_closed_and_short_runs_dropped(tellings: dict[str, Telling]) -> None:
    wave, expected = tellings["espeak:en-us"]
    assert len(voiced_segments(wave, RATE, min_silence=1.5)) == 1
    assert voiced_segments(wave, RATE, min_speech=max(end - start for start, end in expected) + 0.2) == []


@pytest.mark.parametrize("samples", [0, 100, 480, 10 * RATE])
def test_silence_and_quiet_noise_hold_no_speech(samples: int) -> None:
    assert voiced_segments(np.zeros(samples, np.float32), RATE) == []
    noise = np.random.default_rng(0).normal(0, 10 ** (-40 / 20), samples)
    assert voiced_segments(noise.astype(np.float32), RATE) == []


def test_a_long_recording_is_cut_at_pauses_and_none_of_it_is_lost() -> None:
    (said,) = (spoken.wave for spoken in map_in_workers(partial(speak, voice=VOICES[0], mood="happy"), TEXTS[:1], 1))
    pause = np.zeros(RATE, np.float32)
    wave = np.concatenate([said, pause, said, pause, said, pause, said])
    each = len(said) / RATE
    cuts = cut_at_pauses(wave, RATE, 2 * each + 2.5)
    assert cuts[0][0] == 0 and cuts[-1][1] == len(wave) / RATE
    assert all(end == start for (_, end), (start, _) in pairwise(cuts))
    assert len(cuts) == 2
    assert abs(cuts[0][1] - (2 * each + 1.5)) < 0.3
    assert cut_at_pauses(wave, RATE, 100) == [(0.0, len(wave) / RATE)]
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 5 * RATE).astype(np.float32)
    assert [round(end - start, 6) for start, end in cut_at_pauses(noise, RATE, 2.0)] == [2.0, 2.0, 1.0]
