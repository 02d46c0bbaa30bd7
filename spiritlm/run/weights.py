"""A model in a folder: `config.json` says what it is, `model.safetensors` holds its tensors."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from spiritlm.config import Recipe, validate_recipe
from spiritlm.errors import InputError
from spiritlm.run.files import atomic_path, read_json, write_json

MODEL_FILE, CONFIG_FILE = "model.safetensors", "config.json"
LEGACY_FILE = "pytorch_model.bin"

Config = TypeVar("Config", bound=Recipe)
Module = TypeVar("Module", bound=nn.Module)


def save_model(folder: Path, config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    """Write both files into `folder`, which is made if absent; the configuration last."""
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / MODEL_FILE) as temporary:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, temporary)
    write_json(folder / CONFIG_FILE, config)


def read_config(folder: Path, kind: type[Config]) -> Config:
    """Raises `InputError` for a configuration of another `kind`, naming its first wrong field."""
    return validate_recipe(kind, read_json(folder / CONFIG_FILE), str(folder / CONFIG_FILE))


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Raises `InputError` where `path` is no safetensors file."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: not a safetensors file: {str(error).splitlines()[0]}") from None


def read_folder(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of a Hugging Face folder: `model.safetensors`, its shards, or `pytorch_model.bin`, of which nothing
    but tensors is read. Raises `InputError` where there are none."""
    index = folder / f"{MODEL_FILE}.index.json"
    if (folder / MODEL_FILE).is_file():
        return read_tensors(folder / MODEL_FILE)
    if index.is_file():
        shards = [read_tensors(folder / name) for name in sorted(set(read_json(index)["weight_map"].values()))]
        return {name: tensor for shard in shards for name, tensor in shard.items()}
    if not (folder / LEGACY_FILE).is_file():
        raise InputError(f"{folder}: expected {MODEL_FILE} or {LEGACY_FILE}, found neither")
    return read_pt(folder / LEGACY_FILE)


NUMPY_GLOBALS: list[Any] = [
    np.ndarray,
    np.dtype,
    np.dtypes.Float32DType,
    np.dtypes.Float64DType,
    np._core.multiarray._reconstruct,  # type: ignore[attr-defined]
    (np._core.multiarray._reconstruct, "numpy.core.multiarray._reconstruct"),  # type: ignore[attr-defined]
]
"""What an array of numbers in a file of torch is made of; the last is its name before numpy 2."""


def read_pt(path: Path) -> Any:
    """Tensors, arrays and plain values of a file of torch. Raises `InputError` for one that is absent or holds more."""
    try:
        with torch.serialization.safe_globals(NUMPY_GLOBALS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"{path}: does not exist") from None
    except pickle.UnpicklingError:
        raise InputError(f"{path}: not a file of tensors and plain values, which alone are read") from None
    except (OSError, RuntimeError, LookupError, ValueError, EOFError) as error:
        said = (str(error).splitlines() or [""])[0]
        reason = f": {said}" if isinstance(error, OSError | RuntimeError) and said else ""
        raise InputError(f"{path}: not a file of tensors and plain values{reason}") from None


def load_weights(module: Module, tensors: dict[str, torch.Tensor], path: Path) -> Module:
    """`module` with `tensors` in it, all names and shapes matching. Raises `InputError`, naming the first that
    does not; `path` is where they come from."""
    wanted = module.state_dict()
    for name in [*wanted, *(name for name in tensors if name not in wanted)]:
        found, expected = (list(t[name].shape) if name in t else None for t in (tensors, wanted))
        if found != expected:
            raise InputError(f"{path}: not the weights of this model: {name} is {found}, expected {expected}")
    module.load_state_dict(tensors)
    return module
