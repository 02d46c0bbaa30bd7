from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spiritlm.engine import weights
from spiritlm.engine.weights import drawn_weights, fill

SHAPES = {
    "embedding.word_embeddings.weight": (64, 8),
    "decoder.layers.3.self_attention.linear_qkv.weight": (32, 8),
    "decoder.layers.3.self_attention.linear_qkv.bias": (32,),
    "decoder.layers.3.self_attention.linear_proj.weight": (8, 16),
    "decoder.layers.3.mlp.linear_fc1.weight": (48, 8),
    "decoder.layers.3.mlp.linear_fc2.weight": (8, 24),
    "decoder.layers.3.input_layernorm.weight": (8,),
}


@given(st.sampled_from(sorted(SHAPES)), st.sampled_from([1, 2, 4]))
def test_the_parts_of_all_ranks_are_the_whole(name: str, ranks: int) -> None:
    """Grown vocabularies too: a part is cut from the whole matrix, whoever asks."""
    whole = drawn_weights(layers=4, std=0.02, seed=1)(name, SHAPES[name])
    parts = [rank_part(name, rank, ranks) for rank in range(ranks)]
    axis = weights._axis(name)
    if axis is None:
        assert all(torch.equal(part, whole) for part in parts)
    elif name.endswith("linear_fc1.weight"):
        gates, ups = zip(*(part.chunk(2) for part in parts), strict=True)
        assert torch.equal(torch.cat([*gates, *ups]), whole)
    else:
        assert torch.equal(torch.cat(parts, axis), whole)


def rank_part(name: str, rank: int, ranks: int) -> torch.Tensor:
    """What `fill` sets on one of several ranks."""
    from megatron.core import parallel_state

    shape, axis = list(SHAPES[name]), weights._axis(name)
    if axis is not None:
        shape[axis] //= ranks
    local = name.replace("layers.3.", "layers.1.")  # the second layer of a stage that begins with the third
    parameter = torch.nn.Parameter(torch.empty(shape))
    layers = [SimpleNamespace(layer_number=number) for number in (3, 4)]
    chunk = SimpleNamespace(
        named_parameters=lambda: [(local, parameter)],
        decoder=SimpleNamespace(layers=layers),
        share_embeddings_and_output_weights=False,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel_state, "get_tensor_model_parallel_rank", lambda: rank)
        patch.setattr(parallel_state, "get_tensor_model_parallel_world_size", lambda: ranks)
        fill([chunk], drawn_weights(layers=4, std=0.02, seed=1))
    return parameter.data


def test_weights_are_drawn_by_their_names() -> None:
    read = drawn_weights(layers=8, std=0.02, seed=1)
    projection = read("decoder.layers.0.self_attention.linear_proj.weight", (200, 200))
    assert projection.std().item() == pytest.approx(0.02 / 4, rel=0.05)
    assert read("decoder.layers.0.mlp.linear_fc1.weight", (200, 200)).std().item() == pytest.approx(0.02, rel=0.05)
    assert not torch.equal(projection, read("decoder.layers.1.self_attention.linear_proj.weight", (200, 200)))
    assert torch.equal(read("decoder.final_layernorm.weight", (5,)), torch.ones(5))
    assert torch.equal(read("decoder.layers.0.self_attention.linear_qkv.bias", (5,)), torch.zeros(5))
