"""A Hugging Face folder becomes the language model in it: one of ours, or a published one.

bfloat16 weights stay so on a GPU. On a CPU they become float32 where that fits into memory: many CPUs multiply bfloat16
slowly, and it rounds log probabilities to two digits.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import psutil
import torch
from safetensors import SafetensorError

from spiritlm.errors import InputError
from spiritlm.run.device import training_device

WEIGHTS = ("model*.safetensors", "pytorch_model*.bin")


def load_language_model(folder: Path) -> torch.nn.Module:
    """The transformers model, on this process's GPU where there is one, ready to score or generate.

    Of a pickle (`pytorch_model.bin`) nothing but tensors is read. Raises `InputError` where weights are absent, of
    other shapes than the configuration says, or no tensors.
    """
    from transformers import AutoModelForCausalLM  # seconds to import
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    device = training_device()
    try:
        model, found = AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, dtype=_dtype(folder, device), output_loading_info=True
        )
    except pickle.UnpicklingError:
        raise InputError(f"{folder}: its weights hold more than tensors, which alone are read") from None
    except (OSError, ValueError, RuntimeError, LookupError, EOFError, SafetensorError) as error:
        said = (str(error).splitlines() or ["a file of weights is empty"])[0]
        raise InputError(f"{folder}: not a whole exported model: {said}") from None
    if found["missing_keys"]:
        raise InputError(f"{folder}: not a whole exported model: it has no weights {min(found['missing_keys'])}")
    return model.to(device).eval()


def _dtype(folder: Path, device: torch.device) -> torch.dtype | str:
    """`auto`: as stored."""
    stored = sum(file.stat().st_size for pattern in WEIGHTS for file in folder.glob(pattern))
    fits = 2 * stored < psutil.virtual_memory().available
    return torch.float32 if device.type == "cpu" and fits else "auto"
