from collections.abc import Callable
from pathlib import Path

import pytest

from spiritlm.errors import InputError
from spiritlm.suites.registry import SUITES, folder_of, read_tasks, require_names


def test_a_misspelt_task_is_told_the_nearest() -> None:
    with pytest.raises(InputError, match="there is no 'swugy'; the nearest is 'swuggy' of"):
        require_names(["sblimp", "swugy"])
    with pytest.raises(InputError, match="the nearest is 'loss'"):
        require_names(["los"], ["loss"])
    assert require_names(["loss", "swuggy", "loss"], ["loss"]) == ["loss", "swuggy"]


def test_a_group_is_all_of_its_suites() -> None:
    names = require_names(["salmon_bg_alignment", "salmon"])
    assert len(names) == len(set(names)) == 8
    assert set(names) <= set(SUITES)


def test_benchmarks_are_found_in_their_own_folder_or_in_the_root(lexical: Path) -> None:
    root = lexical.parents[2]
    for place in (root, root / "swuggy"):
        (task,) = read_tasks("swuggy", place, "dev")
        assert (len(task.pairs), task.gold) == (6, lexical / "gold.csv")
    with pytest.raises(InputError, match=r"task sblimp: expected its benchmark in .*sblimp/syntactic/dev or"):
        read_tasks("sblimp", root, "dev")


def test_an_empty_benchmark_gives_no_score(tmp_path: Path) -> None:
    (tmp_path / "storycloze").mkdir()
    with pytest.raises(InputError, match="found none"):
        read_tasks("storycloze", tmp_path, "dev")


def test_no_benchmark_gives_the_figures_of_another(tmp_path: Path, write_tone: Callable[[Path, float], Path]) -> None:
    for part in ("mutual", "correct", "incorrect"):
        write_tone(tmp_path / "storycloze" / f"a_{part}.wav", 0.1)
    assert [task.name for task in read_tasks("storycloze", tmp_path)] == ["storycloze S>S", "storycloze S>S whole"]
    for root in (tmp_path, tmp_path / "storycloze"):
        with pytest.raises(InputError, match=r"task topic_storycloze: expected its benchmark in .*/topic_storycloze"):
            read_tasks("topic_storycloze", root)


def test_a_split_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    (tmp_path / "swuggy" / "lexical" / "dev").mkdir(parents=True)
    with pytest.raises(InputError, match=r"lexical: has no split 'test2'; it has dev"):
        folder_of("swuggy", tmp_path, "test2")
