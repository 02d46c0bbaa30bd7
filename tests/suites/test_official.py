import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiritlm.errors import InputError
from spiritlm.suites.gold import LEXICAL, SYNTACTIC, read_gold
from spiritlm.suites.official import BANDS, band_of, evaluate, read_submission, write_submission

GOLDEN = Path(__file__).parents[1] / "golden" / "swuggy_sblimp"
TASKS = {"lexical": LEXICAL, "syntactic": SYNTACTIC}
CASES = [(task, told) for task, cases in json.loads((GOLDEN / "expected.json").read_text()).items() for told in cases]


@pytest.mark.parametrize(("task", "told"), CASES, ids=lambda v: v if isinstance(v, str) else v["name"])
def test_the_official_figures_to_the_last_digit(task: str, told: dict) -> None:
    """Overall figures bit by bit; those of tables are printed with 15 decimals."""
    folder = GOLDEN / task / told["name"]
    gold, scores = read_gold(folder / "gold.csv", TASKS[task]), read_submission(folder / "scores.txt")
    if told["error"]:
        with pytest.raises(InputError):
            evaluate(gold, scores)
        return
    found = evaluate(gold, scores)
    assert found["overall"] == told["overall"]
    assert found.get("in_vocab") == told.get("in_vocab")
    assert found["n_pairs"] == told["n_pairs"]
    for name in (name for name in told if name.startswith("by_")):
        assert len(found[name]) == len(told[name])
        for one, other in zip(found[name], told[name], strict=True):
            assert one == pytest.approx(other, abs=6e-16)


def test_what_is_missing_and_what_is_too_much_is_named(lexical: Path) -> None:
    gold = read_gold(lexical / "gold.csv", LEXICAL)
    scores = [(row["filename"], 0.0) for row in gold]
    with pytest.raises(InputError, match="1 recordings have no score, the first is 'catA'"):
        evaluate(gold, scores[1:])
    with pytest.raises(InputError, match=r"1 scores are of no recording of gold\.csv, the first is 'zzz'"):
        evaluate(gold, [*scores, ("zzz", 1.0)])
    with pytest.raises(InputError, match="id 0, voice A: expected a word and a non-word, found one of them"):
        evaluate(gold[1:], scores[1:])


def test_infinities_tie_and_nan_loses(lexical: Path) -> None:
    gold = read_gold(lexical / "gold.csv", LEXICAL)
    minus = [(row["filename"], float("-inf")) for row in gold]
    assert evaluate(gold, minus)["overall"] == 0.5
    nan = [(row["filename"], float("nan") if row["correct"] == "0" else 5.0) for row in gold]
    assert evaluate(gold, nan)["overall"] == 0


@given(st.floats(0, 1e9))
def test_every_frequency_is_in_one_band(frequency: float) -> None:
    low, high = BANDS[band_of(str(frequency))]
    assert low <= frequency < high
    assert band_of("5") == "6-20"
    assert band_of(" ") == ""


@given(st.lists(st.tuples(st.text("abcXYZ019_-", min_size=1), st.floats(allow_nan=False))))
def test_submissions_are_read_as_they_were_written(tmp_path_factory, scores: list[tuple[str, float]]) -> None:
    path = tmp_path_factory.mktemp("submission") / "dev.txt"
    write_submission(path, scores)
    assert read_submission(path) == scores


@pytest.mark.parametrize("line", ["name", "name  1.0", "name one", "a b 1.0", ""])
def test_lines_that_are_no_scores(tmp_path: Path, line: str) -> None:
    path = tmp_path / "dev.txt"
    path.write_text(f"good 1.0\n{line}\nlast 2.0\n")
    with pytest.raises(InputError, match=r"line 2 is .* expected 'FILENAME SCORE'"):
        read_submission(path)
