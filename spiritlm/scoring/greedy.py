"""What a causal language model says next when it always takes the likeliest token.

Prompts are sorted by length and padded on the left, where the attention mask hides the padding, so that neither batch
size nor order changes what is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from spiritlm.run.progress import progress


class Prompt(NamedTuple):
    ids: np.ndarray
    """int64 `[tokens]`, at least one."""
    most: int
    """New tokens, at most; at least one."""


@torch.inference_mode()
def greedy(
    model: torch.nn.Module,
    prompts: Sequence[Prompt],
    ends: Sequence[int],
    banned: Sequence[int],
    batch_size: int = 128,
) -> list[np.ndarray]:
    """New ids int64 `[tokens]` after each prompt, in the order of `prompts`, up to the first of `ends`, which is left
    out. `model`: of transformers. `banned`: ids that are never taken."""
    order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i].ids), prompts[i].most))
    said: dict[int, np.ndarray] = {}
    with progress("decode", len(prompts)) as bar:
        for first in range(0, len(order), batch_size):
            chosen = order[first : first + batch_size]
            rows = _decode(model, [prompts[i] for i in chosen], ends, banned)
            said.update(zip(chosen, rows, strict=True))
            bar.advance(len(chosen))
    return [said[i] for i in range(len(prompts))]


def _decode(
    model: torch.nn.Module, batch: list[Prompt], ends: Sequence[int], banned: Sequence[int]
) -> list[np.ndarray]:
    longest = max(len(prompt.ids) for prompt in batch)
    input_ids = torch.full((len(batch), longest), ends[0])
    attention_mask = torch.zeros((len(batch), longest), dtype=torch.long)
    for row, prompt in enumerate(batch):
        input_ids[row, longest - len(prompt.ids) :] = torch.from_numpy(prompt.ids.astype(np.int64))
        attention_mask[row, longest - len(prompt.ids) :] = 1
    device = next(model.parameters()).device
    generated = model.generate(  # type: ignore[operator]
        input_ids.to(device),
        attention_mask=attention_mask.to(device),
        max_new_tokens=max(prompt.most for prompt in batch),
        do_sample=False,
        suppress_tokens=list(banned) or None,
        eos_token_id=list(ends),
        pad_token_id=ends[0],
    )[:, longest:].cpu().numpy()  # fmt: skip
    return [_until(new[: prompt.most], ends) for new, prompt in zip(generated, batch, strict=True)]


def _until(ids: np.ndarray, ends: Sequence[int]) -> np.ndarray:
    found = np.flatnonzero(np.isin(ids, ends))
    return ids[: found[0]] if len(found) else ids
