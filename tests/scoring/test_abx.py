import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiritlm.corpus.phones import Triphone
from spiritlm.scoring.abx import AbxTask, dtw, item_units

UNITS = st.lists(st.integers(0, 3), min_size=1, max_size=8).map(np.array)


def items(*said: tuple[str, str, str]) -> list[Triphone]:
    """(phone, speaker, context before and after it); each a recording of its own, of one second."""
    return [
        Triphone(i, speaker, phone, ("", around[0], around[1]), 0.0, 1.0)
        for i, (phone, speaker, around) in enumerate(said)
    ]


def units(*texts: str) -> list[np.ndarray]:
    return [np.array([int(c) for c in text]) for text in texts]


def score(said: list[Triphone], heard: list[np.ndarray], across: bool, speakers: set[str] | None = None) -> tuple:
    task = AbxTask(said, np.arange(len(heard)))
    found = task.score(heard, float(len(heard[0])), across, speakers)
    return found.error.value, found.triples, found.pairs


def cheapest_paths(x: np.ndarray, y: np.ndarray) -> set[float]:
    """Mean costs along all the paths of least cost, path by path."""
    best: dict[tuple[int, int], set[tuple[int, int]]] = {}
    for i in range(len(x)):
        for j in range(len(y)):
            before = [best[p] for p in ((i - 1, j), (i, j - 1), (i - 1, j - 1)) if p in best] or [{(0, 0)}]
            ends = {(cost + int(x[i] != y[j]), length + 1) for ways in before for cost, length in ways}
            least = min(cost for cost, _ in ends)
            best[i, j] = {end for end in ends if end[0] == least}
    return {cost / length for cost, length in best[len(x) - 1, len(y) - 1]}


@given(UNITS, UNITS)
def test_dtw_follows_one_of_the_cheapest_paths(x: np.ndarray, y: np.ndarray) -> None:
    assert any(dtw(x, y) == pytest.approx(mean) for mean in cheapest_paths(x, y))


@given(UNITS, st.lists(st.integers(1, 3), min_size=8, max_size=8))
def test_dtw_does_not_mind_how_long_a_unit_lasts(x: np.ndarray, times: list[int]) -> None:
    assert dtw(x, np.repeat(x, times[: len(x)])) == 0


def test_an_item_is_the_units_whose_centres_are_in_it_and_never_nothing() -> None:
    found = np.arange(10)
    assert item_units(found, 10.0, 0.2, 0.5).tolist() == [2, 3, 4]
    assert item_units(found, 10.0, 0.26, 0.44).tolist() == [3]
    assert item_units(found, 10.0, 0.36, 0.44).tolist() == [4]  # no centre: the one at its middle
    assert item_units(found, 10.0, 0.98, 1.3).tolist() == [9]  # beyond the last unit


@given(
    st.floats(0, 2, allow_subnormal=False),
    st.floats(0.001, 1, allow_subnormal=False),
    st.sampled_from([12.5, 25.0, 50.0]),
)
def test_items_stay_inside_the_recording(start: float, length: float, rate: float) -> None:
    found = item_units(np.arange(int(2 * rate)), rate, start, start + length)
    assert len(found) >= 1
    assert len(found) <= length * rate + 1
    assert (np.diff(found) == 1).all()


def test_units_that_tell_phones_apart_make_no_error_and_equal_ones_half() -> None:
    said = items(("a", "S", "xy"), ("a", "S", "xy"), ("b", "S", "xy"), ("b", "S", "xy"))
    assert score(said, units("11", "11", "22", "22"), across=False) == (0.0, 8, 2)
    assert score(said, units("11", "11", "11", "11"), across=False) == (0.5, 8, 2)


def test_a_case_by_hand() -> None:
    """X = a1: a2 at 1/2, b at 0: wrong. X = a2: a1 at 1/2, b at 1/2: a tie. There is no second b, so no X = b."""
    said = items(("a", "S", "xy"), ("a", "S", "xy"), ("b", "S", "xy"))
    assert score(said, units("11", "12", "11"), across=False) == (0.75, 2, 1)


