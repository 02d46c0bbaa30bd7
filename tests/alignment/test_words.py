import numpy as np
import pytest

from spiritlm.alignment.words import AlignedWord, Alphabet, Lag, align_words, respell, start_errors, windows
from spiritlm.errors import InputError

LETTERS = {letter: number for number, letter in enumerate("abcdefghijklmnopqrstuvwxyz'", start=2)}
ALPHABET = Alphabet(0, 1, LETTERS)
RATE = 50.0


def spoken(symbols: str) -> np.ndarray:
    """Log-probabilities of a recording: a symbol a frame, `.` the blank, `|` the separator."""
    ids = [{".": 0, "|": 1}.get(symbol, LETTERS.get(symbol, 0)) for symbol in symbols]
    log_probs = np.full((len(ids), len(LETTERS) + 2), -7.0, np.float32)
    log_probs[np.arange(len(ids)), ids] = -0.1
    return log_probs


def frames(words: list[AlignedWord]) -> list[tuple[str, int, int]]:
    return [(word.text, round(word.start * RATE), round(word.end * RATE)) for word in words]


def test_words_lie_from_first_to_last_letter() -> None:
    words = align_words(["It", "was."], spoken("..ii.t.|..w.as..."), ALPHABET, RATE, offset=2.0)
    assert frames(words) == [("It", 102, 106), ("was.", 110, 114)]
    assert words[0].score == pytest.approx(-0.1)


def test_a_lag_is_taken_back_and_words_do_not_overlap() -> None:
    words = align_words(["a", "b"], spoken("...a..|b.."), ALPHABET, RATE, lag=Lag(start=0.04, end=0.1))
    assert frames(words) == [("a", 1, 5), ("b", 5, 10)]
    words = align_words(["a", "b"], spoken("a|b..."), ALPHABET, RATE, offset=1.0, lag=Lag(start=1.0))
    assert all(1.0 <= word.start <= word.end for word in words)


def test_a_word_that_cannot_be_spelt_takes_what_its_neighbours_leave() -> None:
    words = align_words(["at", "23", "100%", "ok"], spoken("at.|.twenty...|ok.."), ALPHABET, RATE)
    assert frames(words) == [("at", 0, 2), ("23", 2, 6), ("100%", 6, 15), ("ok", 15, 17)]
    assert frames(align_words(["5", "ok", "7"], spoken("five|.ok.|seven"), ALPHABET, RATE)) == [
        ("5", 0, 6), ("ok", 6, 8), ("7", 8, 15)
    ]  # fmt: skip
    assert frames(align_words(["жук"], spoken("zhuk"), ALPHABET, RATE)) == [("жук", 0, 4)]


def test_punctuation_has_no_sound() -> None:
    words = align_words(["—", "He", "...", "ran!"], spoken("..he.|ran."), ALPHABET, RATE)
    assert frames(words) == [("—", 0, 0), ("He", 2, 4), ("...", 4, 4), ("ran!", 6, 9)]


@pytest.mark.parametrize(
    ("word", "letters"), [("Café,", "cafe"), ("don’t", "don't"), ("well-known", "wellknown"), ("ŒUVRE", None)]
)
def test_spelling(word: str, letters: str | None) -> None:
    assert ALPHABET.spell(word) == (None if letters is None else [LETTERS[letter] for letter in letters])


def test_a_letter_with_an_accent_that_the_model_knows_keeps_it() -> None:
    assert Alphabet(0, None, {"e": 1, "é": 2}).spell("Eé") == [1, 2]


def test_words_that_cannot_be_aligned_are_refused() -> None:
    with pytest.raises(InputError, match="empty transcript"):
        align_words(["...", "-"], spoken("...."), ALPHABET, RATE)
    with pytest.raises(InputError, match="take at least 9 frames"):
        align_words(["too", "much"], spoken("abcdef"), ALPHABET, RATE)


def test_windows_reach_half_way_to_their_neighbours() -> None:
    assert windows([1.0, 2.2, 5.0], [2.0, 4.0, 6.1], 6.2, 0.25) == [
        (0.75, pytest.approx(2.1)), (pytest.approx(2.1), 4.25), (4.75, 6.2)
    ]  # fmt: skip
    assert windows([0.0, 1.0], [2.0, 3.0], 3.0, 0.25) == [(0.0, 2.0), (1.0, 3.0)]  # sentences that overlap
    assert windows([0.1], [9.0], 4.0, 0.25) == [(0.0, 4.0)]


def test_another_aligners_words_are_spelt_as_the_transcript() -> None:
    theirs = [AlignedWord("do", 0.0, 0.2, 0.0), AlignedWord("n't", 0.2, 0.5, 0.0), AlignedWord("inthe", 1.0, 2.0, 0.0)]
    words = respell(["“Don't", "-", "in", "the."], theirs)
    assert [(w.text, w.start, w.end) for w in words] == [
        ("“Don't", 0.0, 0.5), ("-", 0.5, 0.5), ("in", 1.0, 1.4), ("the.", 1.4, 2.0)
    ]  # fmt: skip
    with pytest.raises(InputError, match="says 'do' where the transcript has 'ran'"):
        respell(["I", "ran"], [AlignedWord("i", 0, 1, 0.0), AlignedWord("do", 1, 2, 0.0)])


def test_start_errors_are_absolute_and_in_milliseconds() -> None:
    errors = start_errors([1.0, 2.0, 3.1], [1.01, 1.98, 3.1])
    assert (errors.words, errors.median_ms) == (3, 10.0)
    assert errors.p95_ms == pytest.approx(19.0, abs=0.1)
    assert start_errors([], []).words == 0
