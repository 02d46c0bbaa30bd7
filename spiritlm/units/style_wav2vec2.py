"""Spirit LM Expressive's style encoder as it was released: a wav2vec 2.0 with a classifier over each second.

A wave at 16 kHz is brought to mean 0 and deviation 1 over the whole file (1e-7 under the root), projected on every
frame of 50 Hz, averaged over chunks of 50 frames, the last one also where it is not full, and classified. Attention
sees the whole file, so nothing streams, and one token may stand for a file whose style changes.

Frames end before the wave does: what is left behind the last chunk, 0.05 s at most, repeats its unit, so that every
sample belongs to one; a wave too short for a frame gets zeros behind it. The encoder is that of HuBERT
(`spiritlm/units/hubert_encoder.py`), whose names transformers' wav2vec 2.0 shares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt
from torch import nn

from spiritlm.config import Recipe
from spiritlm.errors import InputError
from spiritlm.run.device import training_device
from spiritlm.run.files import read_json
from spiritlm.run.weights import (
    CONFIG_FILE,
    MODEL_FILE,
    load_weights,
    read_config,
    read_folder,
    read_tensors,
    save_model,
)
from spiritlm.units.hubert import BATCH_SECONDS
from spiritlm.units.hubert_checkpoint import HuggingFaceNetwork, renamed, validated
from spiritlm.units.hubert_encoder import SAMPLE_RATE, HubertEncoder, HubertShape
from spiritlm.units.protocol import UnitEncoding, UnitStream, checked_wave

EPSILON = 1e-7
"""Under the root of a wave's deviation."""
HEAD = ("projector.", "classifier.")
PREPROCESSOR_FILE = "preprocessor_config.json"


class Wav2Vec2StyleConfig(Recipe):
    """What `config.json` of a tokenizer holds."""

    type: Literal["style-wav2vec2"] = "style-wav2vec2"
    shape: HubertShape
    projected: PositiveInt
    """Width of a frame behind the projector."""
    vocabulary_size: PositiveInt
    chunk_frames: PositiveInt = 50
    normalize: bool = True
    """Each wave is brought to mean 0 and deviation 1 first."""


