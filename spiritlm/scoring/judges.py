"""Who judges answers: recognisers of speech, classifiers of sentiment, a language model of text.

Suites take them from here by what they do, so that a figure names its judge and another judge is a setting.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from spiritlm.corpus.manifest import read_manifest
from spiritlm.errors import InputError
from spiritlm.inference.request import Speech

Judge = TypeVar("Judge")


class Recognizer(Protocol):
    """Sound to words."""

    @property
    def name(self) -> str:
        """With the digest or the kind of what hears: what a result must carry to be comparable."""
        ...

    def __call__(self, spoken: Sequence[Speech]) -> list[str]:
        """What is heard in each, perhaps nothing."""
        ...


class SpeechClassifier(Protocol):
    """Sound to one of `labels`: the emotion of a voice."""

    @property
    def name(self) -> str: ...

    @property
    def labels(self) -> tuple[str, ...]: ...

    def __call__(self, spoken: Sequence[Speech]) -> list[str]: ...


class TextClassifier(Protocol):
    """Text to one of `labels`: its sentiment."""

    @property
    def name(self) -> str: ...

    @property
    def labels(self) -> tuple[str, ...]: ...

    def __call__(self, texts: Sequence[str]) -> list[str]: ...


class TextModel(Protocol):
    """How likely text is."""

    @property
    def name(self) -> str: ...

    def __call__(self, texts: Sequence[str]) -> list[tuple[float, int]]:
        """Of each: its natural log probability and its tokens."""
        ...


@dataclass(frozen=True)
class Judges:
    """Those of an evaluation; a suite asks for the one it needs."""

    recognizer: Recognizer | None = None
    speech_classifier: SpeechClassifier | None = None
    text_classifier: TextClassifier | None = None
    text_model: TextModel | None = None

    def hear(self, task: str) -> Recognizer:
        """Raises `InputError` where there is none."""
        return _required(self.recognizer, task, "recognizer")

    def mood(self, task: str) -> SpeechClassifier:
        return _required(self.speech_classifier, task, "speech_classifier")

    def sentiment(self, task: str) -> TextClassifier:
        return _required(self.text_classifier, task, "text_classifier")

    def fluency(self, task: str) -> TextModel:
        return _required(self.text_model, task, "text_model")


def load_judges(
    recognizer: str | None = None,
    grammar: Path | None = None,
    speech_classifier: Path | None = None,
    text_classifier: Path | None = None,
    text_model: Path | None = None,
) -> Judges:
    """`recognizer`: as `scoring.recognizer.load_recognizer` wants it; `grammar`: a corpus whose training sentences are
    all that it may hear; the others are folders. Raises `InputError` where one of them cannot be loaded."""
    from spiritlm.scoring.recognizer import load_recognizer
    from spiritlm.scoring.sentiment import load_speech_classifier, load_text_classifier
    from spiritlm.scoring.text_model import CausalTextModel

    sentences = None
    if grammar is not None:
        sentences = [sentence.text for told in read_manifest(grammar, "train") for sentence in told.sentences]
    return Judges(
        load_recognizer(recognizer, sentences) if recognizer else None,
        load_speech_classifier(speech_classifier) if speech_classifier else None,
        load_text_classifier(text_classifier) if text_classifier else None,
        CausalTextModel(text_model) if text_model else None,
    )


def _required(judge: Judge | None, task: str, name: str) -> Judge:
    if judge is None:
        raise InputError(f"task {task}: expected judges.{name}, who judges its answers")
    return judge
