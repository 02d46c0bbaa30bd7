import pytest
import torch
from torch import nn

from spiritlm.audio.vocoder_mel import VocoderMel
from spiritlm.run.fit import Batch
from spiritlm.synthesis.adversarial import AdversarialLosses, Made
from spiritlm.synthesis.discriminators import AdversarialWeights, Discriminators, DiscriminatorShape

MEL = VocoderMel(sample_rate=16_000, size=256, hop=64, mels=20)
JUDGES = DiscriminatorShape(periods=(2,), period_channels=(4, 4), windows=(64,), spectral_channels=2)


class Louder(nn.Module):
    """A vocoder of one number."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(0.5))


def make(vocoder: nn.Module, batch: Batch) -> Made:
    assert isinstance(vocoder, Louder)
    own = (vocoder.gain - 1).abs()
    return Made(vocoder.gain * batch["waves"], {"own": own}, 3 * own)


@pytest.fixture
def model() -> nn.ModuleDict:
    torch.manual_seed(0)
    return nn.ModuleDict({"vocoder": Louder(), "discriminators": Discriminators(JUDGES)})


BATCH = {"waves": 0.1 * torch.randn(2, 2048, generator=torch.Generator().manual_seed(0))}


def test_before_the_game_only_mel_and_the_makers_own_losses_count(model: nn.ModuleDict) -> None:
    losses = AdversarialLosses(make, [MEL, MEL], AdversarialWeights())
    losses.begin(model, adversarial=False)
    found = losses(model, BATCH)
    assert set(found) == {"loss", "mel", "own"}
    assert found["mel"].item() == pytest.approx(0.693, abs=0.02)  # of a wave half as loud
    assert found["loss"].item() == pytest.approx(45 * found["mel"].item() + 1.5, rel=1e-5)
    found["loss"].backward()
    assert all(p.grad is None for p in model["discriminators"].parameters())


def test_in_the_game_both_sides_learn_and_neither_from_the_others_part(model: nn.ModuleDict) -> None:
    losses = AdversarialLosses(make, [MEL], AdversarialWeights())
    losses.begin(model, adversarial=True)
    found = losses(model, BATCH)
    assert set(found) == {"loss", "mel", "own", "fooled", "features", "judges"}
    found["judges"].backward(retain_graph=True)
    assert model["vocoder"].gain.grad is None
    learnt = [p.grad.clone() for p in model["discriminators"].parameters()]
    assert any(grad.abs().sum() > 0 for grad in learnt)
    found["fooled"].backward()
    assert model["vocoder"].gain.grad is not None
    for before, p in zip(learnt, model["discriminators"].parameters(), strict=True):
        assert torch.equal(before, p.grad)
    losses.begin(model, adversarial=False)
    assert all(p.grad is None for p in model["discriminators"].parameters())
