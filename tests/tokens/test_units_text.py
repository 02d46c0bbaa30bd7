import pytest

from spiritlm.errors import InputError
from spiritlm.tokens.units_text import read_units


@pytest.mark.parametrize(
    "text",
    ["3 14 15", "3,14, 15\n", "[Hu3][Hu14][Hu15]", " <|audio_3|><|audio_14|>\n<|audio_15|>", "[Hu3] 14 <|audio_15|>"],
)
def test_every_way_to_write_units(text: str) -> None:
    units, prosody = read_units(text)
    assert units.tolist() == [3, 14, 15] and prosody is None


def test_pitch_and_style_hold_until_others_are_written() -> None:
    units, prosody = read_units("[St2][Pi7][Hu3][Hu14]\n[Pi8] [St1] [Hu15]")
    assert units.tolist() == [3, 14, 15]
    assert prosody is not None and (prosody.pitch.tolist(), prosody.style.tolist()) == ([7, 7, 8], [2, 2, 1])
    units, prosody = read_units("[Hu3][Pi7][Hu4]")
    assert prosody is not None and (prosody.pitch.tolist(), prosody.style.tolist()) == ([7, 7], [0, 0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "tokens.txt: holds no units"),
        (" \n", "holds no units"),
        ("1 2\n3 -4", "tokens.txt, line 2: '-4' is no unit"),
        ("1.5", "line 1: '1.5' is no unit"),
        ("[Pi7][St3]", "holds no units"),
        ("[Hu3", "is no unit"),
    ],
)
def test_what_is_no_unit(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_units(text, "tokens.txt")
