from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiritlm.errors import InputError
from spiritlm.tokens import streams
from spiritlm.tokens.layout import STREAMS
from spiritlm.tokens.streams import Merged, chunk_lengths, merge, mono, published_merge, published_units, tokens, units

SEMANTIC, PITCH, STYLE = range(3)


def chunk(semantic: Sequence[int] = (), pitch: Sequence[int] = (), style: Sequence[int] = ()) -> dict[str, np.ndarray]:
    return {
        name: np.array(values, dtype=np.int32) for name, values in zip(STREAMS, (semantic, pitch, style), strict=True)
    }


@st.composite
def chunks(draw: st.DrawFn) -> list[dict[str, np.ndarray]]:
    lengths = draw(st.lists(st.tuples(*[st.integers(0, 60)] * 3), max_size=4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return [chunk(*(rng.integers(0, 3, length).tolist() for length in three)) for three in lengths]


def starts(merged: Merged) -> list[Fraction]:
    """Seconds after the start of the chunk."""
    pairs = zip(merged.stream.tolist(), merged.index.tolist(), strict=True)
    return [index / streams.RATES[STREAMS[stream]] for stream, index in pairs]


@given(chunks())
def test_tokens_stand_in_the_order_of_time_and_then_of_streams(
    given: list[dict[str, np.ndarray]],
) -> None:
    merged = merge(given)
    keys = list(zip(merged.chunk.tolist(), starts(merged), (-merged.stream).tolist(), strict=True))
    assert keys == sorted(keys)


@given(chunks())
def test_nothing_is_lost_but_repetitions(given: list[dict[str, np.ndarray]]) -> None:
    whole = merge(given, deduplicated=())
    once = merge(given)
    for number, stream in enumerate(STREAMS):
        expected = np.concatenate([np.zeros(0, int), *(part[stream] for part in given)]).tolist()
        assert whole.value[whole.stream == number].tolist() == expected
        if stream in streams.DEDUPLICATED:
            expected = [value for at, value in enumerate(expected) if not at or value != expected[at - 1]]
        assert once.value[once.stream == number].tolist() == expected
    for row in range(len(whole.value)):
        assert given[whole.chunk[row]][STREAMS[whole.stream[row]]][whole.index[row]] == whole.value[row]


def test_order_stays_right_beyond_100_seconds() -> None:
    long = [chunk(range(15_000), range(7_500), range(600))]
    seconds = starts(merge(long))
    assert seconds == sorted(seconds)
    exact, published = tokens(merge(long)), tokens(published_merge(long))
    assert exact != published
    assert exact[: exact.index("[Pi1250]") - 20] == published[: exact.index("[Pi1250]") - 20]
    assert "[Hu2501][Pi1251]" in exact
    assert "[Pi1251][Hu2501]" in published


def test_every_chunk_has_its_own_clock() -> None:
    pieces = [chunk([1, 2, 3], [4], [5]), chunk([6, 7, 8], [9, 10], [11])]
    assert tokens(merge(pieces)) == "[St5][Pi4][Hu1][Hu2][Hu3][St11][Pi9][Hu6][Hu7][Pi10][Hu8]"
    assert tokens(published_merge(pieces)) == "[St5][Pi4][Hu1][Hu2][Pi9][Hu3][Hu6][Pi10][Hu7][Hu8][St11]"
    merged = merge(pieces)
    assert merged.chunk.tolist() == [0] * 5 + [1] * 6
    assert merged.index.tolist() == [0, 0, 0, 1, 2, 0, 0, 0, 1, 1, 2]


def test_a_run_goes_on_across_the_end_of_a_chunk() -> None:
    assert tokens(merge([chunk([1, 1]), chunk([1, 2], [], [3]), chunk([2], [], [3])])) == "[Hu1][St3][Hu2][St3]"


def test_other_rates_are_exact_too() -> None:
    rates = {"semantic": Fraction(1, 3), "pitch": Fraction(1, 7), "style": Fraction(1)}
    merged = merge([chunk(range(8), range(4), range(3))], rates)
    assert tokens(merged).startswith("[St0][Pi0][Hu0][St1][St2][Hu1]")
    assert tokens(merged).endswith("[Hu5][Hu6][Pi3][Hu7]")


def test_unknown_streams_are_refused() -> None:
    with pytest.raises(InputError, match="hubert"):
        merge([{"hubert": np.array([1])}])


@given(chunks())
def test_strings_come_back_as_units(given: list[dict[str, np.ndarray]]) -> None:
    merged = merge(given)
    found = units(tokens(merged))
    assert found["semantic"].tolist() == merged.value[merged.stream == SEMANTIC].tolist()
    assert ("pitch" in found) == bool(np.any(merged.stream == PITCH))
    assert ("style" in found) == bool(np.any(merged.stream != SEMANTIC))
    expected: dict[int, list[int]] = {PITCH: [], STYLE: []}
    for other in (PITCH, STYLE):
        values = merged.value[merged.stream == other].tolist()
        last = values[0] if values else 71
        for stream, value in zip(merged.stream.tolist(), merged.value.tolist(), strict=True):
            last = value if stream == other else last
            if stream == SEMANTIC:
                expected[other].append(last)
    assert found.get("pitch", np.array(expected[PITCH])).tolist() == expected[PITCH]
    assert found.get("style", np.array(expected[STYLE])).tolist() == expected[STYLE]
    published = published_units(tokens(merged))
    assert {name: " ".join(map(str, values)) for name, values in found.items()} == published


def test_the_first_pitch_and_style_hold_before_they_are_written() -> None:
    found = {name: values.tolist() for name, values in units("[Hu5][Pi3][Hu6][St9]").items()}
    assert found == {"semantic": [5, 6], "pitch": [3, 3], "style": [9, 9]}


def test_style_is_given_where_there_is_pitch() -> None:
    assert units("[Pi3][Hu6]", default_style=98)["style"].tolist() == [98]
    assert published_units("[Pi3][Hu6]", default_style="68")["style"] == "68"
    assert list(units("[Hu6]")) == ["semantic"]


def test_repetition_keeps_every_pitch_and_published_loses_the_first() -> None:
    string = "[St1][Pi3][Pi4][Hu6][Pi5][Pi6][Pi7][Hu8]"
    ours = units(string, repeat_for_pitch=True)
    assert ours["semantic"].tolist() == [6, 6, 6, 6, 8]
    assert ours["pitch"].tolist() == [3, 4, 5, 6, 7]
    assert published_units(string, repeat_for_pitch=True)["pitch"] == "4 4 6 7 7"
    for reader in (units, published_units):
        with pytest.raises(InputError, match="no semantic unit"):
            reader("[Pi1][Pi2]", True)


@pytest.mark.parametrize("string", ["[Hu3", "[Hu]", "[Hu3] [Hu4]", "[Hu12a]", "[Stop]", "words", "[Speech][Hu3]"])
def test_what_is_no_token_is_refused(string: str) -> None:
    with pytest.raises(InputError, match="speech tokens: found"):
        units(string)
    published_units(string)


def test_published_reading_cuts_the_last_character_unseen() -> None:
    assert published_units("[St1][Hu3]junk[Hu4][HuX]") == {"semantic": "3]jun 4", "style": "1 1"}


def test_chunks_of_a_waveform() -> None:
    assert chunk_lengths(0) == chunk_lengths(1279) == []
    assert chunk_lengths(1_600_000 + 1279) == [1_600_000]
    assert chunk_lengths(3_200_000 + 1280) == [1_600_000, 1_600_000, 1280]


def test_channels_become_one() -> None:
    wave = np.array([[0.0, 1.0], [1.0, 1.0]], dtype=np.float32)
    assert mono(wave).tolist() == [0.5, 1.0]
    assert mono(wave, 1).tolist() == [1.0, 1.0]
    assert mono(wave[0]).tolist() == [0.0, 1.0]
    with pytest.raises(InputError, match="channel 2"):
        mono(wave, 2)
    with pytest.raises(InputError, match="shape"):
        mono(wave[None])
