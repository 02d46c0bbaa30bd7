"""Published HuBERTs and their quantizers: fairseq's state dicts and Hugging Face folders -> a `HubertTokenizer`.

Nothing is unpickled but tensors and plain values. A network is read whole or not at all: a tensor that is absent or
too many is named; what only its training needs is dropped.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from spiritlm.errors import InputError
from spiritlm.run.files import read_json
from spiritlm.run.weights import CONFIG_FILE, load_weights, read_folder, read_pt, read_tensors
from spiritlm.units.hubert import HubertTokenizer
from spiritlm.units.hubert_encoder import SAMPLE_RATE, HubertEncoder, HubertShape, cut
from spiritlm.units.quantizers import KmeansQuantizer, LinearQuantizer, Quantizer, require_width

Tensors = dict[str, torch.Tensor]

NAMES = (
    (r"^hubert\.", ""),
    (r"^layer_norm\.", "feature_projection.layer_norm."),
    (r"^post_extract_proj\.", "feature_projection.projection."),
    (r"^(feature_extractor\.conv_layers\.\d+)\.0\.", r"\1.conv."),
    (r"^(feature_extractor\.conv_layers\.\d+)\.2\.1\.", r"\1.layer_norm."),
    (r"^(feature_extractor\.conv_layers\.\d+)\.2\.", r"\1.layer_norm."),
    (r"^encoder\.pos_conv\.0\.", "encoder.pos_conv_embed.conv."),
    (r"\.weight_g$", ".parametrizations.weight.original0"),
    (r"\.weight_v$", ".parametrizations.weight.original1"),
    (r"\.self_attn\.", ".attention."),
    (r"\.self_attn_layer_norm\.", ".layer_norm."),
    (r"\.fc1\.", ".feed_forward.intermediate_dense."),
    (r"\.fc2\.", ".feed_forward.output_dense."),
)
"""Names of fairseq, or of older versions of transformers, to those of `HubertEncoder`, one after the other."""
LEFT_BEHIND = r"(final_proj|label_embs_concat|label_embs|mask_emb|masked_spec_embed|lm_head|projector|classifier)\b"
"""What pre-training and fine-tuning leave in a checkpoint."""
PROJECTION = "feature_projection.projection"


class _Published(BaseModel):
    """`model_cfg`, as far as it shapes the network; the defaults are fairseq's."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())

    extractor_mode: Literal["default", "layer_norm"] = "default"
    conv_feature_layers: str = "[(512,10,5)] + [(512,3,2)] * 4 + [(512,2,2)] * 2"
    conv_bias: bool = False
    conv_pos: int = 128
    conv_pos_groups: int = 16
    conv_pos_batch_norm: Literal[False] = False
    pos_conv_depth: Literal[1] = 1
    layer_type: Literal["transformer"] = "transformer"
    activation_fn: Literal["gelu", "relu"] = "gelu"
    encoder_layers: int = 12
    encoder_embed_dim: int = 768
    encoder_ffn_embed_dim: int = 3072
    encoder_attention_heads: int = 12
    layer_norm_first: bool = False


class HuggingFaceNetwork(BaseModel):
    """`config.json` of a Hugging Face HuBERT or wav2vec 2.0; the defaults are transformers'."""

    model_config = ConfigDict(extra="ignore")

    conv_dim: tuple[int, ...] = (512,) * 7
    conv_kernel: tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    conv_stride: tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
    conv_bias: bool = False
    feat_extract_norm: Literal["group", "layer"] = "group"
    feat_extract_activation: Literal["gelu"] = "gelu"
    feat_proj_layer_norm: bool = True
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    layer_norm_eps: float = Field(1e-5, ge=1e-5, le=1e-5)
    do_stable_layer_norm: bool = False
    num_conv_pos_embeddings: int = 128
    num_conv_pos_embedding_groups: int = 16
    conv_pos_batch_norm: Literal[False] = False

    def shape(self, path: Path, normalize: bool = False) -> HubertShape:
        """`path`: where it comes from. Raises `InputError` where its sizes do not fit together."""
        return _shape(
            path,
            conv_channels=self.conv_dim,
            conv_kernels=self.conv_kernel,
            conv_strides=self.conv_stride,
            conv_bias=self.conv_bias,
            conv_norm=self.feat_extract_norm,
            projection_norm=self.feat_proj_layer_norm,
            width=self.hidden_size,
            layers=self.num_hidden_layers,
            heads=self.num_attention_heads,
            feed_forward=self.intermediate_size,
            activation=self.hidden_act,
            pre_norm=self.do_stable_layer_norm,
            position_kernel=self.num_conv_pos_embeddings,
            position_groups=self.num_conv_pos_embedding_groups,
            normalize=normalize,
        )


