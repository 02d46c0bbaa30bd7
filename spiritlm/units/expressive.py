"""Semantic, pitch and style units of one recording (Spirit LM Expressive): three tokenizers as one.

Each keeps its own rate and folder: `semantic/`, `pitch/` and `style/` beside the `config.json` that says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from spiritlm.errors import InputError
from spiritlm.run.files import write_json
from spiritlm.run.weights import CONFIG_FILE
from spiritlm.units.protocol import (
    Precision,
    SpeechTokenizer,
    StreamShape,
    StreamTokenizer,
    UnitEncoding,
    UnitStreams,
)

TYPE = "expressive"


class ExpressiveTokenizer:
    """A `SpeechTokenizer` (see `spiritlm/units/protocol.py`) whose units come in three streams."""

    def __init__(self, semantic: SpeechTokenizer, pitch: StreamTokenizer, style: StreamTokenizer) -> None:
        """Raises `InputError` where they hear at different sample rates."""
        self.semantic, self.pitch, self.style = semantic, pitch, style
        self.rate, self.vocabulary_size, self.sample_rate = (
            semantic.rate,
            semantic.vocabulary_size,
            semantic.sample_rate,
        )
        for name, part in (("pitch", pitch), ("style", style)):
            if part.sample_rate != self.sample_rate:
                raise InputError(
                    f"{name}: hears {part.sample_rate} Hz, expected {self.sample_rate}, as semantic units do"
                )

    @property
    def precision(self) -> Precision:
        """Of the semantic tokenizer; the other two are small and always fp32."""
        return self.semantic.precision

    @precision.setter
    def precision(self, precision: Precision) -> None:
        self.semantic.precision = precision

    @property
    def streams(self) -> dict[str, StreamShape]:
        return self.semantic.streams | {
            name: StreamShape(part.rate, part.vocabulary_size)
            for name, part in (("pitch", self.pitch), ("style", self.style))
        }

    def encode(self, wave: np.ndarray, sample_rate: int) -> UnitStreams:
        """See `SpeechTokenizer.encode`."""
        return self.encode_batch([wave], sample_rate)[0]

    def encode_batch(self, waves: Sequence[np.ndarray], sample_rate: int) -> list[UnitStreams]:
        """See `SpeechTokenizer.encode_batch`."""
        semantic = self.semantic.encode_batch(waves, sample_rate)
        pitch, style = (part.encode_batch(waves, sample_rate) for part in (self.pitch, self.style))
        return [UnitStreams(s.semantic, p, t) for s, p, t in zip(semantic, pitch, style, strict=True)]

    def stream(self) -> UnitEncoding:
        raise InputError("expressive units: each stream is heard by itself, of .semantic, .pitch and .style")

    def save_pretrained(self, folder: Path) -> None:
        """See `SpeechTokenizer.save_pretrained`; each part has a folder of its own."""
        for name, part in (("semantic", self.semantic), ("pitch", self.pitch), ("style", self.style)):
            part.save_pretrained(folder / name)
        write_json(folder / CONFIG_FILE, {"type": TYPE})

    @classmethod
    def from_pretrained(cls, folder: Path) -> ExpressiveTokenizer:
        """Raises `InputError` where a part is absent or is no tokenizer of its stream."""
        from spiritlm.units.loading import load_speech_tokenizer, load_stream_tokenizer  # which load this one too

        parts = (load_stream_tokenizer(folder / name, name) for name in ("pitch", "style"))
        return cls(load_speech_tokenizer(folder / "semantic"), *parts)
