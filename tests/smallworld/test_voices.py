import itertools
import os
import subprocess
import sys

import numpy as np
import pytest

from spiritlm.errors import InputError
from spiritlm.smallworld import flite
from spiritlm.smallworld.voices import PEAK, STYLES, check_voices, speak

TEXT = "One of the old captains put it on the table and looked at the grey water."
NEEDS_FLITE = pytest.mark.skipif(not flite.is_installed(), reason="flite is not installed")
VOICES = [
    *(pytest.param(f"flite:{voice}", marks=NEEDS_FLITE) for voice in flite.VOICES),
    "espeak:en-us",
    "espeak:en-us+f3",
    "espeak:en-us+m2",
]


@pytest.mark.parametrize("voice", VOICES)
def test_words_are_the_text_in_order_within_the_sound(voice: str) -> None:
    for mood in STYLES:
        spoken = speak(TEXT, voice, mood)
        duration = len(spoken.wave) / spoken.sample_rate
        assert spoken.sample_rate == 16000
        assert 2.5 < duration < 8
        assert np.abs(spoken.wave).max() == pytest.approx(PEAK * STYLES[mood].gain, rel=1e-3)
        assert " ".join(word.text for word in spoken.words) == TEXT
        assert len(spoken.words) > 12
        for intervals in (spoken.words, spoken.phones):
            assert all(interval.start < interval.end for interval in intervals)
            assert all(a.end <= b.start + 1e-6 for a, b in itertools.pairwise(intervals))
            assert intervals[0].start >= 0
            assert intervals[-1].end <= duration + 1e-3


@NEEDS_FLITE
def test_flite_words_hold_their_sound() -> None:
    """The stop before the last word is silence: sound stands where the times say."""
    spoken = speak("Stop.", "flite:slt", "happy")
    word = spoken.words[0]
    inside = spoken.wave[round(word.start * 16000) : round(word.end * 16000)]
    outside = np.concatenate([spoken.wave[: round(word.start * 16000)], spoken.wave[round(word.end * 16000) :]])
    assert np.square(inside).sum() > 20 * np.square(outside).sum()


def pitch(wave: np.ndarray) -> float:
    import librosa

    f0 = librosa.yin(wave, fmin=60, fmax=500, sr=16000)
    loud = librosa.feature.rms(y=wave)[0][: len(f0)] > 0.1 * np.abs(wave).max()
    return float(np.median(f0[: len(loud)][loud]))


@pytest.mark.parametrize("voice", VOICES)
def test_a_mood_is_heard(voice: str) -> None:
    told = {mood: speak(TEXT, voice, mood) for mood in STYLES}
    level = {mood: pitch(spoken.wave) for mood, spoken in told.items()}
    assert level["excited"] > 1.08 * level["happy"]
    assert level["happy"] > 1.08 * max(level["angry"], level["sad"])
    length = {mood: len(spoken.wave) for mood, spoken in told.items()}
    assert length["excited"] < length["angry"] < length["sad"]
    assert length["excited"] < length["happy"] < 0.9 * length["sad"]
    power = {mood: np.square(spoken.wave).mean() for mood, spoken in told.items()}
    assert min(power["excited"], power["angry"]) > 2 * power["sad"]


def test_absent_voices_are_named_with_the_nearest() -> None:
    for name, nearest in (("espeak:en-us+f99", "espeak:en-us+f"), ("flite:slr", ":"), ("slt", ":")):
        with pytest.raises(InputError, match=f"{name.replace('+', '.')}.*the nearest is .*{nearest.replace('+', '.')}"):
            check_voices([name])
    check_voices(["espeak:en-us", "espeak:en-us+f3"])


def test_espeak_from_the_pip_package_says_the_same_words() -> None:
    pytest.importorskip("espeakng_loader")
    code = (
        "import ctypes.util; ctypes.util.find_library = lambda name: None\n"
        "from spiritlm.smallworld import flite, voices\n"
        "assert not flite.is_installed()\n"
        f"spoken = voices.speak({TEXT!r}, 'espeak:en-us', 'happy')\n"
        f"assert ' '.join(w.text for w in spoken.words) == {TEXT!r} and len(spoken.words) > 12\n"
        "assert abs(spoken.wave).max() > 0.1"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, env=os.environ)
