import torch

from spiritlm.units.vector_quantizer import VectorQuantizer, kmeans


def everything(x):
    return torch.ones(x.shape[:2], dtype=torch.bool)


def test_codes_are_the_nearest():
    quantizer = VectorQuantizer(10, 4)
    x = torch.randn(3, 7, 4)
    expected = torch.cdist(x.flatten(0, 1), quantizer.weight).argmin(1).reshape(3, 7)
    assert torch.equal(quantizer.codes(x), expected)


def test_gradient_passes_as_if_nothing_happened():
    quantizer = VectorQuantizer(10, 4).eval()
    x = torch.randn(2, 5, 4, requires_grad=True)
    quantized, codes, _ = quantizer(x, everything(x))
    assert torch.allclose(quantized, quantizer.weight[codes], atol=1e-6)
    quantized.sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))


def test_masked_vectors_move_nothing():
    torch.manual_seed(0)
    a, b = VectorQuantizer(6, 3, decay=0.9), VectorQuantizer(6, 3, decay=0.9)
    b.load_state_dict(a.state_dict())
    x, mask = torch.randn(2, 4, 3), torch.tensor([[True] * 4, [True, False, False, False]])
    other = x.clone()
    other[~mask] = 100.0
    loss_a, loss_b = a(x, mask)[2], b(other, mask)[2]
    assert torch.equal(loss_a, loss_b)
    assert all(torch.equal(p, q) for p, q in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_codebook_settles_on_the_centres():
    torch.manual_seed(0)
    centres = torch.tensor([[0.0, 0.0], [5.0, 5.0], [-5.0, 5.0]])
    quantizer = VectorQuantizer(3, 2, decay=0.8, restart_interval=5).train()
    for _ in range(120):
        x = (centres[torch.randint(3, (1, 60))] + 0.05 * torch.randn(1, 60, 2)).requires_grad_()
        quantizer(x, everything(x))
    distances = torch.cdist(centres, quantizer.weight).amin(1)
    assert distances.max() < 0.2
    usage = quantizer.usage()
    assert usage["share_used"] == 1 and 2.5 < usage["perplexity"] <= 3.001


def test_dead_codes_restart_at_vectors_of_the_batch():
    quantizer = VectorQuantizer(8, 2, decay=0.5, restart_interval=2).train()
    quantizer.start(torch.full((8, 2), 50.0) + torch.arange(8)[:, None])
    x = torch.randn(1, 3, 2)  # fewer vectors than dead codes
    for _ in range(4):
        quantizer(x, everything(x))
    rows = {tuple(row) for row in x[0].tolist()}
    restarted = [tuple(row) for row in quantizer.weight.tolist() if tuple(row) in rows]
    assert len(restarted) >= 6 and set(restarted) == rows


def test_without_moving_averages_the_codebook_learns_by_gradient():
    quantizer = VectorQuantizer(4, 2, decay=None).train()
    x = torch.randn(1, 9, 2)
    _, codes, loss = quantizer(x, everything(x))
    loss.backward()
    used = torch.zeros(4, dtype=torch.bool)
    used[codes.flatten()] = True
    assert torch.equal(quantizer.weight.grad.abs().sum(1) > 0, used)


def test_a_vector_that_is_not_finite_leaves_the_codebook():
    quantizer = VectorQuantizer(4, 2, decay=0.9).train()
    before = {name: tensor.clone() for name, tensor in quantizer.state_dict().items()}
    x = torch.randn(1, 5, 2)
    x[0, 2, 0] = torch.nan
    quantizer(x, everything(x))
    assert all(torch.equal(before[name], tensor) for name, tensor in quantizer.state_dict().items())


def test_kmeans_finds_clusters_and_repeats():
    torch.manual_seed(0)
    centres = 10 * torch.randn(6, 3)
    vectors = centres.repeat(50, 1) + 0.1 * torch.randn(300, 3)
    found = kmeans(vectors, 12, seed=0)
    assert torch.cdist(centres, found).amin(1).max() < 0.5
    assert torch.equal(found, kmeans(vectors, 12, seed=0)) and not torch.equal(found, kmeans(vectors, 12, seed=1))
