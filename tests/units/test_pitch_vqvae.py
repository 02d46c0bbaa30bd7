from pathlib import Path

import pytest
import torch

from spiritlm.errors import InputError
from spiritlm.units.pitch_vqvae import (
    EmaCodebook,
    PitchVqVae,
    PitchVqVaeShape,
    network,
    published_shape,
    published_tensors,
)

SMALL = PitchVqVaeShape(codes=8, code_width=6, width=4, depth=2)


def test_sizes():
    torch.manual_seed(0)
    model = PitchVqVae(SMALL).eval()
    model.codebook.start(torch.randn(8, 6))
    for frames in (16, 31, 32, 208):
        codes = model.encode(torch.randn(3, 2, frames))
        assert codes.shape == (3, frames // 16) and codes.dtype == torch.int64
        assert model.decode(codes).shape == (3, 2, 16 * (frames // 16))
    parameters = sum(p.numel() for p in PitchVqVae(PitchVqVaeShape()).parameters())
    assert 190_000 < parameters < 210_000, "Spirit LM's model card: 0.2 M"


def test_the_codebook_begins_at_the_first_batch_and_settles_on_the_centres():
    torch.manual_seed(0)
    centres = torch.tensor([[0.0, 0.0], [5.0, 5.0], [-5.0, 5.0]])
    codebook = EmaCodebook(8, 2, decay=0.8, threshold=1.0).train()
    for step in range(100):
        x = (centres[torch.randint(3, (1, 60))] + 0.05 * torch.randn(1, 60, 2)).transpose(1, 2)
        codebook(x)
        assert codebook.started and (step or codebook.k.abs().max() > 1)
    assert torch.cdist(centres, codebook.k).amin(1).max() < 0.2
    usage = codebook.usage()
    assert usage["codes_used"] >= 3 and 2.5 < usage["perplexity"] <= 8.001


def test_a_replaced_code_changes_nothing_but_the_codebook():
    codebook = EmaCodebook(2, 1, decay=0.5, threshold=1.0)
    codebook.start(torch.tensor([[0.0], [9.0]]))
    vectors, rows = torch.tensor([[1.0], [1.0], [1.0]]), torch.tensor([[7.0], [8.0]])
    codebook.update(vectors, torch.tensor([0, 0, 0]), rows)
    assert codebook.k_elem.tolist() == [2.0, 0.5] and codebook.k_sum.tolist() == [[1.5], [4.5]]
    assert codebook.k.tolist() == [[0.75], [8.0]]
    codebook.update(vectors, torch.tensor([0, 1, 1]), rows)
    assert codebook.k_elem.tolist() == [1.5, 1.25] and codebook.k.tolist()[1] == [pytest.approx(3.25 / 1.25)]


def test_fewer_vectors_than_codes_are_taken_again():
    codebook = EmaCodebook(7, 1, decay=0.9, threshold=1.0)
    rows = codebook.random_rows(torch.arange(3.0)[:, None])[:, 0]
    assert rows.shape == (7,) and set(rows.tolist()) == {0.0, 1.0, 2.0} and rows[:3].tolist() == rows[3:6].tolist()


def test_gradient_passes_as_if_nothing_happened():
    codebook = EmaCodebook(4, 3, decay=0.9, threshold=1.0).eval()
    codebook.start(torch.randn(4, 3))
    x = torch.randn(2, 3, 5, requires_grad=True)
    quantized, codes, _ = codebook(x)
    assert torch.allclose(quantized.transpose(1, 2), codebook.k[codes], atol=1e-6)
    quantized.sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))


def test_a_vector_that_is_not_finite_leaves_the_codebook():
    codebook = EmaCodebook(4, 2, decay=0.9, threshold=1.0).train()
    codebook.start(torch.randn(4, 2))
    before = {name: tensor.clone() for name, tensor in codebook.state_dict().items()}
    x = torch.randn(1, 2, 5)
    x[0, 0, 2] = torch.nan
    codebook(x)
    assert all(torch.equal(before[name], tensor) for name, tensor in codebook.state_dict().items())


CONVOLUTIONS = {
    "levels": 1, "downs_t": [4], "strides_t": [2], "input_emb_width": 2, "output_emb_width": 6, "width": 4, "depth": 2,
    "m_conv": 1.0, "dilation_growth_rate": 3,
}  # fmt: skip
PUBLISHED = {
    "encoder_params": CONVOLUTIONS,
    "decoder_params": {**CONVOLUTIONS, "reverse_decoder_dilation": True},
    "vq_params": {"levels": 1, "l_bins": 8, "emb_width": 6, "mu": 0.99},
}


def test_published_sizes():
    assert published_shape(PUBLISHED, Path("config.yaml")) == SMALL
    for changes, named in (
        ({"vq_params": {"levels": 1, "l_bins": 8, "emb_width": 7}}, "6 and 7, expected the same"),
        ({"decoder_params": {**CONVOLUTIONS, "width": 5}}, "encoder_params and decoder_params differ"),
        ({"encoder_params": {**CONVOLUTIONS, "levels": 2}}, "encoder_params.levels is 2"),
        ({"vq_params": None}, "vq_params is None"),
    ):
        with pytest.raises(InputError, match=named):
            published_shape({**PUBLISHED, **changes}, Path("config.yaml"))


def test_weights_that_do_not_fit_are_named():
    with pytest.raises(InputError, match="not the weights of this model"):
        network(SMALL, published_tensors({"vq.level_blocks.0.k": torch.zeros(8, 6)}, SMALL), Path("model.pt"))
