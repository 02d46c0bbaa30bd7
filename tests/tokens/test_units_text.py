import pytest

from spiritlm.errors import InputError
from spiritlm.tokens.units_text import read_units


@pytest.mark.parametrize(
    "text",
    ["3 14 15", "3,14, 15\n", "[Hu3][Hu14][Hu15]", " <|audio_3|><|audio_14|>\n<|audio_15|>", "[Hu3] 14 <|audio_15|>"],
)
def test_every_way_to_write_units(text: str) -> None:
    assert read_units(text).tolist() == [3, 14, 15]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "tokens.txt: holds no units"),
        (" \n", "holds no units"),
        ("1 2\n3 -4", "tokens.txt, line 2: '-4' is no unit"),
        ("1.5", "line 1: '1.5' is no unit"),
        ("[Hu3][Pi7]", "'\\[Pi7\\]' is no unit"),
        ("[Hu3", "is no unit"),
    ],
)
def test_what_is_no_unit(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_units(text, "tokens.txt")
