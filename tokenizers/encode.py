"""Encode a corpus: recordings and their word times become a store of aligned documents.

In:  a corpus (speak, ingest or align), a unit tokenizer (train vq-whisper, fit units, join streams), a text tokenizer
     (fit text).
Out: a store (see `spiritlm/corpus/store.py`) with the corpus's splits; `rejects.jsonl` names what could not be used.
Work is cut into shards that run as a datatrove pipeline, here, on SLURM or on Ray; a run that was stopped goes on
with the shards that are left.
"""

from __future__ import annotations

import time
from typing import Any

from pydantic import PositiveFloat

from spiritlm.pipelines.documents import ReadDocuments, cut_into_shards
from spiritlm.pipelines.encode import EncodeSpeech, changed_by_bf16
from spiritlm.pipelines.executor import ExecutorRecipe, run_pipeline
from spiritlm.pipelines.shards import WriteShard, join_shards, once
from spiritlm.run.program import run_program
from spiritlm.run.stage import Input, Stage, StageRecipe
from spiritlm.tokens.layout import LayoutRecipe
from spiritlm.tokens.text import load_text_tokenizer
from spiritlm.tokens.vocabulary import Vocabulary
from spiritlm.units.loading import load_speech_tokenizer
from spiritlm.units.protocol import Precision


class EncodeRecipe(StageRecipe):
    speech: Input
    units: Input
    text: Input
    vocabulary: LayoutRecipe = LayoutRecipe()
    max_pause: PositiveFloat = 5.0
    """Seconds between sentences at which a recording is cut into documents."""
    untranscribed: bool = False
    """Take recordings without a transcript, each stretch of speech as a document; else they are rejected."""
    shard_hours: PositiveFloat = 0.5
    """Hours of audio of a shard; on a cluster, give each at least ten minutes of work."""
    precision: Precision = "fp32"
    """bf16 is meant for GPUs and changes a few units; how many is measured and printed."""
    executor: ExecutorRecipe = ExecutorRecipe()
    max_bad_fraction: float = 0.01
    """Largest share of recordings that may be rejected."""


def encode(recipe: EncodeRecipe, stage: Stage) -> dict[str, Any]:
    tokenizer = load_speech_tokenizer(recipe.units / "model")
    text = load_text_tokenizer(recipe.text)
    sizes = {name: shape.size for name, shape in tokenizer.streams.items()}
    layout = recipe.vocabulary.layout(text.size, text.bos, text.eos, sizes)
    vocabulary = Vocabulary(text, layout)
    work = stage.folder / "shards"
    shards = cut_into_shards(recipe.speech, work, recipe.shard_hours)
    vocabulary.save(stage.folder)
    if shards.sentences_without_words:
        print(
            f"  {shards.sentences_without_words} of {shards.sentences} sentences have no word times: each counts as "
            "one long word (synth_data/align.py finds them)"
        )
    model, rates = recipe.units / "model", {name: shape.rate for name, shape in tokenizer.streams.items()}
    steps = [
        ReadDocuments(work),
        EncodeSpeech(recipe.speech, model, stage.folder, recipe.max_pause, recipe.untranscribed, recipe.precision),
        WriteShard(work, stage.folder, rates),
    ]

    def run() -> dict[str, Any]:
        figures: dict[str, Any] = {}
        if recipe.precision == "bf16":
            figures["changed_by_bf16"] = round(changed_by_bf16(recipe.speech, model), 5)
            print(f"  bf16 changes {100 * figures['changed_by_bf16']:.2f} % of the units")
        resumed = any((work / "log" / "completions").glob("*"))
        started = time.monotonic()
        run_pipeline(steps, len(shards.splits), work / "log", recipe.executor, "encode")
        seconds = time.monotonic() - started
        joined = join_shards(work, shards.splits, stage.folder, vocabulary, recipe.max_bad_fraction, shards.documents)
        if not resumed:
            print(f"  {shards.hours:.2f} h of audio in {seconds:.1f} s: {shards.hours / seconds:.4f} hours a second")
        return {**figures, "hours": round(shards.hours, 3), **joined}

    return {"vocabulary": vocabulary.size, **once(stage.folder, work, run)}


if __name__ == "__main__":
    run_program("encode", EncodeRecipe, encode, __doc__)
