"""Encode a text corpus: JSON lines, parquet or plain text become a store of text documents.

In:  a stage whose vocabulary is used (encode), and texts on disk; or, with `corpus`, texts in the folder of a stage.
Out: a store with one split, whose documents have text and no units; `rejects.jsonl` names the empty ones.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import PositiveInt

from spiritlm.corpus.texts import TextsRecipe, text_parts
from spiritlm.pipelines.encode_text import EncodeText, ReadTexts
from spiritlm.pipelines.executor import ExecutorRecipe, run_pipeline
from spiritlm.pipelines.shards import WriteShard, join_shards, once
from spiritlm.run.program import run_program
from spiritlm.run.stage import Input, OptionalInput, Stage, StageRecipe
from spiritlm.tokens.vocabulary import Vocabulary


class EncodeTextRecipe(StageRecipe):
    vocabulary: Input
    corpus: OptionalInput = None
    """A stage whose folder holds the texts: `texts.root` is taken from there."""
    texts: TextsRecipe
    split: str = "train"
    shards: PositiveInt = 64
    """At most so many; a file, of parquet a row group, is never cut."""
    executor: ExecutorRecipe = ExecutorRecipe()
    max_bad_fraction: float = 0.01
    """Largest share of documents that may be rejected."""


def encode_text(recipe: EncodeTextRecipe, stage: Stage) -> dict[str, Any]:
    vocabulary = Vocabulary.load(recipe.vocabulary)
    texts = recipe.texts.model_copy(update={"root": (recipe.corpus or Path()) / recipe.texts.root})
    shards = min(recipe.shards, len(text_parts(texts)))
    vocabulary.save(stage.folder)
    work = stage.folder / "shards"
    steps = [ReadTexts(texts), EncodeText(stage.folder), WriteShard(work, stage.folder, {})]

    def run() -> dict[str, Any]:
        run_pipeline(steps, shards, work / "log", recipe.executor, "encode text")
        return join_shards(work, [recipe.split] * shards, stage.folder, vocabulary, recipe.max_bad_fraction)

    return once(stage.folder, work, run)


if __name__ == "__main__":
    run_program("encode text", EncodeTextRecipe, encode_text, __doc__)