def from_published(
    model: Path,
    quantizer: Path,
    layer: int,
    *,
    chunk_seconds: float = 100.0,
    published: bool = False,
) -> HubertTokenizer:
    """`model`: a `.pt` file or a Hugging Face folder; `quantizer`: `.pt`, `.safetensors` or `.npy`; `layer`, from 1, is
    the one that is quantized. Raises `InputError` where they hold anything else or do not fit together."""
    encoder = read_encoder(model)
    found = read_quantizer(quantizer)
    require_width(found, encoder.shape.width, str(quantizer))
    return HubertTokenizer(cut(encoder, layer), found, chunk_seconds=chunk_seconds, published=published)


def read_encoder(path: Path) -> HubertEncoder:
    """A network with all its layers, from a fairseq-shaped `.pt` file or a Hugging Face folder."""
    if path.is_dir():
        return _read_huggingface(path)
    content = read_pt(path)
    wanted = ("model_cfg", "task_cfg", "model_weight")
    if not isinstance(content, dict) or any(not isinstance(content.get(name), Mapping) for name in wanted):
        raise InputError(f"{path}: expected a published HuBERT, a dictionary with {', '.join(wanted)}")
    return published_encoder(content["model_cfg"], content["task_cfg"], content["model_weight"], path)


def published_encoder(
    model_cfg: Mapping[str, Any], task_cfg: Mapping[str, Any], weights: Mapping[str, torch.Tensor], path: Path
) -> HubertEncoder:
    """The network of a published file's parts; `path` is where they come from."""
    config = validated(_Published, model_cfg, f"{path}: model_cfg")
    if (rate := task_cfg.get("sample_rate", SAMPLE_RATE)) != SAMPLE_RATE:
        raise InputError(f"{path}: a network for sound at {rate} Hz, expected {SAMPLE_RATE} Hz")
    channels, kernels, strides = zip(*_conv_layers(config.conv_feature_layers, path), strict=True)
    shape = _shape(
        path,
        conv_channels=channels,
        conv_kernels=kernels,
        conv_strides=strides,
        conv_bias=config.conv_bias,
        conv_norm="group" if config.extractor_mode == "default" else "layer",
        width=config.encoder_embed_dim,
        layers=config.encoder_layers,
        heads=config.encoder_attention_heads,
        feed_forward=config.encoder_ffn_embed_dim,
        activation=config.activation_fn,
        pre_norm=config.layer_norm_first,
        position_kernel=config.conv_pos,
        position_groups=config.conv_pos_groups,
        normalize=bool(task_cfg.get("normalize", False)),
    )
    tensors = renamed(weights)
    if channels[-1] == shape.width and not any(name.startswith(PROJECTION) for name in tensors):
        tensors[f"{PROJECTION}.weight"] = torch.eye(shape.width)  # fairseq has none where nothing changes its width
        tensors[f"{PROJECTION}.bias"] = torch.zeros(shape.width)
    return load_weights(HubertEncoder(shape), tensors, path)


def renamed(weights: Mapping[str, torch.Tensor]) -> Tensors:
    """`weights` by the names of `HubertEncoder`, float32, without what only training needs."""
    found = {}
    for name, tensor in weights.items():
        if re.match(LEFT_BEHIND, name):
            continue
        for pattern, replacement in NAMES:
            name = re.sub(pattern, replacement, name)
        if not re.match(LEFT_BEHIND, name):
            found[name] = tensor.float()
    return found


def read_quantizer(path: Path) -> Quantizer:
    """Centroids from `.safetensors` (its only tensor) or `.npy`, or a published `.pt`: a linear quantizer with
    `model_cfg` and `model_weight`, or centroids as `cluster_centers`."""
    if path.suffix == ".npy":
        try:
            return _kmeans(np.load(path, allow_pickle=False), path)
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: not an array of numbers: {str(error).splitlines()[0]}") from None
    if path.suffix == ".safetensors":
        tensors = read_tensors(path)
        if len(tensors) != 1:
            raise InputError(f"{path}: expected one tensor, the centroids, found {len(tensors)}")
        return _kmeans(next(iter(tensors.values())), path)
    if path.suffix != ".pt":
        raise InputError(
            f"{path}: a pickle may run code and is not read; convert it where you trust it: "
            "numpy.save('centroids.npy', joblib.load(FILE).cluster_centers_)"
        )
    content = read_pt(path)
    if isinstance(content, dict) and "cluster_centers" in content:
        return _kmeans(content["cluster_centers"], path)
    if not isinstance(content, dict) or not isinstance(content.get("model_weight"), Mapping):
        raise InputError(f"{path}: expected a published quantizer, a dictionary with model_cfg and model_weight")
    return published_quantizer(content.get("model_cfg") or {}, content["model_weight"], path)


