import numpy as np
import pytest

from spiritlm.inference.request import Speech
from spiritlm.scoring.heard import heard
from spiritlm.scoring.judges import Judges

RATE = 16_000


def voice(low: float, high: float, seconds: float, rate: int = RATE) -> Speech:
    """Harmonics whose F0 glides from `low` to `high` Hz."""
    f0 = np.geomspace(low, high, round(seconds * rate))
    phase = 2 * np.pi * np.cumsum(f0) / rate
    return Speech((sum(np.sin(n * phase) / n for n in range(1, 8)) / 4).astype(np.float32), rate)


def test_pitch_range_and_length() -> None:
    steady, glide, other, silence, nothing = heard(
        [
            voice(150, 150, 1.0),
            voice(110, 220, 2.0),
            voice(120, 120, 1.0, 22_050),
            Speech(np.zeros(RATE, np.float32), RATE),
            Speech(np.zeros(0, np.float32), RATE),
        ],
        Judges(),
    )
    assert steady["pitch"] == pytest.approx(150, rel=0.02) and steady["range"] < 0.5
    assert glide["pitch"] == pytest.approx(110 * 2**0.5, rel=0.03)
    assert glide["range"] == pytest.approx(0.9 * 12, abs=1.0)
    assert other["pitch"] == pytest.approx(120, rel=0.02) and other["seconds"] == 1.0
    assert (silence["pitch"], silence["voiced"], nothing["pitch"], nothing["seconds"]) == (None, 0.0, None, 0.0)
    assert "words" not in steady and "mood" not in steady


def test_judges_hear_all_of_it_in_order() -> None:
    class Length:
        name, labels = "length", ("long", "short")

        def __call__(self, spoken: list[Speech]) -> list[str]:
            return ["long" if len(speech.wave) > RATE else "short" for speech in spoken]

    rows = heard([voice(150, 150, 0.5), voice(150, 150, 1.5)], Judges(Length(), Length()))
    assert [(row["words"], row["mood"]) for row in rows] == [("short", "short"), ("long", "long")]
