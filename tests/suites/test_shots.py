from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from spiritlm.errors import InputError
from spiritlm.scoring.protocol import Sound
from spiritlm.suites.shots import balanced, drawn, prompt, spread, until


@pytest.mark.parametrize(("count", "most"), [(0, 3), (5, None), (5, 9), (7, 1), (100, 3), (1000, 667), (11, 10)])
def test_evenly_spread(count: int, most: int | None) -> None:
    found = spread(range(count), most)
    assert len(found) == len(set(found)) == min(count, count if most is None else most)
    assert found == sorted(found)
    if len(found) > 1:
        assert (found[0], found[-1]) == (0, count - 1)
        steps = {after - before for before, after in pairwise(found)}
        assert max(steps) - min(steps) <= 1


def test_each_item_has_examples_of_its_own() -> None:
    pool = range(40)
    found = {item: drawn(pool, 5, f"0-{item}", "dev") for item in "abc"}
    assert found["a"] == drawn(pool, 5, "0-a", "dev") != found["b"]
    assert drawn(pool, 5, "1-a", "dev") != found["a"]
    assert all(len(set(examples)) == 5 for examples in found.values())
    with pytest.raises(InputError, match=r"^dev: expected 41 examples, found 40; shots says how many$"):
        drawn(pool, 41, "0-a", "dev")


def test_as_many_of_every_group() -> None:
    groups = {name: [f"{name}{number}" for number in range(size)] for name, size in {"a": 9, "b": 1, "c": 5}.items()}
    for count in range(16):
        found = balanced(groups, count, f"0-{count}", "train")
        assert len(found) == len(set(found)) == count
        of = Counter(one[0] for one in found)
        for small, large in (("b", "a"), ("b", "c"), ("c", "a")):  # a group is left behind when it is used up only
            assert of[small] >= min(len(groups[small]), of[large] - 1)
    assert len({balanced(groups, 3, f"{seed}", "train")[0][0] for seed in range(30)}) == 3
    with pytest.raises(InputError, match=r"^train: expected 16 examples, found 15; shots says how many$"):
        balanced(groups, 16, "", "train")


def test_pieces_and_the_end_of_an_answer() -> None:
    heard = Sound("a", Path("a.wav"))
    assert prompt([("said", heard), ("more", heard)], "asked") == ("said", heard, "more", heard, "asked")
    assert prompt([], heard) == (heard,)
    assert until(" it rained <END> and <END>", "<END>") == "it rained"
    assert until("it rained", "<END>") == "it rained"
