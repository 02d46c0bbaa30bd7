"""Evaluate an exported model: loss in each modality against what token frequencies give, StoryCloze, and prompted
speech recognition; beside it, where there is one, a model that was trained without interleaving.

In:  an export stage and the store of an encode stage; a second export stage.
Out: `results.json` (figures and the score of every item) and `results.md` (a table).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import PositiveInt

from spiritlm.corpus.datasets import MAIN_STORE, MixedDataset, SourceRecipe, dev_samples, unigram_entropy
from spiritlm.corpus.manifest import read_manifest
from spiritlm.corpus.store import DocumentStore
from spiritlm.inference.model import load_language_model
from spiritlm.run.files import write_json, write_text
from spiritlm.run.program import run_program
from spiritlm.run.stage import Input, OptionalInput, Stage, StageRecipe
from spiritlm.scoring.accuracy import percent
from spiritlm.scoring.greedy import Prompt, greedy
from spiritlm.scoring.loglikelihood import Request, Score, loglikelihood
from spiritlm.scoring.ngram import NGram
from spiritlm.suites import asr, storycloze, style_consistency
from spiritlm.tokens.documents import compose, whole
from spiritlm.tokens.interleave import MODALITIES, SPEECH, TEXT
from spiritlm.tokens.vocabulary import Vocabulary

STYLE_ROWS = {"kept": "in the story's mood", "shuffled": "in the mood of another story", "difference": "difference"}


class EvaluateRecipe(StageRecipe):
    model: Input
    apart: OptionalInput = None
    """A model that has read text and heard speech, never both in one document: its figures stand beside."""
    store: Input
    moods: OptionalInput = None
    """The corpus of a store with style units: whether the model tells on in the mood of what it heard."""
    batch_size: PositiveInt = 32
    asr_sentences: PositiveInt = 400
    """Sentences to transcribe, at most; spread evenly over the split."""
    sequence_length: PositiveInt = 512
    """Row length of the dev loss."""
    unigram_rows: PositiveInt = 400
    """Training rows that the unigram distribution is counted over."""


def evaluate(recipe: EvaluateRecipe, stage: Stage) -> dict[str, Any]:
    vocabulary = Vocabulary.load(recipe.model)
    test = DocumentStore(recipe.store, "test")
    vocabulary.require_hash(test.vocabulary.hash, recipe.store)
    model = load_language_model(recipe.model)
    loss, figures = _loss(model, recipe), _suites(model, test, recipe)
    ngrams, items = _ngrams(recipe.store), storycloze.read_items(test)
    for direction, (_, told) in storycloze.DIRECTIONS.items():
        by_ngram = storycloze.evaluate(items, direction, ngrams[told].loglikelihood, vocabulary)
        figures["storycloze"][direction]["ngram"] = by_ngram["mean"]
    results: dict[str, Any] = {
        "task_versions": {"storycloze": storycloze.VERSION, "asr": asr.VERSION},
        "split": "test",
        "vocabulary": vocabulary.hash,
        "loss": loss,
        **figures,
    }
    if recipe.apart:
        vocabulary.require_hash(Vocabulary.load(recipe.apart).hash, recipe.apart)
        results["apart"] = _suites(load_language_model(recipe.apart), test, recipe)
    if recipe.moods:
        results["task_versions"]["style_consistency"] = style_consistency.VERSION
        results["style_consistency"] = _style_consistency(model, test, recipe.moods, recipe.store)
    write_json(stage.folder / "results.json", results)
    table = _table(results)
    write_text(stage.folder / "results.md", table)
    print(table)
    counts = {"loss": loss, **_rounded(figures)}
    if recipe.apart:
        counts["apart"] = _rounded(results["apart"])
    if recipe.moods:
        counts["style_consistency"] = {key: results["style_consistency"][key]["value"] for key in STYLE_ROWS}
    return counts


def _style_consistency(model: torch.nn.Module, test: DocumentStore, corpus: Path, store: Path) -> dict[str, Any]:
    vocabulary = test.vocabulary
    items = style_consistency.read_items(test, read_manifest(corpus, "test"))
    table = style_consistency.moods_of_units(DocumentStore(store, "train"), read_manifest(corpus, "train"))

    def tell_on(prompts: Sequence[Prompt]) -> list[np.ndarray]:
        ends, banned = style_consistency.end_ids(vocabulary), style_consistency.banned_ids(vocabulary)
        return greedy(model, prompts, ends, banned)

    return style_consistency.evaluate(items, tell_on, vocabulary, table)


def _suites(model: torch.nn.Module, test: DocumentStore, recipe: EvaluateRecipe) -> dict[str, dict[str, Any]]:
    vocabulary = test.vocabulary
    items = storycloze.read_items(test)

    def score(requests: Sequence[Request]) -> list[Score]:
        return loglikelihood(model, requests, recipe.batch_size)

    def transcribe(prompts: Sequence[Prompt]) -> list[np.ndarray]:
        return greedy(model, prompts, asr.end_ids(vocabulary), asr.banned_ids(vocabulary))

    train = DocumentStore(recipe.store, "train")
    speakers = {train.record(index).speaker for index in range(len(train))}
    sentences = asr.read_items(test, recipe.asr_sentences)
    return {
        "storycloze": {d: storycloze.evaluate(items, d, score, vocabulary) for d in storycloze.DIRECTIONS},
        "asr": asr.evaluate(sentences, transcribe, vocabulary, speakers),
    }


def _rounded(figures: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Each figure and its standard error."""
    cloze = {d: [row["mean"]["value"], row["mean"]["standard_error"]] for d, row in figures["storycloze"].items()}
    rates = {name: [row["wer"], row["standard_error"]] for name, row in asr.groups(figures["asr"]).items()}
    return {
        suite: {name: [round(number, 4) for number in pair] for name, pair in found.items()}
        for suite, found in (("storycloze", cloze), ("asr", rates))
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
    vocabulary, rates = train.vocabulary, train.rates.tolist()
    sequences = ([compose(d, whole(d, modality), vocabulary, rates).ids for d in train] for modality in (TEXT, SPEECH))
    return [NGram(ids, train.vocabulary.size) for ids in sequences]


def _table(results: dict[str, Any]) -> str:
    lines = ["| loss, nats a token (dev) | model | unigram |", "|---|---|---|"]
    lines += [f"| {name} | {row['model']:.3f} | {row['unigram']:.3f} |" for name, row in results["loss"].items()]
    apart = results.get("apart")
    beside = " apart |" if apart else ""
    lines += ["", f"| StoryCloze (test, chance 50) | mean LL | sum LL | trigram |{beside} n |"]
    lines.append("|---" * (6 if apart else 5) + "|")
    for direction, row in results["storycloze"].items():
        cells = [percent(row[k]["value"], row[k]["standard_error"]) for k in ("mean", "sum", "ngram")]
        if apart:
            other = apart["storycloze"][direction]["mean"]
            cells.append(percent(other["value"], other["standard_error"]))
        lines.append(f"| {direction} | {' | '.join(cells)} | {row['mean']['pairs']} |")
    lines += ["", f"| ASR, prompted (test), % of words wrong | WER |{beside} sentences |"]
    lines.append("|---" * (4 if apart else 3) + "|")
    for name, row in asr.groups(results["asr"]).items():
        rows = [row, apart["asr"][name]] if apart else [row]
        cells = [percent(r["wer"], r["standard_error"]) for r in rows]
        lines.append(f"| {asr.GROUPS[name]} | {' | '.join(cells)} | {row['sentences']} |")
    if style := results.get("style_consistency"):
        lines += ["", "| style kept by a continuation (test), % | | stories |", "|---|---|---|"]
        lines += [
            f"| {STYLE_ROWS[key]} | {percent(style[key]['value'], style[key]['standard_error'])} | {style[key]['n']} |"
            for key in STYLE_ROWS
        ]
    if apart:
        lines += ["", "apart: a model trained on as many tokens of text and speech, without interleaving or pairs"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    run_program("evaluate", EvaluateRecipe, evaluate, __doc__)
