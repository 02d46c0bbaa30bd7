"""A causal language model of transformers, or one like them, asked for log probabilities where they are wanted only.

What a model allows is found out once, by asking it: whether its logits are its output embeddings of its last states,
which then are computed at chosen places only, and whether it reads a row of branches as it reads them one by one.
Where it does not, it is asked the plain way, which is slower and gives the same.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from spiritlm.scoring.rows import Row

LOGITS = 2**24
"""At a time, at most; float64."""
PROBED = 12
"""Tokens of the beginning of the row that a model is tried with, and of its two branches together."""

Padding = Literal["right", "left"]


class LogProbabilities(NamedTuple):
    """float64 `[tokens]` each, natural."""

    full: np.ndarray
    """Among all of the vocabulary."""
    restricted: np.ndarray | None
    """Among the tokens of the same modality."""


class CausalModel:
    """`model(input_ids=...)` gives an object with `.logits` `[batch, time, vocabulary]`."""

    def __init__(self, model: torch.nn.Module, modality: np.ndarray | None = None) -> None:
        """`modality`: int `[vocabulary]`, of each id; ids beyond it are of none."""
        from transformers import PreTrainedModel  # seconds to import

        self.model, self._is_pretrained = model, isinstance(model, PreTrainedModel)
        weight = next(model.parameters())
        self.device, self.dtype = weight.device, weight.dtype
        config: Any = getattr(model, "config", None)
        self._config = config.get_text_config() if self._is_pretrained else config
        self.context: int | None = getattr(self._config, "max_position_embeddings", None)
        self._modality = None if modality is None else torch.from_numpy(modality.astype(np.int64)).to(self.device)
        self._body, self._head, self._size = self._parts()
        self.depends_on_length = _rope_type(self._config) in ("dynamic", "longrope")
        """Whether a token's place is turned by an angle that the longest row of its batch decides."""
        self.takes_branches = self._says_it_takes_branches() and self._reads_branches_one_by_one()

    def _parts(self) -> tuple[Any, torch.nn.Module | None, int]:
        """What gives states, what makes logits of them, and how many; the model and None where it only gives logits."""
        ids = self._probe(8)[None]
        with torch.inference_mode():
            logits = self.model(input_ids=ids).logits
            size = logits.shape[-1]
            head = self.model.get_output_embeddings() if self._is_pretrained else None  # type: ignore[operator]
            body = getattr(self.model, "base_model", self.model)
            if head is None or body is self.model:
                return self.model, None, size
            states = getattr(body(input_ids=ids), "last_hidden_state", None)
            same = states is not None and torch.equal(head(states).float(), logits.float())
        return (body, head, size) if same else (self.model, None, size)

    def _probe(self, tokens: int) -> torch.Tensor:
        """Ids that every vocabulary has, no two neighbours the same."""
        return torch.arange(tokens, device=self.device) * 7 % 16

    def _says_it_takes_branches(self) -> bool:
        """Branches want positions that are told, a mask that attention takes as it is, and no layer that goes by what
        lies near in the row."""
        config = self._config
        if not self._is_pretrained or self.depends_on_length:
            return False
        if "position_ids" not in inspect.signature(self.model.forward).parameters:
            return False
        if getattr(config, "_attn_implementation", None) not in ("sdpa", "eager"):
            return False
        windows = (getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size"))
        return not any(windows) and {*(getattr(config, "layer_types", None) or ())} <= {"full_attention"}

    def _reads_branches_one_by_one(self) -> bool:
        """Whether two branches come out of one row as they come out of two; for what a model does not say."""
        ids, half = self._probe(2 * PROBED), PROBED // 2
        places = torch.arange(2 * PROBED, device=self.device)
        positions = places - half * (places >= PROBED + half)
        branches = (places >= PROBED).long() + (places >= PROBED + half)
        try:
            with torch.inference_mode():
                found = self._read(ids[None], positions[None], branches[None])[0]
                for branch in (1, 2):
                    alone = self._read(ids[(branches == 0) | (branches == branch)][None])[0, PROBED:]
                    tolerance = (1e-4 if self.dtype == torch.float32 else 0.1) * float(alone.abs().max())
                    if not torch.allclose(found[branches == branch], alone, rtol=0, atol=tolerance):
                        return False
        except (RuntimeError, TypeError, ValueError, IndexError, AttributeError):
            return False
        return True

    def _read(
        self, ids: torch.Tensor, positions: torch.Tensor | None = None, branches: torch.Tensor | None = None
    ) -> torch.Tensor:
        """int64 `[batch, time]` each -> states or logits `[batch, time, ...]`. Without branches a token sees all that
        is before it; branch -1 is padding."""
        told: dict[str, Any] = {"use_cache": False} if self._is_pretrained else {}
        if branches is not None:
            told |= {"attention_mask": _mask(branches, self.dtype), "position_ids": positions}
        found = self._body(input_ids=ids, **told)
        states: torch.Tensor = found.logits if self._head is None else found.last_hidden_state
        return states

    @torch.inference_mode()
    def log_probabilities(self, rows: Sequence[Row], padding: Padding = "right") -> LogProbabilities:
        """Of the tokens that the rows ask for, row after row. Branches, and padding on the left, are for a model that
        `takes_branches`."""
        width = max(len(row.ids) for row in rows)
        starts = [width - len(row.ids) if padding == "left" else 0 for row in rows]
        masked = any(row.branches.any() for row in rows) or any(starts)
        ids, positions, branches = (np.full((len(rows), width), fill, np.int64) for fill in (0, 0, -1))
        for number, (row, start) in enumerate(zip(rows, starts, strict=True)):
            own = slice(start, start + len(row.ids))
            ids[number, own], positions[number, own], branches[number, own] = row.ids, row.positions, row.branches
        told = (ids, positions, branches) if masked else (ids,)
        states = self._read(*(torch.from_numpy(array).to(self.device) for array in told)).flatten(0, 1)
        places = [n * width + start + row.places for n, (row, start) in enumerate(zip(rows, starts, strict=True))]
        return self._picked(states, np.concatenate(places), np.concatenate([row.targets for row in rows]))

    def _picked(self, states: torch.Tensor, places: np.ndarray, targets: np.ndarray) -> LogProbabilities:
        """`states` `[n, ...]`; `places`, `targets`: int64 `[tokens]`."""
        where, wanted = (torch.from_numpy(array).to(self.device) for array in (places, targets))
        full, restricted, first = [], [], 0
        while first < len(where):
            chunk = slice(first, first + max(1, LOGITS // self._size))
            chosen = states[where[chunk]]
            logits = (chosen if self._head is None else self._head(chosen)).double()  # [tokens, vocabulary]
            picked = logits.gather(1, wanted[chunk, None])[:, 0]
            full.append(picked - logits.logsumexp(-1))
            if self._modality is not None:
                restricted.append(picked - self._among_own(logits, wanted[chunk]))
            first = chunk.stop
        found = [torch.cat(parts).cpu().numpy() if parts else None for parts in (full, restricted)]
        assert found[0] is not None
        return LogProbabilities(found[0], found[1])

    def _among_own(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """`logits` `[tokens, vocabulary]` -> log of the sum over the ids of each target's modality, `[tokens]`."""
        assert self._modality is not None
        missing = logits.shape[1] - len(self._modality)
        modality = torch.nn.functional.pad(self._modality, (0, missing), value=-1)
        own = modality[targets]
        sums = torch.empty_like(logits[:, 0])
        for one in own.unique():
            sums[own == one] = logits[own == one][:, modality == one].logsumexp(-1)
        return sums


def _mask(branches: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """int64 `[batch, time]` -> what is added to attention `[batch, 1, time, time]`: 0 where a token sees another."""
    here, there = branches[:, :, None], branches[:, None, :]
    seen = ((there == 0) | (there == here)).tril()
    seen &= (there >= 0) | torch.eye(branches.shape[1], dtype=torch.bool, device=branches.device)  # none sees nothing
    hidden = torch.zeros(seen.shape, dtype=dtype, device=branches.device)
    return hidden.masked_fill_(~seen, torch.finfo(dtype).min)[:, None]


def _rope_type(config: Any) -> str | None:
    rotation = getattr(config, "rope_parameters", None) or {}
    return rotation.get("rope_type")
