"""The log-mel frames that vocoders are fed with: HiFi-GAN's front end, as CosyVoice and GLM-4-Voice use it.

Frame `i` sees a window around the centre of samples `[hop * i, hop * (i + 1))`; at both ends the wave is mirrored.
Magnitudes, not power; natural logarithms, floored.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from pydantic import PositiveInt, model_validator

from spiritlm.config import Recipe

FLOOR = 1e-5
"""Least mel magnitude."""
_SMALLEST_POWER = 1e-9
"""Added to the power of a bin, so that its root has a gradient."""


class VocoderMel(Recipe):
    """Kind of frames; what is given here is GLM-4-Voice's and CosyVoice 1's."""

    sample_rate: PositiveInt = 22_050
    size: PositiveInt = 1024
    """Samples of a window and points of its Fourier transform."""
    hop: PositiveInt = 256
    """Samples between frames."""
    mels: PositiveInt = 80
    lowest: float = 0.0
    """Hz."""
    highest: float | None = 8000.0
    """Hz; half of the sample rate where None."""

    @model_validator(mode="after")
    def _fits_together(self) -> VocoderMel:
        if self.hop >= self.size or (self.size - self.hop) % 2:
            raise ValueError(f"hop = {self.hop}: expected under size = {self.size}, by an even number")
        highest = self.sample_rate / 2 if self.highest is None else self.highest
        if not 0 <= self.lowest < highest <= self.sample_rate / 2:
            raise ValueError(f"lowest, highest: expected 0 <= lowest < highest <= {self.sample_rate / 2:g} Hz")
        return self

    @property
    def frame_rate(self) -> float:
        """Frames per second, Hz."""
        return self.sample_rate / self.hop

    def frames(self, samples: int) -> int:
        """Of a wave; its last samples may have none."""
        return samples // self.hop


@cache
def _filters(shape: VocoderMel) -> torch.Tensor:
    from librosa.filters import mel as slaney_filters  # seconds to import

    filters = slaney_filters(
        sr=shape.sample_rate, n_fft=shape.size, n_mels=shape.mels, fmin=shape.lowest, fmax=shape.highest
    )
    with torch.inference_mode(False):  # it is kept, perhaps for a gradient
        return torch.from_numpy(filters)


def vocoder_log_mel(wave: torch.Tensor, shape: VocoderMel) -> torch.Tensor:
    """float32 `[batch, samples]` -> natural logarithm of mel magnitude, float32 `[batch, mels, frames]`.

    A wave too short to be mirrored is silent beyond its ends; one under a hop has no frame."""
    reach, frames = (shape.size - shape.hop) // 2, shape.frames(wave.shape[-1])
    padded = F.pad(wave, (reach, reach), mode="reflect" if wave.shape[-1] > reach else "constant")
    padded = F.pad(padded, (0, max(0, shape.size - padded.shape[-1])))
    window = torch.hann_window(shape.size, device=wave.device)
    spectrum = torch.stft(padded, shape.size, shape.hop, window=window, center=False, return_complex=True)
    magnitude = torch.sqrt(torch.view_as_real(spectrum).square().sum(-1) + _SMALLEST_POWER)
    with torch.autocast(wave.device.type, enabled=False):
        mel = _filters(shape).to(wave.device) @ magnitude[..., :frames]
    return mel.clamp(min=FLOOR).log()
