"""Next-token loss: what is differentiated, and what is reported for each modality.

The logits of a row over a large vocabulary are its largest tensor by far. They are made for a few tokens at a time,
each tensor-parallel rank for its own part of the vocabulary, turned into gradients at once, and dropped.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist

from spiritlm.engine.batches import Batch
from spiritlm.tokens.interleave import MODALITIES

LOGITS_AT_ONCE = 2**25
"""Elements of the logits that are held at a time, 128 MB in float32."""


class VocabularyLoss(torch.autograd.Function):
    """Cross entropy of a vocabulary-parallel output layer.

    The gradients are computed along with the loss, since the weight of every token is known, and scaled in the
    backward pass.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        labels: torch.Tensor,
        token_weights: torch.Tensor,
        z_loss: float,
        group: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """`hidden` `[tokens, hidden]`, `weight` `[this rank's ids, hidden]`, `labels` int64 and `token_weights`
        float32 `[tokens]`.

        Returns the weighted sum of cross entropy and `z_loss` times the squared log of the normaliser, float32, and
        the cross entropy of each token, float32 `[tokens]`, without gradient.
        """
        at_once = max(1, LOGITS_AT_ONCE // weight.shape[0])
        differentiated, whole = any(ctx.needs_input_grad[:2]), len(hidden) <= at_once
        grad_hidden = torch.empty_like(hidden if differentiated else hidden[:0])
        grad_weight: torch.Tensor | None = None
        if differentiated and not whole:
            grad_weight = torch.zeros_like(weight, dtype=torch.float32)
        total, losses = hidden.new_zeros((), dtype=torch.float32), list[torch.Tensor]()
        for first in range(0, len(hidden), at_once):
            piece = slice(first, first + at_once)
            logits = (hidden[piece] @ weight.T).float()
            loss, log_norm, probabilities, mine, index = _cross_entropy(logits, labels[piece], group)
            weights = token_weights[piece]
            weighted = torch.where(weights != 0, weights * (loss + z_loss * log_norm.square()), 0.0)
            total += weighted.sum()
            losses.append(loss)
            if differentiated:
                grad = _logit_gradient(probabilities, log_norm, mine, index, weights, z_loss).to(hidden.dtype)
                torch.mm(grad, weight, out=grad_hidden[piece])
                if grad_weight is None:
                    grad_weight = grad.T @ hidden[piece]
                else:
                    grad_weight.add_(grad.T @ hidden[piece])
        ctx.save_for_backward(grad_hidden, None if grad_weight is None else grad_weight.to(weight.dtype))
        of_tokens = torch.cat(losses)
        ctx.mark_non_differentiable(of_tokens)
        return total, of_tokens

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor, unused: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        grad_hidden, grad_weight = ctx.saved_tensors
        return grad_hidden.mul_(grad), grad_weight.mul_(grad), None, None, None, None


def _cross_entropy(logits: torch.Tensor, labels: torch.Tensor, group: Any) -> tuple[torch.Tensor, ...]:
    """`logits` `[tokens, this rank's ids]`, overwritten. Returns the cross entropy and the log of the normaliser
    `[tokens]`, the probabilities `[tokens, this rank's ids]`, and which labels are this rank's, at which index."""
    ranks, size = group.size(), logits.shape[1]
    index = labels - group.rank() * size
    mine = (index >= 0) & (index < size)
    index = torch.where(mine, index, 0)
    largest = logits.amax(dim=1)
    if ranks > 1:
        dist.all_reduce(largest, dist.ReduceOp.MAX, group=group)
    logits.sub_(largest[:, None])
    at_label = torch.where(mine, logits.gather(1, index[:, None])[:, 0], 0.0)
    norm = logits.exp_().sum(dim=1)
    if ranks > 1:
        sums = torch.stack([at_label, norm])
        dist.all_reduce(sums, group=group)
        at_label, norm = sums
    log_norm = norm.log()
    return log_norm - at_label, log_norm + largest, logits.div_(norm[:, None]), mine, index


def _logit_gradient(
    probabilities: torch.Tensor,
    log_norm: torch.Tensor,
    mine: torch.Tensor,
    index: torch.Tensor,
    weights: torch.Tensor,
    z_loss: float,
) -> torch.Tensor:
    """Of the weighted sum of the losses, in place of `probabilities`; that of a token of weight 0 is always 0."""
    scale = weights * (1 + 2 * z_loss * log_norm) if z_loss else weights
    gradient = probabilities.mul_(scale[:, None])
    gradient.scatter_add_(1, index[:, None], torch.where(mine, -weights, 0.0)[:, None])
    return gradient.masked_fill_((weights == 0)[:, None], 0.0)


def vocabulary_loss(
    hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, token_weights: torch.Tensor, config: Any,
    z_loss: float,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """Loss of a `GPTModel`'s last hidden states `[time, batch, hidden]`, `time` shared under sequence parallelism.

    `labels` and `token_weights`: `[batch, time]`. Returns the weighted sum, and the cross entropy `[batch, time]`.
    """
    from megatron.core import parallel_state, tensor_parallel

    group = parallel_state.get_tensor_model_parallel_group()
    if config.sequence_parallel:
        hidden = tensor_parallel.gather_from_sequence_parallel_region(hidden, tensor_parallel_output_grad=True)
    elif group.size() > 1:
        hidden = tensor_parallel.copy_to_tensor_model_parallel_region(hidden)
    flat = hidden.flatten(0, 1), weight, labels.T.flatten(), token_weights.T.flatten()
    total, losses = VocabularyLoss.apply(*flat, z_loss, group)
    return total, losses.view(labels.T.shape).T


def likeliest_ids(hidden: torch.Tensor, weight: torch.Tensor, config: Any) -> torch.Tensor:
    """The id with the largest logit, int64 `[batch, time]`, of last hidden states as in `vocabulary_loss`."""
    from megatron.core import parallel_state, tensor_parallel

    group = parallel_state.get_tensor_model_parallel_group()
    if config.sequence_parallel:
        hidden = tensor_parallel.gather_from_sequence_parallel_region(hidden)
    flat = hidden.flatten(0, 1)
    found = []
    for piece in flat.split(max(1, LOGITS_AT_ONCE // weight.shape[0])):
        logits = (piece @ weight.T).float().nan_to_num(nan=-torch.inf)  # else no rank would have the largest
        largest, ids = logits.max(dim=1)
        overall = largest.clone()
        dist.all_reduce(overall, dist.ReduceOp.MAX, group=group)
        ids = torch.where(largest == overall, ids + group.rank() * weight.shape[0], torch.iinfo(torch.int64).max)
        dist.all_reduce(ids, dist.ReduceOp.MIN, group=group)
        found.append(ids)
    return torch.cat(found).view(hidden.shape[:2]).T.contiguous()


def reported_losses(losses: torch.Tensor, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """The number of tokens learned (int32), and sums to report: float64 `[2, modalities]`, loss, then tokens.

    `losses`: cross entropy `[batch, time]`, before any weight of a modality.
    """
    learned = batch.loss_mask != 0
    of_modality = [learned & (batch.modality == index) for index in range(len(MODALITIES))]
    sums = torch.stack([
        torch.stack([torch.where(chosen, losses, 0.0).sum(dtype=torch.float64) for chosen in of_modality]),
        torch.stack([chosen.sum().double() for chosen in of_modality]),
    ])  # fmt: skip
    return learned.sum().int(), sums


def reduced_losses(sums: list[torch.Tensor]) -> dict[str, float]:
    """Mean losses over micro-batches and ranks: `loss` of all tokens, `loss_NAME` of each modality that occurs.

    `sums`: what `reported_losses` gave on this rank; empty where the rank computes no loss. Collective.
    """
    from megatron.core import parallel_state

    from spiritlm.engine.backend import device

    total = torch.zeros(2, len(MODALITIES), dtype=torch.float64, device=device())
    if parallel_state.get_tensor_model_parallel_rank() == 0:  # the others know the same sums
        total += sum(sums)
    dist.all_reduce(total)
    losses, tokens = total.tolist()
    found = {"loss": sum(losses) / max(1.0, sum(tokens))}
    for name, loss, count in zip(MODALITIES, losses, tokens, strict=True):
        if count:
            found[f"loss_{name}"] = loss / count
    return found
