"""Who judges answers: recognisers of speech, classifiers of sentiment, a language model of text.

Suites take them from here by what they do, so that a figure names its judge and another judge is a setting.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from pydantic import model_validator

from spiritlm.corpus.manifest import read_manifest
from spiritlm.errors import InputError
from spiritlm.inference.request import Speech
from spiritlm.run.stage import OptionalFolder, OptionalInput, StageRecipe

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


class JudgedRecipe(StageRecipe):
    """Of a stage whose figures others judge."""

    recognizer: Literal["sphinx", "ctc", "whisper"] | None = None
    """Who hears spoken answers: pocketsphinx, the CTC head of a VQ-Whisper tokenizer, or a Whisper of transformers."""
    recognizer_folder: OptionalFolder = None
    """Of the last two."""
    grammar: OptionalInput = None
    """A corpus whose training sentences say what pocketsphinx may hear; without it, its own English."""
    classifiers: OptionalInput = None
    """What `evals/train_classifiers.py` made."""
    speech_classifier: OptionalFolder = None
    """Another one, say a published folder: the emotion of a voice."""
    text_classifier: OptionalFolder = None
    """The sentiment of a text."""
    text_model: OptionalFolder = None
    """How likely a text is: a causal model of transformers, or an exported one."""

    @model_validator(mode="after")
    def _names_who_hears(self) -> JudgedRecipe:
        wants = self.recognizer in ("ctc", "whisper")
        if wants != (self.recognizer_folder is not None):
            found = f"recognizer = {self.recognizer!r}, recognizer_folder = {self.recognizer_folder}"
            raise InputError(f"{found}: expected a folder for 'ctc' and 'whisper', and for nobody else")
        return self

    def judges(self) -> Judges:
        """Raises `InputError` where one of them cannot be loaded."""
        from spiritlm.scoring.recognizer import load_recognizer
        from spiritlm.scoring.sentiment import load_speech_classifier, load_text_classifier
        from spiritlm.scoring.text_model import CausalTextModel

        own = {name: self.classifiers and self.classifiers / name for name in ("speech_classifier", "text_classifier")}
        speech = self.speech_classifier or own["speech_classifier"]
        text = self.text_classifier or own["text_classifier"]
        spec = self.recognizer if self.recognizer_folder is None else f"{self.recognizer}:{self.recognizer_folder}"
        return Judges(
            load_recognizer(spec, self._sentences()) if spec else None,
            load_speech_classifier(speech) if speech else None,
            load_text_classifier(text) if text else None,
            CausalTextModel(self.text_model) if self.text_model else None,
        )

    def _sentences(self) -> list[str] | None:
        if self.grammar is None:
            return None
        return [sentence.text for told in read_manifest(self.grammar, "train") for sentence in told.sentences]


def _required(judge: Judge | None, task: str, name: str) -> Judge:
    if judge is None:
        raise InputError(f"task {task}: nobody judges its answers, expected {name} (docs/evals-answers.md)")
    return judge
