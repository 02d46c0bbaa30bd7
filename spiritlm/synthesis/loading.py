"""A folder becomes the speech decoder that its `config.json` names, or a published one."""

from __future__ import annotations

from pathlib import Path

from spiritlm.errors import InputError
from spiritlm.run.files import read_json
from spiritlm.run.weights import CONFIG_FILE
from spiritlm.synthesis.decoder import FlowDecoder
from spiritlm.synthesis.protocol import SpeechDecoder
from spiritlm.synthesis.published import CONFIG_FILES, read_decoder
from spiritlm.synthesis.published_hifigan import WEIGHTS_FILE, read_hifigan
from spiritlm.synthesis.regression import RegressionDecoder
from spiritlm.synthesis.unit_decoder import UnitDecoder

DECODERS: dict[str, type[SpeechDecoder]] = {
    "mel-regression": RegressionDecoder,
    "flow-matching": FlowDecoder,
    "unit-hifigan": UnitDecoder,
}


def load_speech_decoder(folder: Path) -> SpeechDecoder:
    """Raises `InputError` where `folder` holds no decoder, or one of a type that is not known."""
    if not (folder / CONFIG_FILE).is_file():
        if any((folder / name).is_file() for name in CONFIG_FILES):
            return FlowDecoder.of_published(*read_decoder(folder))
        where = "it does not exist" if not folder.is_dir() else f"it has neither {CONFIG_FILE} nor {CONFIG_FILES[0]}"
        hint = "; its model/ has one" if (folder / "model" / CONFIG_FILE).is_file() else ""
        raise InputError(f"{folder}: expected the folder of a speech decoder: {where}{hint}")
    found = read_json(folder / CONFIG_FILE).get("type")
    if found is None and (folder / WEIGHTS_FILE).is_file():
        return read_hifigan(folder)
    if found not in DECODERS:
        raise InputError(f"{folder / CONFIG_FILE}: type is {found!r}, expected one of {', '.join(DECODERS)}")
    return DECODERS[found].from_pretrained(folder)
