"""Log-likelihoods of continuations under a causal language model.

Requests are sorted by length and padded on the right, where a causal model cannot see, so that neither batch
size nor order changes a score; log-probabilities are summed in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from spiritlm.run.progress import progress


class Request(NamedTuple):
    """How likely is `continuation` after `prompt`? Both are token ids; both hold at least one."""

    prompt: np.ndarray
    continuation: np.ndarray


class Score(NamedTuple):
    total: float
    """Natural log probability of the continuation."""
    tokens: int

    @property
    def mean(self) -> float:
        return self.total / self.tokens


@torch.inference_mode()
def loglikelihood(model: torch.nn.Module, requests: Sequence[Request], batch_size: int = 32) -> list[Score]:
    """Scores in the order of `requests`. `model(input_ids=...)` returns an object with `.logits`."""
    device = next(model.parameters()).device
    order = sorted(range(len(requests)), key=lambda i: len(requests[i].prompt) + len(requests[i].continuation))
    scores: dict[int, Score] = {}
    with progress("score", len(requests)) as bar:
        for first in range(0, len(order), batch_size):
            chosen = order[first : first + batch_size]
            for i, score in zip(chosen, _score_batch(model, [requests[i] for i in chosen], device), strict=True):
                scores[i] = score
            bar.advance(len(chosen))
    return [scores[i] for i in range(len(requests))]


def _score_batch(model: torch.nn.Module, batch: list[Request], device: torch.device) -> list[Score]:
    rows = [torch.from_numpy(np.concatenate([r.prompt, r.continuation]).astype(np.int64)) for r in batch]
    input_ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(device)  # [batch, time]
    logits = model(input_ids=input_ids).logits  # [batch, time, vocabulary]
    scores = []
    for row, request in enumerate(batch):
        start, end = len(request.prompt), len(request.prompt) + len(request.continuation)
        log_p = logits[row, start - 1 : end - 1].double().log_softmax(-1)
        picked = log_p.gather(1, input_ids[row, start:end, None])
        scores.append(Score(float(picked.sum()), end - start))
    return scores
