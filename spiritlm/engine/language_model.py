"""megatron-core's `GPTModel`, whose last stage gives a loss without ever holding all logits."""

from __future__ import annotations

from typing import Any

import torch
from megatron.core.models.gpt import GPTModel

from spiritlm.engine.loss import vocabulary_loss


class LanguageModel(GPTModel):
    """With labels, the last pipeline stage returns a weighted loss and the cross entropy of each token; see
    `vocabulary_loss`. `loss_mask` holds the weight of each token, 0 where it is not learned."""

    z_loss = 0.0
    """Weight of the squared log of the softmax's normaliser (PaLM, section 5)."""

    def _postprocess(
        self,
        hidden_states: torch.Tensor,
        *arguments: Any,
        labels: torch.Tensor | None = None,
        loss_mask: torch.Tensor | None = None,
        **others: Any,
    ) -> Any:
        if not self.post_process or labels is None or loss_mask is None:
            return super()._postprocess(hidden_states, *arguments, labels=labels, loss_mask=loss_mask, **others)
        for wait_for_weight in self.output_layer._forward_pre_hooks.values():  # its own forward pass is not called
            wait_for_weight(self.output_layer, ())
        tied = self.share_embeddings_and_output_weights
        weight = self.shared_embedding_or_output_weight() if tied else self.output_layer.weight
        return vocabulary_loss(hidden_states, weight, labels, loss_mask, self.config, self.z_loss)
