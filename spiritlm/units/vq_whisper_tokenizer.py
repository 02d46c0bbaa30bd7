"""VQ-Whisper at work: waves become units, in batches or as they are made.

Rules: a recording is cut every `max_source_positions` frames (30 s with Whisper's 1500), and each segment stands
alone, as published. A unit covers `unit_samples`; silence fills the last one, is seen by nobody, and
`ceil(samples / unit_samples)` units come out. Log-mels are made one segment at a time, so that with Whisper's own
floor too a batch gives what single recordings give.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from spiritlm.audio.mel import HOP, SAMPLE_RATE
from spiritlm.audio.whisper_mel import RANGE, REACH, log_power, mirrored, scaled, whisper_log_mel
from spiritlm.errors import InputError
from spiritlm.run.device import training_device
from spiritlm.run.weights import MODEL_FILE, load_weights, read_config, read_tensors, save_model
from spiritlm.units.protocol import Precision, StreamShape, UnitStream, UnitStreams, checked_wave
from spiritlm.units.vq_whisper import EncoderState, VqWhisper, VqWhisperConfig

BATCH_SECONDS = 480.0
"""Of sound that is encoded at a time, padding included."""


class VqWhisperTokenizer:
    """A `SpeechTokenizer` (see `spiritlm/units/protocol.py`)."""

    def __init__(self, model: VqWhisper) -> None:
        self.model, self.config = model.eval(), model.config
        self.precision: Precision = "fp32"
        self.rate, self.sample_rate = self.config.rate, SAMPLE_RATE
        self.vocabulary_size = self.config.quantize_vocab_size

    @property
    def device(self) -> torch.device:
        return self.model.encoder.conv1.weight.device

    @property
    def streams(self) -> dict[str, StreamShape]:
        return {"semantic": StreamShape(self.rate, self.vocabulary_size)}

    def encode(self, wave: np.ndarray, sample_rate: int) -> UnitStreams:
        """See `SpeechTokenizer.encode`."""
        return self.encode_batch([wave], sample_rate)[0]

    @torch.inference_mode()
    def encode_batch(self, waves: Sequence[np.ndarray], sample_rate: int) -> list[UnitStreams]:
        """Segments of all waves, those of one length together."""
        size = self.config.segment_samples
        segments: list[np.ndarray] = []
        owners: list[int] = []
        for number, wave in enumerate(waves):
            wave = checked_wave(wave, sample_rate, self.sample_rate)
            segments += [wave[start : start + size] for start in range(0, len(wave), size)]
            owners += [number] * (len(segments) - len(owners))
        found: list[list[np.ndarray]] = [[] for _ in waves]
        encoded: dict[int, np.ndarray] = {}
        for group in _groups([len(segment) for segment in segments], BATCH_SECONDS * SAMPLE_RATE):
            units = self._encode_segments([segments[number] for number in group])
            encoded |= dict(zip(group, units, strict=True))
        for number, owner in enumerate(owners):
            found[owner].append(encoded[number])
        return [UnitStreams(UnitStream(np.concatenate(parts), self.rate)) for parts in found]

    def _encode_segments(self, segments: Sequence[np.ndarray]) -> list[np.ndarray]:
        config = self.config
        frames = [-(-len(segment) // HOP) for segment in segments]
        mels = [whisper_log_mel(self._filled(s), config.num_mel_bins, config.mel_floor) for s in segments]
        longest = max(mel.shape[-1] for mel in mels)
        mel = torch.zeros(len(mels), config.num_mel_bins, longest, device=self.device)
        for row, part in zip(mel, mels, strict=True):
            row[:, : part.shape[-1]] = part
        mask = torch.arange(longest, device=self.device) < torch.tensor(frames, device=self.device)[:, None]
        codes = self.codes(mel, mask).cpu().numpy().astype(np.int32)
        return [row[: self._units(len(segment))] for row, segment in zip(codes, segments, strict=True)]

    def _units(self, samples: int) -> int:
        return -(-samples // self.config.unit_samples)

    def _filled(self, wave: np.ndarray) -> torch.Tensor:
        """With silence up to whole units."""
        padded = np.zeros(self._units(len(wave)) * self.config.unit_samples, np.float32)
        padded[: len(wave)] = wave
        return torch.from_numpy(padded).to(self.device)

    @torch.inference_mode()
    def codes(self, mel: torch.Tensor, mask: torch.Tensor, state: EncoderState | None = None) -> torch.Tensor:
        """Units int64 `[batch, units]`; arguments as in `VqWhisperEncoder.vectors`."""
        with torch.autocast(mel.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            vectors = self.model.encoder.vectors(mel, mask, state)
        return self.model.encoder.codebook.codes(vectors)

    def stream(self) -> VqWhisperStream:
        """See `SpeechTokenizer.stream`. Units of a block come when it is complete; the work for a block does not grow
        with the recording. With Whisper's own floor a stream floors at the loudest frame so far, which gives some
        other units than the whole recording does."""
        if self.config.quantize_causal_block_size is None or not self.config.encoder_causal_convolution:
            raise InputError("this tokenizer does not stream: its attention or its convolutions see what is to come")
        if self.config.quantize_causal_block_size % self.config.pool:
            raise InputError("this tokenizer does not stream: its blocks are not whole units")
        return VqWhisperStream(self)

    @torch.inference_mode()
    def transcribe(self, units: np.ndarray) -> str:
        """What the CTC head hears in `units`, int `[n]`. Raises `InputError` for a tokenizer without one, for units
        outside the vocabulary, and for none of them or more than a segment has."""
        if self.model.ctc is None:
            raise InputError("this tokenizer has no CTC head: it cannot read its units")
        most = self.config.segment_samples // self.config.unit_samples
        if not 1 <= len(units) <= most:
            raise InputError(f"{len(units)} units: expected 1 to {most}, a segment, to read")
        if min(units) < 0 or max(units) >= self.vocabulary_size:
            raise InputError(f"expected units of 0 to {self.vocabulary_size - 1}, found {min(units)} to {max(units)}")
        vectors = self.model.encoder.codebook.weight[torch.as_tensor(units, device=self.device).long()][None]
        understood = self.model.encoder.understood(vectors, torch.ones_like(vectors[..., 0], dtype=torch.bool))
        return self.read(self.model.ctc_log_probs(understood)[0])

    def read(self, log_probs: torch.Tensor) -> str:
        """The likeliest letter of each CTC frame, `[frames, 1 + letters]`, repetitions and blanks left out."""
        letters = torch.unique_consecutive(log_probs.argmax(-1)).tolist()
        return "".join(self.config.ctc_letters[letter - 1] for letter in letters if letter)

    def save_pretrained(self, folder: Path) -> None:
        """See `SpeechTokenizer.save_pretrained`. What only training needs is left out: the text decoder, and without a
        CTC head everything behind the codebook."""
        only = self.config.quantize_encoder_only or not self.config.ctc_letters
        config = self.config.model_copy(update={"decoder_layers": 0, "quantize_encoder_only": only})
        with torch.device("meta"):
            wanted = VqWhisper(config).state_dict()
        state = self.model.state_dict()
        save_model(folder, config.model_dump(mode="json"), {name: state[name] for name in wanted})

    @classmethod
    def from_pretrained(cls, folder: Path) -> VqWhisperTokenizer:
        """Raises `InputError` where `folder` holds no tokenizer of this kind, or files that do not fit together."""
        model = VqWhisper(read_config(folder, VqWhisperConfig))
        path = folder / MODEL_FILE
        return cls(load_weights(model, read_tensors(path), path).to(training_device()))


def _groups(lengths: Sequence[int], budget: float) -> list[list[int]]:
    """Numbers of segments, by rising length, so many together that the longest of them, that often, fits `budget`."""
    groups: list[list[int]] = []
    for number in sorted(range(len(lengths)), key=lambda number: lengths[number]):
        if groups and (len(groups[-1]) + 1) * lengths[number] <= budget:
            groups[-1].append(number)
        else:
            groups.append([number])
    return groups


class VqWhisperStream:
    """A `UnitEncoding`."""

    def __init__(self, tokenizer: VqWhisperTokenizer) -> None:
        self.tokenizer = tokenizer
        self._begin()

    def _begin(self, wave: np.ndarray | None = None) -> None:
        """A new segment."""
        self._state = EncoderState(self.tokenizer.config.quantize_position)
        self._peak = torch.tensor(-np.inf, device=self.tokenizer.device)
        self._wave = np.zeros(0, np.float32) if wave is None else wave
        """Of the segment, from `REACH` samples before the next block on."""
        self._start = 0
        """Of the next block, in samples of the segment."""

    def push(self, wave: np.ndarray) -> np.ndarray:
        """See `UnitEncoding.push`."""
        wave = checked_wave(wave, self.tokenizer.sample_rate, self.tokenizer.sample_rate, least=0)
        self._wave = np.concatenate([self._wave, wave])
        units = [np.zeros(0, np.int32)]
        config = self.tokenizer.config
        assert config.quantize_causal_block_size is not None
        block = config.quantize_causal_block_size // config.pool * config.unit_samples
        while True:
            end = min(self._start + block, config.segment_samples)
            arrived = self._start - min(self._start, REACH) + len(self._wave)
            if end == config.segment_samples and arrived >= end:
                units.append(self._encode(end - self._start, last=True))
                self._begin(self._wave)
            elif end < config.segment_samples and arrived >= end + REACH:
                units.append(self._encode(end - self._start, last=False))
            else:
                return np.concatenate(units)

    def finish(self) -> np.ndarray:
        """See `UnitEncoding.finish`."""
        left = len(self._wave) - min(self._start, REACH)
        return self._encode(left, last=True) if left > 0 else np.zeros(0, np.int32)

    def _encode(self, samples: int, last: bool) -> np.ndarray:
        """Units of the next `samples` of the segment; after the `last` ones the wave is mirrored, not read on."""
        tokenizer, before = self.tokenizer, min(self._start, REACH)
        heard = self._wave[: before + samples + (0 if last else REACH)]
        tail = heard[before:] if last else heard[before:-REACH]
        filled = tokenizer._filled(tail)
        wave = torch.cat([torch.from_numpy(heard[:before]).to(filled.device), filled])
        if last:
            wave = mirrored(wave, before=before == 0)
        else:
            after = torch.from_numpy(heard[before + samples :]).to(filled.device)
            wave = torch.cat([wave, after])
            wave = mirrored(wave, after=False) if before == 0 else wave
        self._wave = self._wave[before + samples - (0 if last else REACH) :]
        self._start += samples
        log_mel = log_power(wave, tokenizer.config.num_mel_bins)
        self._peak = torch.maximum(self._peak, log_mel.max())
        floor = tokenizer.config.mel_floor
        mel = scaled(log_mel, self._peak - RANGE if floor is None else floor)[None]
        mask = torch.arange(mel.shape[-1], device=mel.device)[None] < -(-samples // HOP)
        assert tokenizer.config.quantize_causal_block_size is not None
        block = tokenizer.config.quantize_causal_block_size * tokenizer.config.hop  # the last piece may begin another
        parts = zip(mel.split(block, dim=-1), mask.split(block, dim=-1), strict=True)
        codes = [tokenizer.codes(part, seen, self._state)[0] for part, seen in parts]
        return torch.cat(codes).cpu().numpy().astype(np.int32)
