import torch

from spiritlm.synthesis.discriminators import AdversarialWeights, Discriminators, DiscriminatorShape

SHAPE = DiscriminatorShape(periods=(2, 3), period_channels=(4, 8), windows=(128,), spectral_channels=4)
WEIGHTS = AdversarialWeights()


def test_each_side_learns_from_its_own_part() -> None:
    torch.manual_seed(0)
    judges, real = Discriminators(SHAPE), torch.randn(2, 1001)
    made = torch.randn(2, 1001, requires_grad=True)
    judges.loss(real, made, WEIGHTS).backward()
    assert made.grad is None and all(p.grad is not None for p in judges.parameters())
    judges.zero_grad()
    fooled, features = judges.makers_loss(real, made, WEIGHTS)
    (fooled + features).backward()
    assert made.grad is not None and all(p.grad is None for p in judges.parameters())
    assert all(p.requires_grad for p in judges.parameters())


def test_judges_learn_to_tell_noise_from_a_tone() -> None:
    torch.manual_seed(0)
    judges = Discriminators(SHAPE)
    tone = 0.5 * torch.sin(0.05 * torch.arange(1024.0)).repeat(4, 1)
    optimizer = torch.optim.Adam(judges.parameters(), 1e-2)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = judges.loss(tone, 0.5 * torch.randn(4, 1024), WEIGHTS)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.4 * losses[0]


def test_equal_waves_have_equal_features() -> None:
    judges, wave = Discriminators(SHAPE), torch.randn(1, 700)
    assert float(judges.makers_loss(wave, wave.clone(), WEIGHTS)[1]) == 0.0
