"""Which emotion is in a voice, which sentiment in a text: classifiers in folders, as judges of answers.

A folder comes in; its `config.json` says whether it is one of `evals/train_classifiers.py` or one of transformers, a
`...ForSequenceClassification` of waves at 16 kHz (wav2vec 2.0) or of text (RoBERTa), as the Spirit LM benchmark
publishes them. Many answers are judged at a time and none changes what another is taken for: padding is masked, and
networks whose first layer is normalised over time, which no mask helps, hear waves of one length together only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError

from spiritlm.errors import InputError
from spiritlm.inference.request import Speech
from spiritlm.run.device import training_device
from spiritlm.run.files import read_json, sha256_files
from spiritlm.run.weights import CONFIG_FILE
from spiritlm.scoring.small_classifiers import VoiceMood, WordSentiment

SAMPLE_RATE = 16_000
SENTIMENTS = ("positive", "neutral", "negative")
PUBLISHED_SENTIMENTS = {
    "happy": "positive",
    "amused": "positive",
    "sad": "negative",
    "angry": "negative",
    "default": "neutral",
    "neutral": "neutral",
}
"""Of emotions, in the published benchmark."""
SENTIMENT_OF_EMOTION = {**PUBLISHED_SENTIMENTS, "excited": "positive"}
"""With the moods of the small world."""
DIGESTED = ("*.safetensors", "pytorch_model*.bin", "*.json", "merges.txt", "vocab.txt")
"""Files that decide what a classifier says."""
BATCH_SECONDS, BATCH_TEXTS = 240.0, 64
LEAST_SAMPLES = 1600
"""That a network hears: a shorter wave gets zeros behind it."""

Heard = TypeVar("Heard")
Scores = Callable[[Sequence[Heard]], np.ndarray]
"""Answers to float `[answers, labels]`: how well each label fits."""


class Choice(Generic[Heard]):
    """The label that fits an answer best."""

    def __init__(self, name: str, known: Sequence[str], scores: Scores[Heard], wanted: Sequence[str] | None) -> None:
        """`known`: the labels that `scores` has columns of; `wanted`: those that may be said, all where None."""
        self._places, labels = select_labels(known if wanted is None else wanted, known)
        self.labels = tuple(labels)
        self.name = name if wanted is None else f"{name} among {', '.join(labels)}"
        self._scores = scores

    def choose(self, answers: Sequence[Heard]) -> list[str]:
        if not answers:
            return []
        return [self.labels[place] for place in self._scores(answers)[:, self._places].argmax(1)]


class EmotionClassifier(Choice[Speech]):
    """A `SpeechClassifier` (see `scoring/judges.py`)."""

    def __call__(self, spoken: Sequence[Speech]) -> list[str]:
        return self.choose(spoken)


class SentimentClassifier(Choice[str]):
    """A `TextClassifier` (see `scoring/judges.py`)."""

    def __call__(self, texts: Sequence[str]) -> list[str]:
        return self.choose(texts)


def sentiment_of(label: str) -> str:
    """Of a sentiment itself, or an emotion. Raises `InputError` for a label that is neither."""
    plain = label.lower()
    found = plain if plain in SENTIMENTS else SENTIMENT_OF_EMOTION.get(plain)
    if found is None:
        raise InputError(
            f"label {label!r} stands for no sentiment; expected {', '.join(SENTIMENTS)}, "
            f"or an emotion: {', '.join(SENTIMENT_OF_EMOTION)}"
        )
    return found


def select_labels(wanted: Sequence[str], known: Sequence[str]) -> tuple[list[int], list[str]]:
    """The places of `wanted` labels among `known` ones, and their names, in the order of `known`. Raises `InputError`
    for one that is not known, and where none is wanted."""
    for label in wanted:
        if label not in known:
            raise InputError(f"labels: there is no {label!r}, expected some of {', '.join(known)}")
    places = [place for place, label in enumerate(known) if label in wanted]
    if not places:
        raise InputError(f"labels: expected some of {', '.join(known)}, found none")
    return places, [known[place] for place in places]


def load_speech_classifier(folder: Path, labels: Sequence[str] | None = None) -> EmotionClassifier:
    """`labels`: those that it may say; where None all, of a network of transformers those that have a sentiment. Raises
    `InputError` where `folder` holds no classifier of speech, or a label is not of it."""
    name, config = _described(folder)
    if config.get("type") == "voice-mood":
        small = VoiceMood.from_pretrained(folder)
        return EmotionClassifier(name, small.labels, small.scores, labels)
    _require_sequence_classifier(folder, config, "voice-mood")
    network = HuggingFaceSpeechClassifier(folder)
    return EmotionClassifier(name, network.labels, network.scores, labels or _with_a_sentiment(network.labels))


def load_text_classifier(folder: Path, labels: Sequence[str] | None = None) -> SentimentClassifier:
    """`labels`: those that it may say; where None all, of a network of transformers those that have a sentiment. Raises
    `InputError` where `folder` holds no classifier of texts, or a label is not of it."""
    name, config = _described(folder)
    if config.get("type") == "word-sentiment":
        small = WordSentiment.from_pretrained(folder)
        return SentimentClassifier(name, small.labels, small.scores, labels)
    _require_sequence_classifier(folder, config, "word-sentiment")
    network = HuggingFaceTextClassifier(folder)
    return SentimentClassifier(name, network.labels, network.scores, labels or _with_a_sentiment(network.labels))


def _with_a_sentiment(known: Sequence[str]) -> list[str] | None:
    """Those that stand for one, where there are others too."""
    some = [label for label in known if label.lower() in (*SENTIMENTS, *SENTIMENT_OF_EMOTION)]
    return some if 0 < len(some) < len(known) else None


def _described(folder: Path) -> tuple[str, dict[str, Any]]:
    """Its kind and a digest of its files; its `config.json`."""
    if not (folder / CONFIG_FILE).is_file():
        where = f"it has no {CONFIG_FILE}" if folder.is_dir() else "it does not exist"
        raise InputError(f"{folder}: expected the folder of a classifier: {where}")
    config = read_json(folder / CONFIG_FILE)
    if not isinstance(config, dict):
        raise InputError(f"{folder / CONFIG_FILE}: expected a table, found {type(config).__name__}")
    files = {path for pattern in DIGESTED for path in folder.glob(pattern) if path.is_file()}
    return f"{config.get('type') or config.get('model_type')} {sha256_files(files, folder)[:12]}", config


def _require_sequence_classifier(folder: Path, config: dict[str, Any], own: str) -> None:
    architectures = config.get("architectures") or ()
    if not any(str(name).endswith("ForSequenceClassification") for name in architectures):
        raise InputError(
            f"{folder / CONFIG_FILE}: expected a classifier of train_classifiers.py (type {own!r}) or one of "
            f"transformers whose architecture is a ...ForSequenceClassification, found type {config.get('type')!r}, "
            f"architectures {config.get('architectures')!r}"
        )


class HuggingFaceSpeechClassifier:
    """`AutoModelForAudioClassification` over waves."""

    def __init__(self, folder: Path) -> None:
        """Raises `InputError` where the weights or the feature extractor are absent or cannot be used."""
        from transformers import AutoFeatureExtractor, AutoModelForAudioClassification  # seconds to import

        self._extractor = _loaded(AutoFeatureExtractor, folder)
        self._model, self.labels = _classifier(AutoModelForAudioClassification, folder)
        takes, rate = self._extractor.model_input_names[0], self._extractor.sampling_rate
        if takes != "input_values" or rate != SAMPLE_RATE:
            raise InputError(f"{folder}: takes {takes} at {rate} Hz, expected input_values at {SAMPLE_RATE} Hz")
        self._masked = getattr(self._model.config, "feat_extract_norm", "layer") != "group"

    @torch.inference_mode()
    def scores(self, spoken: Sequence[Speech]) -> np.ndarray:
        """float32 `[spoken, labels]`."""
        waves = [_at_16_khz(speech) for speech in spoken]
        found = np.zeros((len(waves), len(self.labels)), np.float32)
        for some in self._batches([len(wave) for wave in waves]):
            inputs = self._extractor(
                [waves[number] for number in some],
                sampling_rate=SAMPLE_RATE,
                return_tensors="pt",
                padding=True,
                return_attention_mask=self._masked,
            ).to(self._model.device)
            found[some] = self._model(**inputs).logits.float().cpu().numpy()
        return found

    def _batches(self, lengths: Sequence[int]) -> list[list[int]]:
        """Places of waves that are heard together, long ones first."""
        batches: list[list[int]] = []
        for number in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
            longest = lengths[batches[-1][0]] if batches else 0
            fits = bool(batches) and longest * (len(batches[-1]) + 1) <= BATCH_SECONDS * SAMPLE_RATE
            if fits and (self._masked or lengths[number] == longest):
                batches[-1].append(number)
            else:
                batches.append([number])
        return batches


class HuggingFaceTextClassifier:
    """`AutoModelForSequenceClassification` over text; what is longer than its context is cut off."""

    def __init__(self, folder: Path) -> None:
        """Raises `InputError` where the weights or the tokenizer are absent or cannot be used."""
        from transformers import AutoModelForSequenceClassification, AutoTokenizer  # seconds to import

        self._tokenizer = _loaded(AutoTokenizer, folder)
        self._model, self.labels = _classifier(AutoModelForSequenceClassification, folder)
        if self._tokenizer.pad_token_id is None:
            raise InputError(f"{folder}: expected a tokenizer with a token of padding")
        positions = getattr(self._model.config, "max_position_embeddings", 514) - 2  # RoBERTa's begin at 2
        self._most = min(self._tokenizer.model_max_length, positions)

    @torch.inference_mode()
    def scores(self, texts: Sequence[str]) -> np.ndarray:
        """float32 `[texts, labels]`."""
        order = sorted(range(len(texts)), key=lambda number: -len(texts[number]))
        found = np.zeros((len(texts), len(self.labels)), np.float32)
        for first in range(0, len(order), BATCH_TEXTS):
            some = order[first : first + BATCH_TEXTS]
            inputs = self._tokenizer(
                [texts[number] for number in some],
                return_tensors="pt",
                padding=True,
                truncation=True,
                max_length=self._most,
            ).to(self._model.device)
            found[some] = self._model(**inputs).logits.float().cpu().numpy()
        return found


def _at_16_khz(speech: Speech) -> np.ndarray:
    wave = speech.at(SAMPLE_RATE)
    return np.pad(wave, (0, max(0, LEAST_SAMPLES - len(wave))))


def _loaded(kind: Any, folder: Path, **options: Any) -> Any:
    """What `kind` of transformers is in `folder`."""
    try:
        return kind.from_pretrained(folder, local_files_only=True, trust_remote_code=False, **options)
    except (OSError, ValueError, RuntimeError, KeyError, ImportError, SafetensorError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"{folder}: expected a whole classifier, with what prepares its input: {reason}") from None


def _classifier(kind: Any, folder: Path) -> tuple[Any, tuple[str, ...]]:
    """The model and its labels, in the order of its outputs."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    model, loaded = _loaded(kind, folder, dtype=torch.float32, output_loading_info=True)
    if missing := sorted(loaded["missing_keys"]):
        raise InputError(f"{folder}: its weights lack {missing[0]!r}, expected those of a whole classifier")
    labels = tuple(model.config.id2label[number] for number in range(model.config.num_labels))
    return model.eval().to(training_device()), labels
