"""megatron-core's `GPTModel`, whose last stage gives a loss without ever holding all logits."""

from __future__ import annotations

from typing import Any

import torch
from megatron.core.models.gpt import GPTModel

from spiritlm.engine.loss import likeliest_ids, vocabulary_loss


class LanguageModel(GPTModel):
    """With labels, the last pipeline stage returns a weighted loss and the cross entropy of each token; see
    `vocabulary_loss`. `loss_mask` holds the weight of each token, 0 where it is not learned."""

    z_loss = 0.0
    """Weight of the squared log of the softmax's normaliser (PaLM, section 5)."""
    gives_ids = False
    """Whether the last stage returns the likeliest next id of each token, int64 `[batch, time]`."""

    def _postprocess(
        self,
        hidden_states: torch.Tensor,
        *arguments: Any,
        labels: torch.Tensor | None = None,
        loss_mask: torch.Tensor | None = None,
        **others: Any,
    ) -> Any:
        asked = self.gives_ids or (labels is not None and loss_mask is not None)
        if not self.post_process or not asked:
            return super()._postprocess(hidden_states, *arguments, labels=labels, loss_mask=loss_mask, **others)
        for wait_for_weight in self.output_layer._forward_pre_hooks.values():  # its own forward pass is not called
            wait_for_weight(self.output_layer, ())
        tied = self.share_embeddings_and_output_weights
        weight = self.shared_embedding_or_output_weight() if tied else self.output_layer.weight
        if labels is None or loss_mask is None:
            return likeliest_ids(hidden_states, weight, self.config)
        return vocabulary_loss(hidden_states, weight, labels, loss_mask, self.config, self.z_loss)
