"""Spirit LM's HuBERT at 25 Hz and its quantizers."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import torch
from conformance.registry import Case
from safetensors.torch import load_file

from spiritlm.units.hubert import HubertTokenizer
from spiritlm.units.hubert_checkpoint import published_encoder, published_quantizer
from spiritlm.units.hubert_encoder import SAMPLE_RATE, HubertEncoder, cut
from spiritlm.units.quantizers import KmeansQuantizer, LinearQuantizer, published_without_blanks

TOLERANCE = 1e-4
QUANTIZER = "quantizer::"


class _Golden:
    """A case's tensors, and its network and quantizer as the project builds them."""

    def __init__(self, case: Case) -> None:
        self.report, self.folder, self.config = case.report, case.folder, case.read("config.json")
        self.state = load_file(case.folder / "state.safetensors")
        self.io = load_file(case.folder / "io.safetensors")
        self.layer = self.config["output_layer"]
        weights = {n.removeprefix(QUANTIZER): t for n, t in self.state.items() if n.startswith(QUANTIZER)}
        quantizer = published_quantizer(self.config["quantizer_model_cfg"], weights, case.folder)
        assert isinstance(quantizer, LinearQuantizer)
        self.quantizer = quantizer.eval()

    def encoder(self, **task: Any) -> HubertEncoder:
        weights = {name: tensor for name, tensor in self.state.items() if not name.startswith(QUANTIZER)}
        config = self.config
        return published_encoder(config["model_cfg"], {**config["task_cfg"], **task}, weights, self.folder).eval()

    def tokenizer(self, quantizer: LinearQuantizer | KmeansQuantizer | None = None, **task: Any) -> HubertTokenizer:
        return HubertTokenizer(cut(self.encoder(**task), self.layer), quantizer or self.quantizer, published=True)

    def near(self, name: str, found: torch.Tensor) -> None:
        if name in self.io:
            self.report.near(name, found.numpy(), self.io[name].numpy(), TOLERANCE)

    def equal(self, name: str, found: np.ndarray | torch.Tensor) -> None:
        if name in self.io:
            self.report.equal(name, found.tolist(), self.io[name].tolist())


def check(case: Case) -> None:
    """Everything that the case's `io.safetensors` holds."""
    with torch.inference_mode():
        golden = _Golden(case)
        encoder, wave = golden.encoder(), golden.io["waveform"]
        _layers(golden, encoder, wave[None])
        _units(golden, wave.numpy())
        if any(name.startswith("normalized_") for name in golden.io):
            _normalized(golden, wave)
        for name in golden.io:
            if number := re.fullmatch(r"dense_(\d+)", name):
                golden.near(name, _dense(golden, encoder, wave[None, : int(number[1])]))
            elif number := re.fullmatch(r"frames_for_(\d+)_samples", name):
                frames = int(encoder.frames(torch.tensor(int(number[1]))))
                golden.equal(name, np.array([max(0, frames)]))
        if "batch_raw_argmax" in golden.io:
            _batch(golden, encoder)


def _layers(golden: _Golden, encoder: HubertEncoder, waves: torch.Tensor) -> None:
    samples = torch.tensor([waves.shape[1]])
    golden.near("conv_features", encoder.convolve(encoder.normalized(waves, samples), samples))
    for layer in range(1, encoder.shape.layers + 1):
        golden.near(f"layer{layer}", encoder(waves, samples, layer))
    golden.near("final", encoder(waves, samples))
    dense = _dense(golden, encoder, waves)
    golden.near("dense_features", dense)
    golden.near("quantizer_logprobs", golden.quantizer.log_probs(dense))
    golden.equal("linear_raw_argmax", golden.quantizer(dense)[0])


def _dense(golden: _Golden, encoder: HubertEncoder, waves: torch.Tensor) -> torch.Tensor:
    return encoder(waves, torch.tensor([waves.shape[1]]), golden.layer)


def _units(golden: _Golden, wave: np.ndarray) -> None:
    tokenizer = golden.tokenizer()
    golden.equal("linear_ids", tokenizer.encode(wave, SAMPLE_RATE).semantic.values)
    if "linear_ids_sine" in golden.io:
        golden.equal("linear_ids_sine", tokenizer.encode(golden.io["sine"].numpy(), SAMPLE_RATE).semantic.values)
    if "kmeans_ids" in golden.io:
        kmeans = golden.tokenizer(KmeansQuantizer.of(golden.io["kmeans_centers"]))
        golden.equal("kmeans_ids", kmeans.encode(wave, SAMPLE_RATE).semantic.values)


def _normalized(golden: _Golden, wave: torch.Tensor) -> None:
    golden.near("normalized_dense_features", _dense(golden, golden.encoder(normalize=True), wave[None]))
    found = golden.tokenizer(normalize=True).encode(wave.numpy(), SAMPLE_RATE)
    golden.equal("normalized_linear_ids", found.semantic.values)


def _batch(golden: _Golden, encoder: HubertEncoder) -> None:
    """The waveform's beginning and the sine, as long."""
    sine = golden.io["sine"]
    waves = torch.stack([golden.io["waveform"][: len(sine)], sine])
    raw = golden.quantizer(encoder(waves, torch.full((2,), len(sine)), golden.layer))
    golden.equal("batch_raw_argmax", raw)
    golden.equal("batch_ids", published_without_blanks(raw, golden.quantizer.blank))