def published_quantizer(model_cfg: Mapping[str, Any], weights: Mapping[str, torch.Tensor], path: Path) -> Quantizer:
    """The linear quantizer of a published file's parts; `path` is where they come from."""
    tensors = {re.sub(r"^(?:.*\.)?(\d+)\.(weight|bias)$", r"\1.\2", name): t.float() for name, t in weights.items()}
    names = sorted((name for name in tensors if name.endswith(".weight")), key=lambda name: int(name.split(".")[0]))
    if len(names) != 3 or any(tensors[name].ndim != 2 for name in names):
        raise InputError(f"{path}: expected the weights of three linear layers, found {', '.join(weights) or 'none'}")
    sizes = [tensors[names[0]].shape[1], *(tensors[name].shape[0] for name in names)]
    for key, found in (("dim", sizes[0]), ("vocab_size", sizes[-1] - 1)):
        if model_cfg.get(key, found) != found:
            raise InputError(f"{path}: model_cfg has {key} = {model_cfg[key]}, but the weights {found}")
    quantizer = LinearQuantizer(sizes[0], sizes[1:3], sizes[-1] - 1)
    numbers = {name.split(".")[0]: str(layer) for layer, name in enumerate(names)}
    own = {f"layers.{numbers.get(n.split('.')[0], n)}.{n.split('.')[1]}": tensor for n, tensor in tensors.items()}
    return load_weights(quantizer, own, path)


def _kmeans(centroids: Any, path: Path) -> KmeansQuantizer:
    try:
        found = torch.as_tensor(centroids)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"{path}: centroids: expected an array of numbers") from None
    if found.ndim != 2 or not found.is_floating_point() or not torch.isfinite(found).all():
        raise InputError(f"{path}: centroids {list(found.shape)}, expected finite numbers [units, width]")
    return KmeansQuantizer.of(found.float())


def _read_huggingface(folder: Path) -> HubertEncoder:
    raw = read_json(folder / CONFIG_FILE)
    if raw.get("model_type") != "hubert":
        kind = raw.get("model_type", raw.get("type"))
        raise InputError(f"{folder / CONFIG_FILE}: a model of type {kind!r}, expected 'hubert'")
    config = validated(HuggingFaceNetwork, raw, str(folder / CONFIG_FILE))
    preprocessor = folder / "preprocessor_config.json"
    normalize = bool(read_json(preprocessor).get("do_normalize", False)) if preprocessor.is_file() else False
    shape = config.shape(folder / CONFIG_FILE, normalize)
    return load_weights(HubertEncoder(shape), renamed(read_folder(folder)), folder)


def _shape(path: Path, **values: Any) -> HubertShape:
    try:
        return HubertShape(**values)
    except ValidationError as error:
        raise InputError(f"{path}: {error.errors()[0]['msg']}") from None


def validated(kind: type[Any], values: Mapping[str, Any], source: str) -> Any:
    """`values` as a `kind` of pydantic model. Raises `InputError`, naming the first field that is wrong."""
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"{source}: {first['loc'][0]} is {first['input']!r}: {first['msg']}") from None


def _conv_layers(text: str, path: Path) -> list[tuple[int, int, int]]:
    """`[(512,10,5)] + [(512,3,2)] * 4` -> (channels, kernel, stride) of each layer."""
    try:
        layers = _list(ast.parse(text.strip(), mode="eval").body)
        return [(int(channels), int(kernel), int(stride)) for channels, kernel, stride in layers]
    except (SyntaxError, ValueError, TypeError):
        raise InputError(
            f"{path}: conv_feature_layers is {text!r}, expected [(channels, kernel, stride)] * n + ..."
        ) from None


def _list(node: ast.expr) -> list[Any]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _list(node.left) + _list(node.right)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        return _list(node.left) * int(ast.literal_eval(node.right))
    return list(ast.literal_eval(node))
