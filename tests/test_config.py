from pathlib import Path

import pytest
from pydantic import model_validator

from spiritlm.config import Recipe, load_recipe, validate_recipe
from spiritlm.errors import InputError


class Optimizer(Recipe):
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.95)


class Training(Recipe):
    name: str
    steps: int = 10
    optimizer: Optimizer = Optimizer()


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text('name = "a"\n[optimizer]\nlr = 2e-3\n')
    return path


def test_file_then_overrides_in_order(recipe: Path) -> None:
    loaded = load_recipe(Training, recipe, ["steps=5", "optimizer.betas=[0.8, 0.9]", "name=two words", "steps=6"])
    assert loaded == Training(name="two words", steps=6, optimizer=Optimizer(lr=2e-3, betas=(0.8, 0.9)))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.lrr=1", "unknown key 'optimizer.lrr'; the nearest is 'optimizer.lr'"),
        ("stepz=1", "unknown key 'stepz'; the nearest is 'steps'"),
        ("optimiser.lr=1", "unknown key 'optimiser'; the nearest is 'optimizer'"),
        ("steps=many", "steps = 'many': input should be a valid integer"),
        ("steps", "expected key=value"),
        ("name.a=1", "name is a value, not a table"),
    ],
)
def test_a_wrong_key_or_value_is_named(recipe: Path, override: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        load_recipe(Training, recipe, [override])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_absent_key_absent_file_and_bad_toml(tmp_path: Path) -> None:
    empty, broken = tmp_path / "empty.toml", tmp_path / "broken.toml"
    empty.write_text("")
    broken.write_text("steps = = 3")
    for path, message in (
        (empty, "'name' is absent"),
        (broken, "not valid TOML"),
        (tmp_path / "no.toml", "No such file"),
    ):
        with pytest.raises(InputError, match=message):
            load_recipe(Training, path)


def test_a_recipe_does_not_change(recipe: Path) -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_recipe(Training, recipe).steps = 3  # type: ignore[misc]


class Pair(Recipe):
    low: int = 0
    high: int = 1

    @model_validator(mode="after")
    def _in_order(self) -> "Pair":
        if self.low > self.high:
            raise ValueError(f"low = {self.low}: expected at most high")
        return self


class Pairs(Recipe):
    pair: Pair = Pair()


def test_what_a_recipe_finds_wrong_with_itself_is_said_as_it_says_it() -> None:
    with pytest.raises(InputError, match=r"^recipe: low = 3: expected at most high$"):
        validate_recipe(Pair, {"low": 3}, "recipe")
    with pytest.raises(InputError, match=r"^recipe: pair: low = 3: expected at most high$"):
        validate_recipe(Pairs, {"pair": {"low": 3}}, "recipe")


def test_without_a_file_overrides_are_all() -> None:
    assert load_recipe(Training, None, ["name=a", "steps=3"]) == Training(name="a", steps=3)
    with pytest.raises(InputError, match="command line: key 'name' is absent"):
        load_recipe(Training, None, ["steps=3"])
