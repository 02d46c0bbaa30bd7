"""The network of pitch units: a VQ-VAE of one level over F0 and voicing, 200 Hz frames in, 12.5 Hz codes between.

Shape and codebook are Jukebox's (Dhariwal et al. 2020), as Polyak et al. (2021) and Spirit LM use them for pitch:
strided convolutions with dilated residual blocks, and a codebook of moving averages in which a code that is used too
little stands at a vector of the batch until it is used more. With `width` 32, `depth` 4 it has 0.2 M parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError
from torch import nn

from spiritlm.config import Recipe
from spiritlm.errors import InputError
from spiritlm.run.weights import load_weights

KERNEL = 3
AVERAGES = ("codebook.k_sum", "codebook.k_elem", "codebook.started")
"""Of the network's state, what only training needs."""


class PitchVqVaeShape(Recipe):
    """Sizes of the network; the defaults are the published recipe's with Spirit LM's 64 codes."""

    channels: PositiveInt = 2
    """Of a frame: F0 and voicing."""
    codes: PositiveInt = 64
    code_width: PositiveInt = 128
    width: PositiveInt = 32
    """Of the convolutions."""
    depth: PositiveInt = 4
    """Residual blocks of a level."""
    dilation_growth: PositiveInt = 3
    """From a residual block to the next."""
    residual_growth: PositiveFloat = 1.0
    """Inner width of a residual block as a share of `width`."""
    downs: PositiveInt = 4
    """Convolutions that make frames fewer."""
    stride: int = Field(2, ge=2, multiple_of=2)
    """Of each of them."""
    reverse_decoder_dilation: bool = True
    """The decoder's residual blocks narrow down."""
    decay: float = Field(0.99, ge=0, lt=1)
    """Of the codebook's moving averages."""
    threshold: float = 1.0
    """A code that gets fewer vectors of a batch, on average, is replaced."""

    @property
    def hop(self) -> int:
        """Frames of a code."""
        return int(self.stride**self.downs)


