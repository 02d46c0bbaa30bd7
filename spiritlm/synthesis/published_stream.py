"""How GLM-4-Voice's demo streams its decoder: to compare with.

At every call the flow hears all earlier units and all mel given out so far as its prompt, so that the work of a call
grows with the utterance. The mel of two calls is cross-faded over `OVERLAP` frames; the vocoder hears the last frame
of the call before again, with its source, and a frame of every middle call is lost, as published.
Our own streaming does each block once: `spiritlm/synthesis/flow_stream.py`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from spiritlm.synthesis.flow import Flow, Known
from spiritlm.synthesis.hift import Hift
from spiritlm.synthesis.noise import published_noise

OVERLAP = 34
"""Mel frames held back at every call but the last: int(5 units / 12.5 Hz * 22050 / 256)."""
KEPT_FRAMES = 1
"""Mel frames that the vocoder hears again at the next call."""
Source = Callable[[torch.Tensor], torch.Tensor]


def _faded(new: torch.Tensor, old: torch.Tensor, length: int) -> torch.Tensor:
    """`new` `[..., time]`, into whose first `length` places `old`'s last ones fade, by a Hamming window."""
    window = torch.from_numpy(np.hamming(2 * length)).to(new)
    head = new[..., :length] * window[:length] + old[..., -length:] * window[length:]
    return torch.cat([head, new[..., length:]], dim=-1)


class PublishedStream:
    """Units in pieces, waveforms out."""

    def __init__(self, flow: Flow, hift: Hift, source: Source | None = None) -> None:
        """`source`: `f0` Hz `[1, frames]` -> `[1, 1, samples]`, the vocoder's own by default."""
        self.flow, self.hift, self.source = flow, hift, source or hift.m_source.at_random
        device = hift.window.device
        self.units = torch.zeros(1, 0, dtype=torch.int64, device=device)
        self.mel = torch.zeros(1, flow.config.mels, 0, device=device)
        """Given out so far."""
        self._held: torch.Tensor | None = None
        self._heard: tuple[torch.Tensor, torch.Tensor] | None = None
        """Of the last call: its last mel frames, and the source under them."""

    @torch.inference_mode()
    def push(self, units: torch.Tensor, last: bool) -> torch.Tensor:
        """int64 `[1, units]`, on the flow's device -> float32 `[1, samples]`."""
        mel = self.new_mel(units)
        if self._held is not None:
            mel = _faded(mel, self._held, OVERLAP)
        if self._heard is not None:
            mel = torch.cat([self._heard[0], mel], dim=2)
        if not last:
            mel, self._held = mel[:, :, :-OVERLAP], mel[:, :, -OVERLAP:]
        self.mel, self.units = torch.cat([self.mel, mel], dim=2), torch.cat([self.units, units], dim=1)
        return self.speak(mel, last)

    def new_mel(self, units: torch.Tensor) -> torch.Tensor:
        """Of `units`, after all that was before, `[1, mels, frames]`."""
        flow, known = self.flow, self.mel.shape[2]
        condition = flow.condition(torch.cat([self.units, units], dim=1), self.units.shape[1], known).transpose(1, 2)
        prompt = torch.zeros_like(condition)
        prompt[:, :, :known] = self.mel
        voice = flow.voice(torch.zeros(1, flow.config.speaker_size, device=condition.device))
        noise = published_noise(condition.shape[2], flow.config.mels).to(condition.device)
        return flow.solve(noise, Known(condition, voice, prompt))[:, :, known:]

    def speak(self, mel: torch.Tensor, last: bool) -> torch.Tensor:
        """`[1, mels, frames]` -> `[1, samples]`, of which the last frame's wait for the next call."""
        source, overlap = self.source(self.hift.f0_predictor(mel)), KEPT_FRAMES * self.hift.shape.hop
        if self._heard is not None:
            source[:, :, :overlap] = self._heard[1]
        wave = self.hift(mel, source)
        if last:
            return wave
        self._heard = mel[:, :, -KEPT_FRAMES:], source[:, :, -overlap:]
        return wave[:, :-overlap]
