"""Log-mel frames become a waveform without a trained vocoder.

The mel filters are undone by a few multiplicative steps (Richardson-Lucy), which keep power positive; their
pseudo-inverse rings, fifty times too loud, on the smooth mel that a network predicts. Phases that agree with the
magnitudes come from the fast Griffin-Lim iteration (Perraudin et al. 2013) from a fixed start: the same frames
always give the same samples. It sounds metallic beside a trained vocoder, and costs no training.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from spiritlm.audio.mel import HOP, WINDOW, mel_filterbank

MOMENTUM = 0.99


def linear_power(mel_power: torch.Tensor, iterations: int = 30) -> torch.Tensor:
    """Mel power `[mel, frames]` -> positive power `[bin, frames]` whose mel power is near it."""
    filters = mel_filterbank().to(mel_power.device)  # [mel, bin]
    weight = filters.sum(dim=0).clamp(min=1e-8)[:, None]
    power = torch.ones(filters.shape[1], mel_power.shape[1], device=mel_power.device)
    for _ in range(iterations):
        power = power * (filters.T @ (mel_power / (filters @ power).clamp(min=1e-12))) / weight
    return power


def griffin_lim(mel: torch.Tensor, iterations: int = 40) -> torch.Tensor:
    """log10 mel power `[frames, 80]` (see `spiritlm/audio/mel.py`) -> float32 `[160 * frames]` at 16 kHz."""
    magnitude = linear_power((10**mel).T).sqrt()  # [bin, frame]
    window = torch.hann_window(WINDOW, device=mel.device)
    samples = HOP * (mel.shape[0] - 1)  # between the centres of the first and the last frame

    def to_wave(spectrum: torch.Tensor) -> torch.Tensor:
        return torch.istft(spectrum, WINDOW, HOP, window=window, length=samples)

    def to_spectrum(wave: torch.Tensor) -> torch.Tensor:
        return torch.stft(wave, WINDOW, HOP, window=window, pad_mode="constant", return_complex=True)

    generator = torch.Generator().manual_seed(0)
    angle = 2 * torch.pi * torch.rand(magnitude.shape, generator=generator).to(mel.device)
    phase = torch.polar(torch.ones_like(magnitude), angle)
    previous = torch.zeros_like(phase)
    for _ in range(iterations):
        consistent = to_spectrum(to_wave(magnitude * phase))
        phase = consistent + MOMENTUM / (1 + MOMENTUM) * (consistent - previous)
        phase = phase / phase.abs().clamp(min=1e-12)
        previous = consistent
    return F.pad(to_wave(magnitude * phase), (HOP // 2, HOP - HOP // 2))
