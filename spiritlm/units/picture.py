"""A few seconds to look at: waveform, units of several tokenizers, phones and words on one axis of time."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from spiritlm.units.protocol import UnitStream

WIDTH, LABELS = 10.0, 1.0
"""Inches: of the picture, and of the names on its left."""
HEIGHTS = {"wave": 0.8, "units": 0.46, "phones": 0.3, "words": 0.34}
"""Inches of a row."""
GAP = 0.07
INK, SOFT, LINE, WAVE, PAPER = "#1d2433", "#5d6678", "#c3c9d4", "#2457c5", "#f5f6f8"
SMALL, NORMAL = 6.5, 9.0
"""Font sizes, points."""
GOLDEN = 0.618034

Color = str | tuple[float, float, float]


class Mark(NamedTuple):
    """Something said; seconds from the start of the recording."""

    text: str
    start: float
    end: float


def timeline(
    wave: np.ndarray,
    sample_rate: int,
    tracks: Sequence[tuple[str, UnitStream]],
    phones: Sequence[Mark],
    words: Sequence[Mark],
    start: float,
    end: float,
) -> Figure:
    """Seconds `[start, end)` of a recording. `wave`: float32 `[samples]`; `tracks`: names and units of the whole
    recording. Equal units side by side are one cell; the number of a unit chooses its colour."""
    kinds = ["wave", *("units" for _ in tracks), "phones", "words"]
    heights = [HEIGHTS[kind] for kind in kinds]
    total = sum(heights) + GAP * len(heights) + 0.4
    picture = Figure(figsize=(WIDTH, total))
    rows, top = [], total - GAP
    for height in heights:
        box = (LABELS / WIDTH, (top - height) / total, 1 - (LABELS + 0.1) / WIDTH, height / total)
        rows.append(picture.add_axes(box, xlim=(start, end), yticks=[], ylim=(-0.02, 1.02)))
        top -= height + GAP
    _draw_wave(rows[0], wave, sample_rate, start, end)
    for row, (_, stream) in zip(rows[1:], tracks, strict=False):
        _draw_units(row, stream, start, end)
    _draw_marks(rows[-2], phones, start, end, SMALL + 1)
    _draw_marks(rows[-1], words, start, end, NORMAL)
    for row, name in zip(rows, ["sound", *(name for name, _ in tracks), "phones", "words"], strict=True):
        row.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=NORMAL, color=INK, labelpad=8)
        row.spines[:].set_visible(False)
        row.tick_params(bottom=row is rows[-1], labelbottom=row is rows[-1], labelsize=SMALL + 1.5, colors=SOFT)
        for word in words:
            if start < word.start < end:
                row.axvline(word.start, color=SOFT, linewidth=0.8, linestyle=(0, (2, 2)), zorder=3)
    rows[-1].set_xlabel("seconds", fontsize=NORMAL - 1, color=SOFT, labelpad=2)
    return picture


def _draw_wave(row: Axes, wave: np.ndarray, sample_rate: int, start: float, end: float) -> None:
    """The lowest and highest sample of every 3 ms."""
    first, last = round(start * sample_rate), min(len(wave), round(end * sample_rate))
    step = max(1, round(0.003 * sample_rate))
    starts = np.arange(first, last, step)
    heard = wave[:last]
    lowest, highest = (np.ufunc.reduceat(kind, heard, starts) for kind in (np.minimum, np.maximum))
    row.fill_between((starts + step / 2) / sample_rate, lowest, highest, color=WAVE, linewidth=0.3)
    peak = float(np.abs(heard[first:]).max(initial=1e-3))
    row.set_ylim(-1.05 * peak, 1.05 * peak)


def _draw_units(row: Axes, stream: UnitStream, start: float, end: float) -> None:
    """Numbers stand upright in cells that could not hold the longest one along time."""
    longest = len(str(stream.values.max()))
    changes = np.flatnonzero(np.diff(stream.values, prepend=-1))
    for first, last in zip(changes, [*changes[1:], len(stream.values)], strict=True):
        left, right = max(start, first / stream.rate), min(end, last / stream.rate)
        if left < right:
            unit = int(stream.values[first])
            width = _cell(row, left, right, unit_color(unit), "white")
            if _fits(longest, SMALL, width):
                _write(row, str(unit), left, right, SMALL, unit_color(unit))
            elif width >= SMALL:
                _write(row, str(unit), left, right, SMALL, unit_color(unit), rotation=90)


def _draw_marks(row: Axes, marks: Sequence[Mark], start: float, end: float, size: float) -> None:
    for mark in marks:
        left, right = max(start, mark.start), min(end, mark.end)
        if left < right:
            width = _cell(row, left, right, PAPER, LINE)
            if _fits(len(mark.text), size, width):
                _write(row, mark.text, left, right, size, PAPER)


def _cell(row: Axes, left: float, right: float, color: Color, edge: str) -> float:
    """Draw it; its width in points."""
    row.add_patch(Rectangle((left, 0), right - left, 1, facecolor=color, edgecolor=edge, linewidth=0.8))
    first, last = row.get_xlim()
    return 72 * (right - left) / (last - first) * (WIDTH - LABELS - 0.1)


def _fits(letters: int, size: float, width: float) -> bool:
    return 0.62 * size * letters <= width


def _write(row: Axes, text: str, left: float, right: float, size: float, around: Color, rotation: int = 0) -> None:
    """In the middle of a cell, before the lines that cross it."""
    said = row.text((left + right) / 2, 0.48, text, size=size, color=INK, ha="center", va="center", rotation=rotation)
    said.set(zorder=4, path_effects=[withStroke(linewidth=2.5, foreground=around)])


def unit_color(unit: int) -> Color:
    """Light enough for dark numbers; neighbours in the vocabulary are far apart."""
    return colorsys.hls_to_rgb(unit * GOLDEN % 1, 0.74 + 0.08 * (unit % 3), 0.65)
