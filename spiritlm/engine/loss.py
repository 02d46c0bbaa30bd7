"""Next-token loss: what is differentiated, and what is reported for each modality."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist

from spiritlm.engine.batches import Batch
from spiritlm.tokens.interleave import MODALITIES


def token_losses(model: Any, batch: Batch) -> torch.Tensor:
    """Cross entropy of every label, nats, float32 `[batch, time]`."""
    return model(batch.input_ids, batch.position_ids, None, labels=batch.labels).float()


def masked_loss(losses: torch.Tensor, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Summed loss to differentiate, its number of tokens (int32), and the sums to report.

    The sums are float64 `[2, modalities]`: loss, then tokens. Gradients are divided by the number of tokens of all
    micro-batches of all ranks, so a token weighs the same wherever it was computed.
    """
    counted = batch.loss_mask != 0
    weighted = torch.where(counted, losses * batch.loss_mask, 0.0)
    with torch.no_grad():
        of_modality = [batch.modality == index for index in range(len(MODALITIES))]
        sums = torch.stack([
            torch.stack([weighted[chosen].sum(dtype=torch.float64) for chosen in of_modality]),
            torch.stack([(counted & chosen).sum().double() for chosen in of_modality]),
        ])  # fmt: skip
    return weighted.sum(), counted.sum().int(), sums


def reduced_losses(sums: list[torch.Tensor]) -> dict[str, float]:
    """Mean losses over micro-batches and ranks: `loss` of all tokens, `loss_NAME` of each modality that occurs."""
    total = torch.stack(sums).sum(0)
    dist.all_reduce(total)
    losses, tokens = total.tolist()
    found = {"loss": sum(losses) / max(1.0, sum(tokens))}
    for name, loss, count in zip(MODALITIES, losses, tokens, strict=True):
        if count:
            found[f"loss_{name}"] = loss / count
    return found
