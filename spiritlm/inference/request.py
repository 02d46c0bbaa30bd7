"""What is asked of a speech-text model: a prompt of text and speech, what to answer in, how tokens are chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import soxr

from spiritlm.audio.files import read_audio
from spiritlm.errors import InputError

Output = Literal["text", "speech", "any"]
Task = Literal["continue", "transcribe", "read"]
"""Go on; write down what is heard; read aloud what is written."""
SAMPLE_RATE = 16_000
"""Hz, of what is read from files, and what most listeners want."""
BATCH_SIZE = 64
"""Requests that are answered together, at most."""


class Speech(NamedTuple):
    """A spoken piece of a prompt or of an answer."""

    wave: np.ndarray
    """float32 `[samples]` in [-1, 1], mono."""
    sample_rate: int
    """Hz."""

    @classmethod
    def read(cls, path: Path, sample_rate: int = SAMPLE_RATE) -> Speech:
        """A sound file, resampled. Raises `InputError` where it is absent or no sound."""
        return cls(read_audio(path, sample_rate), sample_rate)

    def at(self, sample_rate: int) -> np.ndarray:
        """The wave at another rate, float32 `[samples]`. Raises `InputError` where it is not of floats."""
        if self.wave.dtype.kind != "f":
            raise InputError(f"a wave of {self.wave.dtype}: expected float32 in [-1, 1]")
        if self.sample_rate == sample_rate or not len(self.wave):
            return np.asarray(self.wave, np.float32)
        return soxr.resample(np.asarray(self.wave, np.float32), self.sample_rate, sample_rate)


Prompt = Sequence[str | Speech]
"""Pieces of text and speech in the order they are read and heard."""


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen (defaults: Spirit LM, appendix D). The choice of one request depends on nothing
    that is asked beside it."""

    max_new_tokens: int = 200
    temperature: float = 0.8
    """0 always takes the likeliest token."""
    top_p: float = 0.95
    """Only among the likeliest tokens that together have this probability."""
    top_k: int = 0
    """Only among so many of the likeliest; 0: of all."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise InputError(f"max_new_tokens {self.max_new_tokens}: expected at least 1")
        if not 0 <= self.temperature < float("inf"):
            raise InputError(f"temperature {self.temperature}: expected 0 or more")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top_p {self.top_p}: expected more than 0 and at most 1")
        if self.top_k < 0:
            raise InputError(f"top_k {self.top_k}: expected 0 or more")
        if not 0 <= self.seed < 2**63:
            raise InputError(f"seed {self.seed}: expected 0 to 2**63 - 1")


def greedy(max_new_tokens: int) -> Sampling:
    """Always the likeliest token."""
    return Sampling(max_new_tokens, temperature=0.0)


@dataclass(frozen=True)
class Request:
    """One continuation to be had."""

    prompt: Prompt
    output: Output = "any"
    sampling: Sampling = field(default_factory=Sampling)
    task: Task = "continue"
    """`transcribe` and `read` end the prompt with the marker of ASR and TTS pairs where the vocabulary has one."""
