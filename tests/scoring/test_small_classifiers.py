import json
import warnings
from pathlib import Path

import numpy as np
import pytest

from spiritlm.errors import InputError
from spiritlm.inference.request import Speech
from spiritlm.scoring.small_classifiers import VoiceMood, WordSentiment, terms_of
from spiritlm.scoring.voice_features import voice_features
from spiritlm.smallworld.voices import speak

SENTENCES = (
    "Tom went to the lake with his mother.",
    "Luckily the water was calm.",
    "She brought the basket from home.",
    "Finally he fried the trout for dinner.",
)
MOODS = ("excited", "sad")


def said(sentence: str, mood: str) -> Speech:
    return Speech(speak(sentence, "espeak:en-us+f3", mood).wave, 16_000)


@pytest.fixture(scope="module")
def voice_mood() -> VoiceMood:
    pairs = [(said(sentence, mood), mood) for sentence in SENTENCES[:3] for mood in MOODS]
    return VoiceMood.fit(np.stack([voice_features(speech) for speech, _ in pairs]), [mood for _, mood in pairs], 0)


def test_a_mood_is_known_in_another_sentence(voice_mood: VoiceMood) -> None:
    for mood in MOODS:
        heard = said(SENTENCES[3], mood)
        scores = voice_mood.scores([heard, Speech(0.1 * heard.wave, heard.sample_rate)])
        assert [voice_mood.labels[place] for place in scores.argmax(1)] == [mood, mood]


def test_a_network_of_several_labels_is_scikit_learns(tmp_path: Path) -> None:
    from sklearn.neural_network import MLPClassifier

    rng = np.random.default_rng(0)
    features, labels = rng.standard_normal((60, 82)), [("angry", "happy", "sad")[n % 3] for n in range(60)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = VoiceMood.fit(features, labels, 3)
    found.save_pretrained(tmp_path)
    again = VoiceMood.from_pretrained(tmp_path)
    assert np.array_equal(found.scores_of(features), again.scores_of(features))
    network = MLPClassifier((64,), alpha=1.0, max_iter=100, random_state=3)
    scaled = (features - features.mean(0)) / (features.std(0) + 1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network.fit(scaled, labels)
    told = [again.labels[place] for place in again.scores_of(features).argmax(1)]
    assert told == network.predict(scaled).tolist()


def test_words_and_pairs_within_a_sentence() -> None:
    assert list(terms_of("Tom didn't go. He lost!")) == [
        "tom", "didn't", "go", "tom didn't", "didn't go", "he", "lost", "he lost",
    ]  # fmt: skip


def test_words_that_come_with_every_label_weigh_nothing(tmp_path: Path) -> None:
    texts = [f"{name} went home. {name} was {how}." for name in ("Tom", "Anna", "Ben") for how in ("glad", "ill")]
    found = WordSentiment.fit(texts, ["positive", "negative"] * 3)
    found.save_pretrained(tmp_path)
    again = WordSentiment.from_pretrained(tmp_path)
    scores = again.scores(["Ben was glad.", "Ben was ill.", "Tom went home.", "", "Nobody knows."])
    assert np.array_equal(
        scores, found.scores(["Ben was glad.", "Ben was ill.", "Tom went home.", "", "Nobody knows."])
    )
    margin = scores[:, 1] - scores[:, 0]
    assert found.labels == ("negative", "positive") and margin[0] > 0.5 and margin[1] < -0.5
    assert np.abs(margin[2:]).max() < 0.1


def test_examples_of_one_label_are_refused() -> None:
    with pytest.raises(InputError, match="at least two labels, found sad"):
        VoiceMood.fit(np.zeros((2, 82)), ["sad", "sad"], 0)
    with pytest.raises(InputError, match="found none"):
        WordSentiment.fit([], [])


def test_files_that_do_not_fit_together_are_refused(tmp_path: Path, voice_mood: VoiceMood) -> None:
    voice_mood.save_pretrained(tmp_path / "voice")
    WordSentiment.fit(["glad", "ill"] * 2, ["positive", "negative"] * 2).save_pretrained(tmp_path / "words")
    for folder, change, message in (
        ("voice", {"labels": ["a", "b", "c"]}, "has 3 labels and weights of 2"),
        ("voice", {"features": 2}, "features"),
        ("voice", {"label": 1}, "label"),
        ("words", {"terms": ["glad"]}, "has 1 terms and weights of 2"),
    ):
        path = tmp_path / folder / "config.json"
        before = path.read_text()
        path.write_text(json.dumps({**json.loads(before), **change}))
        with pytest.raises(InputError, match=message):
            (VoiceMood if folder == "voice" else WordSentiment).from_pretrained(tmp_path / folder)
        path.write_text(before)
    (tmp_path / "voice" / "model.safetensors").replace(tmp_path / "words" / "model.safetensors")
    with pytest.raises(InputError, match="expected"):
        WordSentiment.from_pretrained(tmp_path / "words")