class Wav2Vec2StyleNetwork(nn.Module):
    """State: `encoder.*` (see `HubertEncoder`), `projector.*`, `classifier.*`."""

    def __init__(self, config: Wav2Vec2StyleConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = HubertEncoder(config.shape)
        self.projector = nn.Linear(config.shape.width, config.projected)
        self.classifier = nn.Linear(config.projected, config.vocabulary_size)

    def forward(self, waves: torch.Tensor, samples: torch.Tensor) -> list[torch.Tensor]:
        """Waves float32 `[batch, samples]`, zeros behind each, and their lengths int64 `[batch]`, at least a window of
        the encoder, -> of each, float32 `[chunks, vocabulary_size]`."""
        frames = self.projector(self.encoder(waves, samples))
        counts = self.encoder.frames(samples).tolist()
        pooled = [
            torch.stack([chunk.mean(0) for chunk in row[:count].split(self.config.chunk_frames)])
            for row, count in zip(frames, counts, strict=True)
        ]
        return [self.classifier(row) for row in pooled]


class Wav2Vec2StyleTokenizer:
    """A `StreamTokenizer` (see `spiritlm/units/protocol.py`)."""

    def __init__(self, network: Wav2Vec2StyleNetwork) -> None:
        self.network = network.to(training_device()).eval()
        self.config = network.config
        self.unit_samples = self.config.shape.hop * self.config.chunk_frames
        self.rate, self.sample_rate = SAMPLE_RATE / self.unit_samples, SAMPLE_RATE
        self.vocabulary_size = self.config.vocabulary_size

    def encode(self, wave: np.ndarray, sample_rate: int) -> UnitStream:
        """`wave`: float32 `[samples]` in [-1, 1] -> int32 `[ceil(samples / 16000)]`, one a second. Raises `InputError`
        for another sample rate, stereo, an empty wave or non-finite samples."""
        return self.encode_batch([wave], sample_rate)[0]

    def encode_batch(self, waves: Sequence[np.ndarray], sample_rate: int) -> list[UnitStream]:
        """See `encode`; padding changes no unit."""
        checked = [checked_wave(wave, sample_rate, self.sample_rate) for wave in waves]
        found = []
        for wave, logits in zip(checked, self.logits(checked), strict=True):
            units = logits.argmax(-1).cpu().numpy().astype(np.int32)
            wanted = -(-len(wave) // self.unit_samples)
            found.append(UnitStream(np.pad(units, (0, wanted - len(units)), mode="edge"), self.rate))
        return found

    @torch.inference_mode()
    def logits(self, waves: Sequence[np.ndarray]) -> list[torch.Tensor]:
        """Waves float32 `[samples]`, one sample at least -> of each, float32 `[chunks, vocabulary_size]`: as many
        chunks as the published code has."""
        prepared = [self.prepared(wave) for wave in waves]
        device = training_device()
        order = sorted(range(len(prepared)), key=lambda number: -len(prepared[number]))
        found: dict[int, torch.Tensor] = {}
        while order:
            size = max(1, int(BATCH_SECONDS[device.type] * SAMPLE_RATE / len(prepared[order[0]])))
            batch, order = order[:size], order[size:]
            rows = [prepared[number] for number in batch]
            samples = torch.tensor([len(row) for row in rows], device=device)
            padded = nn.utils.rnn.pad_sequence(rows, batch_first=True).to(device)
            found |= zip(batch, self.network(padded, samples), strict=True)
        return [found[number] for number in range(len(waves))]

    def prepared(self, wave: np.ndarray) -> torch.Tensor:
        """As the network takes it."""
        x = torch.from_numpy(wave)
        x = F.layer_norm(x, x.shape, eps=EPSILON) if self.config.normalize else x
        return F.pad(x, (0, max(0, self.config.shape.window - len(x))))

    def stream(self) -> UnitEncoding:
        raise InputError("units of style-wav2vec2 do not stream: its attention sees the whole file")

    def save_pretrained(self, folder: Path) -> None:
        """Write `model.safetensors` and `config.json` into `folder`, which is made if absent."""
        save_model(folder, self.config.model_dump(mode="json"), self.network.state_dict())

    @classmethod
    def from_pretrained(cls, folder: Path) -> Wav2Vec2StyleTokenizer:
        """What `save_pretrained` wrote. Raises `InputError` where `folder` holds no tokenizer of this kind, or files
        that do not fit together."""
        network = Wav2Vec2StyleNetwork(read_config(folder, Wav2Vec2StyleConfig))
        return cls(load_weights(network, read_tensors(folder / MODEL_FILE), folder / MODEL_FILE))


class _Published(HuggingFaceNetwork):
    """`config.json` of a `Wav2Vec2ForSequenceClassification`."""

    model_type: Literal["wav2vec2"]
    add_adapter: Literal[False] = False
    adapter_attn_dim: None = None
    use_weighted_layer_sum: Literal[False] = False
    num_labels: int | None = None
    id2label: dict[str, Any] | None = None
    pool_size: int = 50
    """Frames of a chunk; the published code has 50 for every model."""
    feature_extractor: dict[str, Any] = Field(default_factory=dict)


def is_published(config: Mapping[str, Any]) -> bool:
    """Whether `config.json` is that of a released style encoder."""
    return config.get("model_type") == "wav2vec2"


def from_published(folder: Path) -> Wav2Vec2StyleTokenizer:
    """A Hugging Face folder, `style_encoder_w2v2/` of the release: `config.json` and `pytorch_model.bin` (or
    safetensors), of which nothing but tensors is read. Raises `InputError` where it holds anything else."""
    config = read_json(folder / CONFIG_FILE)
    if (folder / PREPROCESSOR_FILE).is_file():
        config = {"feature_extractor": read_json(folder / PREPROCESSOR_FILE), **config}
    return published_style(config, read_folder(folder), folder)


def published_style(
    config: Mapping[str, Any], weights: Mapping[str, torch.Tensor], path: Path
) -> Wav2Vec2StyleTokenizer:
    """The tokenizer of a published folder's parts, with older or newer names of weight norm; `path` is where they
    come from, and is named in an `InputError`."""
    found = _validated(config, path)
    named = {name.removeprefix("wav2vec2."): tensor for name, tensor in weights.items()}
    tensors = {name: tensor.float() for name, tensor in named.items() if name.startswith(HEAD)}
    tensors |= {f"encoder.{name}": tensor for name, tensor in renamed(named).items()}
    sizes = {}
    for layer in ("projector", "classifier"):
        weight = tensors.get(f"{layer}.weight")
        if weight is None or weight.ndim != 2:
            raise InputError(f"{path}: expected a Wav2Vec2ForSequenceClassification, but it has no {layer}.weight")
        sizes[layer] = weight.shape[0]
    stated = found.num_labels or len(found.id2label or {}) or sizes["classifier"]
    if stated != sizes["classifier"]:
        raise InputError(f"{path}: {stated} labels in its configuration, but the weights have {sizes['classifier']}")
    own = Wav2Vec2StyleConfig(
        shape=found.shape(path),
        projected=sizes["projector"],
        vocabulary_size=sizes["classifier"],
        chunk_frames=found.pool_size,
        normalize=bool(found.feature_extractor.get("do_normalize", True)),
    )
    return Wav2Vec2StyleTokenizer(load_weights(Wav2Vec2StyleNetwork(own), tensors, path))


def _validated(config: Mapping[str, Any], path: Path) -> _Published:
    if (rate := (config.get("feature_extractor") or {}).get("sampling_rate", SAMPLE_RATE)) != SAMPLE_RATE:
        raise InputError(f"{path}: a network for sound at {rate} Hz, expected {SAMPLE_RATE} Hz")
    return cast(_Published, validated(_Published, config, str(path)))
