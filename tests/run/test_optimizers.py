import copy

import pytest
import torch

from spiritlm.run.optimizers import Muon, near_orthogonal, optimizer_of


def network():
    torch.manual_seed(0)
    layers = torch.nn.ModuleList(torch.nn.Linear(8, 8) for _ in range(2))
    return torch.nn.ModuleDict({"embedding": torch.nn.Embedding(5, 8), "layers": layers, "head": torch.nn.Linear(8, 3)})


def step(model, optimizer, seed):
    torch.manual_seed(seed)
    x = model["embedding"](torch.randint(5, (16,)))
    for layer in model["layers"]:
        x = x + torch.relu(layer(x))
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(model["head"](x), torch.randint(3, (16,))).backward()
    optimizer.step()


def test_muon_takes_the_matrices_of_layers_alone():
    model = network()
    adamw, muon = optimizer_of(model, "muon", 1e-3, 0.0).optimizers
    assert [p.shape for p in muon.param_groups[0]["params"]] == [(8, 8), (8, 8)]
    assert sum(p.numel() for g in adamw.param_groups for p in g["params"]) == 5 * 8 + 2 * 8 + 8 * 3 + 3
    assert len(optimizer_of(model, "adamw", 1e-3, 0.0).optimizers) == 1


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_a_saved_state_goes_on_with_the_same_bits(name):
    model = network()
    optimizer = optimizer_of(model, name, 1e-2, 0.01)
    step(model, optimizer, 0)
    other = copy.deepcopy(model)
    restored = optimizer_of(other, name, 1e-2, 0.01)
    restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for m, o in ((model, optimizer), (other, restored)):
        step(m, o, 1)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_muon_is_that_of_torch():
    """Whose products are in bfloat16: after three steps by the same gradients, matrices are where its are, about."""
    torch.manual_seed(0)
    shapes = ((8, 8), (8, 24), (24, 8), (8, 8))
    start = [torch.randn(shape) for shape in shapes]
    ours, theirs = ([torch.nn.Parameter(matrix.clone()) for matrix in start] for _ in range(2))
    own = Muon(ours, 1e-2, 0.1)
    reference = torch.optim.Muon(theirs, lr=1e-2, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(3):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn(a.shape)
            b.grad = a.grad.clone()
        own.step()
        reference.step()
    for a, b, before in zip(ours, theirs, start, strict=True):
        assert (a - b).norm() < 0.03 * (b - before).norm()


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 16, 6), (2, 6, 16)])
def test_singular_values_come_near_one(shape):
    torch.manual_seed(0)
    values = torch.linalg.svdvals(near_orthogonal(torch.randn(shape)))
    assert values.min() > 0.4 and values.max() < 1.4


def test_muon_moves_matrices_by_as_much_as_adamw():
    moved = {}
    for name in ("adamw", "muon"):
        model = network()
        before = model["layers"][0].weight.detach().clone()
        step(model, optimizer_of(model, name, 1e-2, 0.0), 0)
        moved[name] = (model["layers"][0].weight - before).square().mean().sqrt().item()
    assert 0.1 < moved["muon"] / moved["adamw"] < 1.5
