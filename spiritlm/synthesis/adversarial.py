"""What a maker of waveforms and its discriminators learn from, side by side; neither learns from the other's part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import nn

from spiritlm.audio.vocoder_mel import VocoderMel, vocoder_log_mel
from spiritlm.run.fit import Batch, Losses
from spiritlm.synthesis.discriminators import AdversarialWeights, Discriminators


class Made(NamedTuple):
    wave: torch.Tensor
    """`[batch, samples]`."""
    losses: Losses
    """Of the maker's own, beside its wave."""
    weighted: torch.Tensor
    """Their sum, each with its weight."""


class AdversarialLosses:
    """For `fit`, of a module with a `vocoder` and `discriminators`."""

    def __init__(
        self, make: Callable[[nn.Module, Batch], Made], mels: Sequence[VocoderMel], weights: AdversarialWeights
    ) -> None:
        """`make`: the vocoder and a batch -> what it makes of it; `mels`: frames whose distance is taken."""
        self.make, self.mels, self.weights = make, mels, weights
        self.adversarial = False

    def begin(self, model: nn.ModuleDict, adversarial: bool) -> None:
        """Before a step: whether discriminators take part in it."""
        self.adversarial = adversarial
        if not adversarial:  # the optimizer is not to count steps without a gradient
            for parameter in model["discriminators"].parameters():
                parameter.grad = None

    def __call__(self, model: nn.Module, batch: Batch) -> Losses:
        """`loss`, and its parts: `mel`, mean distance of log-mel, and the maker's own; with discriminators also
        `fooled`, `features` and `judges`."""
        assert isinstance(model, nn.ModuleDict)
        judges, real, weights = model["discriminators"], batch["waves"], self.weights
        assert isinstance(judges, Discriminators)
        made = self.make(model["vocoder"], batch)
        distances = [(vocoder_log_mel(made.wave, mel) - vocoder_log_mel(real, mel)).abs().mean() for mel in self.mels]
        losses = {"mel": torch.stack(distances).mean(), **made.losses}
        total = weights.mel * losses["mel"] + made.weighted
        if self.adversarial:
            losses["fooled"], losses["features"] = judges.makers_loss(real, made.wave, weights)
            losses["judges"] = judges.loss(real, made.wave, weights)
            total = total + losses["fooled"] + weights.features * losses["features"] + losses["judges"]
        return {"loss": total, **losses}
