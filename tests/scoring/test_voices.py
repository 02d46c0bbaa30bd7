import numpy as np

from spiritlm.scoring.voices import NearestVoice
from spiritlm.smallworld import flite


def test_a_voice_is_known_by_what_it_said_before() -> None:
    known = {name: [flite.speak("Tom went to the lake.", name).wave] for name in ("rms", "slt")}
    nearest = NearestVoice({name: [*waves, waves[0][: len(waves[0]) // 2]] for name, waves in known.items()})
    for name in known:
        wave = flite.speak("She saw a small rocket over the harbor.", name).wave
        assert nearest(wave) == name
        assert (
            nearest(0.1 * wave + 1e-5 * np.random.default_rng(0).standard_normal(len(wave)).astype(np.float32)) == name
        )
