"""What a trigram over tokens knows of a task: what its choices give away without meaning."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from spiritlm.corpus.store import DocumentStore
from spiritlm.scoring.ngram import NGram
from spiritlm.scoring.protocol import Request
from spiritlm.scoring.rows import TokenRequest
from spiritlm.suites.evaluation import paired, requests_of
from spiritlm.suites.figures import PairScore
from spiritlm.suites.pairs import Task
from spiritlm.tokens.documents import compose, whole
from spiritlm.tokens.interleave import SPEECH, TEXT


class Tokenizing(Protocol):
    def tokens_of(self, requests: Sequence[Request]) -> list[TokenRequest]:
        """The tokens that a model makes of each request."""
        ...


class Trigrams:
    """One for text and one for speech, counted over the documents of a store's train split."""

    def __init__(self, store: Path) -> None:
        train = DocumentStore(store, "train")
        rates = train.rates.tolist()
        self.vocabulary = train.vocabulary
        self._by_modality = {
            modality: NGram(
                (compose(d, whole(d, modality), train.vocabulary, rates).ids for d in train), train.vocabulary.size
            )
            for modality in (TEXT, SPEECH)
        }

    def scores(self, model: Tokenizing, task: Task) -> list[PairScore] | None:
        """`model`: makes tokens of the store's vocabulary. None where what is scored is written and spoken both."""
        modalities = {_modality(request) for request in requests_of(task)}
        if len(modalities) != 1 or (modality := modalities.pop()) is None:
            return None
        return paired(self._by_modality[modality].loglikelihood(model.tokens_of(requests_of(task))))


def _modality(request: Request) -> int | None:
    told = {TEXT if isinstance(piece, str) else SPEECH for piece in request.continuation}
    return told.pop() if len(told) == 1 else None
