"""Join a tokenizer of semantic units with those of pitch and style: one tokenizer of three streams.

In:  stages with a `model/` each: `units` (train vq-whisper, fit units, import units), `pitch` (train pitch) and
     `style` (train style).
Out: `model/`, for encode, measure and export.
"""

from __future__ import annotations

from typing import Any

from spiritlm.errors import InputError
from spiritlm.run.program import run_program
from spiritlm.run.stage import Input, Stage, StageRecipe
from spiritlm.units.expressive import ExpressiveTokenizer
from spiritlm.units.loading import load_speech_tokenizer, load_stream_tokenizer


class JoinStreamsRecipe(StageRecipe):
    units: Input
    pitch: Input
    style: Input


def join_streams(recipe: JoinStreamsRecipe, stage: Stage) -> dict[str, Any]:
    units = load_speech_tokenizer(recipe.units / "model")
    if isinstance(units, ExpressiveTokenizer):
        raise InputError(f"units = {recipe.units}: already a tokenizer of {len(units.streams)} streams")
    joined = ExpressiveTokenizer(
        units,
        load_stream_tokenizer(recipe.pitch / "model", "pitch"),
        load_stream_tokenizer(recipe.style / "model", "style"),
    )
    joined.save_pretrained(stage.folder / "model")
    return {name: {"rate": shape.rate, "size": shape.size} for name, shape in joined.streams.items()}


if __name__ == "__main__":
    run_program("join streams", JoinStreamsRecipe, join_streams, __doc__)
