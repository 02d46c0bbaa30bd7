"""The pitch of one synthetic voice, and a mark at every period of it: what `retelling.py` moves about.

By autocorrelation, as Praat has it, some 500 times as fast as it sounds. It leans on what is true of a synthesizer:
no noise, one speaker, less than two octaves. It is no tracker for other people's recordings.
"""

from __future__ import annotations

import numpy as np
import scipy.fft
import scipy.ndimage
import soxr

HOP = 0.005
"""Seconds from one frame to the next; frame `i` is about the moment `i * HOP`."""
LOWEST, HIGHEST = 60.0, 400.0
"""Hz that are looked for."""
SPREAD = 1.8
"""Most that a voice is above or below its own median."""

_RATE = 8000
"""Hz at which pitch is looked for."""
_WINDOW = 320
"""Samples at `_RATE`: 40 ms, two and a half periods of the lowest pitch."""
_FFT = 512
_SURE, _LIKELY = 0.55, 0.35
"""Least autocorrelation of a voiced frame: wherever its pitch is, and near that of the sure frames around it."""
_NEAR = 1.2
"""Most that a likely frame is above or below its surroundings."""
_SILENT = 1e-5
"""Least energy of a voiced frame, as a part of the strongest frame's."""
_OCTAVE = 0.05
"""How much more alike two periods have to be than one, to be taken for one."""
_SHORTEST = 4
"""Frames of a voiced stretch."""
_SNAP, _AROUND = 0.15, 0.6
"""How far from one period a mark looks for its place, and how far to each side it compares, in periods."""
_REST = 0.005
"""Seconds between marks where nothing is voiced."""


def track_pitch(wave: np.ndarray, sample_rate: int) -> np.ndarray:
    """Hz, `[frames]`, 0 where unvoiced; frames `HOP` seconds apart. `wave`: float32 `[samples]`."""
    likeness, energy = _autocorrelation(soxr.resample(wave, sample_rate, _RATE).astype(np.float32))
    heard = energy > _SILENT * energy.max(initial=0.0)
    f0 = _best(likeness, heard, LOWEST, HIGHEST, _SURE)
    if not f0.any():
        return f0
    median = float(np.median(f0[f0 > 0]))
    f0 = _best(likeness, heard, max(LOWEST, median / SPREAD), min(HIGHEST, median * SPREAD), _SURE)
    if not f0.any():
        return f0
    around = scipy.ndimage.median_filter(np.interp(np.arange(len(f0)), np.flatnonzero(f0), f0[f0 > 0]), 9)
    f0 = _best(likeness, heard, np.maximum(LOWEST, around / _NEAR), np.minimum(HIGHEST, around * _NEAR), _LIKELY)
    for start, end in voiced_stretches(f0):
        f0[start:end] = scipy.ndimage.median_filter(f0[start:end], 5) if end - start >= _SHORTEST else 0.0
    return f0


def voiced_stretches(f0: np.ndarray) -> list[tuple[int, int]]:
    """`[start, end)` frames of each run above 0."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], f0 > 0, [False]]).astype(np.int8)))
    return [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]


def mark_periods(wave: np.ndarray, sample_rate: int, f0: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Samples `[marks]` from the first to the last of `wave`, and Hz `[marks - 1]` between them, 0 where unvoiced.

    Voiced marks are at the same place of each period; where nothing is voiced, marks are some 5 ms apart.
    """
    last, hop = len(wave) - 1, HOP * sample_rate
    periods = sample_rate / np.maximum(f0, LOWEST)
    marks, voiced = [np.zeros(1, np.int64)], [np.zeros(0, bool)]
    for start, end in voiced_stretches(f0):
        first, stop = max(round((start - 0.5) * hop), int(marks[-1][-1]) + 1), min(round((end - 0.5) * hop), last)
        found = _pulses(wave, first, stop, periods, hop)
        if len(found) < 2:
            continue
        rest = _evenly(int(marks[-1][-1]), int(found[0]), sample_rate)
        marks += [rest, found[1:]]
        voiced += [np.zeros(len(rest), bool), np.ones(len(found) - 1, bool)]
    rest = _evenly(int(marks[-1][-1]), last, sample_rate)
    placed = np.concatenate([*marks, rest])
    between = np.interp((placed[:-1] + placed[1:]) / 2, *_voiced_points(f0, hop))
    return placed, np.where(np.concatenate([*voiced, np.zeros(len(rest), bool)]), between, 0.0)


