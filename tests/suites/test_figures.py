import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiritlm.scoring.protocol import Score
from spiritlm.suites.figures import PairScore, figures, published, rows
from spiritlm.suites.pairs import ITEM, Task, whole_pair


def task(labels: list[dict[str, str]]) -> Task:
    pairs = [whole_pair(str(number), "a", "b", own) for number, own in enumerate(labels)]
    return Task("t", 3, "dev", pairs, 2, ("mean", "full"))


def scores(*wins: float) -> list[PairScore]:
    return [PairScore(Score(win, 1, win), Score(0.5, 1, 0.5)) for win in wins]


def test_normalisations_and_vocabularies_are_told_apart() -> None:
    """By sum the shorter one wins, by mean the longer one; among its modality it is a tie."""
    pair = PairScore(Score(-4.0, 4, -2.0), Score(-3.0, 2, -1.0))
    found = figures(task([{}]), [pair])
    wins = {(n, a): found["accuracy"][n][a]["value"] for n in ("sum", "mean") for a in ("full", "modality")}
    assert wins == {("sum", "full"): 0, ("mean", "full"): 1, ("sum", "modality"): 0, ("mean", "modality"): 0.5}
    assert published(found) == {"value": 1, "standard_error": None, "items": 1, "pairs": 1}
    assert (found["n"], found["skipped"], found["split"], found["version"]) == (1, 2, "dev", 3)


def test_what_a_model_does_not_know_is_none() -> None:
    found = figures(task([{}]), [PairScore(Score(-1.0, 1), Score(-2.0, 1))])
    assert found["accuracy"]["mean"]["modality"] is None
    assert published(found)["value"] == 1


def test_nearer_than_the_tolerance_is_a_tie() -> None:
    found = figures(task([{}] * 3), scores(0.5 + 1e-7, 0.5 - 1e-7, 0.5 + 1e-5))
    assert published(found)["value"] == pytest.approx(2 / 3)


@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=2, max_size=50))
def test_errors_of_single_recordings_are_binomial(wins: list[float]) -> None:
    found = published(figures(task([{}] * len(wins)), scores(*wins)))
    share = sum(wins) / len(wins)
    assert found["value"] == pytest.approx(share)
    assert found["standard_error"] == pytest.approx(math.sqrt(share * (1 - share) / (len(wins) - 1)))


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=2, max_size=20), st.integers(2, 5), st.randoms())
def test_more_voices_of_the_same_word_are_no_more_words(wins: list[float], voices: int, random) -> None:
    """Value, error, and the order of pairs, which means nothing."""
    once = published(figures(task([{}] * len(wins)), scores(*wins)))
    many = [(win, {ITEM: str(item), "voice": str(v)}) for item, win in enumerate(wins) for v in range(voices)]
    random.shuffle(many)
    found = figures(task([labels for _, labels in many]), scores(*(win for win, _ in many)))
    assert published(found)["value"] == pytest.approx(once["value"])
    assert published(found)["standard_error"] == pytest.approx(once["standard_error"])
    assert published(found)["items"] == len(wins)
    assert published(found)["pairs"] == voices * len(wins)
    assert set(found["by"]) == {"voice"}
    for row in found["by"]["voice"].values():
        assert row["value"] == pytest.approx(once["value"])


def test_voices_are_averaged_before_items() -> None:
    labels = [{ITEM: "a"}, {ITEM: "a"}, {ITEM: "a"}, {ITEM: "b"}]
    assert published(figures(task(labels), scores(1, 1, 1, 0)))["value"] == 0.5


def test_tables_in_order_of_their_values() -> None:
    labels = [{"frequency": value} for value in (">100", "6-20", "oov", "21-100", "1-5", "6-20")]
    table = figures(task(labels), scores(1, 1, 0, 0, 0, 0))["by"]["frequency"]
    assert list(table) == ["oov", "1-5", "6-20", "21-100", ">100"]
    assert (table["6-20"]["value"], table["6-20"]["pairs"]) == (0.5, 2)


def test_rows_keep_everything() -> None:
    (row,) = rows(task([{"voice": "A"}]), [PairScore(Score(-4.0, 4, -2.0), Score(-3.0, 2))])
    assert row == {
        "id": "0", "voice": "A", "win": 1.0,
        "right": {"total": -4.0, "tokens": 4, "restricted": -2.0},
        "wrong": {"total": -3.0, "tokens": 2, "restricted": None},
    }  # fmt: skip
