"""HuBERT's network: waves -> one vector a frame; transformers' modules, run so that padding changes nothing.

Frame `t` hears samples `[hop * t, hop * t + window)` through the convolutions (640 and 720 samples in the 25 Hz model,
320 and 400 in the 50 Hz one) and all frames of the wave through the transformer. transformers' own forward pass lets
the first layer's group norm see what is padded; here its mean and deviation are those of each wave's own frames.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal, cast

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt, model_validator
from torch import nn

from spiritlm.config import Recipe
from spiritlm.errors import InputError
from spiritlm.run.device import training_device
from spiritlm.run.weights import MODEL_FILE, load_weights, read_config, read_tensors, save_model

SAMPLE_RATE = 16_000


class HubertShape(Recipe):
    """Size and kind of the network; what is given here is the base model at 25 Hz."""

    conv_channels: tuple[PositiveInt, ...] = (512,) * 8
    conv_kernels: tuple[PositiveInt, ...] = (10, 3, 3, 3, 3, 2, 2, 2)
    conv_strides: tuple[PositiveInt, ...] = (5, 2, 2, 2, 2, 2, 2, 2)
    conv_bias: bool = False
    conv_norm: Literal["group", "layer"] = "group"
    """group: after the first convolution, each channel over time; layer: after each, over channels."""
    projection_norm: bool = True
    """A layer norm between the convolutions and the transformer."""
    width: PositiveInt = 768
    layers: PositiveInt = 12
    heads: PositiveInt = 12
    feed_forward: PositiveInt = 3072
    activation: str = "gelu"
    pre_norm: bool = False
    """Norms before attention and feed-forward, and one at the end."""
    position_kernel: PositiveInt = 128
    position_groups: PositiveInt = 16
    normalize: bool = False
    """Each wave is brought to mean 0 and deviation 1 first."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """In training: of inputs, attention weights and residual branches."""
    layer_drop: float = Field(0.0, ge=0, lt=1)
    """In training: how often a layer is left out."""

    @model_validator(mode="after")
    def _fits_together(self) -> HubertShape:
        if not len(self.conv_channels) == len(self.conv_kernels) == len(self.conv_strides) > 0:
            raise ValueError("conv_channels, conv_kernels and conv_strides: expected as many of each")
        if self.width % self.heads or self.width % self.position_groups:
            raise ValueError(f"width = {self.width}: expected a multiple of heads and of position_groups")
        return self

    @property
    def hop(self) -> int:
        """Samples from frame to frame."""
        return math.prod(self.conv_strides)

    @property
    def window(self) -> int:
        """Samples that one frame hears through the convolutions."""
        window, step = 1, 1
        for kernel, stride in zip(self.conv_kernels, self.conv_strides, strict=True):
            window, step = window + (kernel - 1) * step, step * stride
        return window

    @property
    def rate(self) -> float:
        """Frames per second."""
        return SAMPLE_RATE / self.hop

    def samples_of(self, frames: int) -> int:
        """The least that give so many frames."""
        return (frames - 1) * self.hop + self.window


class MaskedGroupNorm(nn.GroupNorm):
    """Each channel over time, as `nn.GroupNorm` with one channel a group, over the frames that are not padding."""

    def masked(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """`x` `[batch, channels, time]`, of which `lengths` int `[batch]` frames are true."""
        mask = (torch.arange(x.shape[2], device=x.device) < lengths[:, None])[:, None]  # [batch, 1, time]
        count = lengths[:, None, None]
        x = x.float()
        mean = (x * mask).sum(2, keepdim=True) / count
        variance = ((x - mean).square() * mask).sum(2, keepdim=True) / count
        return (x - mean) * torch.rsqrt(variance + self.eps) * self.weight[:, None] + self.bias[:, None]


class WindowedConv1d(nn.Conv1d):
    """A convolution of one channel as a product of matrices: fifteen times as fast on a CPU."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        windows = x[:, 0].unfold(-1, self.kernel_size[0], self.stride[0])  # [batch, frames, kernel]
        convolved = torch.matmul(self.weight[:, 0], windows.transpose(1, 2))
        return convolved if self.bias is None else convolved + self.bias[:, None]


