"""Units written down, to be spoken: numbers, Spirit LM's `[St3][Pi7][Hu12]` or GLM-4-Voice's `<|audio_12|>`."""

from __future__ import annotations

import re

import numpy as np

from spiritlm.errors import InputError
from spiritlm.tokens.streams import Prosody, in_force

_UNIT = re.compile(
    r"[\s,]*(?:\[(?P<stream>Hu|Pi|St)(?P<unit>\d{1,9})\]|<\|audio_(?P<audio>\d{1,9})\|>|"
    r"(?P<number>\d{1,9})(?=[\s,]|$))"
)
_EXPECTED = "12, [Hu12], <|audio_12|> or [St3][Pi7][Hu12]"
_BETWEEN = " ,\t\r\n"


def read_units(text: str, name: str = "units") -> tuple[np.ndarray, Prosody | None]:
    """int64 `[n]`, in order, and where pitch is written the pitch and style of each (see `streams.units`; style 0 where
    none is); between them may stand spaces, line ends and commas. Raises `InputError` for anything else and where there
    are none; `name` is what the text is called."""
    found: list[tuple[str, int]] = []
    place, text = 0, text.rstrip(_BETWEEN)
    while place < len(text):
        match = _UNIT.match(text, place)
        if match is None:
            wrong = text[place:].lstrip(_BETWEEN)
            what, line = wrong.split()[0][:20], text.count("\n", 0, len(text) - len(wrong)) + 1
            raise InputError(f"{name}, line {line}: {what!r} is no unit; expected {_EXPECTED}")
        stream = {"Pi": "pitch", "St": "style"}.get(match["stream"] or "", "semantic")
        found.append((stream, int(match["unit"] or match["audio"] or match["number"])))
        place = match.end()
    said = {stream: np.array(values, np.int64) for stream, values in in_force(found, repeat=False, style=0).items()}
    if not len(said["semantic"]):
        raise InputError(f"{name}: holds no units; expected {_EXPECTED}")
    return said["semantic"], Prosody(said["pitch"], said["style"]) if "pitch" in said else None
