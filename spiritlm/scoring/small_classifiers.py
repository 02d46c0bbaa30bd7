"""Classifiers small enough to be trained beside everything else: the mood of a voice, the sentiment of a text.

In: features of speech (`spiritlm/scoring/voice_features.py`) or texts, each with its label. Out: a network with one
hidden layer, or weights of words and of pairs of neighbours in a sentence; in a folder, `config.json` and
`model.safetensors`. scikit-learn fits them, numpy applies them. They know what they were trained on and nothing else: a
few voices and moods, some hundred words.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field

from spiritlm.config import Recipe
from spiritlm.errors import InputError
from spiritlm.inference.request import Speech
from spiritlm.run.weights import MODEL_FILE, read_config, read_tensors, save_model
from spiritlm.scoring.voice_features import VERSION, voice_features

HIDDEN, DECAY, EPOCHS = 64, 1.0, 100
"""Of the network: hidden units, scikit-learn's `alpha`, passes over the training set at most."""
LEAST_COUNT = 2
"""Texts of training that a word or pair is in, at least."""


class VoiceMoodConfig(Recipe):
    """What `config.json` of a classifier of speech holds."""

    type: Literal["voice-mood"] = "voice-mood"
    labels: tuple[str, ...] = Field(min_length=2)
    features: Literal[1] = VERSION


class WordSentimentConfig(Recipe):
    """What `config.json` of a classifier of texts holds."""

    type: Literal["word-sentiment"] = "word-sentiment"
    labels: tuple[str, ...] = Field(min_length=2)
    terms: tuple[str, ...]
    """Words, and pairs of words with a blank between."""


class VoiceMood:
    """Speech -> how well each label fits."""

    def __init__(self, labels: Sequence[str], tensors: dict[str, np.ndarray]) -> None:
        """`tensors`, float64: `mean` and `scale` `[features]`, `hidden.weight` `[features, hidden]`, `hidden.bias`,
        `out.weight` `[hidden, labels]`, `out.bias`."""
        self.labels, self._tensors = tuple(labels), tensors

    @classmethod
    def fit(cls, features: np.ndarray, labels: Sequence[str], seed: int) -> VoiceMood:
        """`features`: float64 `[stretches, 82]`. Raises `InputError` where all labels are the same."""
        from sklearn.exceptions import ConvergenceWarning  # a second to import
        from sklearn.neural_network import MLPClassifier

        names = _several(labels)
        mean, scale = features.mean(0), features.std(0) + 1e-6
        network = MLPClassifier((HIDDEN,), alpha=DECAY, max_iter=EPOCHS, random_state=seed)
        with warnings.catch_warnings():  # all epochs are gone through as a rule
            warnings.simplefilter("ignore", ConvergenceWarning)
            network.fit((features - mean) / scale, labels)
        (hidden, out), (hidden_bias, out_bias) = network.coefs_, network.intercepts_
        return cls(
            names,
            {
                "mean": mean,
                "scale": scale,
                "hidden.weight": hidden,
                "hidden.bias": hidden_bias,
                "out.weight": _of_each_label(out),
                "out.bias": _of_each_label(out_bias),
            },
        )

    def scores(self, spoken: Sequence[Speech]) -> np.ndarray:
        """float64 `[spoken, labels]`."""
        return self.scores_of(np.stack([voice_features(speech) for speech in spoken]))

    def scores_of(self, features: np.ndarray) -> np.ndarray:
        """float64 `[stretches, 82]` -> `[stretches, labels]`."""
        t = self._tensors
        hidden = np.maximum((features - t["mean"]) / t["scale"] @ t["hidden.weight"] + t["hidden.bias"], 0.0)
        found: np.ndarray = hidden @ t["out.weight"] + t["out.bias"]
        return found

    def save_pretrained(self, folder: Path) -> None:
        """Write `model.safetensors` and `config.json` into `folder`, which is made if absent."""
        _save(folder, VoiceMoodConfig(labels=self.labels), self._tensors)

    @classmethod
    def from_pretrained(cls, folder: Path) -> VoiceMood:
        """What `save_pretrained` wrote. Raises `InputError` where `folder` holds no such classifier."""
        config, tensors = read_config(folder, VoiceMoodConfig), _arrays(folder)
        widths = {"mean": 1, "scale": 1, "hidden.weight": 2, "hidden.bias": 1, "out.weight": 2, "out.bias": 1}
        _require_shapes(folder, tensors, widths, "out.bias", len(config.labels))
        return cls(config.labels, tensors)


