"""Mel frames to look at, one above the other on one axis of time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

WIDTH, HEIGHT = 9.0, 1.7
"""Inches: of the picture, of a row."""


def draw_mels(rows: Sequence[tuple[str, np.ndarray]], frame_rate: float) -> Figure:
    """`rows`: names and log-mels float `[mels, frames]`; all in the colours of the first."""
    figure = Figure(figsize=(WIDTH, HEIGHT * len(rows) + 0.4), layout="constrained")
    axes = figure.subplots(len(rows), 1, sharex=True, squeeze=False)[:, 0]
    low, high = np.percentile(rows[0][1], [2, 99.8])
    for axis, (name, mel) in zip(axes, rows, strict=True):
        extent = (0.0, mel.shape[1] / frame_rate, 0.0, float(len(mel)))
        axis.imshow(mel, origin="lower", aspect="auto", cmap="magma", vmin=low, vmax=high, extent=extent)
        axis.set_ylabel(f"{name}\nmel bin", fontsize=8)
        axis.tick_params(labelsize=7)
    axes[-1].set_xlabel("seconds", fontsize=8)
    return figure
