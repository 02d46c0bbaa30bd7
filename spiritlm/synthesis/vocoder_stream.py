"""HiFT on a stream of mel: the source goes on from frame to frame, the network hears each frame with its surroundings.

The phase of the source is carried on in float64 and its noise depends on the place of a sample alone; the samples of a
frame are made once all frames that they hear are there, from a stretch that reaches as far back. So the pieces, put
together, are the waveform of the whole, and a frame costs the same wherever it stands.
"""

from __future__ import annotations

import copy

import torch

from spiritlm.synthesis.harmonics import SourceStream
from spiritlm.synthesis.hift import F0Predictor, Hift


class VocoderStream:
    """Mel frames of one utterance in, samples out."""

    def __init__(self, hift: Hift) -> None:
        self.hift = hift.eval()
        shape, device = hift.shape, hift.window.device
        self._source_stream = SourceStream(hift.m_source)
        self._f0_predictor = copy.deepcopy(hift.f0_predictor).double()
        """Phases add up the last bit of F0, so that float32 would let pieces and the whole drift apart."""
        self._mel = torch.zeros(1, shape.mels, 0, device=device)
        """From frame `_first` on."""
        self._source = torch.zeros(1, 1 + shape.bank, 0, device=device)
        """Likewise, as far as it is known."""
        self._first = self._sourced = self._spoken = 0
        """Frames: that are forgotten, that have a source, whose samples are given out."""

    def push(self, mel: torch.Tensor) -> torch.Tensor:
        """`[mels, frames]`, any number -> float32 `[samples]`."""
        return self._push(mel, last=False)

    def finish(self) -> torch.Tensor:
        """What is left. The stream is over."""
        return self._push(self._mel[0, :, :0], last=True)

    @torch.inference_mode()
    def _push(self, mel: torch.Tensor, last: bool) -> torch.Tensor:
        shape = self.hift.shape
        self._mel = torch.cat([self._mel, mel[None]], dim=2)
        known = self._first + self._mel.shape[2]
        self._extend_source(known if last else known - (0 if shape.causal else F0Predictor.REACH))
        stop = known if last else min(self._sourced, known) - shape.look_ahead
        if stop <= self._spoken:
            return mel.new_zeros(0)
        ahead = min(known, stop + shape.look_ahead) - self._first
        wave = self.hift(self._mel[:, :, :ahead], self._source[:, :, : ahead * shape.hop])[0]
        begin = (self._spoken - self._first) * shape.hop
        new, self._spoken = wave[begin : begin + (stop - self._spoken) * shape.hop], stop
        self._forget()
        return new

    def _extend_source(self, stop: int) -> None:
        """Give frames up to `stop` a source."""
        if stop <= self._sourced:
            return
        f0 = self._f0_predictor(self._mel.double())[:, self._sourced - self._first : stop - self._first]
        self._source = torch.cat([self._source, self._source_stream.push(f0)], dim=2)
        self._sourced = stop

    def _forget(self) -> None:
        """What no later sample hears."""
        reach = max(self.hift.shape.reach, 2 * F0Predictor.REACH)
        gone = max(0, self._spoken - reach - self._first)
        self._mel, self._source = self._mel[:, :, gone:], self._source[:, :, gone * self.hift.shape.hop :]
        self._first += gone
