"""The text tokenizer: a sentencepiece BPE model over the training texts, or one that exists.

In:  a corpus (speak, ingest or align): training transcripts, and `stories.jsonl` where it has text-only stories.
Out: `text.model` (sentencepiece) or `text.json` (a Hugging Face fast tokenizer), and `text-tokenizer.json`.
Bytes stand in for characters that the training text does not have, so any prompt can be written.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import sentencepiece
from pydantic import PositiveInt

from spiritlm.corpus.manifest import read_manifest
from spiritlm.errors import InputError
from spiritlm.run.files import read_jsonl
from spiritlm.run.program import run_program
from spiritlm.run.stage import Input, Stage, StageRecipe
from spiritlm.tokens.text import SentencePieceText, read_text_tokenizer, save_text_tokenizer


class FitTextRecipe(StageRecipe):
    speech: Input
    vocabulary_size: PositiveInt = 1000
    """Upper limit; a small world has fewer pieces."""
    from_pretrained: Path | None = None
    """Take the tokenizer of this Hugging Face model folder (`tokenizer.json` or `tokenizer.model`) as it is."""


def fit_text(recipe: FitTextRecipe, stage: Stage) -> dict[str, Any]:
    texts = [document.text for document in read_manifest(recipe.speech, "train") if document.text]
    if (stories := recipe.speech / "stories.jsonl").is_file():
        texts += [row["text"] for row in read_jsonl(stories)]
    if not texts:
        raise InputError(f"{recipe.speech}: has no transcripts to train a text tokenizer on")
    if recipe.from_pretrained:
        text = read_text_tokenizer(recipe.from_pretrained)
    else:
        text = SentencePieceText(_train(texts, recipe.vocabulary_size))
    save_text_tokenizer(text, stage.folder)
    return {"texts": len(texts), "pieces": text.size, "ids": sum(len(text.encode(t)) for t in texts)}


def _train(texts: list[str], vocabulary_size: int) -> bytes:
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            model_type="bpe",
            vocab_size=vocabulary_size,
            hard_vocab_limit=False,
            byte_fallback=True,
            character_coverage=1.0,
            normalization_rule_name="identity",
            num_threads=1,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise InputError(f"vocabulary_size = {vocabulary_size}: {error}") from None
    return model.getvalue()


if __name__ == "__main__":
    run_program("fit text", FitTextRecipe, fit_text, __doc__)
