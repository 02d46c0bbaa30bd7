"""Prompted speech recognition: does the model write down what it hears?

An item is one sentence of the first part of a held-out story (documents named `NAME_mutual`, as StoryCloze has
them), cut out of its recording at its word times. The prompt is what the mixture's `asr` pairs begin with: the units
of the sentence, then the marker of the answer, `[ASR]` where the vocabulary has it. Decoding is greedy, takes text
only, and ends at `</s>`, where a span of text closes or one of speech opens, or after as many pieces of text as the
prompt has tokens. Case and punctuation do not count.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spiritlm.corpus.store import DocumentStore
from spiritlm.errors import InputError
from spiritlm.scoring.error_rates import ErrorRate, word_error_rate
from spiritlm.inference.decoding import TokenPrompt
from spiritlm.inference.pieces import banned_ids, end_ids
from spiritlm.inference.request import greedy
from spiritlm.tokens.documents import pair, words_of
from spiritlm.tokens.interleave import SPEECH
from spiritlm.tokens.vocabulary import Vocabulary

VERSION = 1
GROUPS = {"all": "all sentences", "seen": "voices heard in training", "unseen": "voices never heard"}
"""Of items; the last two where there are any."""

Transcriber = Callable[[Sequence[TokenPrompt]], list[np.ndarray]]
"""Prompts to ids of text."""


@dataclass(frozen=True)
class Item:
    name: str
    """Of the document, and the number of the sentence in it."""
    speaker: str
    text: str
    prompt: np.ndarray
    """int64 `[tokens]`."""


def read_items(store: DocumentStore, most: int) -> list[Item]:
    """At most `most` sentences, spread evenly over the split, in order of name.

    Raises `InputError` where there is no sentence that has both text and units.
    """
    places = [
        (record.id, record.speaker, number)
        for record in sorted(store.records, key=lambda record: record.id)
        if record.id.endswith("_mutual")
        for number in range(len(store.named(record.id).sentences))
    ]
    chosen = np.unique(np.linspace(0, len(places) - 1, min(most, len(places))).round().astype(int))
    items = [item for place in chosen if (item := _item(store, *places[place]))]
    if not items:
        raise InputError("the split holds no sentences to transcribe: expected documents named NAME_mutual with words")
    return items


def _item(store: DocumentStore, id: str, speaker: str, number: int) -> Item | None:
    """None where nothing is heard or nothing was said."""
    document, vocabulary = store.named(id), store.vocabulary
    bounds = np.append(document.sentences, words_of(document))
    start, end = bounds[number : number + 2].tolist()
    prompt, text = pair(document, SPEECH, start, end, vocabulary, store.rates.tolist())
    if not len(prompt) or not len(text):
        return None
    return Item(f"{id}-{number}", speaker, vocabulary.decode_text(text), prompt)


def evaluate(
    items: Sequence[Item], transcribe: Transcriber, vocabulary: Vocabulary, seen: Collection[str]
) -> dict[str, Any]:
    """Word error rates by `GROUPS`, with the items behind them. `seen`: the speakers of the training split."""
    asked = end_ids("text", "transcribe", vocabulary), banned_ids("text", "transcribe", vocabulary)
    answers = transcribe([TokenPrompt(item.prompt, greedy(len(item.prompt)), *asked) for item in items])
    heard = [vocabulary.decode_text(ids.tolist()) for ids in answers]
    rates = [word_error_rate([(item.text, text)]) for item, text in zip(items, heard, strict=True)]
    known = np.array([item.speaker in seen for item in items])
    chosen = dict(zip(GROUPS, (known | True, known, ~known), strict=True))
    figures = {name: _figure([rates[i] for i in np.flatnonzero(own)]) for name, own in chosen.items() if own.any()}
    return {
        **figures,
        "items": [
            {"name": i.name, "speaker": i.speaker, "said": i.text, "heard": text, "edits": rate.edits}
            for i, text, rate in zip(items, heard, rates, strict=True)
        ],
    }


def groups(result: dict[str, Any]) -> dict[str, dict[str, float]]:
    """The figures of a result by `GROUPS`, without its items."""
    return {name: result[name] for name in GROUPS if name in result}


def _figure(rates: Sequence[ErrorRate]) -> dict[str, float]:
    """Errors of all sentences over words of all sentences; the standard error takes sentences as drawn at random."""
    edits, words = (np.array([getattr(rate, name) for rate in rates]) for name in ("edits", "length"))
    value = edits.sum() / max(1, words.sum())
    error = math.sqrt(np.square(edits - value * words).sum()) / max(1, words.sum())
    return {
        "wer": float(value),
        "standard_error": error,
        "edits": int(edits.sum()),
        "words": int(words.sum()),
        "sentences": len(rates),
    }
