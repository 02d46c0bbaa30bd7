"""VQ-Whisper: Whisper's encoder with pooling and a codebook in its middle (GLM-4-Voice's speech tokenizer).

Log-mel at 100 Hz comes in; two convolutions give 50 Hz; after `pooling_position` layers every `pooling_kernel_size`
frames are averaged, and after `quantize_position` layers each vector becomes a code: 12.5 Hz with 4. Convolutions
look back only; attention sees everything before and its own block of `quantize_causal_block_size` frames. What
comes after the codebook (further layers, a text decoder, a CTC head) makes the codes mean something in training, and
is not needed to encode.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator
from torch import nn

from spiritlm.audio.mel import FRAME_RATE, HOP, SAMPLE_RATE
from spiritlm.audio.whisper_mel import CONSTANT_FLOOR, whisper_log_mel
from spiritlm.config import Recipe
from spiritlm.errors import InputError
from spiritlm.run.memory import Memory, block_mask
from spiritlm.units.vector_quantizer import VectorQuantizer
from spiritlm.units.whisper_layers import Decoder, EncoderLayer, sinusoids


class VqWhisperConfig(Recipe):
    """Sizes and rules, by the names of the published `config.json`; below them what is our own."""

    d_model: PositiveInt = 1280
    num_mel_bins: PositiveInt = 128
    max_source_positions: PositiveInt = 1500
    """Frames behind the convolutions (50 Hz) that are encoded together: longer sound is cut every so many, and each
    piece stands alone."""
    encoder_layers: PositiveInt = 32
    encoder_attention_heads: PositiveInt = 20
    encoder_ffn_dim: PositiveInt = 5120
    encoder_causal_convolution: bool = True
    encoder_causal_attention: bool = False
    """Attention that looks back only, in all layers."""
    quantize_causal_encoder: bool = False
    """The same before the codebook only."""
    pooling_kernel_size: PositiveInt | None = 4
    """Frames of a unit: 1 for 50 Hz, 2 for 25, 4 for 12.5, 8 for 6.25 (halved where `first_stride` is 2)."""
    pooling_type: Literal["avg", "max"] = "avg"
    pooling_position: NonNegativeInt | None = 16
    """Layers before the pooling; nothing where there is none."""
    quantize_position: PositiveInt = 16
    """Layers before the codebook."""
    quantize_vocab_size: PositiveInt = 16384
    quantize_causal_block_size: PositiveInt | None = 200
    """Frames behind the convolutions; None: attention sees everything, and nothing can be streamed."""
    quantize_ema_decay: float | None = 0.99
    quantize_commit_coefficient: float = 0.25
    quantize_loss_scale: float = 1.0
    quantize_restart_interval: PositiveInt | None = None
    quantize_encoder_only: bool = False
    """Nothing behind the codebook."""
    decoder_layers: NonNegativeInt = 0
    """Of the text decoder; none where it is 0."""
    decoder_attention_heads: PositiveInt = 20
    decoder_ffn_dim: PositiveInt = 5120
    max_target_positions: PositiveInt = 448
    vocab_size: PositiveInt = 51866
    """Text ids of the decoder."""
    pad_token_id: int = 50257
    decoder_start_token_id: int = 50258

    type: Literal["vq-whisper"] = "vq-whisper"
    mel_floor: float | None = CONSTANT_FLOOR
    """Log10 of the least mel power; None: Whisper's floor, which later sound moves."""
    first_stride: Literal[1, 2] = 1
    """Of the first convolution; 2: layers work at 25 Hz, at half the cost."""
    layer_convolution: NonNegativeInt = 0
    """Frames that each layer also mixes channel by channel, the last of them its own: positions then are nil, and a
    unit does not depend on where in a segment it is; 0: none, and Whisper's positions."""
    quantize_norm: bool = False
    """Every vector is of mean 0 and deviation 1 before it meets the codebook."""
    ctc_letters: str = ""
    """What the CTC head writes, beside the blank; no head where it is empty."""
    ctc_frames: PositiveInt = 4
    """Of the CTC head, for each unit."""
    ctc_weight: NonNegativeFloat = 1.0
    """Of its loss, nats a letter, beside the text decoder's, nats an id."""

    @model_validator(mode="after")
    def _check(self) -> VqWhisperConfig:
        pool = self.pooling_kernel_size or 1
        if pool > 1 and not 0 < (self.pooling_position or 0) <= self.quantize_position:
            expected = f"1 to quantize_position = {self.quantize_position}"
            raise InputError(f"pooling_position = {self.pooling_position}: expected {expected}")
        if self.encoder_layers < self.quantize_position:
            raise InputError(f"encoder_layers = {self.encoder_layers}: expected at least {self.quantize_position}")
        if (block := self.quantize_causal_block_size or pool) < pool:
            raise InputError(f"quantize_causal_block_size = {block}: expected at least pooling_kernel_size = {pool}")
        return self

    @property
    def pool(self) -> int:
        return self.pooling_kernel_size or 1

    @property
    def rate(self) -> float:
        """Units per second, Hz."""
        return FRAME_RATE / self.hop / self.pool

    @property
    def hop(self) -> int:
        """Log-mel frames of a frame behind the convolutions."""
        return 2 * self.first_stride

    @property
    def unit_samples(self) -> int:
        """Samples of a unit."""
        return round(SAMPLE_RATE / self.rate)

    @property
    def segment_samples(self) -> int:
        """Samples that are encoded together."""
        return self.max_source_positions // self.pool * self.unit_samples


