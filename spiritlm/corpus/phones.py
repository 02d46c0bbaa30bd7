"""When each phone is heard: `phones.jsonl` of a corpus folder, one line `{"id": RECORDING, "phones": [[phone, start,
end], ...]}` a recording, in order of time and without pauses.

`synth_data/speak.py` writes it with the synthesizers' own times. Phones of one synthesizer mean nothing to another:
a speaker named `ENGINE:VOICE` has the alphabet ENGINE, all others share one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from spiritlm.errors import InputError
from spiritlm.run.files import read_jsonl

PHONES_FILE = "phones.jsonl"
TOUCH = 0.01
"""Seconds between two phones that still count as one after the other."""


class Phone(NamedTuple):
    """Seconds from the start of the recording."""

    text: str
    start: float
    end: float


@dataclass(frozen=True)
class Triphone:
    """A phone between two others, without a pause."""

    recording: int
    """Number in the list it was found in."""
    speaker: str
    phone: str
    context: tuple[str, str, str]
    """Alphabet, phone before, phone after."""
    start: float
    """Seconds, of the phone before."""
    end: float
    """Seconds, of the phone after."""


def read_phones(folder: Path) -> dict[str, tuple[Phone, ...]]:
    """Phones by recording. Raises `InputError` where the corpus in `folder` has none, or a line is not as above."""
    path = folder / PHONES_FILE
    if not path.is_file():
        raise InputError(f"{folder}: expected {PHONES_FILE}, when each phone is heard; a corpus of speak.py has it")
    found = {}
    for number, row in enumerate(read_jsonl(path), start=1):
        try:
            phones = tuple(Phone(str(text), float(start), float(end)) for text, start, end in row["phones"])
            found[str(row["id"])] = phones
        except (KeyError, TypeError, ValueError):
            raise InputError(f"{path}, line {number}: expected id and phones as [[phone, start, end], ...]") from None
        if any(p.end < p.start for p in phones) or any(b.start < a.start for a, b in pairwise(phones)):
            raise InputError(f"{path}, line {number}: expected phones in order of time, each from start to end")
    return found


def alphabet(speaker: str) -> str:
    """Empty for a speaker whose name tells no synthesizer."""
    engine, colon, _ = speaker.partition(":")
    return engine if colon else ""


def phone_numbers(phones: Sequence[Phone], times: np.ndarray) -> np.ndarray:
    """Which of `phones` is heard at each of `times` (seconds, `[n]`): int64 `[n]`, -1 in pauses."""
    starts, ends = (np.array([getattr(p, side) for p in phones]) for side in ("start", "end"))
    if not len(phones):
        return np.full(len(times), -1)
    number = np.searchsorted(starts, times, side="right") - 1
    return np.where((number >= 0) & (times < ends[number]), number, -1)


def triphones(phones: Sequence[Phone], recording: int, speaker: str) -> list[Triphone]:
    """Every phone of a recording that has one right before and right after it."""
    return [
        Triphone(recording, speaker, phone.text, (alphabet(speaker), before.text, after.text), before.start, after.end)
        for before, phone, after in zip(phones, phones[1:], phones[2:], strict=False)
        if phone.start - before.end <= TOUCH and after.start - phone.end <= TOUCH
    ]
