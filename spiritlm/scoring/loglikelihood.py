"""Log-likelihoods of continuations under a causal language model, many at a time.

Requests become rows in which what they have in common is read once; rows of about one length make a batch, bounded by
its tokens. Logits are computed where a token is scored, log-softmax and sums in float64, so that neither batch size,
order, padding nor sharing moves a mean by more than 1e-6 where the model is float32.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from spiritlm.errors import InputError
from spiritlm.scoring.causal import CausalModel, Padding
from spiritlm.scoring.protocol import Score
from spiritlm.scoring.rows import TokenRequest, batches_of, rows_of

BATCH_TOKENS = {"cpu": 2048, "cuda": 32768}
"""Of a batch, padding included, at most."""


class TokenScorer:
    """Scores requests in tokens. The settings change how fast, never what."""

    def __init__(
        self,
        model: torch.nn.Module,
        modality: np.ndarray | None = None,
        batch_tokens: int | None = None,
        batch_size: int | None = None,
        share: bool = True,
        padding: Padding = "right",
    ) -> None:
        """`model`: of transformers, or any that gives `.logits` for `input_ids`. `modality`: int `[vocabulary]`, of
        each id, for `Score.restricted`. `batch_tokens`: `BATCH_TOKENS` of the device where None; `batch_size`: rows of
        a batch, at most. `share`: whether common beginnings are read once, where the model can. Raises `ValueError`
        for padding on the left where the model cannot."""
        self.model = CausalModel(model, modality)
        self.batch_tokens = batch_tokens or BATCH_TOKENS.get(self.model.device.type, BATCH_TOKENS["cuda"])
        self.batch_size = 1 if self.model.depends_on_length else batch_size
        self.share = share and self.model.takes_branches
        self.padding: Padding = padding
        if padding == "left" and not self.model.takes_branches:
            raise ValueError("padding on the left: the model cannot be told what a token sees")

    def score(self, requests: Sequence[TokenRequest]) -> list[Score]:
        """In the order of `requests`. Raises `InputError` where one is empty or longer than the model's context."""
        for number, request in enumerate(requests):
            self._require_usable(number, request)
        full, restricted, tokens = np.zeros((3, len(requests)))
        known = True
        for batch in batches_of(rows_of(requests, self.share, self.batch_tokens), self.batch_tokens, self.batch_size):
            found = self.model.log_probabilities(batch, self.padding)
            owners = np.concatenate([row.owners for row in batch])
            np.add.at(full, owners, found.full)
            np.add.at(tokens, owners, 1)
            known = found.restricted is not None
            if found.restricted is not None:
                np.add.at(restricted, owners, found.restricted)
        return [
            Score(float(f), int(n), float(r) if known else None)
            for f, n, r in zip(full, tokens, restricted, strict=True)
        ]

    def _require_usable(self, number: int, request: TokenRequest) -> None:
        given, asked = len(request.prompt), len(request.targets)
        if not given or not asked:
            raise InputError(
                f"request {number}: {given} tokens of prompt and {asked} to score, expected at least one of each"
            )
        length, context = given + len(request.continuation), self.model.context
        if context is not None and length > context:
            raise InputError(f"request {number}: {length} tokens, at most the {context} of the model's context fit")
