"""Evaluate an exported model: loss in each modality against what token frequencies give, and StoryCloze.

In:  an export stage and the store of an encode stage.
Out: `results.json` (figures and the score of every item) and `results.md` (a table).
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import PositiveInt

from spiritlm.corpus.datasets import MAIN_STORE, MixedDataset, SourceRecipe, dev_samples, unigram_entropy
from spiritlm.corpus.store import DocumentStore
from spiritlm.inference.model import load_language_model
from spiritlm.run.files import write_json, write_text
from spiritlm.run.program import run_program
from spiritlm.run.stage import Input, Stage, StageRecipe
from spiritlm.scoring.loglikelihood import loglikelihood
from spiritlm.scoring.ngram import NGram
from spiritlm.suites import storycloze
from spiritlm.tokens.documents import compose, whole
from spiritlm.tokens.interleave import MODALITIES, SPEECH, TEXT
from spiritlm.tokens.vocabulary import Vocabulary


class EvaluateRecipe(StageRecipe):
    model: Input
    store: Input
    batch_size: PositiveInt = 32
    sequence_length: PositiveInt = 512
    """Row length of the dev loss."""
    unigram_rows: PositiveInt = 400
    """Training rows that the unigram distribution is counted over."""


def evaluate(recipe: EvaluateRecipe, stage: Stage) -> dict[str, Any]:
    model = load_language_model(recipe.model)
    vocabulary = Vocabulary.load(recipe.model)
    test = DocumentStore(recipe.store, "test")
    vocabulary.require_hash(test.vocabulary.hash, recipe.store)
    loss = _loss(model, recipe)
    items = storycloze.read_items(test)
    ngrams = _ngrams(recipe.store)
    cloze: dict[str, Any] = {}
    for direction, (_, told) in storycloze.DIRECTIONS.items():
        cloze[direction] = storycloze.evaluate(
            items, direction, lambda r: loglikelihood(model, r, recipe.batch_size), vocabulary
        )
        by_ngram = storycloze.evaluate(items, direction, ngrams[told].loglikelihood, vocabulary)
        cloze[direction]["ngram"] = by_ngram["mean"]
    results = {
        "task_versions": {"storycloze": storycloze.VERSION},
        "split": "test",
        "vocabulary": vocabulary.hash,
        "loss": loss,
        "storycloze": cloze,
    }
    write_json(stage.folder / "results.json", results)
    table = _table(results)
    write_text(stage.folder / "results.md", table)
    print(table)
    return {
        "loss": loss,
        "storycloze": {
            d: [round(c["mean"]["value"], 4), round(c["mean"]["standard_error"], 4)] for d, c in cloze.items()
        },
    }


@torch.inference_mode()
def _loss(model: torch.nn.Module, recipe: EvaluateRecipe) -> dict[str, dict[str, float]]:
    """Cross entropy of the dev split, nats a token, of the model and of the unigram baseline, by modality.

    As in training, a token sees the tokens of its own document only.
    """
    dev = dev_samples(recipe.store, "dev", recipe.sequence_length)
    both = [SourceRecipe(kind="text"), SourceRecipe(kind="speech")]
    dataset = MixedDataset({MAIN_STORE: recipe.store}, both, recipe.sequence_length, seed=0)
    unigram = unigram_entropy(dataset, recipe.unigram_rows, dev)
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


def _ngrams(store: Path) -> list[NGram]:
    """A trigram model for each modality, over the spoken training documents."""
    train = DocumentStore(store, "train")
    sequences = ([compose(d, whole(d, modality), train.vocabulary).ids for d in train] for modality in (TEXT, SPEECH))
    return [NGram(ids, train.vocabulary.size) for ids in sequences]


def _table(results: dict[str, Any]) -> str:
    lines = ["| loss, nats a token (dev) | model | unigram |", "|---|---|---|"]
    lines += [f"| {name} | {row['model']:.3f} | {row['unigram']:.3f} |" for name, row in results["loss"].items()]
    lines += ["", "| StoryCloze (test, chance 50) | mean LL | sum LL | trigram | n |", "|---|---|---|---|---|"]
    for direction, row in results["storycloze"].items():
        cells = [
            f"{100 * row[k]['value']:.1f} ± {100 * row[k]['standard_error']:.1f}" for k in ("mean", "sum", "ngram")
        ]
        lines.append(f"| {direction} | {' | '.join(cells)} | {row['mean']['pairs']} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    run_program("evaluate", EvaluateRecipe, evaluate, __doc__)
