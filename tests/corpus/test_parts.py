from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spiritlm.corpus.manifest import Sentence, SpokenDocument, Word
from spiritlm.corpus.parts import MARGIN, parts_of
from spiritlm.errors import InputError


def recording(*sentences: Sentence, duration: float = 100.0) -> SpokenDocument:
    return SpokenDocument("a", Path("a.wav"), duration, 16000, "ann", sentences)


def sentence(start: float, *texts: str) -> Sentence:
    return Sentence.of_words([Word(text, start + i, start + i + 0.9) for i, text in enumerate(texts)])


def test_a_recording_without_long_pauses_is_one_part_from_end_to_end() -> None:
    document = recording(sentence(1, "It", "rained."), sentence(6, "Sad."), duration=9.0)
    (part,) = parts_of(document, 5.0, False, 0.04)
    assert (part.id, part.start, part.end) == ("a", 0.0, 9.0)
    assert [[word.text for word in words] for words in part.sentences] == [["It", "rained."], ["Sad."]]
    assert part.words[2] == Word("Sad.", 6.0, 6.9)


def test_long_pauses_cut_and_times_begin_anew() -> None:
    document = recording(sentence(20, "One."), sentence(21.5, "Two."), sentence(60, "Three.", "four."))
    first, second = parts_of(document, 5.0, False, 0.04)
    assert (first.id, first.start, first.end) == ("a-0000", 20 - MARGIN, 22.4 + MARGIN)
    assert (second.id, second.start, second.end) == ("a-0001", 60 - MARGIN, 61.9 + MARGIN)
    assert second.words[0].start == pytest.approx(MARGIN)
    assert second.words[1].end == pytest.approx(MARGIN + 1.9)


def test_a_sentence_that_nobody_aligned_is_one_long_word() -> None:
    document = recording(Sentence("Not aligned at all.", 0.5, 2.0), Sentence(" ", 2.0, 3.0), duration=4.0)
    (part,) = parts_of(document, 5.0, False, 0.04)
    assert part.words == [Word("Not aligned at all.", 0.5, 2.0)]


def test_recordings_without_a_transcript_become_stretches_of_speech_where_asked_for() -> None:
    document = recording(Sentence("", 1.0, 3.0), Sentence("", 8.0, 12.0), duration=10.0)
    with pytest.raises(InputError, match="empty transcript"):
        parts_of(document, 5.0, False, 0.04)
    parts = parts_of(document, 5.0, True, 0.04)
    assert [(part.id, part.start, part.end, part.words) for part in parts] == [
        ("a-0000", 1.0, 3.0, []),
        ("a-0001", 8.0, 10.0, []),
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([Word("a", 2.0, 3.0), Word("b", 1.0, 4.0)], "not in order"),
        ([Word("a", 2.0, 1.0)], "not in order"),
        ([Word("a", -0.5, 1.0)], "do not lie within"),
        ([Word("a", 1.0, 100.1)], "do not lie within"),
    ],
)
def test_times_that_cannot_be_are_refused(words: list[Word], message: str) -> None:
    document = recording(Sentence("said", words[0].start, words[-1].end, tuple(words)))
    with pytest.raises(InputError, match=message):
        parts_of(document, 5.0, False, 0.04)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 15000), st.integers(1, 3000)), min_size=1, max_size=8), st.integers(500, 9000))
def test_every_word_is_in_one_part_and_parts_do_not_overlap(gaps: list[tuple[int, int]], max_pause: int) -> None:
    sentences, now = [], 0
    for number, (pause, length) in enumerate(gaps):
        now += pause
        sentences.append(Sentence(f"w{number}", now / 1000, (now + length) / 1000))
        now += length
    document = recording(*sentences, duration=now / 1000 + 1)
    parts = parts_of(document, max_pause / 1000, False, 0.04)
    assert [word.text for part in parts for word in part.words] == [s.text for s in sentences]
    for part in parts:
        for word in part.words:
            assert -1e-9 <= word.start <= word.end <= part.end - part.start + 1e-9
    for before, after in pairwise(parts):
        assert before.end <= after.start + 1e-9