@dataclass
class EncoderState:
    """What a stream remembers of the blocks it has encoded."""

    layers: int
    frames: int = 0
    """Behind the convolutions."""
    tails: list[torch.Tensor] = field(default_factory=list)
    """The last two inputs of each of the two convolutions."""

    def __post_init__(self) -> None:
        self.memories = [Memory() for _ in range(self.layers)]


class VqWhisperEncoder(nn.Module):
    """Log-mel -> vectors -> codes -> vectors."""

    def __init__(self, config: VqWhisperConfig) -> None:
        super().__init__()
        self.config = config
        width = config.d_model
        self.conv1 = nn.Conv1d(config.num_mel_bins, width, 3, stride=config.first_stride)
        self.conv2 = nn.Conv1d(width, width, 3, stride=2)
        self.embed_positions = nn.Embedding(config.max_source_positions, width)
        self.layers = nn.ModuleList(
            EncoderLayer(width, config.encoder_attention_heads, config.encoder_ffn_dim, config.layer_convolution)
            for _ in range(config.quantize_position if config.quantize_encoder_only else config.encoder_layers)
        )
        self.codebook = VectorQuantizer(
            config.quantize_vocab_size,
            width,
            config.quantize_ema_decay,
            config.quantize_commit_coefficient,
            config.quantize_loss_scale,
            config.quantize_restart_interval,
        )
        self.embed_positions2 = nn.Embedding(-(-config.max_source_positions // config.pool), width)
        self.layer_norm = nn.Identity() if config.quantize_encoder_only else nn.LayerNorm(width)
        for table in (self.embed_positions, self.embed_positions2):
            positions = sinusoids(*table.weight.shape)
            table.weight.requires_grad_(False).copy_(
                torch.zeros_like(positions) if config.layer_convolution else positions
            )

    def vectors(self, mel: torch.Tensor, mask: torch.Tensor, state: EncoderState | None = None) -> torch.Tensor:
        """What the codebook is given: log-mel `[batch, bins, frames]` at 100 Hz, whole units of them, and where it is
        sound, bool `[batch, frames]` -> `[batch, units, d_model]`.

        `state`: `mel` is the next block, or the last piece of one, of a stream.
        """
        config = self.config
        x = self._convolved(mel, state)
        first = 0 if state is None else state.frames
        x = x + self.embed_positions.weight[first : first + x.shape[1]]
        if state is not None:
            state.frames += x.shape[1]
        mask, block = mask[:, :: config.hop], config.quantize_causal_block_size
        causal = config.encoder_causal_attention or config.quantize_causal_encoder
        for number, layer in enumerate(self.layers[: config.quantize_position]):
            if number == config.pooling_position:
                x, mask, block = self._pooled(x), mask[:, :: config.pool], block and block // config.pool
            memory = None if state is None else state.memories[number]
            x = layer(x, _visible(mask, block, causal, memory), memory)
        if config.quantize_position == config.pooling_position:
            x = self._pooled(x)
        return F.layer_norm(x, x.shape[-1:]) if config.quantize_norm else x

    def _convolved(self, mel: torch.Tensor, state: EncoderState | None) -> torch.Tensor:
        x, tails = mel, []
        for number, conv in enumerate((self.conv1, self.conv2)):
            if not self.config.encoder_causal_convolution:
                x = F.pad(x, (1, 1))
            elif state is not None and state.tails:
                x = torch.cat([state.tails[number], x], dim=-1)
            else:
                x = F.pad(x, (2, 0))
            tails.append(x[..., -2:])
            x = F.gelu(conv(x))
        if state is not None:
            state.tails = tails
        return x.transpose(1, 2)

    def _pooled(self, x: torch.Tensor) -> torch.Tensor:
        """`[batch, frames, width]` -> `[batch, ceil(frames / pool), width]`; zeros fill the last unit."""
        pool = self.config.pool
        frames = F.pad(x, (0, 0, 0, -x.shape[1] % pool)).unflatten(1, (-1, pool))
        return frames.mean(2) if self.config.pooling_type == "avg" else frames.amax(2)

    def understood(self, vectors: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """What the layers behind the codebook make of the codes' `vectors` `[batch, units, d_model]`, where `mask`,
        bool `[batch, units]`, is true; `[batch, units, d_model]`."""
        config = self.config
        block = config.quantize_causal_block_size and config.quantize_causal_block_size // config.pool
        x = vectors + self.embed_positions2.weight[: vectors.shape[1]]
        visible = _visible(mask, block, config.encoder_causal_attention, None)
        for layer in self.layers[config.quantize_position :]:
            x = layer(x, visible)
        return self.layer_norm(x)


def _visible(mask: torch.Tensor, block: int | None, causal: bool, memory: Memory | None) -> torch.Tensor:
    """Who sees whom, bool broadcast to `[batch, 1, time, time]`; in a stream, where all of a block has been heard,
    `[batch, 1, time, earlier + time]`."""
    keys, time = mask[:, None, None], mask.shape[1]
    if causal or (block is not None and memory is None):
        keys = keys & block_mask(time, 1 if causal or block is None else block, None, mask.device)
    heard = None if memory is None else memory.keys
    return keys if heard is None else F.pad(keys, (heard.shape[2], 0), value=True)


class VqWhisper(nn.Module):
    """The encoder with what it is trained by: a text decoder, a CTC head, or both."""

    def __init__(self, config: VqWhisperConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = VqWhisperEncoder(config)
        self.decoder = (
            Decoder(
                config.vocab_size,
                config.d_model,
                config.decoder_layers,
                config.decoder_attention_heads,
                config.decoder_ffn_dim,
                config.max_target_positions,
            )
            if config.decoder_layers
            else None
        )
        symbols = 1 + len(config.ctc_letters)
        self.ctc = nn.Linear(config.d_model, config.ctc_frames * symbols) if config.ctc_letters else None
        self.quantizing = True
        """False: vectors pass the codebook unchanged, as at the beginning of a training from nothing."""

    def forward(self, mel: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Log-mel and mask, as for `vectors` -> what is understood `[batch, units, d_model]`, where there is
        sound, bool `[batch, units]`, and the loss of the codebook."""
        vectors = self.encoder.vectors(mel, mask)
        mask = mask[:, :: self.config.hop * self.config.pool]
        loss = vectors.new_zeros(())
        if self.quantizing:
            vectors, _, loss = self.encoder.codebook(vectors, mask)
        return self.encoder.understood(vectors, mask), mask, loss

    def ctc_log_probs(self, understood: torch.Tensor) -> torch.Tensor:
        """`[batch, units, d_model]` -> log-probabilities `[batch, ctc_frames * units, 1 + letters]`, blank first."""
        assert self.ctc is not None
        logits = self.ctc(understood).unflatten(-1, (self.config.ctc_frames, -1)).flatten(1, 2)
        return logits.float().log_softmax(-1)

    def text_logits(self, labels: torch.Tensor, understood: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Logits `[batch, ids, vocab_size]` of each of `labels` int64 `[batch, ids]`, given those before it."""
        assert self.decoder is not None
        said = F.pad(labels, (1, 0), value=self.config.decoder_start_token_id)[:, :-1]
        return self.decoder(said.where(said >= 0, self.config.pad_token_id), understood, mask)

    def text_loss(self, labels: torch.Tensor, understood: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Mean negative log-likelihood of an id; labels of -100 are not counted."""
        logits = self.text_logits(labels, understood, mask)
        return F.cross_entropy(logits.float().flatten(0, 1), labels.flatten())

    def _mel(self, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-mel `[batch, bins, frames]` and where it is sound, bool `[batch, frames]`."""
        waves = batch["waves"]
        with torch.autocast(waves.device.type, enabled=False):
            mel = whisper_log_mel(waves, self.config.num_mel_bins, self.config.mel_floor)
        return mel, torch.arange(mel.shape[-1], device=mel.device) < -(-batch["samples"][:, None] // HOP)

    def sounding_vectors(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """What the codebook would be given, `[units of all rows, d_model]`, silence behind the rows left out."""
        mel, mask = self._mel(batch)
        return self.encoder.vectors(mel, mask)[mask[:, :: self.config.hop * self.config.pool]]

    def losses(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """`loss`: what the text decoder and the CTC head miss, and that of the codebook; its parts; codebook use.

        `batch`: `waves` float32 `[batch, samples]`, whole units, `samples` int64 `[batch]`; for the CTC head `letters`
        int64 `[batch, n]` and `letter_counts` int64 `[batch]`; for the decoder `labels` int64 `[batch, ids]`, those
        of -100 not learned.
        """
        config = self.config
        understood, mask, codebook = self(*self._mel(batch))
        parts = {"codebook": codebook}
        if self.ctc is not None:
            log_probs = self.ctc_log_probs(understood).transpose(0, 1)
            lengths, counts = config.ctc_frames * mask.sum(1), batch["letter_counts"]
            nll = F.ctc_loss(log_probs, batch["letters"], lengths, counts, reduction="sum", zero_infinity=True)
            parts["ctc"] = config.ctc_weight * nll / counts.sum()
        if self.decoder is not None:
            parts["text"] = self.text_loss(batch["labels"], understood, mask)
        usage = self.encoder.codebook.usage() if self.quantizing and self.encoder.codebook.decay is not None else {}
        return {"loss": torch.stack(list(parts.values())).sum(), **parts, **usage}
