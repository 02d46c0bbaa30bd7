"""What can be measured of speech by listening: words, mood, pitch, length. What a report says of continuations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from spiritlm.inference.request import SAMPLE_RATE, Speech
from spiritlm.scoring.judges import Judges
from spiritlm.smallworld.pitch import track_pitch

SEMITONES = 12
LEAST_VOICED = 5
"""Frames of pitch (5 ms each) that a pitch is told of."""


def heard(spoken: Sequence[Speech], judges: Judges) -> list[dict[str, Any]]:
    """Of each: `seconds`; `pitch`, the median of F0 in Hz, and `range`, semitones from its 5th to its 95th percentile,
    both None without voice; `voiced`, the share of frames; `words` and `mood` where there is who hears them."""
    rows = [_measured(speech) for speech in spoken]
    for name, judge in (("words", judges.recognizer), ("mood", judges.speech_classifier)):
        if judge is not None:
            for row, found in zip(rows, judge(spoken), strict=True):
                row[name] = found
    return rows


def _measured(speech: Speech) -> dict[str, Any]:
    wave = speech.at(SAMPLE_RATE)
    f0 = track_pitch(wave, SAMPLE_RATE) if len(wave) >= SAMPLE_RATE // 10 else np.zeros(0)
    voiced = f0[f0 > 0]
    low, middle, high = np.percentile(voiced, [5, 50, 95]) if len(voiced) >= LEAST_VOICED else (0.0, 0.0, 0.0)
    return {
        "seconds": round(len(speech.wave) / speech.sample_rate, 2),
        "pitch": round(float(middle), 1) if middle else None,
        "range": round(SEMITONES * float(np.log2(high / low)), 2) if middle else None,
        "voiced": round(len(voiced) / max(1, len(f0)), 3),
    }
