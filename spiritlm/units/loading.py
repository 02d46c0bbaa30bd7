"""A folder becomes the speech tokenizer that its `config.json` names: one of ours, or a published one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from spiritlm.errors import InputError
from spiritlm.run.device import training_device
from spiritlm.run.files import read_json
from spiritlm.run.weights import CONFIG_FILE
from spiritlm.units.expressive import ExpressiveTokenizer
from spiritlm.units.hubert import HubertTokenizer
from spiritlm.units.mfcc import MfccKmeansTokenizer
from spiritlm.units.pitch import PitchTokenizer, read_published_pitch
from spiritlm.units.protocol import Precision, SpeechTokenizer, StreamTokenizer
from spiritlm.units.style import StyleTokenizer
from spiritlm.units.style_wav2vec2 import Wav2Vec2StyleTokenizer
from spiritlm.units.style_wav2vec2 import from_published as read_published_style
from spiritlm.units.style_wav2vec2 import is_published as is_published_style
from spiritlm.units.vq_whisper_files import is_published, read_published
from spiritlm.units.vq_whisper_tokenizer import VqWhisperTokenizer

TOKENIZERS: dict[str, type[SpeechTokenizer]] = {
    "mfcc-kmeans": MfccKmeansTokenizer,
    "hubert": HubertTokenizer,
    "vq-whisper": VqWhisperTokenizer,
    "expressive": ExpressiveTokenizer,
}
STREAM_TOKENIZERS: dict[str, dict[str, type[StreamTokenizer]]] = {
    "pitch": {"pitch-vqvae": PitchTokenizer},
    "style": {"style": StyleTokenizer, "style-wav2vec2": Wav2Vec2StyleTokenizer},
}
"""By stream and type."""


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


def load_stream_tokenizer(folder: Path, stream: Literal["pitch", "style"]) -> StreamTokenizer:
    """A tokenizer of pitch or style, one of ours or a published one. Raises `InputError` where `folder` holds none."""
    if stream == "pitch" and (folder / "config.yaml").is_file():
        return read_published_pitch(folder)
    if not (folder / CONFIG_FILE).is_file():
        where = "it does not exist" if not folder.is_dir() else f"it has no {CONFIG_FILE}"
        raise InputError(f"{folder}: expected the folder of a {stream} tokenizer: {where}")
    config = read_json(folder / CONFIG_FILE)
    if stream == "style" and is_published_style(config):
        return read_published_style(folder)
    known = STREAM_TOKENIZERS[stream]
    if config.get("type") not in known:
        raise InputError(f"{folder / CONFIG_FILE}: type is {config.get('type')!r}, expected {' or '.join(known)}")
    tokenizer: StreamTokenizer = known[config["type"]].from_pretrained(folder)
    return tokenizer
