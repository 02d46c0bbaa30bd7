"""The frame-level CTC model of an aligner: the one trained here, or any Hugging Face `*ForCTC` folder.

A folder comes in; its `config.json` says which of the two it is. Sound at 16 kHz goes through in windows that overlap,
so a recording may be as long as its log-probabilities fit into memory: an hour takes 20 MB.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from spiritlm.alignment.mel_ctc import MelCtcConfig, MelCtcModel
from spiritlm.alignment.words import Alphabet, Lag
from spiritlm.errors import InputError
from spiritlm.run.device import training_device
from spiritlm.run.files import read_json
from spiritlm.run.weights import CONFIG_FILE

SAMPLE_RATE = 16_000
WINDOW, OVERLAP = 30.0, 2.0
"""Seconds of a window, and of it on either side that only serve as context."""


class FrameModel(Protocol):
    """Says which symbol is spoken in each frame."""

    alphabet: Alphabet
    frame_rate: float
    """Hz."""
    lag: Lag

    def log_probs(self, wave: np.ndarray) -> np.ndarray:
        """float32 `[samples]` at 16 kHz -> natural logarithms of probabilities, float32 `[frames, vocabulary]`.

        Frame `i` is the sound from `i / frame_rate` on; at the end of `wave` a frame may be wanting.
        """


def load_frame_model(folder: Path) -> FrameModel:
    """Raises `InputError` where `folder` holds no such model."""
    config = read_json(folder / CONFIG_FILE)
    if config.get("type") == MelCtcConfig.model_fields["type"].default:
        return MelCtcModel.from_pretrained(folder)
    if any(str(name).endswith("ForCTC") for name in config.get("architectures") or ()):
        return HuggingFaceCtc(folder, config)
    raise InputError(
        f"{folder / CONFIG_FILE}: expected a model of train_aligner.py (type 'mel-ctc') or a Hugging Face model whose "
        f"architecture is a ...ForCTC, found type {config.get('type')!r}, architectures {config.get('architectures')!r}"
    )


def log_probs_of(model: FrameModel, wave: np.ndarray, window: float = WINDOW, overlap: float = OVERLAP) -> np.ndarray:
    """`model.log_probs(wave)`, for a recording of any length: in windows of `window` seconds, of which the outer
    `overlap` seconds on either side are context only."""
    core = window - 2 * overlap
    if len(wave) <= window * SAMPLE_RATE:
        return model.log_probs(wave)
    parts = []
    for start in itertools.takewhile(lambda s: s * SAMPLE_RATE < len(wave), itertools.count(0.0, core)):
        left = max(0.0, start - overlap)
        found = model.log_probs(wave[round(left * SAMPLE_RATE) : round((start + core + overlap) * SAMPLE_RATE)])
        first = round((start - left) * model.frame_rate)
        parts.append(found[first : first + round(core * model.frame_rate)])
    return np.concatenate(parts)


class HuggingFaceCtc:
    """A `FrameModel` over `AutoModelForCTC`: wav2vec 2.0, HuBERT, WavLM and their kin, with letters for symbols.

    How far it lags behind the sound is not known and taken to be nothing.
    """

    lag = Lag()

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        """`config`: its `config.json`. Raises `InputError` where weights, vocabulary or feature extractor are absent
        or cannot be used."""
        from transformers import AutoFeatureExtractor, AutoModelForCTC  # seconds to import

        self.alphabet = _alphabet(folder, config)
        try:
            self._extractor = AutoFeatureExtractor.from_pretrained(folder, local_files_only=True)
            model = AutoModelForCTC.from_pretrained(folder, local_files_only=True, use_safetensors=True)
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{folder}: not a model to align with: {str(error).splitlines()[0]}") from None
        if self._extractor.sampling_rate != SAMPLE_RATE:
            raise InputError(f"{folder}: expects {self._extractor.sampling_rate} Hz, but {SAMPLE_RATE} Hz are given")
        self._model = model.float().eval().to(training_device())
        self.frame_rate = self._measured_rate()

    def _measured_rate(self) -> float:
        """Frames that ten seconds more of sound give, Hz / 10: the edges of a recording cost some."""
        short, long = (len(self.log_probs(np.zeros(s * SAMPLE_RATE, np.float32))) for s in (2, 12))
        return (long - short) / 10

    @torch.inference_mode()
    def log_probs(self, wave: np.ndarray) -> np.ndarray:
        """See `FrameModel`."""
        inputs = self._extractor(wave, sampling_rate=SAMPLE_RATE, return_tensors="pt").to(self._model.device)
        try:
            logits = self._model(**inputs).logits[0]
        except RuntimeError as error:  # less sound than the first convolution spans
            raise InputError(f"{len(wave)} samples cannot be aligned: {str(error).splitlines()[0]}") from None
        return logits.float().log_softmax(dim=-1).cpu().numpy()


def _alphabet(folder: Path, config: dict[str, Any]) -> Alphabet:
    """Of `vocab.json`; the blank is the padding token, as in Hugging Face's CTC loss."""
    vocabulary, blank = read_json(folder / "vocab.json"), config.get("pad_token_id")
    if not isinstance(vocabulary, dict) or not all(isinstance(id, int) for id in vocabulary.values()):
        raise InputError(f"{folder / 'vocab.json'}: expected symbols and their ids, of one language")
    if not isinstance(blank, int):
        raise InputError(f"{folder / CONFIG_FILE}: pad_token_id is {blank!r}, expected the id of the blank")
    letters: dict[str, int] = {}
    for symbol, id in sorted(vocabulary.items()):
        if len(symbol) == 1 and symbol not in "| " and id != blank:
            letters[symbol.lower()] = id  # where both cases are there, capitals come first and are replaced
    if not any(letter.isalpha() for letter in letters):
        raise InputError(f"{folder / 'vocab.json'}: expected letters, found none; word pieces cannot be aligned with")
    return Alphabet(blank, vocabulary.get("|", vocabulary.get(" ")), letters)
