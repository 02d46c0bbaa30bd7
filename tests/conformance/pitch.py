"""Spirit LM's pitch VQ-VAE: codes of F0 and voicing, and how its codebook moves."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import torch
from conformance.registry import Case, kind
from safetensors.torch import load_file

from spiritlm.units.pitch import PitchConfig, PitchTokenizer, published_config
from spiritlm.units.pitch_vqvae import PitchVqVae, network, published_shape, published_tensors

TOLERANCE = 1e-5
"""Of a tensor's largest value, which is hundreds in these cases, and of 1 at least."""
VARIANTS: dict[str, tuple[str, dict[str, Any], str]] = {
    "norm_f0_interp": ("norm_f0_interp,vuv", {"speaker_stats": {}}, ""),
    "norm_f0": ("norm_f0,vuv", {"speaker_stats": {}}, ""),
    "plain_f0_interp": ("f0_interp,vuv", {}, ""),
    "speaker_stats": ("norm_f0_interp,vuv", {}, "known"),
    "speaker_norm_flag": ("f0,vuv", {"speaker_norm": True, "speaker_stats": {}}, ""),
    "unknown_speaker": ("norm_f0,vuv", {}, "unknown"),
}
"""Features, what else is set, and the speaker."""


def _tensors(case: Case, name: str = "io") -> dict[str, torch.Tensor]:
    return load_file(case.folder / f"{name}.safetensors")


def _near(case: Case, name: str, found: torch.Tensor | np.ndarray, expected: torch.Tensor) -> None:
    largest = max(1.0, float(expected.abs().max()))
    case.report.near(name, np.asarray(found), expected, TOLERANCE * largest)


def _network(case: Case, threshold: float = 1.0) -> PitchVqVae:
    path = case.folder / "state.safetensors"
    shape = published_shape(case.read("config.json"), case.folder / "config.json", threshold)
    return network(shape, published_tensors(load_file(path), shape), path)


@kind("spirit_f0_vqvae")
@torch.inference_mode()
def spirit_f0_vqvae(case: Case) -> None:
    io, raw, report = _tensors(case), case.read("config.json"), case.report
    model = _network(case).eval()

    def config(features: str, changes: dict[str, Any]) -> PitchConfig:
        return published_config({**raw, "features": features, **changes}, case.folder / "config.json")

    for name, (features, changes, speaker) in VARIANTS.items():
        if f"{name}/codes" not in io:
            continue
        chosen = config(features, changes)
        f0 = io["f0_interp" if chosen.interpolate else "f0_zero_unvoiced"].numpy()
        voiced = io["vuv"].numpy() > 0
        who = next(iter(chosen.speaker_means), None) if speaker == "known" else speaker
        seen = chosen.frames(f0, voiced, chosen.mean(f0, voiced, who))
        units = PitchTokenizer(model, chosen).units(seen)
        report.equal(f"{name}/codes", units.tolist(), io[f"{name}/codes"].tolist())
        _near(case, f"{name}/pred", model.decode(io[f"{name}/codes"].long()[None])[0], io[f"{name}/pred"])
        if name == "norm_f0_interp":
            _near(case, "encoder_in", seen[None], io["encoder_in"])
    _near(case, "encoder_out", model.encoder(io["encoder_in"]), io["encoder_out"])
    codes = io["norm_f0_interp/codes"].long()[None]
    _near(case, "decode_from_codes", model.decode(codes), io["decode_from_codes"])
    tokenizer = PitchTokenizer(model, config(raw["features"], {}))
    for name in io:
        if length := re.fullmatch(r"codes_len(\d+)", name):
            seen = io["encoder_in"][0, :, : int(length[1])].numpy()
            if io[name].flatten().tolist() == [-1]:
                report.refused(name, lambda seen=seen: tokenizer.units(seen))  # type: ignore[misc]
            else:
                report.equal(name, tokenizer.units(seen).tolist(), io[name].tolist())
    if "all_unvoiced_codes" in io:
        frames = np.zeros(160, np.float32)
        units = tokenizer.units(tokenizer.config.features(frames))
        report.equal("all_unvoiced_codes", units.tolist(), io["all_unvoiced_codes"].tolist())


@kind("spirit_f0_vqvae_train")
def spirit_f0_vqvae_train(case: Case) -> None:
    io, raw = _tensors(case), case.read("config.json")
    model = _network(case, raw["threshold"]).train()
    codebook = model.codebook
    codebook.start(codebook.k.clone(), uses=raw["restore_num_tokens"] / len(codebook.k))
    _near(case, "initial_k_elem", codebook.k_elem, io["initial_k_elem"])
    for step in sorted({name.split("_")[0] for name in io if name.startswith("step")}, key=lambda s: int(s[4:])):
        rows, before = io[f"{step}_random_rows"], codebook.k.clone()
        codebook.random_rows = lambda vectors, rows=rows: rows  # type: ignore[method-assign,misc]
        model.zero_grad(set_to_none=True)
        z = model.encoder(io[f"{step}_x"])
        recon, codes, commit = model(io[f"{step}_x"])
        mse = (recon - io[f"{step}_x"]).square().mean()
        (mse + raw["commit_weight"] * commit).backward()
        case.report.equal(f"{step}_codes", codes.tolist(), io[f"{step}_codes"].tolist())
        found = {
            "z": z,
            "recon": recon,
            "commit": commit.reshape(1),
            "mse": mse.reshape(1),
            "grad_first_conv": model.encoder.downs[0].weight.grad,
            "k_sum": codebook.k_sum,
            "k_elem": codebook.k_elem,
            "codebook": codebook.k,
        }
        for name, value in found.items():
            assert isinstance(value, torch.Tensor)
            _near(case, f"{step}_{name}", value.detach(), io[f"{step}_{name}"])
        metrics = f"{step}_metrics_entropy_usedcurr_usage_dk_fit_pn"
        if metrics in io:
            _near(case, metrics, _metrics(model, before, z.detach(), codes), io[metrics])


def _metrics(model: PitchVqVae, before: torch.Tensor, z: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    """Entropy of the batch's codes, codes used in it, codes used by the averages, how far the codebook moved, mean
    square distance to the codes, deviation of the vectors."""
    counts = torch.bincount(codes.flatten(), minlength=len(before)).float()
    share = counts / counts.sum()
    vectors = z.transpose(1, 2).flatten(0, 1)
    threshold = model.codebook.threshold
    return torch.stack(
        [
            -(share * (share + 1e-8).log()).sum(),
            (counts >= threshold).sum(),
            (model.codebook.k_elem >= threshold).sum(),
            (model.codebook.k - before).square().mean().sqrt(),
            (vectors - before[codes.flatten()]).square().sum(1).mean(),
            (vectors - vectors.mean()).square().mean().sqrt(),
        ]
    )
