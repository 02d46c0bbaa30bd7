"""Voice activity: a waveform comes in, the seconds in which somebody speaks go out.

WebRTC's detector (Gaussian mixtures over six bands, no weights to load, thousands of times faster than real time)
judges frames of 30 ms. It holds on for some frames after speech has ended, so a frame must also be within `FLOOR_DB`
of the loudest speech; then short gaps are closed, short runs dropped and edges padded. On synthesized speech its edges
are right within 0.12 s, in silence and in white noise 20 dB below the speech. It takes music, tones and loud noise
(white noise above -30 dB of full scale) for speech: a corpus with those wants a neural detector before it.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import soxr
import webrtcvad

SAMPLE_RATE = 16_000
"""Hz, at which the detector listens."""
FRAME = 480
"""Samples a frame: 30 ms, the longest the detector takes."""
FLOOR_DB = 40.0
"""A frame so far below the loud frames (95th percentile of those the detector calls speech) is silence."""


def voiced_segments(
    wave: np.ndarray,
    sample_rate: int,
    aggressiveness: int = 2,
    min_speech: float = 0.15,
    min_silence: float = 0.3,
    padding: float = 0.06,
) -> list[tuple[float, float]]:
    """Where there is speech in `wave`, float32 `[samples]` in [-1, 1]: (start, end) in seconds, in order, apart.

    aggressiveness: 0 takes most for speech, 3 least. min_speech: seconds; shorter runs are dropped. min_silence:
    seconds; shorter gaps are closed. padding: seconds added on both sides, within the wave and never so that two
    segments meet. Nothing spoken, or less than one frame: an empty list.
    """
    duration = len(wave) / sample_rate
    if sample_rate != SAMPLE_RATE:
        wave = soxr.resample(wave, sample_rate, SAMPLE_RATE)
    seconds = FRAME / SAMPLE_RATE
    runs = _runs(_speech_frames(wave, aggressiveness))
    runs = _close_gaps(runs, min_silence / seconds)
    kept = [(start * seconds, end * seconds) for start, end in runs if (end - start) * seconds >= min_speech]
    return _pad(kept, padding, duration)


def _speech_frames(wave: np.ndarray, aggressiveness: int) -> np.ndarray:
    """bool `[frames]`: the detector says speech and the frame is loud enough."""
    frames = wave[: len(wave) // FRAME * FRAME].reshape(-1, FRAME)  # [frames, samples]
    samples = np.round(np.clip(frames, -1, 1) * 32767).astype("<i2")
    detector = webrtcvad.Vad(aggressiveness)
    speech = np.array([detector.is_speech(frame.tobytes(), SAMPLE_RATE) for frame in samples], dtype=bool)
    if not speech.any():
        return speech
    level = 10 * np.log10(np.square(frames, dtype=np.float64).mean(axis=1) + 1e-10)  # dB of full scale
    return speech & (level > np.percentile(level[speech], 95) - FLOOR_DB)


def _runs(frames: np.ndarray) -> list[tuple[int, int]]:
    """[start, end) of each run of true frames."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], frames, [False]]).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _close_gaps(runs: list[tuple[int, int]], min_gap: float) -> list[tuple[int, int]]:
    closed: list[tuple[int, int]] = []
    for start, end in runs:
        if closed and start - closed[-1][1] < min_gap:
            closed[-1] = closed[-1][0], end
        else:
            closed.append((start, end))
    return closed


def _pad(segments: list[tuple[float, float]], padding: float, duration: float) -> list[tuple[float, float]]:
    """Widen each segment by `padding`, but not past half of the silence beside it."""
    starts, ends = [start for start, _ in segments], [end for _, end in segments]
    padded = []
    for number, (start, end) in enumerate(segments):
        before = start if number == 0 else (start - ends[number - 1]) / 2
        after = duration - end if number + 1 == len(segments) else (starts[number + 1] - end) / 2
        padded.append((round(start - min(padding, before * 0.99), 4), round(end + min(padding, after * 0.99), 4)))
    return [(max(0.0, start), min(end, duration)) for start, end in padded]


def cut_at_pauses(wave: np.ndarray, sample_rate: int, longest: float) -> list[tuple[float, float]]:
    """`wave`, float32 `[samples]` in [-1, 1], in pieces of at most `longest` seconds: (start, end) in seconds, which
    together are all of it.

    Cuts lie in the middle of pauses, as few as can be; speech without a pause is cut where `longest` ends.
    """
    duration = len(wave) / sample_rate
    if duration <= longest:
        return [(0.0, duration)]
    speech = voiced_segments(wave, sample_rate)
    pauses = [(end + start) / 2 for (_, end), (start, _) in pairwise(speech)]
    cuts = [0.0]
    while duration - cuts[-1] > longest:
        reached = [pause for pause in pauses if cuts[-1] < pause <= cuts[-1] + longest]
        cuts.append(reached[-1] if reached else cuts[-1] + longest)
    return list(pairwise([*cuts, duration]))
