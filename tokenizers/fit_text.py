"""Train the text tokenizer: a sentencepiece unigram model over the training stories.

In:  a speak stage (training transcripts and text-only stories).   Out: `text.model`.
Bytes stand in for characters that the training text does not have, so any prompt can be written.
"""

from __future__ import annotations

import io
from typing import Any

import sentencepiece
from pydantic import PositiveInt

from spiritlm.corpus.manifest import read_manifest
from spiritlm.errors import InputError
from spiritlm.run.files import atomic_path, read_jsonl
from spiritlm.run.program import run_program
from spiritlm.run.stage import Input, Stage, StageRecipe
from spiritlm.tokens.vocabulary import TEXT_MODEL


class FitTextRecipe(StageRecipe):
    speech: Input
    vocabulary_size: PositiveInt = 1000
    """Upper limit; a small world has fewer pieces."""


def fit_text(recipe: FitTextRecipe, stage: Stage) -> dict[str, Any]:
    texts = [document.text for document in read_manifest(recipe.speech, "train")]
    texts += [row["text"] for row in read_jsonl(recipe.speech / "stories.jsonl")]
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            vocab_size=recipe.vocabulary_size,
            hard_vocab_limit=False,
            byte_fallback=True,
            character_coverage=1.0,
            normalization_rule_name="identity",
            num_threads=1,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise InputError(f"vocabulary_size = {recipe.vocabulary_size}: {error}") from None
    with atomic_path(stage.folder / TEXT_MODEL) as temporary:
        temporary.write_bytes(model.getvalue())
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    ids = sum(len(ids) for ids in pieces.encode(texts))
    return {"texts": len(texts), "pieces": pieces.vocab_size(), "ids": ids}


if __name__ == "__main__":
    run_program("fit text", FitTextRecipe, fit_text, __doc__)
