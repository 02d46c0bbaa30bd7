"""HuBERT units: a layer of the network, quantized; 25 Hz as in Spirit LM and TWIST, 50 Hz as in the HuBERT paper.

A wave is encoded in chunks of `chunk_seconds` that know nothing of each other. Behind the end of each, zeros are added
until its units cover all of it: `ceil(samples / hop)` units, one for a single sample. The published code adds none, so
that it has `(samples - window) // hop + 1` units and none of the last tens of milliseconds, at the end of every chunk;
and before the first unit of its linear quantizer it puts the last one. `published` asks for both, and for waves of
`window` samples at least. Attention sees the whole chunk, so nothing streams.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import PositiveFloat

from spiritlm.config import Recipe
from spiritlm.errors import InputError
from spiritlm.run.device import training_device
from spiritlm.run.weights import MODEL_FILE, load_weights, read_config, read_tensors, save_model
from spiritlm.units.hubert_encoder import SAMPLE_RATE, HubertEncoder, HubertShape
from spiritlm.units.protocol import Precision, StreamShape, UnitEncoding, UnitStream, UnitStreams, checked_wave
from spiritlm.units.quantizers import (
    LinearQuantizer,
    Quantizer,
    QuantizerConfig,
    build_quantizer,
    published_without_blanks,
    require_width,
    without_blanks,
)

BATCH_SECONDS = {"cpu": 32.0, "cuda": 400.0}
"""Of sound that is encoded at a time, padding included; a longer chunk is encoded alone."""


class HubertConfig(Recipe):
    """What `config.json` of a tokenizer holds."""

    type: Literal["hubert"] = "hubert"
    shape: HubertShape
    """Its last layer is the one that is quantized."""
    quantizer: QuantizerConfig
    standardize: bool = False
    """Each feature of a chunk is brought to mean 0 and deviation 1 before the quantizer, against the speaker."""
    chunk_seconds: PositiveFloat = 100.0
    published: bool = False
    rate: float
    sample_rate: int = SAMPLE_RATE


class HubertFeatures:
    """Waves -> the vectors that a quantizer sees, in chunks and batches."""

    def __init__(
        self, encoder: HubertEncoder, chunk_seconds: float, standardize: bool, published: bool = False
    ) -> None:
        """`encoder`: ends with the layer that is wanted, and is on its device. Raises `InputError` for a chunk that
        holds no frame."""
        self.encoder, self.standardize, self.published = encoder.eval(), standardize, published
        hop, window = encoder.shape.hop, encoder.shape.window
        self.chunk = int(chunk_seconds * SAMPLE_RATE) if published else hop * int(chunk_seconds * SAMPLE_RATE / hop)
        if self.chunk < window:
            raise InputError(f"chunk_seconds = {chunk_seconds}: expected at least {window / SAMPLE_RATE}")
        self.least = window if published else 1

    @property
    def device(self) -> torch.device:
        return next(self.encoder.parameters()).device

    def chunks(self, wave: np.ndarray) -> list[np.ndarray]:
        """The pieces of a wave, each with the zeros behind it that its last unit needs."""
        shape, pieces = self.encoder.shape, np.split(wave, range(self.chunk, len(wave), self.chunk))
        if self.published:
            return [piece for piece in pieces if len(piece) >= shape.window]
        longer = [shape.samples_of(-(-len(piece) // shape.hop)) - len(piece) for piece in pieces]
        return [np.pad(piece, (0, more)) for piece, more in zip(pieces, longer, strict=True)]

    @torch.inference_mode()
    def __call__(self, waves: Sequence[np.ndarray]) -> list[list[torch.Tensor]]:
        """Waves float32 `[samples]`, `least` at least -> for each wave, of each chunk, float32 `[frames, width]`."""
        places = [(number, piece) for number, wave in enumerate(waves) for piece in self.chunks(wave)]
        order = sorted(range(len(places)), key=lambda i: -len(places[i][1]))
        most = BATCH_SECONDS[self.device.type] * SAMPLE_RATE
        found: dict[int, torch.Tensor] = {}
        while order:
            size = max(1, int(most / len(places[order[0]][1])))
            batch, order = order[:size], order[size:]
            found |= zip(batch, self._encode([places[i][1] for i in batch]), strict=True)
        features: list[list[torch.Tensor]] = [[] for _ in waves]
        for i, (number, _) in enumerate(places):
            features[number].append(found[i])
        return features

    def _encode(self, pieces: list[np.ndarray]) -> list[torch.Tensor]:
        device = self.device
        waves = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(piece) for piece in pieces], batch_first=True)
        return self.of_batch(waves.to(device), torch.tensor([len(piece) for piece in pieces], device=device))

    @torch.no_grad()
    def of_batch(self, waves: torch.Tensor, samples: torch.Tensor) -> list[torch.Tensor]:
        """Waves float32 `[batch, samples]` with zeros behind each, their lengths int64 `[batch]` -> of each, float32
        `[frames, width]`."""
        x = self.encoder(waves, samples, layer=self.encoder.shape.layers).float()
        rows = [row[:n] for row, n in zip(x, self.encoder.frames(samples).tolist(), strict=True)]
        return [standardized(row) for row in rows] if self.standardize else rows


def standardized(features: torch.Tensor) -> torch.Tensor:
    """float32 `[frames, width]`, each column of mean 0 and deviation 1."""
    return (features - features.mean(0)) / (features.std(0, unbiased=False) + 1e-3)


class HubertTokenizer:
    """A `SpeechTokenizer` (see `spiritlm/units/protocol.py`)."""

    def __init__(
        self,
        encoder: HubertEncoder,
        quantizer: Quantizer,
        *,
        standardize: bool = False,
        chunk_seconds: float = 100.0,
        published: bool = False,
    ) -> None:
        """`encoder`: ends with the layer that is quantized. Raises `InputError` where the two do not fit."""
        require_width(quantizer, encoder.shape.width, "quantizer")
        self.config = HubertConfig(
            shape=encoder.shape,
            quantizer=quantizer.config,
            standardize=standardize,
            chunk_seconds=chunk_seconds,
            published=published,
            rate=encoder.shape.rate,
        )
        device = training_device()
        self.quantizer = quantizer.to(device).eval()
        self.features = HubertFeatures(encoder.to(device), chunk_seconds, standardize, published)
        self.rate, self.sample_rate = encoder.shape.rate, SAMPLE_RATE
        self.precision: Precision = "fp32"
        self.vocabulary_size = quantizer.config.units + (published and isinstance(quantizer, LinearQuantizer))
        """With `published`, the blank of a linear quantizer is a unit too: that of a wave which has no other."""

    @property
    def encoder(self) -> HubertEncoder:
        return self.features.encoder

    @property
    def streams(self) -> dict[str, StreamShape]:
        return {"semantic": StreamShape(self.rate, self.vocabulary_size)}

    def encode(self, wave: np.ndarray, sample_rate: int) -> UnitStreams:
        """See `SpeechTokenizer.encode`; gives `ceil(samples / hop)` units."""
        return self.encode_batch([wave], sample_rate)[0]

    @torch.inference_mode()
    def encode_batch(self, waves: Sequence[np.ndarray], sample_rate: int) -> list[UnitStreams]:
        """See `SpeechTokenizer.encode_batch`."""
        checked = [checked_wave(wave, sample_rate, self.sample_rate, self.features.least) for wave in waves]
        with torch.autocast(self.features.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            features = self.features(checked)
        if self.config.published:  # blanks are filled over the whole wave
            features = [[torch.cat(chunks)] for chunks in features]
        units = [torch.cat([self._units(part) for part in chunks]) for chunks in features]
        return [UnitStreams(UnitStream(row.cpu().numpy().astype(np.int32), self.rate)) for row in units]

    def _units(self, features: torch.Tensor) -> torch.Tensor:
        symbols = self.quantizer(features)
        if not isinstance(self.quantizer, LinearQuantizer):
            return symbols
        return (published_without_blanks if self.config.published else without_blanks)(symbols, self.quantizer.blank)

    def stream(self) -> UnitEncoding:
        raise InputError("units of hubert do not stream: its attention sees the whole chunk")

    def save_pretrained(self, folder: Path) -> None:
        """See `SpeechTokenizer.save_pretrained`."""
        tensors = {f"encoder.{name}": tensor for name, tensor in self.encoder.state_dict().items()}
        tensors |= {f"quantizer.{name}": tensor for name, tensor in self.quantizer.state_dict().items()}
        save_model(folder, self.config.model_dump(mode="json"), tensors)

    @classmethod
    def from_pretrained(cls, folder: Path) -> HubertTokenizer:
        """Raises `InputError` where `folder` holds no tokenizer of this kind, or files that do not fit together."""
        config = read_config(folder, HubertConfig)
        model = torch.nn.ModuleDict(
            {
                "encoder": HubertEncoder(config.shape),
                "quantizer": build_quantizer(config.quantizer, config.shape.width),
            }
        )
        load_weights(model, read_tensors(folder / MODEL_FILE), folder / MODEL_FILE)
        encoder, quantizer = model["encoder"], model["quantizer"]
        assert isinstance(encoder, HubertEncoder) and isinstance(quantizer, Quantizer)
        options = {"standardize": config.standardize, "published": config.published}
        return cls(encoder, quantizer, chunk_seconds=config.chunk_seconds, **options)
