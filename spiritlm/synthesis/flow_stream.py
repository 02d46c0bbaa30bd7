"""The causal flow, block by block: each block of units is turned into mel once, and never again.

Units arrive in any number; the mel of a block leaves as soon as its units and the encoder's look-ahead are there. What
earlier blocks were is held by the layers' memories: keys of the left context and tails of convolutions, of the encoder
once and of the estimator for every Euler step. The noise of a frame depends on its place alone. So a stream and a file
give the same mel, and a block costs the same wherever it stands if the left context is bounded.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch

from spiritlm.errors import InputError
from spiritlm.run.memory import Memories
from spiritlm.synthesis.flow import Flow, Known, times

NOISE_FRAMES = 64
"""Frames whose noise is drawn at a time."""
PUBLISHED_FRAMES = 15_000
"""CosyVoice 2 draws the noise of so many frames at once, and can say no more."""


def noise_at(start: int, stop: int, channels: int, seed: int = 0, at_once: int = NOISE_FRAMES) -> torch.Tensor:
    """Standard normal float32 `[1, channels, stop - start]`, of the places from `start` on; each depends on `seed` and
    its place alone. `at_once`: places that are drawn together; another number is another noise."""
    first, last = start // at_once, -(-stop // at_once)
    drawn = [torch.randn(channels, at_once, generator=_generator(seed, number)) for number in range(first, last)]
    begin = start - first * at_once
    return torch.cat([*drawn, torch.zeros(channels, 0)], dim=1)[None, :, begin : begin + stop - start]


def _generator(seed: int, number: int) -> torch.Generator:
    """torch's own generator hears the low 32 bits of a seed alone."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence((seed, number)).generate_state(1)[0]))


def published_noise(mels: int) -> torch.Tensor:
    """That of CosyVoice 2, `[1, mels, 15000]`."""
    return torch.randn(1, mels, PUBLISHED_FRAMES, generator=torch.Generator().manual_seed(0))


class FlowStream:
    """Units of one utterance in, its mel out."""

    def __init__(
        self,
        flow: Flow,
        speaker: torch.Tensor,
        steps: int = 10,
        prompt_units: torch.Tensor | None = None,
        prompt_mel: torch.Tensor | None = None,
    ) -> None:
        """`speaker` float `[1, speaker_size]`. A prompt: units int64 `[units]` and their mel `[mels, frames]`, whose
        voice and manner are taken up. Raises `InputError` for a flow that cannot stream."""
        if flow.config.encoder.block is None or not flow.config.estimator.causal:
            raise InputError("this flow does not stream: it is not causal, or has no blocks")
        self.flow, self.steps = flow.eval(), steps
        self.device = flow.input_embedding.weight.device
        with torch.inference_mode():
            self.voice = flow.voice(speaker.to(self.device))
        self._encoder = flow.encoder.memories()
        shape = flow.config.estimator
        most = None if shape.left_blocks is None or shape.block is None else shape.left_blocks * shape.block
        self._estimator = [Memories(most) for _ in range(steps)]
        self._waiting = torch.zeros(0, dtype=torch.int64)
        self._frame = 0
        self._prompt = torch.zeros(flow.config.mels, 0) if prompt_mel is None else prompt_mel
        self._dropped = self._prompt.shape[1]
        """Frames of the prompt, which are not given out."""
        if prompt_units is not None:
            self._waiting = prompt_units

    def push(self, units: torch.Tensor) -> torch.Tensor:
        """int64 `[units]`, any number -> mel `[mels, frames]` of the blocks that are now complete."""
        self._waiting = torch.cat([self._waiting, units.cpu()])
        shape, found = self.flow.config.encoder, []
        assert shape.block is not None
        while len(self._waiting) >= shape.block + max(1, shape.look_ahead):
            block, self._waiting = self._waiting[: shape.block], self._waiting[shape.block :]
            found.append(self._block(block, self._waiting[: shape.look_ahead]))
        return self._new(found)

    def finish(self) -> torch.Tensor:
        """What is left. The stream is over."""
        block = self.flow.config.encoder.block
        pieces = self._waiting.split(block) if len(self._waiting) else ()
        found = []
        for number, piece in enumerate(pieces):
            after = torch.cat([*pieces[number + 1 :], torch.zeros(0, dtype=torch.int64)])
            found.append(self._block(piece, after[: self.flow.config.encoder.look_ahead]))
        self._waiting = self._waiting[:0]
        return self._new(found)

    def _new(self, mels: list[torch.Tensor]) -> torch.Tensor:
        mel = torch.cat([torch.zeros(self.flow.config.mels, 0, device=self.device), *mels], dim=1)
        dropped = min(self._dropped, mel.shape[1])
        self._dropped -= dropped
        return mel[:, dropped:]

    @torch.inference_mode()
    def _block(self, units: torch.Tensor, later: torch.Tensor) -> torch.Tensor:
        """The mel `[mels, frames]` of one block, and of the `later` units what the encoder's look-ahead hears."""
        flow, mels = self.flow, self.flow.config.mels
        block, ahead = (flow.embed(some[None].to(self.device)) for some in (units, later))
        h = flow.encoder(block, later=ahead, memories=self._encoder)
        condition = flow.encoder_proj(h).transpose(1, 2)
        start, stop = self._frame, self._frame + condition.shape[2]
        self._frame = stop
        prompt = torch.zeros_like(condition)
        head = self._prompt[:, start:stop]
        prompt[0, :, : head.shape[1]] = head
        known = Known(condition, self.voice, prompt)
        x, moments = noise_at(start, stop, mels).to(self.device), times(self.steps, self.device)
        for (now, then), memories in zip(pairwise(moments), self._estimator, strict=True):
            x = x + (then - now) * flow.velocity(x, now[None], known, memories=memories)
        return x[0]
