import itertools

import numpy as np

from spiritlm.smallworld.telling import EDGE, PAUSE, Telling, record

SENTENCES = ("Tom went to the lake.", "Then the rain came.", "He was sad and rowed home without the fish.")


def test_sentences_follow_with_pauses_and_times_of_the_recording() -> None:
    recording = record(Telling("a", SENTENCES, "espeak:en-us", "happy", "lake"))
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
