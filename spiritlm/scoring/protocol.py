"""The seam between benchmarks and models: two calls, asked in text and sound, never in tokens.

A benchmark gives requests and reads scores; which tokens a model makes of them is the model's affair, so a model with
another tokenizer needs these two methods and nothing of this project's vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import numpy as np

from spiritlm.audio.files import read_audio
from spiritlm.inference.request import Sampling, Speech, Task


@dataclass(frozen=True)
class Sound:
    """A recording to be heard."""

    name: str
    """As errors call it."""
    source: Path | bytes
    """A sound file, or what is in one."""

    def read(self, sample_rate: int) -> np.ndarray:
        """float32 `[samples]` in [-1, 1], mono, at `sample_rate`, Hz.

        Raises `InputError`, with `name`, where the file is absent or no sound.
        """
        return read_audio(self.source, sample_rate, name=self.name)


Segment = str | Sound
"""A written or spoken piece."""


class Request(NamedTuple):
    """How likely is `continuation` after `prompt`?"""

    prompt: tuple[Segment, ...]
    """May be empty: then the whole is scored."""
    continuation: tuple[Segment, ...]
    """At least one piece. Markers at a change of modality belong to the prompt or to nothing: they are not scored."""


class Score(NamedTuple):
    """Of a continuation."""

    total: float
    """Natural log probability, each token among all of the vocabulary."""
    tokens: int
    """At least one."""
    restricted: float | None = None
    """The same, each token among those of its modality only; None where a model does not know it."""


class Question(NamedTuple):
    """What is said after `prompt`?"""

    prompt: tuple[Segment, ...]
    """May be empty: then it is told something out of nothing."""
    output: Literal["text", "speech"]
    sampling: Sampling
    """How tokens are chosen, and how many at most; a model that counts otherwise takes it for about that much."""
    task: Task = "continue"
    """`transcribe`, `read`: a model that was trained to do so with a marker of its own uses it."""


Answer = str | Speech
"""As the question's `output` says."""


class SpeechTextModel(Protocol):
    """Whoever answers these is evaluated: batching, order and padding are the model's affair and change nothing."""

    identity: dict[str, str]
    """Digests of weights and tokenizers, and names: what a result must carry to be comparable."""

    def loglikelihood(self, requests: Sequence[Request]) -> list[Score]:
        """In the order of `requests`."""
        ...

    def generate(self, questions: Sequence[Question]) -> list[Answer]:
        """In the order of `questions`. Speech may be empty, `[0]`, where the model says nothing."""
        ...
