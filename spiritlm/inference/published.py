"""Spirit LM's published folders: `spiritlm_model/NAME` and, beside it, `speech_tokenizer`, read as they were released.

    CHECKPOINTS/spiritlm_model/NAME     config.json, tokenizer.model, pytorch_model.bin (whole, sharded, or safetensors)
    CHECKPOINTS/speech_tokenizer/...    hubert_25hz, hifigan_spiritlm_base; for Expressive vqvae_f0_quantizer,
                                        style_encoder_w2v2, hifigan_spiritlm_expressive_w2v2

Base or Expressive is told by the rows of the embedding, not by the folder's name. Nothing is unpickled but tensors and
plain values. Lengths of units are ours, not the published ones that lose the end of a recording. Expressive ears track
F0 with FCPE, as Spirit LM did, where torchfcpe is installed; else with WORLD, and a warning says so.
"""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path

from spiritlm.audio.f0 import Tracker
from spiritlm.errors import InputError
from spiritlm.run.files import read_bytes, read_json
from spiritlm.run.weights import CONFIG_FILE
from spiritlm.synthesis.protocol import SpeechDecoder
from spiritlm.synthesis.published_hifigan import read_hifigan
from spiritlm.tokens.layout import SPIRIT_SIZES, TEXT_MARKER, spirit
from spiritlm.tokens.text import SentencePieceText
from spiritlm.tokens.vocabulary import MANIFEST, Vocabulary
from spiritlm.units.expressive import ExpressiveTokenizer
from spiritlm.units.hubert_checkpoint import from_published as read_published_hubert
from spiritlm.units.pitch import read_published_pitch
from spiritlm.units.protocol import SpeechTokenizer
from spiritlm.units.style_wav2vec2 import from_published as read_published_style

TEXT_FILE = "tokenizer.model"
PARTS = "speech_tokenizer"
HUBERT, QUANTIZER, LAYER = "hubert_25hz/mhubert_base_25hz.pt", "hubert_25hz/L11_quantizer_500.pt", 11
PITCH, STYLE = "vqvae_f0_quantizer", "style_encoder_w2v2"
BASE_VOICE, EXPRESSIVE_VOICE = "hifigan_spiritlm_base", "hifigan_spiritlm_expressive_w2v2"
TRACKERS: dict[Tracker, tuple[str, str]] = {"fcpe": ("torchfcpe", "fcpe"), "world": ("pyworld", "pitch")}
"""Packages, and the extras of this project that bring them; the published one first."""


def is_published(folder: Path) -> bool:
    """Whether it is to be read as a published folder: it has `tokenizer.model` and no vocabulary of ours."""
    return (folder / TEXT_FILE).is_file() and not (folder / MANIFEST).is_file()


def read_vocabulary(folder: Path) -> Vocabulary:
    """`folder`: `spiritlm_model/NAME`. Its `tokenizer.model` holds the text alone, or the markers and units too. Raises
    `InputError` where the model has other rows than Base and Expressive over that text."""
    rows = read_json(folder / CONFIG_FILE).get("vocab_size")
    try:
        text = SentencePieceText(read_bytes(folder / TEXT_FILE))
        base, expressive = (spirit(_pieces(text), units, text.bos, text.eos) for units in SPIRIT_SIZES.values())
        for layout in (base, expressive):
            if rows == layout.padded_size():
                return Vocabulary(text, layout)
    except InputError as error:
        raise InputError(f"{folder / TEXT_FILE}: {error}") from None
    raise InputError(
        f"{folder / CONFIG_FILE}: vocab_size is {rows!r}, expected {base.padded_size()} (Spirit LM Base) or "
        f"{expressive.padded_size()} (Expressive) for {base.text_size} pieces of text"
    )


def read_ears(folder: Path) -> SpeechTokenizer:
    """HuBERT's units, and pitch and style for an Expressive model. Raises `InputError` where a part is absent or
    broken, and for Expressive where no tracker of F0 is installed."""
    parts = parts_of(folder)
    semantic = read_published_hubert(parts / HUBERT, parts / QUANTIZER, LAYER)
    if not _is_expressive(folder):
        return semantic
    pitch = read_published_pitch(parts / PITCH, _tracker(parts / PITCH))
    return ExpressiveTokenizer(semantic, pitch, read_published_style(parts / STYLE))


def read_voice(folder: Path) -> SpeechDecoder:
    """The HiFi-GAN of the model's units. Raises `InputError` where it is absent or broken."""
    return read_hifigan(parts_of(folder) / (EXPRESSIVE_VOICE if _is_expressive(folder) else BASE_VOICE))


def parts_of(folder: Path) -> Path:
    """The folder of speech tokenizers and vocoders that belongs to `spiritlm_model/NAME`. Raises `InputError` where
    there is none."""
    above = folder.absolute().parents
    parts = above[min(1, len(above) - 1)] / PARTS
    if not parts.is_dir():
        raise InputError(f"{parts}: expected the published speech tokenizers there, beside spiritlm_model")
    return parts


def _pieces(text: SentencePieceText) -> int:
    """How many are text: those before the markers, where it has them."""
    marker: int = text.model.piece_to_id(TEXT_MARKER)
    return marker if text.token(marker) == TEXT_MARKER else text.size


def _is_expressive(folder: Path) -> bool:
    return "pitch" in read_vocabulary(folder).blocks


def _tracker(folder: Path) -> Tracker:
    """The first that is installed."""
    for tracker, (package, _) in TRACKERS.items():
        if importlib.util.find_spec(package) is not None:
            if tracker != "fcpe":
                warnings.warn(
                    f"{folder}: torchfcpe is not installed, F0 is tracked with {package}: pitch units are not quite "
                    "those of Spirit LM; pip install -e .[fcpe]",
                    stacklevel=3,
                )
            return tracker
    wanted = " or ".join(f"{package} (pip install -e .[{extra}])" for package, extra in TRACKERS.values())
    raise InputError(f"{folder}: no tracker of F0 is installed: expected {wanted}")