class WordSentiment:
    """Texts -> how well each label fits; of one whose words are all unknown, how common each was."""

    def __init__(self, labels: Sequence[str], terms: Sequence[str], tensors: dict[str, np.ndarray]) -> None:
        """`tensors`, float64: `weight` `[terms, labels]` and `bias` `[labels]`."""
        self.labels, self.terms, self._tensors = tuple(labels), tuple(terms), tensors
        self._places = {term: place for place, term in enumerate(self.terms)}

    @classmethod
    def fit(cls, texts: Sequence[str], labels: Sequence[str]) -> WordSentiment:
        """Raises `InputError` where all labels are the same."""
        from scipy.sparse import csr_matrix
        from sklearn.linear_model import LogisticRegression

        names = _several(labels)
        told = [sorted(set(terms_of(text))) for text in texts]
        counts = Counter(term for terms in told for term in terms)
        known = {term: place for place, term in enumerate(sorted(t for t, n in counts.items() if n >= LEAST_COUNT))}
        rows = [[known[term] for term in terms if term in known] for terms in told]
        ends = np.cumsum([0, *map(len, rows)])
        there = np.array([place for row in rows for place in row], np.int64)
        table = csr_matrix((np.ones(len(there)), there, ends), shape=(len(rows), len(known)))
        fitted = LogisticRegression(max_iter=1000).fit(table, labels)
        tensors = {"weight": _of_each_label(fitted.coef_.T), "bias": _of_each_label(fitted.intercept_)}
        return cls(names, list(known), tensors)

    def scores(self, texts: Sequence[str]) -> np.ndarray:
        """float64 `[texts, labels]`."""
        found = np.tile(self._tensors["bias"], (len(texts), 1))
        for row, text in zip(found, texts, strict=True):
            places = [self._places[term] for term in set(terms_of(text)) if term in self._places]
            row += self._tensors["weight"][sorted(places)].sum(0)
        return found

    def save_pretrained(self, folder: Path) -> None:
        """Write `model.safetensors` and `config.json` into `folder`, which is made if absent."""
        _save(folder, WordSentimentConfig(labels=self.labels, terms=self.terms), self._tensors)

    @classmethod
    def from_pretrained(cls, folder: Path) -> WordSentiment:
        """What `save_pretrained` wrote. Raises `InputError` where `folder` holds no such classifier."""
        config, tensors = read_config(folder, WordSentimentConfig), _arrays(folder)
        _require_shapes(folder, tensors, {"weight": 2, "bias": 1}, "bias", len(config.labels))
        if len(tensors["weight"]) != len(config.terms):
            raise InputError(f"{folder}: has {len(config.terms)} terms and weights of {len(tensors['weight'])}")
        return cls(config.labels, config.terms, tensors)


def terms_of(text: str) -> Iterator[str]:
    """Words, and pairs of neighbours in a sentence, in lower case."""
    for sentence in re.split(r"[.!?]", text.lower()):
        words = re.findall(r"[^\W_]+(?:'[^\W_]+)*", sentence)
        yield from words
        yield from map(" ".join, pairwise(words))


def _several(labels: Sequence[str]) -> list[str]:
    names = sorted(set(labels))
    if len(names) < 2:
        raise InputError(f"a classifier: expected examples of at least two labels, found {', '.join(names) or 'none'}")
    return names


def _of_each_label(weights: np.ndarray) -> np.ndarray:
    """scikit-learn has one column, of the second, where there are two labels: `[..., 1]` -> `[..., 2]`."""
    return np.concatenate([-weights / 2, weights / 2], axis=-1) if weights.shape[-1] == 1 else weights


def _save(folder: Path, config: Recipe, tensors: dict[str, np.ndarray]) -> None:
    save_model(folder, config.model_dump(mode="json"), {name: torch.from_numpy(t) for name, t in tensors.items()})


def _arrays(folder: Path) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in read_tensors(folder / MODEL_FILE).items()}


def _require_shapes(
    folder: Path, tensors: dict[str, np.ndarray], dimensions: dict[str, int], last: str, labels: int
) -> None:
    if (found := {name: tensor.ndim for name, tensor in tensors.items()}) != dimensions:
        raise InputError(f"{folder / MODEL_FILE}: holds {sorted(found)}, expected {sorted(dimensions)}")
    if len(tensors[last]) != labels:
        raise InputError(f"{folder}: has {labels} labels and weights of {len(tensors[last])}")
