from pathlib import Path

import pytest

from spiritlm.config import load_recipe, validate_recipe
from spiritlm.engine.plan import GPUS, Plan, parameters, plan
from spiritlm.engine.recipe import PretrainRecipe, TrainerRecipe
from spiritlm.engine.sizes import with_size
from spiritlm.errors import InputError

RECIPES = Path(__file__).resolve().parents[2] / "training" / "recipes"


def planned(name: str, rows: int, gpus: int, gpu: str, *overrides: str) -> Plan:
    recipe = load_recipe(PretrainRecipe, RECIPES / f"{name}.toml", list(overrides))
    return plan(recipe, rows, gpus, GPUS[gpu], mfu=0.4)


def test_a_size_gives_the_shapes_people_know() -> None:
    recipe = validate_recipe(TrainerRecipe, with_size({"out": "x"}, 12), "test")
    model = recipe.model
    assert (model.hidden_size, model.layers, model.heads, model.head_size, model.ffn_hidden_size) == (
        768,
        12,
        12,
        64,
        2048,
    )
    assert recipe.optimizer.lr == pytest.approx(1.2e-3)
    tokens = recipe.training.steps * recipe.training.global_batch_size * recipe.training.sequence_length
    assert tokens == pytest.approx(20 * (parameters(model, 0) - 768), rel=0.01)
    large = validate_recipe(TrainerRecipe, with_size({"out": "x"}, 32), "test").model
    assert (large.hidden_size, large.heads, large.head_size, large.ffn_hidden_size) == (2048, 16, 128, 5504)


def test_what_the_recipe_says_stays() -> None:
    fields = {"out": "x", "model": {"kv_heads": 3}, "training": {"steps": 7, "micro_batch_size": 4}}
    recipe = validate_recipe(TrainerRecipe, with_size(fields, 12), "test")
    assert (recipe.model.kv_heads, recipe.training.steps, recipe.training.micro_batch_size) == (3, 7, 4)
    longer = validate_recipe(TrainerRecipe, with_size({"out": "x", "training": {"sequence_length": 4096}}, 12), "test")
    assert longer.model.max_position_embeddings == 4096


@pytest.mark.parametrize("size", [1, 2, 3, 4, 6, 8, 12, 24])
def test_the_batch_of_a_size_is_shared_out_evenly(size: int) -> None:
    for gpus in (1, 2, 4, 8):
        assert planned("small", 1024, gpus, "h100", f"size={size}", "training.micro_batch_size=1").data_ranks == gpus


@pytest.mark.parametrize(
    "override",
    ["size=big", "size=-2", "training=5", "training.sequence_length=a", "model=3", "training.micro_batch_size=0"],
)
def test_a_wrong_field_is_named(override: str) -> None:
    with pytest.raises(InputError, match=override.split("=")[0].split(".")[-1]):
        load_recipe(PretrainRecipe, RECIPES / "small.toml", [override])


@pytest.mark.parametrize(
    ("name", "rows", "gpus", "gpu", "billions"),
    [
        ("spirit-base-7b", 32512, 64, "a100", 6.743),
        ("spirit-expressive-7b", 32768, 64, "a100", 6.745),
        ("glm-4-voice-9b", 168960, 256, "h100", 9.543),
        ("sims-7b", 152576, 16, "h100", 7.620),
    ],
)
def test_published_recipes_fit_where_they_say(name: str, rows: int, gpus: int, gpu: str, billions: float) -> None:
    found = planned(name, rows, gpus, gpu)
    assert found.parameters / 1e9 == pytest.approx(billions, abs=0.005)
    assert found.memory.total + 5e9 < GPUS[gpu].memory
    if name == "spirit-base-7b":
        assert found.tokens == pytest.approx(105e9, rel=0.01)
        assert found.hours * gpus == pytest.approx(10_500, rel=0.1)  # the paper: 21 k A100 hours for 200 k steps


def test_layouts_that_cannot_be_are_refused() -> None:
    for overrides, gpus, message in (
        (("parallel.tensor=3",), 64, "tensor x pipeline x context = 3 x 1 x 1, expected a divisor of .* 64"),
        (("parallel.tensor=64",), 64, r"parallel.tensor = 64: expected a divisor of model.heads = 32"),
        (("parallel.tensor=1", "parallel.pipeline=64"), 64, "expected a divisor of model.layers = 32"),
        (("parallel.pipeline=2", "parallel.virtual_stages=3"), 64, "= 6: expected a divisor of model.layers = 32"),
        (("parallel.virtual_stages=2",), 64, "parallel.virtual_stages: expected 1 where parallel.pipeline is 1"),
        (("training.sequence_length=4094", "parallel.context=2"), 64, "expected a divisor of training.sequence_length"),
        (("training.global_batch_size=100",), 64, "global_batch_size = 100: expected a multiple"),
        (("profile=[5, 100001]",), 64, r"profile = \[5, 100001\]: expected first and last of steps 1 to 100000"),
    ):
        with pytest.raises(InputError, match=message):
            planned("spirit-base-7b", 32512, gpus, "a100", *overrides)
    with pytest.raises(InputError, match="expected a divisor of the vocabulary = 32001"):
        planned("spirit-base-7b", 32001, 64, "a100")
