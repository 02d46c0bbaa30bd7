from pathlib import Path

import numpy as np
import pytest

from spiritlm.corpus.manifest import Sentence, SpokenDocument
from spiritlm.errors import InputError
from spiritlm.scoring.styles import (
    Span,
    UnitLabels,
    change_lags,
    label_at,
    label_spans,
    labels_of_units,
    majority,
    style_accuracy,
)


def document(custom, duration=4.0):
    return SpokenDocument("a", Path("a.wav"), duration, 16_000, "v", (Sentence("Hm.", 0.0, duration),), custom)


def test_one_mood_or_several():
    assert label_spans(document({"mood": "sad"}), "mood") == [Span("sad", 0.0, 4.0)]
    moods = [["happy", 1.5, 3], ["sad", 0, 1.5], ["happy", 3, 4.0]]
    assert label_spans(document({"mood": "sad", "moods": moods}), "mood") == [
        Span("sad", 0.0, 1.5),
        Span("happy", 1.5, 4.0),
    ]


@pytest.mark.parametrize("custom", [{}, {"moods": [["sad", 0]]}, {"moods": [["sad", "x", 1]]}, {"moods": "sad"}])
def test_labels_that_are_not_there(custom):
    with pytest.raises(InputError, match="recording a: "):
        label_spans(document(custom), "mood")


def test_a_unit_has_the_label_of_its_middle():
    spans = [Span("a", 0.2, 1.4), Span("b", 1.6, 3.0)]
    assert [label_at(spans, second) for second in (0.0, 0.2, 1.5, 1.6, 9.0)] == ["a", "a", "a", "b", "b"]
    assert labels_of_units(spans, 3, 1.0, 2.5) == ["a", "a", "b"]
    assert labels_of_units(spans, 2, 1.0, 1.3) == ["a", "a"]  # the middle of what is left of second 1 is 1.15
    assert labels_of_units(spans, 5, 2.0, 2.4) == ["a", "a", "a", "b", "b"]


def test_units_stand_for_their_commonest_label():
    table = UnitLabels(4)
    table.add(np.array([0, 0, 1, 2]), ["x", "y", "y", "y"])
    table.add(np.array([0, 2, 2]), ["x", "x", "y"])
    assert table.names == ["x", "y"]
    assert table.counts.tolist() == [[2, 1], [0, 1], [1, 2], [0, 0]]
    assert table.commonest() == ["x", "y", "y", "y"]


def test_accuracy_of_units_and_of_recordings():
    pairs = [(["a", "a", "b"], ["a", "a", "a"]), (["b", "b"], ["a", "a"]), (["b"], ["b"])]
    found = style_accuracy(pairs)
    assert (found.unit.value, found.units, found.recordings) == (3 / 6, 6, 3)
    assert found.recording.value == pytest.approx(2 / 3)
    assert 0 < found.unit.standard_error < 1
    assert np.isnan(style_accuracy([]).unit.value)


def test_majority_of_equals_is_the_first():
    assert majority(["b", "a", "a", "b"]) == "b" and majority(["b", "a", "a"]) == "a"


def test_seconds_until_a_change_is_told():
    spans = [Span("a", 0.0, 2.3), Span("b", 2.3, 5.0), Span("a", 5.0, 7.0), Span("c", 7.0, 8.0)]
    told = ["a", "a", "a", "b", "b", "a", "a", "a"]
    lags = change_lags(told, spans, 1.0)
    assert lags[:2] == pytest.approx([0.7, 0.0]) and np.isnan(lags[2])
    early = change_lags(["a", "a", "b", "b", "b"], spans[:2], 1.0)
    assert early.tolist() == [0.0]
    assert change_lags(["a"], spans[:1], 1.0).shape == (0,)
