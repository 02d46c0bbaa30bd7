"""What pitch and style units keep of recordings: F0, mood, and how soon a change of mood is told.

The F0 that pitch units decode to is compared with the one tracked over the whole recording. Each style unit stands
for the mood that it mostly has in training recordings (`spiritlm/scoring/styles.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from spiritlm.audio.f0 import track_f0
from spiritlm.corpus.manifest import SpokenDocument
from spiritlm.errors import InputError
from spiritlm.scoring.f0 import F0Errors, f0_errors
from spiritlm.scoring.jackknife import as_json, as_percent
from spiritlm.scoring.styles import (
    StyleAccuracy,
    UnitLabels,
    change_lags,
    label_spans,
    labels_of_units,
    style_accuracy,
)
from spiritlm.units.pitch import PitchTokenizer
from spiritlm.units.protocol import StreamTokenizer, UnitStream

SOON = 1.5
"""Seconds in which a change is to be told."""
LABEL = "mood"
"""Of recordings, in `custom`."""


@dataclass(frozen=True)
class Heard:
    """A recording and what was made of it."""

    document: SpokenDocument
    wave: np.ndarray
    """float32 `[samples]`."""
    pitch: UnitStream
    style: UnitStream


class Prosody(NamedTuple):
    f0: F0Errors
    style: StyleAccuracy
    lags: np.ndarray
    """Seconds from each change of mood inside a recording until units tell the new one, float `[changes]`, NaN where
    they never do."""
    moods: int
    pitch_used: int
    style_used: int


def moods_of_units(vocabulary_size: int, heard: Sequence[tuple[SpokenDocument, UnitStream]]) -> list[str]:
    """The mood that each style unit mostly has. Raises `InputError` where a recording has none."""
    labels = UnitLabels(vocabulary_size)
    for document, stream in heard:
        labels.add(stream.values, _true(document, stream))
    return labels.commonest()


def prosody(tokenizer: StreamTokenizer, moods: Sequence[str], heard: Sequence[Heard]) -> Prosody:
    """`tokenizer`: that of the pitch units; `moods`: of each style unit, or none: then moods are not looked at. Raises
    `InputError` for units without a decoder of F0, and where a recording has no mood."""
    if not isinstance(tokenizer, PitchTokenizer):
        raise InputError("pitch: expected units that F0 can be decoded from")
    contours, told, lags = [], [], [np.zeros(0)]
    for one in heard:
        reference = track_f0(one.wave, tokenizer.config.tracker)
        mean = tokenizer.config.mean(reference, reference > 0)
        contours.append((reference, tokenizer.decode_f0(one.pitch.values, mean)[: len(reference)]))
        if moods:
            said = [moods[unit] for unit in one.style.values]
            told.append((said, _true(one.document, one.style)))
            lags.append(change_lags(said, label_spans(one.document, LABEL), one.style.rate))
    used = [len(np.unique(np.concatenate([getattr(h, name).values for h in heard]))) for name in ("pitch", "style")]
    known = len({mood for _, true in told for mood in true})
    return Prosody(f0_errors(contours), style_accuracy(told), np.concatenate(lags), known, *used)


def figures(found: Prosody, pitch_size: int, style_size: int) -> dict[str, Any]:
    """As JSON. `pitch_size`, `style_size`: of the vocabularies."""
    told = found.lags[~np.isnan(found.lags)]
    return {
        "f0_within_10_percent": as_json(found.f0.near),
        "f0_gross_error": as_json(found.f0.gross),
        "f0_voicing_error": as_json(found.f0.voicing),
        "f0_cents": None if np.isnan(found.f0.cents) else found.f0.cents,
        "pitch_used": [found.pitch_used, pitch_size],
        "style_per_second": as_json(found.style.unit),
        "style_per_recording": as_json(found.style.recording),
        "style_used": [found.style_used, style_size],
        "moods": found.moods,
        "changes": len(found.lags),
        "changes_told": len(told),
        "changes_soon": int(np.sum(told <= SOON)),
        "lag_seconds": _median(found.lags),
    }


def table(measures: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of `figures` by tokenizer and set of speakers; those without are passed over."""
    header = ["tokenizer", "speakers", "F0 within 10 %", "gross F0 errors", "cents", "voicing errors", "pitch used"]
    header += ["mood, a second", "mood, a recording", "chance", "style used", "told in 1.5 s", "lag, s"]
    rows = []
    for name, sets in measures.items():
        for speakers, found in sets.items():
            if "f0_cents" not in found:
                continue
            row = [name, speakers, as_percent(found["f0_within_10_percent"]), as_percent(found["f0_gross_error"])]
            row += ["-" if found["f0_cents"] is None else f"{found['f0_cents']:.0f}"]
            row += [as_percent(found["f0_voicing_error"]), "{}/{}".format(*found["pitch_used"])]
            row += [as_percent(found["style_per_second"]), as_percent(found["style_per_recording"])]
            row += [f"{100 / found['moods']:.1f}" if found["moods"] else "-", "{}/{}".format(*found["style_used"])]
            row += [f"{found['changes_soon']}/{found['changes']}"]
            rows.append([*row, "-" if found["lag_seconds"] is None else f"{found['lag_seconds']:.2f}"])
    return header, rows


def _median(lags: np.ndarray) -> float | None:
    """A change that is never told lags for ever; None where that is the median."""
    middle = float(np.median(np.where(np.isnan(lags), np.inf, lags))) if len(lags) else np.inf
    return middle if np.isfinite(middle) else None


def _true(document: SpokenDocument, stream: UnitStream) -> list[str]:
    return labels_of_units(label_spans(document, LABEL), len(stream.values), stream.rate, document.duration)
