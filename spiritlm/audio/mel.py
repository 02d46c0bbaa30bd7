"""Log-mel and MFCC frames at 100 Hz from sound at 16 kHz.

A waveform comes in, one row per 10 ms goes out. Frame `i` sees the 25 ms around the centre of samples
`[160 i, 160 (i + 1))`; beyond its ends a recording is silent. The floor is a constant, not the recording's
maximum as in Whisper's front end: louder sound later on never changes an earlier frame, so a stream and a file
give the same frames. The price is that quiet recordings stay quiet; who needs to be deaf to loudness
normalises afterwards.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from scipy.fft import dct

SAMPLE_RATE = 16_000
HOP = 160
"""Samples between frames."""
FRAME_RATE = SAMPLE_RATE / HOP
"""Frames per second, Hz."""
WINDOW = 400
"""Samples in a frame and points of its Fourier transform."""
MELS = 80
FLOOR = 1e-6
"""Least mel power: 70 dB under loud speech, above the noise of 16-bit samples."""
COEFFICIENTS = 13
"""Cepstral coefficients of an MFCC frame, before its slopes."""
SLOPE_REACH = 4
"""Frames on either side that a slope is fitted to."""

_LEFT = (WINDOW - HOP) // 2


@cache
def mel_filterbank(mels: int = MELS) -> torch.Tensor:
    """float32 `[mels, 201]`: Slaney's mel filters over the bins of the Fourier transform."""
    from librosa.filters import mel as slaney_filters  # seconds to import

    return torch.from_numpy(slaney_filters(sr=SAMPLE_RATE, n_fft=WINDOW, n_mels=mels))


def frame_count(samples: int) -> int:
    """Frames of a recording; the last may cover samples beyond its end."""
    return -(-samples // HOP)


def log_mel(wave: torch.Tensor | np.ndarray) -> torch.Tensor:
    """float32 `[..., samples]` at 16 kHz -> log10 of mel power, float32 `[..., frames, 80]`."""
    wave = torch.as_tensor(wave)
    frames = frame_count(wave.shape[-1])
    right = frames * HOP - wave.shape[-1] + WINDOW - HOP - _LEFT
    padded = F.pad(wave, (_LEFT, right))
    window = torch.hann_window(WINDOW, device=wave.device)
    spectrum = torch.stft(padded, WINDOW, HOP, window=window, center=False, return_complex=True)  # [..., bin, frame]
    mel = mel_filterbank().to(wave.device) @ spectrum.abs().square()
    return mel.clamp(min=FLOOR).log10().transpose(-1, -2)


@cache
def _cosine_transform() -> torch.Tensor:
    """float32 `[80, 13]`: the first columns of the orthonormal DCT-II."""
    return torch.from_numpy(dct(torch.eye(MELS).numpy(), norm="ortho", axis=1)[:, :COEFFICIENTS].copy())


def mfcc(mel: torch.Tensor) -> torch.Tensor:
    """Log-mel `[frames, 80]` -> 13 cepstral coefficients, their slopes and the slopes' slopes, `[frames, 39]`."""
    cepstrum = mel @ _cosine_transform()
    slope = _slope(cepstrum)
    return torch.cat([cepstrum, slope, _slope(slope)], dim=1)


def _slope(x: torch.Tensor) -> torch.Tensor:
    """Least-squares slope over `2 * SLOPE_REACH + 1` frames, the edge frames repeated; `[frames, n]` both ways."""
    reach = torch.arange(-SLOPE_REACH, SLOPE_REACH + 1, dtype=x.dtype)
    weights = (reach / reach.square().sum()).expand(x.shape[1], 1, -1)
    padded = F.pad(x.T[None], (SLOPE_REACH, SLOPE_REACH), mode="replicate")
    return F.conv1d(padded, weights, groups=x.shape[1])[0].T