def _voiced_points(f0: np.ndarray, hop: float) -> tuple[np.ndarray, np.ndarray]:
    frames = np.flatnonzero(f0)
    return (frames * hop, f0[frames]) if len(frames) else (np.zeros(1), np.zeros(1))


def _autocorrelation(wave: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Likeness of each frame to itself, `[frames, lags]`, 1 at best; and its energy, `[frames]`."""
    hop = round(HOP * _RATE)
    padded = np.pad(wave, _WINDOW // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::hop]
    window = np.hanning(_WINDOW).astype(np.float32)
    power = np.abs(scipy.fft.rfft((frames - frames.mean(1, keepdims=True)) * window, _FFT)) ** 2
    lags = round(_RATE / LOWEST) + 2
    products = scipy.fft.irfft(power, _FFT)[:, :lags]
    itself = scipy.fft.irfft(np.abs(scipy.fft.rfft(window, _FFT)) ** 2, _FFT)[:lags]
    energy = products[:, 0].copy()
    return products / np.maximum(energy, 1e-12)[:, None] * (itself[0] / itself), energy


def _best(
    likeness: np.ndarray, heard: np.ndarray, lowest: float | np.ndarray, highest: float | np.ndarray, least: float
) -> np.ndarray:
    """Hz, `[frames]`, of the likeliest lag between two pitches (of all frames, or `[frames]`); 0 where none is
    `least` alike. Only peaks of likeness count; they are found between lags."""
    lags = np.arange(int(_RATE / np.max(highest)), likeness.shape[1] - 1)
    here = likeness[:, lags]
    counts = (here >= likeness[:, lags - 1]) & (here > likeness[:, lags + 1]) & (here > least) & heard[:, None]
    counts &= (lags >= _RATE / np.reshape(highest, (-1, 1))) & (lags <= _RATE / np.reshape(lowest, (-1, 1)))
    lag = lags[np.where(counts, here - _OCTAVE * np.log2(lags, dtype=np.float32), -np.inf).argmax(1)]
    before, peak, after = (likeness[np.arange(len(lag)), lag + step] for step in (-1, 0, 1))
    curve = np.minimum(before - 2 * peak + after, -1e-9)
    return np.where(counts.any(1), _RATE / (lag + 0.5 * (before - after) / curve), 0.0)


def _pulses(wave: np.ndarray, start: int, end: int, periods: np.ndarray, hop: float) -> np.ndarray:
    """Samples in `[start, end)` a period apart, from the loudest to both sides: each is where the wave is most like
    what it was around the one before."""
    if end <= start:
        return np.zeros(0, np.int64)
    loudest = start + int(np.abs(wave[start:end]).argmax())
    sides: list[list[int]] = []
    for direction in (-1, 1):
        mark, side = loudest, []
        while True:
            period = periods[min(round(mark / hop), len(periods) - 1)]
            reach = max(1, round(_SNAP * period))
            low = mark + direction * round(period) - reach
            high = low + 2 * reach
            if low < start or high >= end:
                break
            half = min(round(_AROUND * period), low, mark, len(wave) - 1 - max(high, mark))
            likeness = np.correlate(wave[low - half : high + half + 1], wave[mark - half : mark + half + 1], "valid")
            mark = low + int(likeness.argmax())
            side.append(mark)
        sides.append(side)
    return np.array([*reversed(sides[0]), loudest, *sides[1]], np.int64)


def _evenly(start: int, end: int, sample_rate: int) -> np.ndarray:
    """Samples after `start` up to and with `end`, some `_REST` seconds apart; none where they are the same."""
    if end <= start:
        return np.zeros(0, np.int64)
    steps = min(max(1, round((end - start) / (_REST * sample_rate))), end - start)
    return np.linspace(start, end, steps + 1).round().astype(np.int64)[1:]
