"""Spirit LM's streams of units as one sequence: in come units with their rates, out go tokens in the order of time.

    merge            integer arrays -> integer arrays, exact times, each chunk of a recording on its own clock
    published_merge  the same as the released tokenizer orders it: float times, 24.99 Hz, one clock for all chunks
    tokens           the merged arrays as a string: [St3][Pi7][Hu28]...
    units            a string back to units, one pitch and style for each semantic unit

Both merges agree for the first 100 seconds. Beyond, the published clock lets a pitch token stand before a semantic
unit that starts earlier. Deduplicated pitch does not come back: `units` holds it until the next token.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple, TypeVar

import numpy as np

from spiritlm.errors import InputError
from spiritlm.tokens.interleave import deduplicate
from spiritlm.tokens.layout import SPIRIT_TOKENS, STREAMS

RATES = {"semantic": Fraction(25), "pitch": Fraction(25, 2), "style": Fraction(1)}
"""Units per second, Hz."""
PUBLISHED_RATES = {"semantic": 24.99, "pitch": 12.5, "style": 1.0}
"""24.99 puts semantic unit 2j strictly after pitch unit j where both begin at one instant."""
DEDUPLICATED = ("semantic", "pitch")
"""Streams of which only the first of equal neighbours is written."""
LONGEST_CHUNK, SHORTEST_CHUNK = 1_600_000, 1280
"""Samples at 16 kHz: 100 s and 80 ms, the time of one pitch unit."""
COMMON_STYLES = (71, 68, 98)
"""Of these the released tokenizer draws one for speech with pitch and no style; here the first is the default."""

_ORDER = [STREAMS.index(stream) for stream in ("style", "pitch", "semantic")]
"""Which stream comes first at one instant."""
_STREAM_OF = {token[1:3]: stream for stream, token in SPIRIT_TOKENS.items()}
_PREFIX = "|".join(_STREAM_OF)
_TOKEN = re.compile(rf"\[({_PREFIX})(\d+)\]")
_PUBLISHED_PIECE = re.compile(rf"({_PREFIX})\d")
Value = TypeVar("Value")


class Prosody(NamedTuple):
    """How semantic units are said: the pitch and the style unit of each, int `[n]`."""

    pitch: np.ndarray
    style: np.ndarray


@dataclass(frozen=True)
class Merged:
    """Tokens in order, each array int64 `[tokens]`."""

    stream: np.ndarray
    """Index into `STREAMS`."""
    chunk: np.ndarray
    index: np.ndarray
    """Of the unit in its stream, counted from the start of the chunk: it begins `index / rate` seconds after it."""
    value: np.ndarray
    """The unit."""


def merge(
    chunks: Sequence[Mapping[str, np.ndarray]],
    rates: Mapping[str, Fraction] = RATES,
    deduplicated: Collection[str] = DEDUPLICATED,
) -> Merged:
    """Units of the chunks of one recording, stream name -> int `[units]`, in the order of time.

    Times are compared exactly; at one instant style comes before pitch before semantic. Runs of equal units count as
    one run across the ends of chunks.
    """
    found = _gather(chunks, deduplicated)
    # i / (n / d) in units of 1 / common, an integer
    common = math.lcm(*(Fraction(rates[stream]).numerator for stream in STREAMS))
    steps = np.array([common // Fraction(rates[stream]) for stream in STREAMS], dtype=np.int64)
    return _sorted(found, (steps[found.stream] * found.index, found.chunk))


def published_merge(
    chunks: Sequence[Mapping[str, np.ndarray]],
    rates: Mapping[str, float] = PUBLISHED_RATES,
    deduplicated: Collection[str] = DEDUPLICATED,
) -> Merged:
    """`merge` as the released tokenizer does it: float times counted through all chunks as if they were one."""
    found = _gather(chunks, deduplicated)
    lengths = np.array([[len(chunk.get(stream, ())) for stream in STREAMS] for chunk in chunks], dtype=np.int64)
    offsets = np.cumsum(lengths.reshape(-1, len(STREAMS)), axis=0) - lengths.reshape(-1, len(STREAMS))
    hertz = np.array([float(rates[stream]) for stream in STREAMS])
    return _sorted(found, ((found.index + offsets[found.chunk, found.stream]) / hertz[found.stream],))


def _gather(chunks: Sequence[Mapping[str, np.ndarray]], deduplicated: Collection[str]) -> Merged:
    """All units that are written: style, then pitch, then semantic units, each in its own order."""
    for chunk in chunks:
        if unknown := set(chunk) - set(STREAMS):
            raise InputError(f"unit stream {min(unknown)!r}: expected one of {', '.join(STREAMS)}")
    parts = [
        _stream(number, [np.asarray(chunk.get(STREAMS[number], ()), dtype=np.int64) for chunk in chunks], deduplicated)
        for number in _ORDER
    ]
    return Merged(*np.concatenate(parts, axis=1))


def _stream(number: int, chunks: Sequence[np.ndarray], deduplicated: Collection[str]) -> np.ndarray:
    """int64 `[4, units]`: stream, chunk, index and value of the units of one stream that are written."""
    lengths = [len(values) for values in chunks]
    value = np.concatenate([np.zeros(0, np.int64), *chunks])
    chunk = np.repeat(np.arange(len(chunks)), lengths)
    index = np.concatenate([np.zeros(0, np.int64), *(np.arange(length) for length in lengths)])
    written = np.ones(len(value), dtype=bool)
    if STREAMS[number] in deduplicated:
        written[1:] = value[1:] != value[:-1]
    return np.stack([np.full(len(value), number), chunk, index, value])[:, written]


def _sorted(found: Merged, keys: tuple[np.ndarray, ...]) -> Merged:
    """By the last key, then the one before it; what is equal stays in the order found."""
    order = np.lexsort(keys)
    return Merged(found.stream[order], found.chunk[order], found.index[order], found.value[order])


def tokens(merged: Merged) -> str:
    """The tokens as the released tokenizer writes them."""
    names = [SPIRIT_TOKENS[stream] for stream in STREAMS]
    return "".join(
        names[stream].format(value) for stream, value in zip(merged.stream.tolist(), merged.value.tolist(), strict=True)
    )


def units(string: str, repeat_for_pitch: bool = False, default_style: int = COMMON_STYLES[0]) -> dict[str, np.ndarray]:
    """Tokens of speech -> stream name -> int64 `[semantic units]`.

    Each semantic unit gets the pitch and style last written before it, or else the first written at all; a stream
    that is never written is absent, except style where there is pitch: it is `default_style`. With
    `repeat_for_pitch`, a semantic unit is repeated where several pitch tokens follow each other, once for each of them.
    Raises `InputError` for anything that is no token of speech.
    """
    found, end = [], 0
    for match in _TOKEN.finditer(string):
        if match.start() != end:
            break
        found.append((_STREAM_OF[match[1]], int(match[2])))
        end = match.end()
    if end != len(string):
        raise InputError(f"speech tokens: found {string[end : end + 20]!r}, expected [Hu..], [Pi..] or [St..]")
    walked = in_force(found, repeat_for_pitch, default_style)
    return {stream: np.array(values, dtype=np.int64) for stream, values in walked.items()}


def published_units(
    string: str, repeat_for_pitch: bool = False, default_style: str = str(COMMON_STYLES[0])
) -> dict[str, str]:
    """`units` as the released tokenizer reads a string: stream name -> units with spaces between them.

    It splits at `[`, drops what is no token and cuts the last character of each piece unseen: `[Hu3` is an empty unit,
    `[Hu3]junk` is `3]jun`. Of pitch tokens that follow each other, the repeated units lose the first.
    """
    pieces = [piece for piece in string.split("[") if _PUBLISHED_PIECE.match(piece)]
    found = [(_STREAM_OF[piece[:2]], piece[2:-1]) for piece in pieces]
    walked = in_force(found, repeat_for_pitch, default_style, published=True)
    return {stream: " ".join(values) for stream, values in walked.items()}


def in_force(
    found: Sequence[tuple[str, Value]], repeat: bool, style: Value, published: bool = False
) -> dict[str, list[Value]]:
    """`units` of tokens that are read already: their streams and values, in order."""
    current: dict[str, Value] = {}
    for stream, value in found:
        current.setdefault(stream, value)
    if "pitch" in current:
        current.setdefault("style", style)
    streams = [stream for stream in STREAMS if stream == "semantic" or stream in current]
    rows: list[list[Value]] = []
    previous = ""
    for stream, value in found:
        again = repeat and stream == previous == "pitch"
        if again and "semantic" not in current:
            raise InputError("speech tokens: several pitch tokens and no semantic unit that could be repeated")
        if again and not published:
            rows.append([current[name] for name in streams])
        current[stream] = value
        if stream == "semantic" or (again and published):
            rows.append([current[name] for name in streams])
        previous = stream
    return {name: [row[column] for row in rows] for column, name in enumerate(streams)}


def at_units(stream: np.ndarray, rate: float, unit_rate: float, places: np.ndarray) -> np.ndarray:
    """The unit of a stream of `rate` Hz at the beginning of each of the units `places` of `unit_rate` Hz, int64; the
    last one goes on."""
    return stream[np.minimum(len(stream) - 1, (places * rate / unit_rate + 1e-6).astype(np.int64))].astype(np.int64)


def prosody_at(pitch: np.ndarray, style: np.ndarray, rates: Sequence[float], places: np.ndarray) -> Prosody:
    """Pitch and style at semantic units `places`; `rates`: Hz, of semantic, pitch and style units."""
    return Prosody(*(at_units(s, rate, rates[0], places) for s, rate in ((pitch, rates[1]), (style, rates[2]))))


def deduplicated(units: np.ndarray, prosody: Prosody | None) -> tuple[np.ndarray, np.ndarray, Prosody | None]:
    """Runs of equal units `[n]`: the unit and the length of each, and how each is said, as it was when it began."""
    values, durations = deduplicate(units)
    begins = np.cumsum(durations) - durations
    return values, durations, prosody and Prosody(prosody.pitch[begins], prosody.style[begins])


def chunk_lengths(samples: int, longest: int = LONGEST_CHUNK, shortest: int = SHORTEST_CHUNK) -> list[int]:
    """Lengths of the pieces of a waveform that are encoded apart; a last piece under `shortest` is dropped."""
    lengths = [min(longest, samples - start) for start in range(0, samples, longest)]
    return [length for length in lengths if length >= shortest]


def mono(wave: np.ndarray, channel: int | None = None) -> np.ndarray:
    """`[samples]` or `[channels, samples]` -> `[samples]`: the mean of the channels, or one of them."""
    if wave.ndim == 1:
        return wave
    if wave.ndim != 2:
        raise InputError(f"wave of shape {wave.shape}: expected [samples] or [channels, samples]")
    if channel is None:
        return wave.mean(axis=0)
    if not 0 <= channel < len(wave):
        raise InputError(f"channel {channel}: the wave has {len(wave)}")
    return wave[channel]
