import pytest
import torch

from spiritlm.synthesis.unit_hifigan import UnitHifigan, UnitHifiganShape


@pytest.mark.parametrize(
    "sizes",
    [
        {"up_rates": (4, 4), "up_kernels": (8, 8), "kernels": (3, 5), "dilations": ((1, 3), (1, 2))},
        {"up_rates": (5, 2), "up_kernels": (11, 4), "kernels": (3,), "dilations": ((1, 3, 5),)},
        {"up_rates": (3,), "up_kernels": (3,), "kernels": (7,), "dilations": ((1,),)},
        {"up_rates": (3,), "up_kernels": (3,), "kernels": (7,), "dilations": ((1,),), "context": (1, 2)},
    ],
)
def test_a_unit_is_heard_as_far_as_the_reach_and_no_further(sizes: dict) -> None:
    torch.manual_seed(0)
    shape = UnitHifiganShape(units=9, embedding=4, channels=8, speakers=0, duration_width=0, **sizes)
    network = UnitHifigan(shape).double().eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter)
    units = torch.randint(9, (1, 4 * shape.reach + 3))
    middle = units.shape[1] // 2
    changed = units.clone()
    changed[0, middle] = (units[0, middle] + 1) % 9
    with torch.inference_mode():
        difference = (network(network.embed(units)) - network(network.embed(changed))).view(-1, shape.hop).abs().amax(1)
    heard = torch.nonzero(difference).flatten()
    assert (int(heard[0]), int(heard[-1])) == (middle - shape.reach, middle + shape.reach)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"up_kernels": (11, 8, 8, 8)}, "expected as many of each"),
        ({"up_kernels": (10, 8, 8, 8, 4)}, "an even number more"),
        ({"kernels": (3, 7, 8)}, "expected odd numbers"),
        ({"harmonics": 8, "up_rates": (4, 5, 5), "up_kernels": (4, 5, 5)}, "an even number of samples"),
        ({"harmonics": 8, "up_rates": (5, 2), "up_kernels": (5, 2)}, "a multiple of 4 samples"),
        ({"channels": 48}, "a multiple of 2 for every up-sampling"),
    ],
)
def test_sizes_that_do_not_fit(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        UnitHifiganShape(**change)
