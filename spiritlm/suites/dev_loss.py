"""Cross entropy of a store's dev split in each modality, beside that of a model which knows token frequencies only."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from spiritlm.corpus.datasets import MAIN_STORE, MixedDataset, SourceRecipe, dev_samples, unigram_entropy
from spiritlm.tokens.interleave import MODALITIES

VERSION = 1


@torch.inference_mode()
def dev_loss(
    model: torch.nn.Module, store: Path, sequence_length: int, unigram_rows: int
) -> dict[str, dict[str, float]]:
    """Nats a token, `model` and `unigram` by modality. `sequence_length`: of a row; `unigram_rows`: training rows that
    frequencies are counted over.

    As in training, a token sees the tokens of its own document only.
    """
    dev = dev_samples(store, "dev", sequence_length)
    both = [SourceRecipe(kind="text"), SourceRecipe(kind="speech")]
    dataset = MixedDataset({MAIN_STORE: store}, both, sequence_length, seed=0)
    unigram = unigram_entropy(dataset, unigram_rows, dev)
    losses: dict[int, list[np.ndarray]] = {modality: [] for modality in unigram}
    for row in dev:
        for begin, end in pairwise(row.cu_seqlens):
            known = begin + np.flatnonzero(row.loss_mask[begin:end] > 0)
            if not len(known):
                continue
            input_ids = torch.from_numpy(row.input_ids[None, begin:end]).to(next(model.parameters()).device)
            log_p = model(input_ids=input_ids).logits[0].double().log_softmax(-1).cpu().numpy()  # [time, vocabulary]
            loss = -log_p[known - begin, row.labels[known]]
            for modality, kept in losses.items():
                kept.append(loss[row.modality[known] == modality])
    return {
        MODALITIES[modality]: {"model": float(np.concatenate(found).mean()), "unigram": unigram[modality]}
        for modality, found in losses.items()
    }