class HubertEncoder(nn.Module):
    """State: the names of transformers' `HubertModel`, without its mask embedding."""

    def __init__(self, shape: HubertShape) -> None:
        from transformers import HubertModel  # seconds to import

        super().__init__()
        self.shape = shape
        body = HubertModel(transformers_config(shape))
        self.feature_extractor = body.feature_extractor
        self.feature_projection = body.feature_projection
        self.encoder = body.encoder
        first = self.feature_extractor.conv_layers[0]
        windowed = WindowedConv1d(
            1, shape.conv_channels[0], shape.conv_kernels[0], shape.conv_strides[0], bias=shape.conv_bias
        )
        windowed.load_state_dict(first.conv.state_dict())
        first.conv = windowed
        if shape.conv_norm == "group":
            channels = shape.conv_channels[0]
            first.layer_norm = MaskedGroupNorm(channels, channels)

    def frames(self, samples: torch.Tensor) -> torch.Tensor:
        """How many frames so many samples give, int `[batch]`; at least `window` each."""
        return (samples - self.shape.window) // self.shape.hop + 1

    def forward(
        self,
        waves: torch.Tensor,
        samples: torch.Tensor,
        layer: int | None = None,
        hidden: torch.Tensor | None = None,
        stand_in: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Waves float32 `[batch, samples]`, zeros behind each, and their lengths int64 `[batch]`, at least `window`,
        -> float `[batch, frames, width]`; what stands behind the frames of a wave means nothing.

        `layer`, from 1: the output of that layer, without the norm that ends a `pre_norm` network. Frames where
        `hidden` (bool `[batch, frames]`) is true are replaced by `stand_in` `[width]` before the transformer.
        """
        x = self.convolve(self.normalized(waves, samples), samples).transpose(1, 2)
        x = self.feature_projection(x)
        if hidden is not None and stand_in is not None:
            x = torch.where(hidden[..., None], stand_in.to(x.dtype), x)
        return self._transform(x, self.frames(samples), layer)

    def normalized(self, waves: torch.Tensor, samples: torch.Tensor) -> torch.Tensor:
        """Waves as the convolutions take them: each over its own samples where the shape asks for it."""
        if not self.shape.normalize:
            return waves
        rows = [F.layer_norm(wave[:n], (n,)) for wave, n in zip(waves, samples.tolist(), strict=True)]
        return nn.utils.rnn.pad_sequence(rows, batch_first=True)

    def convolve(self, waves: torch.Tensor, samples: torch.Tensor) -> torch.Tensor:
        """float32 `[batch, samples]` -> float `[batch, channels, frames]`.

        On a CPU wave by wave: one wave's activations stay in its cache, several fall out of it (half the speed)."""
        if waves.device.type != "cpu":
            return self._convolve(waves, samples)
        rows = [self._convolve(wave[None, :n], n[None])[0].T for wave, n in zip(waves, samples, strict=True)]
        return nn.utils.rnn.pad_sequence(rows, batch_first=True).transpose(1, 2)

    def _convolve(self, waves: torch.Tensor, samples: torch.Tensor) -> torch.Tensor:
        x, padded = waves[:, None], bool((samples != waves.shape[1]).any())
        for layer, kernel, stride in zip(
            self.feature_extractor.conv_layers, self.shape.conv_kernels, self.shape.conv_strides, strict=True
        ):
            samples = (samples - kernel) // stride + 1
            if padded and isinstance(getattr(layer, "layer_norm", None), MaskedGroupNorm):
                x = layer.activation(layer.layer_norm.masked(layer.conv(x), samples))
            else:
                x = layer(x)
        return x

    def _transform(self, x: torch.Tensor, lengths: torch.Tensor, layer: int | None) -> torch.Tensor:
        attended = None
        if bool((lengths != x.shape[1]).any()):
            valid = torch.arange(x.shape[1], device=x.device) < lengths[:, None]
            x, attended = x * valid[..., None], valid[:, None, None]  # the positions' convolution sees zeros
        body, shape = self.encoder, self.shape
        x = x + body.pos_conv_embed(x)
        x = body.dropout(x if shape.pre_norm else body.layer_norm(x))
        for block in body.layers[:layer]:
            if not (self.training and shape.layer_drop and torch.rand(()) < shape.layer_drop):
                x = block(x, attention_mask=attended)
        return body.layer_norm(x) if shape.pre_norm and layer is None else x


def transformers_config(shape: HubertShape) -> object:
    from transformers import HubertConfig

    return HubertConfig(
        conv_dim=shape.conv_channels,
        conv_kernel=shape.conv_kernels,
        conv_stride=shape.conv_strides,
        conv_bias=shape.conv_bias,
        feat_extract_norm=shape.conv_norm,
        feat_proj_layer_norm=shape.projection_norm,
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.feed_forward,
        hidden_act=shape.activation,
        do_stable_layer_norm=shape.pre_norm,
        num_conv_pos_embeddings=shape.position_kernel,
        num_conv_pos_embedding_groups=shape.position_groups,
        hidden_dropout=shape.dropout,
        attention_dropout=shape.dropout,
        feat_proj_dropout=shape.dropout,
        activation_dropout=0.0,
        layerdrop=0.0,
        mask_time_prob=0.0,
        attn_implementation="sdpa",
    )


class HubertEncoderConfig(Recipe):
    """What `config.json` of a trained network holds."""

    type: Literal["hubert-encoder"] = "hubert-encoder"
    shape: HubertShape


def save_encoder(encoder: HubertEncoder, folder: Path) -> None:
    """Write `model.safetensors` and `config.json` into `folder`, which is made if absent."""
    save_model(folder, HubertEncoderConfig(shape=encoder.shape).model_dump(mode="json"), encoder.state_dict())


def load_encoder(folder: Path, layer: int | None = None) -> HubertEncoder:
    """A trained network, its layers after `layer` left out, on the device that trains, not in training mode.

    Raises `InputError` where `folder` holds none, or none with so many layers."""
    shape = read_config(folder, HubertEncoderConfig).shape
    encoder = load_weights(HubertEncoder(shape), read_tensors(folder / MODEL_FILE), folder / MODEL_FILE)
    return cut(encoder, shape.layers if layer is None else layer).to(training_device()).eval()


def cut(encoder: HubertEncoder, layers: int) -> HubertEncoder:
    """`encoder` without its layers after the first `layers`. Raises `InputError` where it has fewer."""
    if not 1 <= layers <= encoder.shape.layers:
        raise InputError(f"layer = {layers}: expected one of the {encoder.shape.layers} layers of the network")
    encoder.shape = encoder.shape.model_copy(update={"layers": layers})
    encoder.encoder.layers = cast(nn.ModuleList, encoder.encoder.layers)[:layers]
    return encoder
