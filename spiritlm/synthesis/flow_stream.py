"""The causal flow, block by block: each block of units is turned into mel once, and never again.

Units arrive in any number; the mel of a block leaves as soon as its units and the encoder's look-ahead are there. What
earlier blocks were is held by the layers' memories: keys of the left context and tails of convolutions, of the encoder
once and of the estimator for every Euler step. The noise of a frame depends on its place alone. So a stream and a file
give the same mel, and a block costs the same wherever it stands if the left context is bounded.
"""

from __future__ import annotations

from itertools import pairwise

import torch

from spiritlm.errors import InputError
from spiritlm.synthesis.flow import Flow, Known, times
from spiritlm.synthesis.noise import noise_at


class FlowStream:
    """Units of one utterance in, its mel out."""

    def __init__(
        self,
        flow: Flow,
        speaker: torch.Tensor,
        steps: int = 10,
        prompt_units: torch.Tensor | None = None,
        prompt_mel: torch.Tensor | None = None,
        temperature: float = 1.0,
    ) -> None:
        """`speaker` float `[1, speaker_size]`; `temperature`: deviation of the noise. A prompt: units int64 `[units]`
        and their mel, on the flow's scale, `[mels, frames]`, whose voice and manner are taken up. Raises `InputError`
        for a flow that cannot stream, and for a prompt whose parts are not of one length."""
        if flow.config.encoder.block is None or not flow.config.estimator.causal:
            raise InputError("this flow does not stream: it is not causal, or has no blocks")
        self.flow, self.steps, self.temperature = flow.eval(), steps, temperature
        self.device = flow.input_embedding.weight.device
        with torch.inference_mode():
            self.voice = flow.voice(speaker.to(self.device))
        self._encoder = flow.encoder.memories()
        self._estimator = [flow.decoder.estimator.memories() for _ in range(steps)]
        self._waiting = torch.zeros(0, dtype=torch.int64) if prompt_units is None else prompt_units.cpu()
        self._frame = 0
        self._prompt = torch.zeros(flow.config.mels, 0) if prompt_mel is None else prompt_mel
        if self._prompt.shape[1] != flow.config.frames(len(self._waiting)):
            raise InputError(f"the prompt has {len(self._waiting)} units and {self._prompt.shape[1]} mel frames")
        self._dropped = self._prompt.shape[1]
        """Frames of the prompt, which are not given out."""

    def push(self, units: torch.Tensor) -> torch.Tensor:
        """int64 `[units]`, any number -> mel `[mels, frames]` of the blocks that are now complete."""
        self._waiting = torch.cat([self._waiting, units.cpu()])
        shape, found = self.flow.config.encoder, []
        assert shape.block is not None
        while len(self._waiting) >= shape.block + shape.look_ahead:
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
        x = self.temperature * noise_at(start, stop, mels).to(self.device)
        moments = times(self.steps, self.device)
        for (now, then), memories in zip(pairwise(moments), self._estimator, strict=True):
            x = x + (then - now) * flow.velocity(x, now[None], known, memories=memories)
        return x[0]
