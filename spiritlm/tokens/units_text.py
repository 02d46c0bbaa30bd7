"""Units written down, to be spoken: numbers, Spirit LM's `[Hu12]` or GLM-4-Voice's `<|audio_12|>`."""

from __future__ import annotations

import re

import numpy as np

from spiritlm.errors import InputError

_UNIT = re.compile(r"[\s,]*(?:\[Hu(\d{1,9})\]|<\|audio_(\d{1,9})\|>|(\d{1,9})(?=[\s,]|$))")
_BETWEEN = " ,\t\r\n"


def read_units(text: str, name: str = "units") -> np.ndarray:
    """int64 `[n]`, in order; between them may stand spaces, line ends and commas. Raises `InputError` for anything else
    and where there are none; `name` is what the text is called."""
    units, place, text = [], 0, text.rstrip(_BETWEEN)
    while place < len(text):
        found = _UNIT.match(text, place)
        if found is None:
            wrong = text[place:].lstrip(_BETWEEN)
            what, line = wrong.split()[0][:20], text.count("\n", 0, len(text) - len(wrong)) + 1
            raise InputError(f"{name}, line {line}: {what!r} is no unit; expected 12, [Hu12] or <|audio_12|>")
        units.append(int(found[found.lastindex or 0]))
        place = found.end()
    if not units:
        raise InputError(f"{name}: holds no units; expected 12, [Hu12] or <|audio_12|>")
    return np.array(units, dtype=np.int64)
