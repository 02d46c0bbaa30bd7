"""Give a corpus word times: forced alignment with a CTC model, or TextGrid files of another aligner.

In:  a corpus (ingest or speak), and an aligner (train aligner), a Hugging Face `*ForCTC` folder, or TextGrid files.
Out: a corpus that stands in the place of its input: manifests with word times, `corpus.json` with the root of the
     audio, which stays where it is, and `stories.jsonl` where the input has one. `rejects.jsonl` names what could
     not be aligned. Where the input has word times, the distance between its word starts and those found is counted.
Work is cut into shards that run as a datatrove pipeline, here, on SLURM or on Ray; a run that was stopped goes on
with the shards that are left.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from datatrove.pipeline.base import PipelineStep
from pydantic import Field, NonNegativeFloat, PositiveFloat, model_validator

from spiritlm.alignment.models import load_frame_model
from spiritlm.corpus.manifest import CORPUS_FILE, corpus_root
from spiritlm.errors import InputError
from spiritlm.pipelines.align import AlignSpeech, ReadAlignments, WriteAligned, join_aligned
from spiritlm.pipelines.documents import ReadDocuments, cut_into_shards
from spiritlm.pipelines.executor import ExecutorRecipe, run_pipeline
from spiritlm.pipelines.shards import once
from spiritlm.run.files import atomic_path, write_json
from spiritlm.run.program import run_program
from spiritlm.run.stage import Input, OptionalInput, Stage, StageRecipe

STORIES_FILE = "stories.jsonl"
"""Text-only stories of a small world, which the text tokenizer and the text corpus read."""


class AlignRecipe(StageRecipe):
    speech: Input
    aligner: OptionalInput = None
    """One of `aligner`, `model` and `textgrids` says where word times come from."""
    model: Path | None = None
    """A Hugging Face model folder, `*ForCTC`, with letters for symbols."""
    textgrids: Path | None = None
    """Folder of TextGrid files: `audio/path.TextGrid` for `audio/path.wav`."""
    tier: str = "words"
    """Of the TextGrid files."""
    margin: NonNegativeFloat = 0.25
    """Seconds around a sentence in which it is looked for too."""
    min_score: float = -3.0
    """Mean log-probability of a frame of its words under which a sentence is rejected: about what a model gives that
    guesses. Most transcripts of something else lie below, hardly any right one."""
    shard_hours: PositiveFloat = 0.5
    """Hours of audio of a shard; on a cluster, give each at least ten minutes of work."""
    executor: ExecutorRecipe = ExecutorRecipe()
    max_bad_fraction: float = Field(default=0.01, ge=0, le=1)
    """Largest share of sentences that may be rejected; a recording rejected as a whole counts as one."""

    @model_validator(mode="after")
    def _check(self) -> AlignRecipe:
        given = [name for name in ("aligner", "model", "textgrids") if getattr(self, name) is not None]
        if len(given) != 1:
            raise InputError(f"expected one of aligner, model and textgrids, found {' and '.join(given) or 'none'}")
        return self


def align(recipe: AlignRecipe, stage: Stage) -> dict[str, Any]:
    work = stage.folder / "shards"
    shards = cut_into_shards(recipe.speech, work, recipe.shard_hours)
    steps = [ReadDocuments(work), _aligner(recipe), WriteAligned(work)]
    write_json(stage.folder / CORPUS_FILE, {"root": _root(recipe.speech, stage.folder)})
    if (stories := recipe.speech / STORIES_FILE).is_file():
        with atomic_path(stage.folder / STORIES_FILE) as temporary:
            shutil.copyfile(stories, temporary)

    def run() -> dict[str, Any]:
        run_pipeline(steps, len(shards.splits), work / "log", recipe.executor, "align")
        return join_aligned(work, shards.splits, stage.folder, recipe.max_bad_fraction)

    return once(stage.folder, work, run)


def _root(corpus: Path, out: Path) -> str:
    """The root of the audio: relative to `out` where it is in the corpus folder, so that both can be moved together."""
    root = corpus_root(corpus)
    return os.path.relpath(root, out) if root == corpus else str(root.absolute())


def _aligner(recipe: AlignRecipe) -> PipelineStep:
    """Raises `InputError` where the model or the folder of TextGrid files is not there."""
    if recipe.textgrids:
        if not recipe.textgrids.is_dir():
            raise InputError(f"textgrids = {recipe.textgrids}: expected a folder, but there is none")
        return ReadAlignments(recipe.textgrids, recipe.tier)
    folder = recipe.aligner / "model" if recipe.aligner else recipe.model
    assert folder
    load_frame_model(folder)
    return AlignSpeech(recipe.speech, folder, recipe.margin, recipe.min_score)


if __name__ == "__main__":
    run_program("align", AlignRecipe, align, __doc__)
