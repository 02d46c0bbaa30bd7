"""A folder becomes the speech tokenizer that its `config.json` names."""

from __future__ import annotations

from pathlib import Path

from spiritlm.errors import InputError
from spiritlm.run.files import read_json
from spiritlm.units.mfcc import CONFIG_FILE, MfccKmeansTokenizer
from spiritlm.units.protocol import SpeechTokenizer

TOKENIZERS = {MfccKmeansTokenizer.type: MfccKmeansTokenizer}


def load_speech_tokenizer(folder: Path) -> SpeechTokenizer:
    """Raises `InputError` where `folder` holds no tokenizer, or one of an unknown type."""
    if not (folder / CONFIG_FILE).is_file():
        raise InputError(f"{folder}: expected the model of a unit tokenizer (fit units): it has no {CONFIG_FILE}")
    found = read_json(folder / CONFIG_FILE).get("type")
    if found not in TOKENIZERS:
        raise InputError(f"{folder / CONFIG_FILE}: type is {found!r}, expected one of {', '.join(TOKENIZERS)}")
    return TOKENIZERS[found].from_pretrained(folder)
