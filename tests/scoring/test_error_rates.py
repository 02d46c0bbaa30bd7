from hypothesis import given
from hypothesis import strategies as st

from spiritlm.scoring.error_rates import error_rate, plain_words, word_error_rate

units = st.lists(st.integers(0, 5), max_size=12)


def test_words_without_case_and_punctuation():
    rate = word_error_rate([("The cat sat.", "the cat"), ("A dog's day", "a dog's red day"), ("", "")])
    assert (rate.edits, rate.length, rate.items) == (2, 6, 3) and rate.value == 1 / 3
    assert plain_words("It's 5 o'clock, Tom!") == ["it's", "5", "o'clock", "tom"]


@given(units, units)
def test_bounds(true, heard):
    edits = error_rate([(true, heard)]).edits
    assert abs(len(true) - len(heard)) <= edits <= max(len(true), len(heard))
    assert (edits == 0) == (true == heard)


def test_nothing_true():
    assert error_rate([]).value == 0 and error_rate([([], [1, 2])]).value == 2
