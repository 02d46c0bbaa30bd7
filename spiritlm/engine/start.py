"""What a run starts from: drawn weights, a text model grown by the new ids, or another run's weights."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from spiritlm.config import validate_recipe
from spiritlm.engine.checkpoint import load_main_weights
from spiritlm.engine.hf import grown_model
from spiritlm.engine.hf_config import model_config_of
from spiritlm.engine.model import ModelConfig
from spiritlm.engine.weights import Start, drawn_weights, fill
from spiritlm.errors import InputError
from spiritlm.run.checkpoints import CheckpointPolicy, Checkpoints
from spiritlm.run.files import read_json, write_json
from spiritlm.run.stage import is_finished
from spiritlm.tokens.vocabulary import Vocabulary

SHAPE_FILE = "model.json"
"""In the folder of a run: shape of the model and rows of its embedding."""

_FREE = {"init_std", "max_position_embeddings", "rope_theta", "rope_scaling", "norm_eps"}
"""Fields of a shape that no weight depends on."""


def write_shape(folder: Path, config: ModelConfig, vocabulary_size: int) -> None:
    write_json(folder / SHAPE_FILE, {"model": config.model_dump(), "vocabulary_size": vocabulary_size})


def read_shape(folder: Path) -> tuple[ModelConfig, int]:
    """Shape of the model of a run, and rows of its embedding."""
    found = read_json(folder / SHAPE_FILE)
    return validate_recipe(ModelConfig, found["model"], str(folder / SHAPE_FILE)), found["vocabulary_size"]


def is_run(folder: Path) -> bool:
    """Whether `folder` is that of a run of ours, else it is taken for one of Hugging Face."""
    return (folder / SHAPE_FILE).is_file()


def shape_of(folder: Path) -> ModelConfig:
    """Of the model in a run's folder or a Hugging Face folder. Raises `InputError` where it is neither."""
    return read_shape(folder)[0] if is_run(folder) else model_config_of(folder)


def starting_weights(config: ModelConfig, folder: Path | None, vocabulary: Vocabulary, seed: int) -> Start:
    """The weights of the model in `folder`, or with None drawn ones.

    A Hugging Face model is grown to the vocabulary; a run's must have it. Raises `InputError` where the folder's model
    does not fit.
    """
    if folder is None:
        return partial(fill, read=drawn_weights(config.layers, config.init_std, seed))
    if is_run(folder):
        return partial(load_main_weights, _checkpoint_of(folder, config, vocabulary))
    return partial(fill, read=grown_model(folder, config, vocabulary.layout.text_size, seed))


def _checkpoint_of(folder: Path, config: ModelConfig, vocabulary: Vocabulary) -> Path:
    if not is_finished(folder):
        raise InputError(f"{folder}: the run is not finished, expected one whose newest checkpoint is its last")
    checkpoint = Checkpoints(folder / "checkpoints", CheckpointPolicy()).require()
    vocabulary.require_hash(Checkpoints.state(checkpoint)["vocabulary"], checkpoint)
    found, wanted = read_shape(folder)[0].model_dump(exclude=_FREE), config.model_dump(exclude=_FREE)
    for name, value in wanted.items():
        if found[name] != value:
            raise InputError(f"{folder}: {name} = {found[name]}, expected model.{name} = {value}")
    return checkpoint
