"""A folder becomes the speech tokenizer that its `config.json` names: one of ours, or a published one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from spiritlm.errors import InputError
from spiritlm.run.files import read_json
from spiritlm.run.fit import training_device
from spiritlm.run.weights import CONFIG_FILE
from spiritlm.units.hubert import HubertTokenizer
from spiritlm.units.mfcc import MfccKmeansTokenizer
from spiritlm.units.protocol import Precision, SpeechTokenizer
from spiritlm.units.vq_whisper_files import is_published, read_published
from spiritlm.units.vq_whisper_tokenizer import VqWhisperTokenizer

TOKENIZERS: dict[str, type[SpeechTokenizer]] = {
    "mfcc-kmeans": MfccKmeansTokenizer,
    "hubert": HubertTokenizer,
    "vq-whisper": VqWhisperTokenizer,
}


def load_speech_tokenizer(folder: Path, precision: Precision = "fp32") -> SpeechTokenizer:
    """`precision`: see `SpeechTokenizer`. Raises `InputError` where `folder` holds no tokenizer, or one of a type
    that is not known."""
    if not (folder / CONFIG_FILE).is_file():
        where = "it does not exist" if not folder.is_dir() else f"it has no {CONFIG_FILE}"
        hint = "; its model/ has one" if (folder / "model" / CONFIG_FILE).is_file() else ""
        raise InputError(f"{folder}: expected the folder of a speech tokenizer: {where}{hint}")
    tokenizer = _load(folder, read_json(folder / CONFIG_FILE))
    tokenizer.precision = precision
    return tokenizer


def _load(folder: Path, config: dict[str, Any]) -> SpeechTokenizer:
    if is_published(config):
        return VqWhisperTokenizer(read_published(folder).to(training_device()))
    found = config.get("type")
    if found not in TOKENIZERS:
        raise InputError(f"{folder / CONFIG_FILE}: type is {found!r}, expected one of {', '.join(TOKENIZERS)}")
    tokenizer: SpeechTokenizer = TOKENIZERS[found].from_pretrained(folder)
    return tokenizer
