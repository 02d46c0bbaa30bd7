"""A codebook that follows what it quantizes by exponential moving averages, and takes up unused codes anew.

The recipe is that of GLM-4-Voice's speech tokenizer (section 3.1 of its report): the nearest code by Euclidean
distance, straight-through gradients, counts and sums averaged over steps and over all processes, codes that nobody
uses restarted at vectors of the batch.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

NEAREST_AT_A_TIME = 8192
"""Vectors that are compared with all centroids together."""
SMOOTHING = 1e-5
"""Added to every count, so that none is zero."""


class VectorQuantizer(nn.Module):
    """Vectors `[..., width]` -> codes and their vectors."""

    ema_count: torch.Tensor
    ema_weight: torch.Tensor
    updates: torch.Tensor

    def __init__(
        self,
        codes: int,
        width: int,
        decay: float | None = 0.99,
        commitment: float = 0.25,
        loss_scale: float = 1.0,
        restart_interval: int | None = None,
    ) -> None:
        """`decay`: of the moving averages; None for a codebook that gradients move.
        `restart_interval`: updates between restarts of unused codes."""
        super().__init__()
        self.decay, self.commitment, self.loss_scale = decay, commitment, loss_scale
        self.restart_interval = restart_interval
        self.weight = nn.Parameter(torch.randn(codes, width), requires_grad=decay is None)
        if decay is not None:
            self.register_buffer("ema_count", torch.ones(codes))
            self.register_buffer("ema_weight", self.weight.detach().clone())
            self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def start(self, centroids: torch.Tensor) -> None:
        """Begin at `centroids` `[codes, width]`, as if each had been used once."""
        self.weight.copy_(centroids)
        if self.decay is not None:
            self.ema_weight.copy_(centroids)
            self.ema_count.fill_(1.0)

    def codes(self, x: torch.Tensor) -> torch.Tensor:
        """The nearest code of each vector of `x` `[..., width]`, int64 `[...]`."""
        x, weight = x.float(), self.weight.float()
        return (weight.square().sum(1) - 2 * x @ weight.T).argmin(-1)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """`x` `[batch, time, width]`, `mask` bool `[batch, time]` -> vectors of the codes with the gradient of `x`,
        codes int64 `[batch, time]`, the loss. In training the codebook moves, after it was used."""
        with torch.autocast(x.device.type, enabled=False):
            codes = self.codes(x.detach())
            quantized = F.embedding(codes, self.weight).to(x.dtype)
            commitment = (x - quantized.detach()).float().square().mean(-1)[mask].mean()
            loss = self.commitment * commitment
            if self.decay is None:
                loss = loss + (quantized - x.detach()).float().square().mean(-1)[mask].mean()
            elif self.training:
                self._update(x.detach().float()[mask], codes[mask])
        return x + (quantized - x).detach(), codes, self.loss_scale * loss

    @torch.no_grad()
    def _update(self, vectors: torch.Tensor, codes: torch.Tensor) -> None:
        """`vectors` `[n, width]` that were given `codes` `[n]`."""
        assert self.decay is not None
        counts = torch.zeros_like(self.ema_count).index_add_(0, codes, torch.ones_like(codes, dtype=torch.float32))
        sums = torch.zeros_like(self.ema_weight).index_add_(0, codes, vectors)
        _sum_over_ranks(counts)
        _sum_over_ranks(sums)
        if not sums.isfinite().all():
            return  # the training loop skips this step too
        self.ema_count.lerp_(counts, 1 - self.decay)
        self.ema_weight.lerp_(sums, 1 - self.decay)
        total = self.ema_count.sum()
        self.ema_count.add_(SMOOTHING).mul_(total / (total + len(counts) * SMOOTHING))
        self.weight.copy_(self.ema_weight / self.ema_count[:, None])
        self.updates += 1
        if self.restart_interval and int(self.updates) % self.restart_interval == 0:
            self.restart(vectors)

    def dead(self) -> torch.Tensor:
        """Codes that were not used since the last restart, int64 `[n]`, rising."""
        assert self.decay is not None and self.restart_interval is not None
        return torch.nonzero(self.ema_count < self.decay**self.restart_interval)[:, 0]

    @torch.no_grad()
    def restart(self, vectors: torch.Tensor, rows: torch.Tensor | None = None) -> None:
        """Put the dead codes at vectors of `[n, width]`: those numbered `rows`, or drawn at random.

        With several processes, each gives vectors to its own share of the dead codes. Fewer vectors than codes are
        taken more than once."""
        dead = self.dead()
        rank, ranks = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        mine = dead[rank::ranks]
        if rows is None:
            draws = -(-len(mine) // max(1, len(vectors)))
            shuffles = [torch.randperm(len(vectors), device=vectors.device) for _ in range(draws)]
            rows = torch.cat([mine[:0], *shuffles])[: len(mine)]
        chosen = torch.zeros_like(self.weight)
        chosen[mine] = vectors[rows]
        _sum_over_ranks(chosen)
        self.weight[dead] = chosen[dead]
        self.ema_weight[dead] = chosen[dead]
        self.ema_count[dead] = 1.0

    def usage(self) -> dict[str, torch.Tensor]:
        """`share_used`: share of the codes that get vectors; `perplexity`: how many equally frequent ones would be as
        hard to guess. Both of the moving averages."""
        share = self.ema_count / self.ema_count.sum()
        entropy = -(share * share.clamp(min=1e-12).log()).sum()
        return {"share_used": (share * len(share) > 0.01).float().mean(), "perplexity": entropy.exp()}


@torch.no_grad()
def kmeans(vectors: torch.Tensor, codes: int, seed: int, rounds: int = 20) -> torch.Tensor:
    """Centroids float32 `[codes, width]` of `vectors` float32 `[n, width]`, at least one a code, where `vectors` are.

    Lloyd's rounds; half of the centroids begin at vectors drawn at random, half at vectors far from those.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randperm(len(vectors), generator=generator)
    first, others = drawn[: -(-codes // 2)], drawn[-(-codes // 2) :]
    far = torch.cat([_nearest(part, vectors[first])[1] for part in vectors[others].split(NEAREST_AT_A_TIME)])
    keys = far.sqrt() * torch.rand(len(far), generator=generator).to(far.device)
    centroids = vectors[torch.cat([first, others[keys.topk(codes - len(first)).indices.cpu()]])].clone()
    for _ in range(rounds):
        sums, counts = torch.zeros_like(centroids), centroids.new_zeros(codes)
        for part in vectors.split(NEAREST_AT_A_TIME):
            nearest, _ = _nearest(part, centroids)
            sums.index_add_(0, nearest, part)
            counts.index_add_(0, nearest, torch.ones_like(nearest, dtype=counts.dtype))
        used = counts > 0
        centroids[used] = sums[used] / counts[used, None]
    return centroids


def _nearest(vectors: torch.Tensor, centroids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The nearest centroid of each vector, int64 `[n]`, and the square of its distance, `[n]`."""
    found = (centroids.square().sum(1) - 2 * vectors @ centroids.T).min(1)
    return found.indices, (found.values + vectors.square().sum(1)).clamp(min=0)


def _sum_over_ranks(tensor: torch.Tensor) -> None:
    if dist.is_initialized():
        dist.all_reduce(tensor)
