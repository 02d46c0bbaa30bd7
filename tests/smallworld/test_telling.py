import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiritlm.smallworld import flite
from spiritlm.smallworld.pitch import track_pitch
from spiritlm.smallworld.telling import EDGE, PAUSE, Telling, mood_spans, record

SENTENCES = ("Tom went to the lake.", "Then the rain came.", "He was sad and rowed home without the fish.")
NEEDS_FLITE = pytest.mark.skipif(not flite.is_installed(), reason="flite is not installed")
VOICES = [*(pytest.param(f"flite:{voice}", marks=NEEDS_FLITE) for voice in flite.VOICES), "espeak:en-us+f3"]


def test_sentences_follow_with_pauses_and_times_of_the_recording() -> None:
    recording = record(Telling("a", SENTENCES, "espeak:en-us", ("happy",) * 3, "lake"))
    assert [" ".join(word.text for word in sentence) for sentence in recording.sentences] == list(SENTENCES)
    words = [word for sentence in recording.sentences for word in sentence]
    assert all(a.start < b.start for a, b in itertools.pairwise(words))
    assert abs(words[0].start - EDGE) < 0.001
    duration = len(recording.wave) / 16000
    assert abs(duration - recording.phones[-1].end - EDGE) < 0.01
    for sentence, following in zip(recording.sentences, recording.sentences[1:], strict=False):
        assert abs(following[0].start - sentence[-1].end - PAUSE) < 0.05
        middle = round((sentence[-1].end + PAUSE / 2) * 16000)
        assert not np.any(recording.wave[middle - 400 : middle + 400])
    assert recording.moods == (("happy", 0.0, duration),)


@pytest.mark.parametrize("voice", VOICES)
def test_a_change_of_mood_is_heard(voice: str) -> None:
    recording = record(Telling("a", (*SENTENCES, SENTENCES[0]), voice, ("sad", "sad", "excited", "excited"), "lake"))
    assert [span.mood for span in recording.moods] == ["sad", "excited"]
    change = recording.moods[0].end
    assert recording.sentences[1][-1].end < change < recording.sentences[2][0].start
    sad, excited = np.split(recording.wave, [round(change * 16000)])
    low, high = (np.median(f0[f0 > 0]) for f0 in (track_pitch(sad, 16000), track_pitch(excited, 16000)))
    assert high > 1.3 * low
    assert np.square(excited).mean() > 2 * np.square(sad).mean()


@given(
    st.lists(
        st.tuples(st.sampled_from(["happy", "excited", "sad", "angry"]), st.floats(min_value=0.1, max_value=9)),
        min_size=1,
        max_size=8,
    )
)
def test_mood_spans_cover_the_recording_once(told: list[tuple[str, float]]) -> None:
    moods, ends = [mood for mood, _ in told], list(itertools.accumulate(seconds for _, seconds in told))
    spans = mood_spans(moods, ends)
    assert spans[0].start == 0
    assert spans[-1].end == ends[-1]
    assert all(span.start < span.end for span in spans)
    for one, two in itertools.pairwise(spans):
        assert one.end == two.start
        assert one.mood != two.mood
    for mood, start, end in zip(moods, [0.0, *ends], ends, strict=False):
        assert [span.mood for span in spans if span.start <= start and end <= span.end] == [mood]
