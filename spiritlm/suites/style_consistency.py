"""Does what is told on sound as its beginning did? A heard story, continued in speech, judged by its style units.

An item is the first part of a held-out story (documents named `NAME_mutual`), heard whole, with the mood that it is
told in. The model tells on in speech, always the likeliest token; each style unit of the continuation stands for the
mood it mostly has in the training recordings, and the commonest of them is the mood of the continuation. It is kept
where that is the prompt's. The same continuations behind the prompts of all other items (shuffled) are what chance
gives, whatever moods the model prefers.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spiritlm.corpus.manifest import SpokenDocument
from spiritlm.corpus.store import DocumentStore
from spiritlm.errors import InputError
from spiritlm.inference.decoding import TokenPrompt
from spiritlm.inference.pieces import banned_ids, end_ids
from spiritlm.inference.request import greedy
from spiritlm.scoring.styles import UnitLabels, label_spans, labels_of_units, majority
from spiritlm.tokens.documents import span_ids, whole
from spiritlm.tokens.interleave import SPEECH
from spiritlm.tokens.vocabulary import Vocabulary

VERSION = 1
NEW_TOKENS = 96
"""Of a continuation: about four seconds of three streams."""

Generator = Callable[[Sequence[TokenPrompt]], list[np.ndarray]]
"""Prompts to ids of speech."""


@dataclass(frozen=True)
class Item:
    name: str
    speaker: str
    mood: str
    prompt: np.ndarray
    """int64 `[tokens]`."""


def read_items(store: DocumentStore, recordings: Sequence[SpokenDocument]) -> list[Item]:
    """Items in order of name. `recordings`: those of the store, with `custom.mood`.

    Raises `InputError` where the store has no style units or no items with a mood.
    """
    moods = {str(recording.audio): label_spans(recording, "mood") for recording in recordings}
    vocabulary, rates = store.vocabulary, store.rates.tolist()
    if "style" not in vocabulary.blocks:
        raise InputError("style consistency: the store has no style units")
    items = []
    for record in sorted(store.records, key=lambda record: record.id):
        if record.id.endswith("_mutual") and record.audio in moods:
            document = store.named(record.id)
            heard = span_ids(document, whole(document, SPEECH)[0], vocabulary, rates)
            prompt = np.array([vocabulary.bos, *vocabulary.opening(SPEECH), *heard], dtype=np.int64)
            items.append(Item(record.id, record.speaker, moods[record.audio][-1].label, prompt))
    if len(items) < 2:
        raise InputError("style consistency: expected at least two documents named NAME_mutual whose mood is known")
    return items


def moods_of_units(store: DocumentStore, recordings: Sequence[SpokenDocument]) -> list[str]:
    """The mood that each style unit mostly has in a store, whose `recordings` have `custom.mood`."""
    moods = {str(recording.audio): label_spans(recording, "mood") for recording in recordings}
    rate = store.files.rates["style"]
    found = UnitLabels(store.vocabulary.blocks["style"].size)
    for index in range(len(store)):
        record, units = store.record(index), store[index].style
        if record.audio in moods:
            spans = [s._replace(start=s.start - record.start, end=s.end - record.start) for s in moods[record.audio]]
            found.add(units, labels_of_units(spans, len(units), rate, record.duration))
    return found.commonest()


def evaluate(
    items: Sequence[Item], generate: Generator, vocabulary: Vocabulary, mood_of_unit: Sequence[str]
) -> dict[str, Any]:
    """Shares of the items whose mood is kept, `kept`, `shuffled` and `difference`, each with its standard error (of
    items drawn at random), and the items behind them. A continuation without a style unit keeps nothing."""
    asked = end_ids("speech", "continue", vocabulary), banned_ids("speech", "continue", vocabulary)
    said = generate([TokenPrompt(item.prompt, greedy(NEW_TOKENS), *asked) for item in items])
    judged = [_mood(ids, vocabulary, mood_of_unit) for ids in said]
    moods = Counter(item.mood for item in items)
    kept = np.array([mood == item.mood for mood, item in zip(judged, items, strict=True)], dtype=float)
    others = np.array(
        [(moods[mood] - (mood == item.mood)) / (len(items) - 1) for mood, item in zip(judged, items, strict=True)]
    )
    return {
        "kept": _share(kept),
        "shuffled": _share(others),
        "difference": _share(kept - others),
        "moods": len(moods),
        "without_style": judged.count(""),
        "items": [
            {"name": item.name, "speaker": item.speaker, "mood": item.mood, "continued": mood}
            for item, mood in zip(items, judged, strict=True)
        ],
    }


def _mood(ids: np.ndarray, vocabulary: Vocabulary, mood_of_unit: Sequence[str]) -> str:
    units = vocabulary.decode_units(ids[vocabulary.is_unit(ids, "style")], "style").tolist()
    return majority([mood_of_unit[unit] for unit in units]) if units else ""


def _share(values: np.ndarray) -> dict[str, float]:
    error = float(values.std(ddof=1)) / math.sqrt(len(values))
    return {"value": float(values.mean()), "standard_error": error, "n": len(values)}
