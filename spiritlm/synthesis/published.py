"""Published speech decoders: the folders of GLM-4-Voice's decoder and of CosyVoice 1 and 2.

Such a folder holds a configuration for HyperPyYAML, of which nothing but numbers and names is read, `flow.pt` and
`hift.pt`. The configuration has sections `flow`, with `encoder`, `length_regulator` and `decoder` (and its `estimator`)
in it, and `hift`, with `f0_predictor` in it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml

from spiritlm.audio.vocoder_mel import VocoderMel
from spiritlm.config import validate_recipe
from spiritlm.errors import InputError
from spiritlm.run.weights import load_weights, read_pt
from spiritlm.synthesis.flow import Flow, FlowConfig
from spiritlm.synthesis.hift import Hift, HiftShape

Table = Mapping[str, Any]
CONFIG_FILES = ("config.yaml", "cosyvoice.yaml", "cosyvoice2.yaml")
DEEPEST = 8
"""References to references that are followed."""
GLM_ATTENTION = "block_rel_selfattn"
MEL_RATE = 22_050 / 256
"""Mel frames per second of the interpolating layouts, Hz; their code, not their configuration, says so."""
_NORM_PARTS = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}


def read_decoder(folder: Path) -> tuple[Flow, Hift, VocoderMel]:
    """Flow, vocoder and kind of mel of a published folder, not in training mode. Raises `InputError` where one of its
    files is absent or not what its configuration says."""
    path = next((folder / name for name in CONFIG_FILES if (folder / name).is_file()), None)
    if path is None:
        raise InputError(f"{folder}: expected one of {', '.join(CONFIG_FILES)}, found none")
    sections = read_sections(path)
    flow, hift = _section(sections, path, "flow"), _section(sections, path, "hift")
    decoder = _section(flow, path, "decoder")
    encoder, estimator = _section(flow, path, "encoder"), _section(decoder, path, "estimator")
    matching = _section(decoder, path, "cfm_params")
    regulator = _section(flow, path, "length_regulator") if "length_regulator" in flow else None
    try:
        flow_config = published_flow(flow, encoder, estimator, matching, regulator)
        hift_shape = published_hift(hift, _section(hift, path, "f0_predictor"))
    except KeyError as error:
        raise InputError(f"{path}: not the configuration of a speech decoder: {error} is absent") from None
    return (
        load_weights(Flow(flow_config), _tensors(folder / "flow.pt"), folder / "flow.pt").eval(),
        load_weights(Hift(hift_shape), current_names(_tensors(folder / "hift.pt")), folder / "hift.pt").eval(),
        _mel_of(hift_shape),
    )


def _section(table: Table, path: Path, name: str) -> Table:
    found = table.get(name)
    if not isinstance(found, dict):
        raise InputError(f"{path}: not the configuration of a speech decoder: expected a section {name!r}")
    return found


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    found = read_pt(path)
    if not isinstance(found, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in found.values()):
        raise InputError(f"{path}: expected tensors by name")
    return found


def _mel_of(shape: HiftShape) -> VocoderMel:
    """A window of four hops, up to 8 kHz: the mel of all published models."""
    return VocoderMel(sample_rate=shape.sample_rate, size=4 * shape.hop, hop=shape.hop, mels=shape.mels)


def published_flow(
    flow: Table, encoder: Table, estimator: Table, matching: Table, regulator: Table | None
) -> FlowConfig:
    """Constructor values as published -> configuration. Raises `KeyError` for one that is absent."""
    causal, glm = "token_mel_ratio" in flow, encoder.get("selfattention_layer_type") == GLM_ATTENTION
    stride = flow["token_mel_ratio"] if causal else 1
    table = {
        "layout": "causal" if causal else "glm" if glm else "cosyvoice1",
        "vocabulary_size": flow["vocab_size"],
        "unit_rate": flow["input_frame_rate"],
        "mels": flow["output_size"],
        "frame_rate": stride * flow["input_frame_rate"] if causal else MEL_RATE,
        "input_size": flow["input_size"],
        "speaker_size": flow["spk_embed_dim"],
        "regulator_layers": 0 if regulator is None else len(regulator["sampling_ratios"]),
        "guidance": matching["inference_cfg_rate"],
        "sigma_min": matching["sigma_min"],
        "encoder": {
            "width": encoder["output_size"],
            "heads": encoder["attention_heads"],
            "feed_forward": encoder["linear_units"],
            "layers": encoder["num_blocks"],
            "block": encoder.get("block_size"),
            "norm_eps": 1e-5 if glm else 1e-12,
            "dropout": encoder["dropout_rate"],
            "published_padding": True,
        },
        "estimator": {
            "channels": estimator["channels"],
            "blocks": estimator["n_blocks"],
            "mid_blocks": estimator["num_mid_blocks"],
            "heads": estimator["num_heads"],
            "head_size": estimator["attention_head_dim"],
            "causal": causal,
            "published_mask": glm,
        },
    }
    if causal:
        table["encoder"] |= {
            "look_ahead": flow.get("pre_lookahead_len", 3),
            "up_layers": encoder.get("up_num_blocks", 4),
            "up_stride": stride,
            "block": estimator["static_chunk_size"] // stride,
        }
        left = estimator.get("num_decoding_left_chunks", -1)
        table["estimator"] |= {"block": estimator["static_chunk_size"], "left_blocks": None if left < 0 else left}
    return validate_recipe(FlowConfig, table, "flow")


def published_hift(generator: Table, f0_predictor: Table) -> HiftShape:
    """Constructor values as published -> shape. Raises `KeyError` for one that is absent."""
    table = {
        "sample_rate": generator["sampling_rate"],
        "mels": generator["in_channels"],
        "channels": generator["base_channels"],
        "harmonics": generator["nb_harmonics"],
        "sine_amplitude": generator["nsf_alpha"],
        "noise": generator["nsf_sigma"],
        "voiced_threshold": generator["nsf_voiced_threshold"],
        "source": "by sample" if generator["sampling_rate"] == 22_050 else "by frame",
        "up_rates": generator["upsample_rates"],
        "up_kernels": generator["upsample_kernel_sizes"],
        "fourier_size": generator["istft_params"]["n_fft"],
        "fourier_hop": generator["istft_params"]["hop_len"],
        "kernels": generator["resblock_kernel_sizes"],
        "dilations": generator["resblock_dilation_sizes"],
        "source_kernels": generator["source_resblock_kernel_sizes"],
        "source_dilations": generator["source_resblock_dilation_sizes"],
        "slope": generator["lrelu_slope"],
        "limit": generator["audio_limit"],
        "f0_channels": f0_predictor["cond_channels"],
    }
    return validate_recipe(HiftShape, table, "hift")


def current_names(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """`hift.pt` with either naming of weight norm, and with or without `generator.` in front -> our names."""
    found = {}
    for name, tensor in tensors.items():
        front, _, last = name.removeprefix("generator.").rpartition(".")
        found[f"{front}.{_NORM_PARTS.get(last, last)}"] = tensor
    return found


class _SectionsLoader(yaml.SafeLoader):
    """Plain YAML, in which an object to be made (`!new:`, `!name:`, ...) is the mapping of its arguments."""


def _arguments(loader: yaml.SafeLoader, tag: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    assert isinstance(node, yaml.ScalarNode)
    return {"!ref": loader.construct_scalar(node)} if tag == "ref" else None


_SectionsLoader.add_multi_constructor("!", _arguments)


def read_sections(path: Path) -> dict[str, Any]:
    """A HyperPyYAML file as plain values; references to its top level are followed, other tags make nothing.

    Raises `InputError` where `path` is no such file."""
    try:
        table = yaml.load(path.read_text(encoding="utf-8"), _SectionsLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: not a YAML file: {str(error).splitlines()[0]}") from None
    if not isinstance(table, dict):
        raise InputError(f"{path}: expected a table of sections")
    return {name: _resolved(value, table, path) for name, value in table.items()}


def _resolved(value: Any, top: dict[str, Any], path: Path, depth: int = 0) -> Any:
    if isinstance(value, list):
        return [_resolved(item, top, path, depth) for item in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"!ref"}:
        return _referred(str(value["!ref"]), top, path, depth)
    content = value.get("content")  # of an omegaconf table
    table = content if isinstance(content, dict) else value
    return {name: _resolved(item, top, path, depth) for name, item in table.items()}


def _referred(expression: str, top: dict[str, Any], path: Path, depth: int) -> Any:
    """`<name>`, or a product of names and whole numbers. Raises `InputError` for what is anything else."""
    factors = []
    for term in expression.split("*"):
        name = term.strip()
        if name.isdecimal():
            factors.append(int(name))
        elif name[:1] + name[-1:] == "<>" and name[1:-1] in top and depth < DEEPEST:
            factors.append(_resolved(top[name[1:-1]], top, path, depth + 1))
        else:
            raise InputError(f"{path}: !ref {expression}: expected <name> of a value at the top, or a product of them")
    if len(factors) == 1:
        return factors[0]
    if not all(isinstance(factor, int | float) for factor in factors):
        raise InputError(f"{path}: !ref {expression}: expected a product of numbers")
    return math.prod(factors)
