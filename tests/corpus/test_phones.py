from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiritlm.corpus.phones import Phone, alphabet, phone_numbers, read_phones, triphones
from spiritlm.errors import InputError


def floats(low: float, high: float) -> st.SearchStrategy[float]:
    """Trainers switch subnormal numbers off in their process."""
    return st.floats(low, high, allow_subnormal=False)


@given(st.lists(st.tuples(floats(0, 1), floats(0.01, 1)), max_size=8), floats(-1, 20))
def test_at_any_time_it_is_the_phone_whose_interval_holds_it(gaps: list[tuple[float, float]], time: float) -> None:
    phones, at = [], 0.0
    for pause, length in gaps:
        phones.append(Phone("p", at + pause, at + pause + length))
        at = phones[-1].end
    holders = [i for i, p in enumerate(phones) if p.start <= time < p.end]
    assert phone_numbers(phones, np.array([time])).tolist() == (holders or [-1])


def test_triphones_have_no_pause_in_them() -> None:
    phones = [Phone(t, s, e) for t, s, e in (("a", 0, 1), ("b", 1, 2), ("c", 2, 3), ("d", 3.5, 4), ("e", 4, 5))]
    found = triphones(phones, 7, "flite:slt")
    assert [(t.phone, t.context, t.start, t.end, t.recording) for t in found] == [("b", ("flite", "a", "c"), 0, 3, 7)]


def test_a_speaker_of_a_synthesizer_has_its_alphabet() -> None:
    assert [alphabet(s) for s in ("flite:slt", "espeak:en-us+f2", "1272")] == ["flite", "espeak", ""]


def test_phones_are_read_by_recording(tmp_path: Path) -> None:
    (tmp_path / "phones.jsonl").write_text('{"id": "r", "phones": [["a", 0.1, 0.2], ["b", 0.2, 0.4]]}\n')
    assert read_phones(tmp_path) == {"r": (Phone("a", 0.1, 0.2), Phone("b", 0.2, 0.4))}


@pytest.mark.parametrize(
    "line", ['{"id": "r"}', '{"id": "r", "phones": [["a", 0.1]]}', '{"id": "r", "phones": [["a", 0.5, 0.1]]}',
             '{"id": "r", "phones": [["a", 0.5, 0.6], ["b", 0.1, 0.2]]}'],
)  # fmt: skip
def test_malformed_phones_are_named_by_their_line(tmp_path: Path, line: str) -> None:
    (tmp_path / "phones.jsonl").write_text('{"id": "q", "phones": []}\n' + line + "\n")
    with pytest.raises(InputError, match="line 2: expected"):
        read_phones(tmp_path)


def test_a_corpus_without_phone_times_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected phones\.jsonl"):
        read_phones(tmp_path)
