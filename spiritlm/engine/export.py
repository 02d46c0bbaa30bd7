"""A checkpoint of a run as a stock Hugging Face folder: its float32 main weights, the tokenizer and the vocabulary."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch

from spiritlm.engine.checkpoint import load_main_weights
from spiritlm.engine.hf import export
from spiritlm.engine.model import build_chunks
from spiritlm.engine.parallel import process_groups
from spiritlm.engine.start import read_shape
from spiritlm.run.checkpoints import CheckpointPolicy, Checkpoints
from spiritlm.tokens.huggingface import save_huggingface_tokenizer
from spiritlm.tokens.vocabulary import Vocabulary


class Exported(NamedTuple):
    step: int
    parameters: int
    vocabulary: int
    """Ids that have a meaning."""


def export_checkpoint(run: Path, folder: Path, step: int | None, dtype: torch.dtype = torch.float32) -> Exported:
    """Write the model of `run` at `step`, the newest where None, into `folder`.

    Raises `InputError` where there is no such checkpoint or it is of another vocabulary.
    """
    vocabulary = Vocabulary.load(run)
    config, rows = read_shape(run)
    checkpoints = Checkpoints(run / "checkpoints", CheckpointPolicy())
    checkpoint = checkpoints.require(step)
    vocabulary.require_hash(checkpoints.state(checkpoint)["vocabulary"], checkpoint)
    with process_groups(seed=0):
        (model,) = build_chunks(config, rows, "fp32")
        load_main_weights(checkpoint, [model])
        export(model.state_dict(), config, folder, vocabulary.bos, vocabulary.eos, dtype)
    vocabulary.save(folder)
    save_huggingface_tokenizer(vocabulary, folder)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Exported(checkpoints.state(checkpoint)["step"], parameters, vocabulary.size)
