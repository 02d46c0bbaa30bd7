"""Whisper's log-mel at 100 Hz, whole or as the sound arrives.

Frame `i` is centred on sample `160 i`; at both ends the wave is mirrored. Whisper floors a recording 80 dB under its
loudest frame, so later sound changes earlier frames; with a constant `floor` nothing does, and a stream and a file
give the same frames.
"""

from __future__ import annotations

import torch

from spiritlm.audio.mel import HOP, WINDOW, mel_filterbank

REACH = WINDOW // 2
"""Samples on either side of its centre that a frame sees."""
RANGE = 8.0
"""Decades of power between the loudest frame and Whisper's floor."""
CONSTANT_FLOOR = -6.0
"""Log10 of the least power where the floor is constant: `RANGE` under loud speech."""
LEAST_POWER = 1e-10


def mirrored(wave: torch.Tensor, before: bool = True, after: bool = True) -> torch.Tensor:
    """`wave` `[..., samples]`, more than 200 of them, with 200 mirrored ones at its ends."""
    head = [wave[..., 1 : REACH + 1].flip(-1)] if before else []
    tail = [wave[..., -REACH - 1 : -1].flip(-1)] if after else []
    return torch.cat([*head, wave, *tail], dim=-1)


def log_power(wave: torch.Tensor, mels: int) -> torch.Tensor:
    """`wave` float32 `[..., samples]` at 16 kHz with 200 samples of context at both ends -> log10 of mel power,
    `[..., mels, frames]`, a frame for every 160 samples between the contexts."""
    window = torch.hann_window(WINDOW, device=wave.device)
    spectrum = torch.stft(wave, WINDOW, HOP, window=window, center=False, return_complex=True)  # [..., bin, frame]
    power = torch.view_as_real(spectrum[..., : (wave.shape[-1] - 2 * REACH) // HOP]).square().sum(-1)
    return (mel_filterbank(mels).to(wave.device) @ power).clamp(min=LEAST_POWER).log10()


def scaled(log_mel: torch.Tensor, floor: torch.Tensor | float) -> torch.Tensor:
    """Whisper's scale: about -1 to 1.5; nothing below `floor`, log10 of power."""
    return (torch.maximum(log_mel, torch.as_tensor(floor, device=log_mel.device)) + 4) / 4


def whisper_log_mel(wave: torch.Tensor, mels: int, floor: float | None) -> torch.Tensor:
    """`wave` float32 `[..., samples]` at 16 kHz, more than 200 -> `[..., mels, samples // 160]`.

    `floor`: log10 of the least power; None for Whisper's, `RANGE` under the maximum of each wave.
    """
    log_mel = log_power(mirrored(wave), mels)
    return scaled(log_mel, log_mel.amax(dim=(-2, -1), keepdim=True) - RANGE if floor is None else floor)