class ResidualBlock(nn.Module):
    def __init__(self, width: int, inner: int, dilation: int) -> None:
        super().__init__()
        self.wide = nn.Conv1d(width, inner, KERNEL, padding=dilation, dilation=dilation)
        self.narrow = nn.Conv1d(inner, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.narrow(F.relu(self.wide(F.relu(x))))


def _residual_blocks(shape: PitchVqVaeShape, reverse: bool = False) -> nn.Sequential:
    dilations = [shape.dilation_growth**number for number in range(shape.depth)]
    inner = max(1, int(shape.residual_growth * shape.width))
    return nn.Sequential(*(ResidualBlock(shape.width, inner, d) for d in (dilations[::-1] if reverse else dilations)))


class PitchEncoder(nn.Module):
    """`[batch, channels, frames]` -> `[batch, code_width, frames // hop]`."""

    def __init__(self, shape: PitchVqVaeShape) -> None:
        super().__init__()
        self.downs = nn.ModuleList()
        self.residuals = nn.ModuleList()
        for number in range(shape.downs):
            before = shape.width if number else shape.channels
            self.downs.append(nn.Conv1d(before, shape.width, 2 * shape.stride, shape.stride, shape.stride // 2))
            self.residuals.append(_residual_blocks(shape))
        self.out = nn.Conv1d(shape.width, shape.code_width, KERNEL, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for down, residual in zip(self.downs, self.residuals, strict=True):
            x = residual(down(x))
        out: torch.Tensor = self.out(x)
        return out


class PitchDecoder(nn.Module):
    """`[batch, code_width, codes]` -> `[batch, channels, codes * hop]`."""

    def __init__(self, shape: PitchVqVaeShape) -> None:
        super().__init__()
        self.into = nn.Conv1d(shape.code_width, shape.width, KERNEL, padding=1)
        self.residuals = nn.ModuleList()
        self.ups = nn.ModuleList()
        for number in range(shape.downs):
            after = shape.width if number < shape.downs - 1 else shape.code_width
            self.residuals.append(_residual_blocks(shape, shape.reverse_decoder_dilation))
            self.ups.append(nn.ConvTranspose1d(shape.width, after, 2 * shape.stride, shape.stride, shape.stride // 2))
        self.out = nn.Conv1d(shape.code_width, shape.channels, KERNEL, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.into(x)
        for residual, up in zip(self.residuals, self.ups, strict=True):
            x = up(residual(x))
        out: torch.Tensor = self.out(x)
        return out


class EmaCodebook(nn.Module):
    """Codes at `k_sum / k_elem`, moving averages of what they were given, over all processes.

    `VectorQuantizer` has another rule: there a restarted code forgets its averages, here they go on decaying, so that
    it is replaced at every step until its own use lifts them above the threshold."""

    k: torch.Tensor
    k_sum: torch.Tensor
    k_elem: torch.Tensor
    started: torch.Tensor

    def __init__(self, codes: int, width: int, decay: float, threshold: float) -> None:
        super().__init__()
        self.decay, self.threshold = decay, threshold
        self.register_buffer("k", torch.zeros(codes, width))
        self.register_buffer("k_sum", torch.zeros(codes, width))
        self.register_buffer("k_elem", torch.ones(codes))
        self.register_buffer("started", torch.tensor(False))

    @torch.no_grad()
    def start(self, k: torch.Tensor, uses: float = 1.0) -> None:
        """Begin at `k` `[codes, width]`, as if each had been used `uses` times."""
        self.k.copy_(k)
        self.k_sum.copy_(k * uses)
        self.k_elem.fill_(uses)
        self.started.fill_(True)

    def codes(self, vectors: torch.Tensor) -> torch.Tensor:
        """The nearest code of each of `vectors` `[..., width]`, int64 `[...]`."""
        return (self.k.square().sum(1) - 2 * vectors.float() @ self.k.T).argmin(-1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """`x` `[batch, width, codes]` -> vectors of the codes with the gradient of `x`, codes int64 `[batch, codes]`,
        commitment: the mean square of the difference. In training the codebook moves, after it was used; it begins
        at vectors of the first batch."""
        with torch.autocast(x.device.type, enabled=False):
            vectors = x.float().transpose(1, 2)  # [batch, codes, width]
            flat = vectors.detach().flatten(0, 1)
            if self.training and not self.started:
                self.start(self.random_rows(flat))
            codes = self.codes(vectors.detach())
            quantized = F.embedding(codes, self.k)
            commitment = (vectors - quantized).square().mean()
            if self.training:
                self.update(flat, codes.flatten(), self.random_rows(flat))
        return (vectors + (quantized - vectors).detach()).transpose(1, 2), codes, commitment

    def random_rows(self, vectors: torch.Tensor) -> torch.Tensor:
        """A vector for each code out of `vectors` `[n, width]`, in random order, each again and again where there are
        fewer than codes; the main process draws for all."""
        order = torch.randperm(len(vectors), device=vectors.device)
        rows = vectors[order.repeat(-(-len(self.k) // len(vectors)))[: len(self.k)]].contiguous()
        if dist.is_initialized():
            dist.broadcast(rows, 0)
        return rows

    @torch.no_grad()
    def update(self, vectors: torch.Tensor, codes: torch.Tensor, rows: torch.Tensor) -> None:
        """`vectors` `[n, width]` were given `codes` `[n]`; code `i` stands at `rows[i]` while it is used too little."""
        counts = torch.zeros_like(self.k_elem).index_add_(0, codes, torch.ones_like(codes, dtype=torch.float32))
        sums = torch.zeros_like(self.k_sum).index_add_(0, codes, vectors)
        if dist.is_initialized():
            dist.all_reduce(counts)
            dist.all_reduce(sums)
        if not sums.isfinite().all():
            return  # the training loop skips this step too
        self.k_sum.lerp_(sums, 1 - self.decay)
        self.k_elem.lerp_(counts, 1 - self.decay)
        used = (self.k_elem >= self.threshold)[:, None]
        self.k.copy_(torch.where(used, self.k_sum / self.k_elem[:, None], rows))

    def usage(self) -> dict[str, torch.Tensor]:
        """Of the moving averages: `codes_used`, how many stand where their vectors are; `perplexity`, how many equally
        frequent ones would be as hard to guess."""
        share = self.k_elem / self.k_elem.sum()
        entropy = -(share * share.clamp(min=1e-12).log()).sum()
        return {"codes_used": (self.k_elem >= self.threshold).float().sum(), "perplexity": entropy.exp()}


class PitchVqVae(nn.Module):
    """Frames -> codes -> frames."""

    def __init__(self, shape: PitchVqVaeShape) -> None:
        super().__init__()
        self.shape = shape
        self.encoder = PitchEncoder(shape)
        self.codebook = EmaCodebook(shape.codes, shape.code_width, shape.decay, shape.threshold)
        self.decoder = PitchDecoder(shape)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """`x` `[batch, channels, frames]`, a multiple of `hop` -> itself as decoded, its codes int64 `[batch, codes]`,
        the commitment loss."""
        quantized, codes, commitment = self.codebook(self.encoder(x))
        return self.decoder(quantized), codes, commitment

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Codes int64 `[batch, frames // hop]` of `x` `[batch, channels, frames]`; frames behind the last whole code
        are not seen by it alone."""
        return self.codebook.codes(self.encoder(x).transpose(1, 2))

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """Frames `[batch, channels, codes * hop]` of `codes` int64 `[batch, codes]`."""
        frames: torch.Tensor = self.decoder(F.embedding(codes, self.codebook.k).transpose(1, 2))
        return frames


def network(shape: PitchVqVaeShape, tensors: dict[str, torch.Tensor], path: Path) -> PitchVqVae:
    """The network of `tensors` without averages; those of its codes begin as if each had been used once. Raises
    `InputError` where they do not fit; `path` is where they come from."""
    model = PitchVqVae(shape)
    averages = {name: model.state_dict()[name] for name in AVERAGES}
    load_weights(model, {**averages, **tensors}, path)
    model.codebook.start(model.codebook.k.clone())
    return model


class _Convolutions(BaseModel):
    model_config = ConfigDict(extra="ignore")

    levels: Literal[1] = 1
    downs_t: tuple[int]
    strides_t: tuple[int]
    input_emb_width: int
    output_emb_width: int
    width: int
    depth: int
    m_conv: float = 1.0
    dilation_growth_rate: int = 1
    dilation_cycle: None = None
    res_scale: Literal[False] = False
    reverse_decoder_dilation: bool = False


class _Codebook(BaseModel):
    model_config = ConfigDict(extra="ignore")

    levels: Literal[1] = 1
    l_bins: int
    emb_width: int
    mu: float = 0.99


class _Published(BaseModel):
    model_config = ConfigDict(extra="ignore")

    encoder_params: _Convolutions
    decoder_params: _Convolutions
    vq_params: _Codebook


def published_shape(raw: Mapping[str, Any], path: Path, threshold: float = 1.0) -> PitchVqVaeShape:
    """Sizes from `encoder_params`, `decoder_params` and `vq_params` of a published configuration, which is at `path`.
    Raises `InputError` where one is absent, or encoder and decoder differ."""
    try:
        found = _Published.model_validate(dict(raw))
        encoder, decoder, vq = found.encoder_params, found.decoder_params, found.vq_params
        only_its = {"reverse_decoder_dilation"}
        if encoder.model_dump(exclude=only_its) != decoder.model_dump(exclude=only_its):
            raise InputError(f"{path}: encoder_params and decoder_params differ, expected the same")
        if encoder.output_emb_width != vq.emb_width:
            widths = f"{encoder.output_emb_width} and {vq.emb_width}"
            raise InputError(f"{path}: output_emb_width and emb_width are {widths}, expected the same")
        return PitchVqVaeShape(
            channels=encoder.input_emb_width,
            codes=vq.l_bins,
            code_width=vq.emb_width,
            width=encoder.width,
            depth=encoder.depth,
            dilation_growth=encoder.dilation_growth_rate,
            residual_growth=encoder.m_conv,
            downs=encoder.downs_t[0],
            stride=encoder.strides_t[0],
            reverse_decoder_dilation=decoder.reverse_decoder_dilation,
            decay=vq.mu,
            threshold=threshold,
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"{path}: {'.'.join(map(str, first['loc']))} is {first['input']!r}: {first['msg']}") from None


def published_tensors(state: Mapping[str, torch.Tensor], shape: PitchVqVaeShape) -> dict[str, torch.Tensor]:
    """`state` of a published network by the names of `PitchVqVae`, float32; names that are not known stay."""
    names = {_published_name(name, shape): name for name in PitchVqVae(shape).state_dict()}
    return {names.get(name, name): tensor.float() for name, tensor in state.items()}


def _published_name(name: str, shape: PitchVqVaeShape) -> str:
    """Of a tensor of `PitchVqVae`: its level is a sequence of sequences there."""
    part, *rest = name.split(".")
    level, tensor = f"{part}.level_blocks.0.model", rest[-1]
    if part == "codebook":
        return f"vq.level_blocks.0.{tensor}"
    if rest[0] == "out":
        return f"{level}.{shape.downs}.{tensor}" if part == "encoder" else name
    if rest[0] == "into":
        return f"{level}.0.{tensor}"
    number = int(rest[1])
    if rest[0] == "residuals":
        place = f"{number}.1" if part == "encoder" else f"{number + 1}.0"
        return f"{level}.{place}.model.{rest[2]}.model.{1 if rest[3] == 'wide' else 3}.{tensor}"
    return f"{level}.{number}.0.{tensor}" if part == "encoder" else f"{level}.{number + 1}.1.{tensor}"
