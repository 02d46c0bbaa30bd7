"""Spoken and written StoryCloze: which of two endings does a story have? In four directions.

An item is three documents of a store split, named as the public cross-modal layouts name their files:
`NAME_mutual` (the first four sentences), `NAME_correct` and `NAME_incorrect` (the endings). In direction S>T,
the story is heard and the endings are read. Endings are compared by mean log-likelihood per token of the ending
(the published choice, Spirit LM table 10) and by the sum; the `</s>` after an ending is not scored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spiritlm.corpus.store import DocumentStore
from spiritlm.errors import InputError
from spiritlm.scoring.accuracy import pair_accuracy, pair_win
from spiritlm.scoring.loglikelihood import Request, Score
from spiritlm.tokens.documents import span_ids, whole
from spiritlm.tokens.emit import Document
from spiritlm.tokens.interleave import SPEECH, TEXT
from spiritlm.tokens.vocabulary import Vocabulary

VERSION = 1
DIRECTIONS = {"T>T": (TEXT, TEXT), "S>S": (SPEECH, SPEECH), "T>S": (TEXT, SPEECH), "S>T": (SPEECH, TEXT)}

Scorer = Callable[[Sequence[Request]], list[Score]]


@dataclass(frozen=True)
class Item:
    name: str
    speaker: str
    mutual: Document
    correct: Document
    incorrect: Document
    rates: tuple[float, ...]
    """Units per second of the store's streams, Hz."""


def read_items(store: DocumentStore) -> list[Item]:
    """Items in order of name. Raises `InputError` where one of an item's three documents is absent."""
    items = []
    for record in sorted(store.records, key=lambda record: record.id):
        if record.id.endswith("_mutual"):
            name = record.id.removesuffix("_mutual")
            mutual, right, wrong = (store.named(f"{name}_{part}") for part in ("mutual", "correct", "incorrect"))
            items.append(Item(name, record.speaker, mutual, right, wrong, tuple(store.rates.tolist())))
    if not items:
        raise InputError("the split holds no StoryCloze items: expected documents named NAME_mutual")
    return items


def requests(item: Item, direction: str, vocabulary: Vocabulary) -> tuple[Request, Request]:
    """The right and the wrong ending as requests; where the modality changes, its marker is part of the prompt."""
    heard, told = DIRECTIONS[direction]
    prompt = [vocabulary.bos, *vocabulary.opening(heard), *_ids(item, item.mutual, heard, vocabulary)]
    if told != heard:
        prompt += vocabulary.closing(heard) + vocabulary.opening(told)
    right, wrong = (_ids(item, ending, told, vocabulary) for ending in (item.correct, item.incorrect))
    return Request(np.array(prompt), right), Request(np.array(prompt), wrong)


def _ids(item: Item, document: Document, modality: int, vocabulary: Vocabulary) -> np.ndarray:
    return span_ids(document, whole(document, modality)[0], vocabulary, item.rates)


def evaluate(items: Sequence[Item], direction: str, score: Scorer, vocabulary: Vocabulary) -> dict[str, Any]:
    """Accuracy of one direction by both normalisations, with the items behind it."""
    pairs = [requests(item, direction, vocabulary) for item in items]
    scores = score([request for pair in pairs for request in pair])
    right, wrong = scores[0::2], scores[1::2]
    return {
        "mean": pair_accuracy([s.mean for s in right], [s.mean for s in wrong])._asdict(),
        "sum": pair_accuracy([s.total for s in right], [s.total for s in wrong])._asdict(),
        "items": [
            {"name": i.name, "speaker": i.speaker, "right": r.mean, "wrong": w.mean, "win": pair_win(r.mean, w.mean)}
            for i, r, w in zip(items, right, wrong, strict=True)
        ],
    }
