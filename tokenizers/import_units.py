"""Take a tokenizer that exists as a stage, for encode, measure and export.

In:  `folder`: one of ours, or a published VQ-Whisper (`glm-4-voice-tokenizer`); or `hubert` and `quantizer`: a
     published HuBERT (`.pt`, or a Hugging Face folder) and the centroids or the linear quantizer of its `layer`. With
     `stream = "pitch"` or `"style"`, `folder` is a tokenizer of that, as Spirit LM's `vqvae_f0_quantizer` and
     `style_encoder_w2v2`.
Out: `model/`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import PositiveFloat, PositiveInt

from spiritlm.errors import InputError
from spiritlm.run.program import run_program
from spiritlm.run.stage import Stage, StageRecipe
from spiritlm.units.hubert_checkpoint import from_published
from spiritlm.units.loading import load_speech_tokenizer, load_stream_tokenizer
from spiritlm.units.protocol import SpeechTokenizer, StreamTokenizer


class ImportUnitsRecipe(StageRecipe):
    folder: Path | None = None
    stream: Literal["semantic", "pitch", "style"] = "semantic"
    hubert: Path | None = None
    quantizer: Path | None = None
    layer: PositiveInt = 11
    """Of the HuBERT, from 1 (Spirit LM: 11)."""
    chunk_seconds: PositiveFloat = 100.0
    """Of the HuBERT: longer recordings are encoded in pieces that know nothing of each other."""
    published: bool = False
    """Of the HuBERT: its published lengths and its published rule for blanks."""


def import_units(recipe: ImportUnitsRecipe, stage: Stage) -> dict[str, Any]:
    tokenizer: SpeechTokenizer | StreamTokenizer
    if recipe.stream != "semantic":
        if not recipe.folder or recipe.hubert or recipe.quantizer:
            raise InputError(f"stream = {recipe.stream}: expected folder, and neither hubert nor quantizer")
        tokenizer = load_stream_tokenizer(recipe.folder, recipe.stream)
    elif recipe.folder and not recipe.hubert and not recipe.quantizer:
        tokenizer = load_speech_tokenizer(recipe.folder)
    elif recipe.hubert and recipe.quantizer and not recipe.folder:
        tokenizer = from_published(
            recipe.hubert,
            recipe.quantizer,
            recipe.layer,
            chunk_seconds=recipe.chunk_seconds,
            published=recipe.published,
        )
    else:
        raise InputError("expected folder, or hubert and quantizer")
    tokenizer.save_pretrained(stage.folder / "model")
    return {"rate": tokenizer.rate, "vocabulary_size": tokenizer.vocabulary_size}


if __name__ == "__main__":
    run_program("import units", ImportUnitsRecipe, import_units, __doc__)