def test_other_contexts_speakers_and_alphabets_are_not_compared() -> None:
    said = items(("a", "S", "xy"), ("a", "S", "xy"), ("b", "S", "xz"), ("b", "T", "xy"))
    assert score(said, units("11", "11", "22", "22"), across=False)[1] == 0
    other = [*said[:2], Triphone(2, "e:S", "b", ("e", "x", "y"), 0.0, 1.0)]
    assert score(other, units("11", "11", "22"), across=False)[1] == 0


def test_across_speakers_x_is_another_than_a_and_b() -> None:
    """S says a as 1 and b as 2; T says a as 2: whoever listens to T's a with S's ears errs."""
    said = items(("a", "S", "xy"), ("b", "S", "xy"), ("a", "T", "xy"))
    assert score(said, units("11", "22", "22"), across=True) == (1.0, 1, 1)
    assert score(said, units("11", "22", "22"), across=True, speakers={"T"}) == (1.0, 1, 1)
    assert score(said, units("11", "22", "22"), across=True, speakers={"S"})[1] == 0


def test_contexts_are_averaged_before_speakers_and_those_before_pairs() -> None:
    """Of pair (a, b): speaker S has three contexts without error, T one that is wrong: 1/2, not 1/4."""
    said, heard = [], []
    for speaker, around, b in (("S", "xy", "22"), ("S", "xz", "22"), ("S", "xw", "22"), ("T", "xy", "11")):
        said += [("a", speaker, around), ("a", speaker, around), ("b", speaker, around)]
        heard += ["11", "33" if b == "11" else "11", b]
    value, triples, pairs = score(items(*said), units(*heard), across=False)
    # in T: X = a1 (11): a2 at 1, b at 0: wrong. X = a2 (33): a1 at 1, b at 1: tie.
    assert (value, triples, pairs) == (pytest.approx((0 + 0.75) / 2), 8, 1)


def test_leaving_recordings_out_is_as_if_they_had_not_been_there() -> None:
    rng = np.random.default_rng(0)
    said = [
        (str(rng.choice(list("abc"))), str(rng.choice(list("ST"))), "x" + str(rng.choice(list("yz"))))
        for _ in range(60)
    ]
    heard = [rng.integers(0, 3, 4) for _ in said]
    groups = np.arange(60) % 2
    for across in (False, True):
        whole = AbxTask(items(*said), groups).score(heard, 4.0, across)
        halves = [
            AbxTask([i for i in items(*said) if groups[i.recording] != g], groups).score(heard, 4.0, across).error.value
            for g in (0, 1)
        ]
        assert whole.error.standard_error == pytest.approx(abs(halves[0] - halves[1]) / 2)
        assert 0.3 < whole.error.value < 0.7


def test_at_most_so_many_items_and_speakers() -> None:
    said = items(*[(phone, speaker, "xy") for phone in "ab" for speaker in "STUVW" for _ in range(4)])
    heard = [np.zeros(2, np.int64)] * len(said)
    task = AbxTask(said, np.zeros(len(said), np.int64), most_items=3, most_speakers=2)
    assert len(task.items) == 2 * 5 * 3
    assert task.score(heard, 2.0, across=True).triples == 2 * 5 * 2 * 3**3  # pairs, speakers, their X, items


@pytest.mark.parametrize(("across", "triples", "error"), [(False, 3700, 0.569479), (True, 9020, 0.490648)])
def test_the_figures_are_those_of_fastabx(across: bool, triples: int, error: float) -> None:
    """fastabx 0.9.0, distance "identical", the levels of its `zerospeech_abx`, on the same made-up items."""
    said = items(*[("abc"[i % 3], "STU"[i // 3 % 3], "x" + "yz"[i // 7 % 2]) for i in range(90)])
    heard = [
        np.array([(i * i // 5 + j * (i % 4) + (i % 3) * (j > 1)) % 4 for j in range(4 + i % 3)]) for i in range(90)
    ]
    found = AbxTask(said, np.arange(90), most_items=100, most_speakers=100).score(heard, 4.0, across)
    assert found.triples == triples
    assert found.error.value == pytest.approx(error, abs=1e-6)
