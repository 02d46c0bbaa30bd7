"""How soon and how fast a speech decoder speaks while its units arrive."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from spiritlm.synthesis.protocol import SpeechDecoder, checked_units
from spiritlm.tokens.streams import Prosody


@dataclass(frozen=True)
class TimedSpeech:
    """What was spoken, and what it took; seconds of work, not of waiting for units."""

    wave: np.ndarray
    """float32 `[samples]`."""
    costs: tuple[float, ...]
    """Of every block of units, the last one with the end of the stream."""
    samples: tuple[int, ...]
    """That each block gave."""

    @property
    def first(self) -> float:
        """Work of the block that gave the first samples: how long one waits for them once its units are there."""
        return next((cost for cost, samples in zip(self.costs, self.samples, strict=True) if samples), 0.0)

    def factor(self, sample_rate: int) -> float:
        """Real-time factor: work for a second of sound."""
        return sum(self.costs) * sample_rate / max(1, len(self.wave))


def timed_stream(
    decoder: SpeechDecoder,
    units: np.ndarray,
    block: int,
    speaker: str | None = None,
    style: str | None = None,
    prosody: Prosody | None = None,
) -> TimedSpeech:
    """Speak `units` int `[n]`, at least one, `block` of them at a time. Errors as in `SpeechDecoder.stream`."""
    units = checked_units(units, decoder.vocabulary_size)
    stream, pieces, costs = decoder.stream(speaker, style), [], []
    for start in range(0, len(units), block):
        part = slice(start, start + block)
        told = None if prosody is None else Prosody(prosody.pitch[part], prosody.style[part])
        started = time.perf_counter()
        piece = stream.push(units[part], told)
        if start + block >= len(units):
            piece = np.concatenate([piece, stream.finish()])
        costs.append(time.perf_counter() - started)
        pieces.append(piece)
    return TimedSpeech(np.concatenate(pieces), tuple(costs), tuple(map(len, pieces)))
