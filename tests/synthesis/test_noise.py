import torch

from spiritlm.synthesis.noise import noise_at


def test_noise_depends_on_the_place_alone() -> None:
    drawn = noise_at(0, 300, 5)
    assert torch.equal(noise_at(77, 201, 5), drawn[:, :, 77:201])
    assert noise_at(9, 9, 5).shape == (1, 5, 0)
    assert abs(float(drawn.std()) - 1) < 0.1


def test_no_two_places_have_the_same_noise() -> None:
    drawn = noise_at(0, 64 * 200, 1)[0, 0].view(200, 64)
    assert len(torch.unique(drawn, dim=0)) == 200
