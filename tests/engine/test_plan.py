"""What the planner says of small models is what they take."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from spiritlm.config import validate_recipe
from spiritlm.engine.attention import documents_of
from spiritlm.engine.model import ModelConfig, build_chunks, wrap_data_parallel
from spiritlm.engine.optimizer import OptimizerConfig, build_optimizer
from spiritlm.engine.parallel import process_groups
from spiritlm.engine.plan import GPUS, flops_per_token, human, memory, parameters, plan
from spiritlm.engine.recipe import TrainerRecipe
from spiritlm.engine.weights import drawn_weights, fill

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:megatron")
ROWS = 512
SIZES = {"hidden_size": 96, "layers": 3, "heads": 6, "kv_heads": 2, "ffn_hidden_size": 256}
SHAPES = {
    "llama": {},
    "tied": {"tie_embeddings": True},
    "qwen3": {"qk_norm": True, "head_size": 32},
    "glm": {"qkv_bias": True, "rotary_neighbours": True, "rotary_share": 0.5},
}


@pytest.fixture(scope="module", autouse=True)
def groups() -> Iterator[None]:
    with process_groups(seed=0):
        yield


def recipe_of(shape: str, **training: object) -> TrainerRecipe:
    settings = {
        "out": Path("unused"),
        "model": {**SIZES, **SHAPES[shape]},
        "training": {"steps": 10, "global_batch_size": 8, "micro_batch_size": 4, "sequence_length": 256, **training},
        "optimizer": {"lr": 1e-3},
    }
    return validate_recipe(TrainerRecipe, settings, "test")


@pytest.mark.parametrize("shape", SHAPES)
def test_parameters_are_counted_exactly(shape: str) -> None:
    recipe = recipe_of(shape)
    (chunk,) = build_chunks(recipe.model, ROWS, "fp32")
    assert parameters(recipe.model, ROWS) == sum(parameter.numel() for parameter in chunk.parameters())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_weights_gradients_and_optimizer_take_what_the_plan_says(precision: str) -> None:
    recipe = recipe_of("llama", precision=precision)
    bare = build_chunks(recipe.model, ROWS, recipe.training.precision)
    fill(bare, drawn_weights(3, 0.02, 0))
    (chunk,) = wrap_data_parallel(bare)
    optimizer = build_optimizer(OptimizerConfig(lr=1e-3), recipe.training.precision, [chunk])
    optimizer.step()
    said = memory(recipe, ROWS, data_ranks=1)
    assert sum(p.numel() * p.element_size() for p in chunk.parameters()) == pytest.approx(said.weights, rel=0.01)
    assert sum(buffer.grad_data.nbytes for buffer in chunk.buffers) == pytest.approx(said.gradients, rel=0.02)
    states = optimizer.chained_optimizers[0].optimizer
    held = sum(t.nbytes for state in states.state.values() for t in state.values() if t.dim())
    if precision == "bf16":
        held += sum(p.nbytes for group in states.param_groups for p in group["params"])
    assert held == pytest.approx(said.optimizer, rel=0.02)


def test_activations_are_about_what_the_plan_says() -> None:
    recipe = recipe_of("llama", precision="fp32")
    (chunk,) = build_chunks(recipe.model, ROWS, "fp32")
    fill([chunk], drawn_weights(3, 0.02, 0))
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    ids = torch.randint(ROWS, (4, 256))
    documents = documents_of([torch.tensor([0, 100, 256]).int().numpy()] * 4)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        total, _ = chunk(ids, None, None, labels=ids, loss_mask=torch.ones(4, 256), packed_seq_params=documents)
    weights = {p.untyped_storage().data_ptr() for p in chunk.parameters()}
    held = sum(size for pointer, size in kept.items() if pointer not in weights)
    assert total.requires_grad
    assert held == pytest.approx(memory(recipe, ROWS, data_ranks=1).activations, rel=0.35)


def test_work_and_hours() -> None:
    model = ModelConfig(hidden_size=4096, layers=32, heads=32, kv_heads=32, ffn_hidden_size=11008)
    assert flops_per_token(model, 32000, 0) == pytest.approx(6 * (parameters(model, 32000) - 32000 * 4096), rel=1e-3)
    recipe = recipe_of("llama")
    found = plan(recipe, ROWS, 2, GPUS["h100"], mfu=0.5)
    assert (found.data_ranks, found.tokens, found.bubble) == (2, 10 * 8 * 256, 0)
    assert found.flops == pytest.approx(found.tokens * flops_per_token(recipe.model, ROWS, 256))
    assert found.hours * 3600 * found.tokens_per_second == pytest.approx(found.tokens)
    assert found.hours * 3600 * 2 * 989e12 * 0.5 == pytest.approx(found.flops)


def test_numbers_are_written_for_people() -> None:
    assert [human(6.74e9), human(950), human(1.2e13, "B")] == ["6.74 G", "950", "12 TB"]
