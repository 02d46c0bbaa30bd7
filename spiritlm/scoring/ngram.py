"""An n-gram model over token ids: what a choice between two endings gives away without meaning.

Interpolated trigram: each order is smoothed towards the next lower one by Witten-Bell's rule (the weight of a
context's own counts is `n / (n + types)`), down to the uniform distribution.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from spiritlm.scoring.protocol import Score
from spiritlm.scoring.rows import TokenRequest


class NGram:
    """Trained by counting; scores requests as `TokenScorer` does."""

    def __init__(self, sequences: Iterable[np.ndarray], vocabulary_size: int, order: int = 3) -> None:
        """`sequences`: token ids `[n]` each."""
        self.order, self.vocabulary_size = order, vocabulary_size
        self._counts: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
        for sequence in sequences:
            ids = sequence.tolist()
            for position, id in enumerate(ids):
                for length in range(min(order, position + 1)):
                    self._counts[tuple(ids[position - length : position])][id] += 1

    def probability(self, context: Sequence[int], id: int) -> float:
        probability = 1 / self.vocabulary_size
        for length in range(min(self.order - 1, len(context)) + 1):
            counts = self._counts.get(tuple(context[len(context) - length :]))
            if counts:
                total, types = counts.total(), len(counts)
                probability = (counts[id] + types * probability) / (total + types)
        return probability

    def loglikelihood(self, requests: Sequence[TokenRequest]) -> list[Score]:
        scores = []
        for request in requests:
            ids, places = request.ids.tolist(), request.targets.tolist()
            total = sum(np.log(self.probability(ids[max(0, p - self.order + 1) : p], ids[p])) for p in places)
            scores.append(Score(float(total), len(places)))
        return scores
