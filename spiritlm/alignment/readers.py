"""Alignments made elsewhere: Praat's TextGrid, as the Montreal Forced Aligner writes it.

A TextGrid file comes in, the words of its `words` tier go out. Corpora whose alignments are lhotse's need no reader
here: `spiritlm/corpus/manifest.py` reads the `word` alignment of every supervision.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from spiritlm.alignment.words import AlignedWord
from spiritlm.errors import InputError
from spiritlm.run.files import read_bytes

SILENCES = ("", "<eps>", "<sil>")
"""Texts of intervals in which nothing is said."""
CERTAIN = 0.0
"""Score of a word whose aligner states none."""

_TOKEN = re.compile(r'"(?:[^"]|"")*"|(?<!\S)(?:[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?|<exists>|<absent>)(?!\S)|(?<!\S)!.*')
"""What counts in a TextGrid, long or short: quoted texts and numbers and flags that stand alone. The rest is prose."""


@dataclass(frozen=True)
class Interval:
    start: float
    """Seconds."""
    end: float
    text: str


def read_textgrid(path: Path, tier: str = "words") -> list[AlignedWord]:
    """The words of a tier, in order of time; long or short format, UTF-8 or UTF-16.

    MFA names a tier a speaker, `ann - words`; all tiers with such a name are taken. Raises `InputError` where the
    file cannot be read, is no TextGrid, or has no interval tier of that name.
    """
    tiers = _tiers(path)
    found = [intervals for name, intervals in tiers if name == tier or name.endswith(f" - {tier}")]
    if not found:
        names = ", ".join(repr(name) for name, _ in tiers) or "none"
        raise InputError(f"{path}: expected an interval tier {tier!r}, found {names}")
    intervals = sorted((i for part in found for i in part if i.text not in SILENCES), key=lambda i: i.start)
    if bad := next((i for i in intervals if i.end < i.start), None):
        raise InputError(f"{path}: the interval of {bad.text!r} ends at {bad.end} s, before it starts")
    return [AlignedWord(i.text, i.start, i.end, CERTAIN) for i in intervals]


def _tiers(path: Path) -> list[tuple[str, list[Interval]]]:
    """Name and intervals of each interval tier."""
    tokens = _tokens(path)
    try:
        if next(tokens) not in ("ooTextFile", "ooTextFile short") or next(tokens) != "TextGrid":
            raise InputError(f"{path}: expected a TextGrid")
        _start, _end, exists = next(tokens), next(tokens), next(tokens)
        count = int(next(tokens)) if exists == "<exists>" else 0
        tiers = (_tier(tokens) for _ in range(count))
        return [(name, intervals) for kind, name, intervals in tiers if kind == "IntervalTier"]
    except (StopIteration, RuntimeError, ValueError):
        raise InputError(f"{path}: the TextGrid is cut short, or its parts are in another order") from None


def _tier(tokens: Iterator[str]) -> tuple[str, str, list[Interval]]:
    kind, name, _start, _end, count = (next(tokens) for _ in range(5))
    if kind not in ("IntervalTier", "TextTier"):
        raise ValueError(kind)
    if kind == "TextTier":  # points: a time and a mark
        for _ in range(2 * int(count)):
            next(tokens)
        return kind, name, []
    intervals = [Interval(float(next(tokens)), float(next(tokens)), next(tokens).strip()) for _ in range(int(count))]
    return kind, name, intervals


def _tokens(path: Path) -> Iterator[str]:
    for found in _TOKEN.findall(_text(path)):
        if found.startswith('"'):
            yield found[1:-1].replace('""', '"')
        elif not found.startswith("!"):
            yield found


def _text(path: Path) -> str:
    data = read_bytes(path)
    is_utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return data.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path}: expected UTF-8, or UTF-16 with a byte order mark") from None
