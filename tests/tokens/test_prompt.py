import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiritlm.errors import InputError
from spiritlm.tokens.layout import SPIRIT_SIZES, spirit
from spiritlm.tokens.prompt import (
    Part,
    build_prompt,
    decode_output,
    ends_with_speech,
    forbidden_ids,
    last_speech_start,
    parse,
    starts_with_speech,
)

BASE, EXPRESSIVE = (spirit(32_000, SPIRIT_SIZES[name]) for name in ("spirit-base", "spirit-expressive"))
SPEECH = st.lists(st.sampled_from(["[Hu1]", "[Hu500]", "[Pi3]", "[St99]"]), min_size=1).map("".join)
PARTS = st.lists(
    st.one_of(st.tuples(st.just("text"), st.text("ab []HuPi1", min_size=1)), st.tuples(st.just("speech"), SPEECH))
)


def vocoder(speech: str) -> np.ndarray:
    """100 samples for each semantic unit, with its value."""
    return np.repeat([float(unit) for unit in re.findall(r"\[Hu(\d+)\]", speech)], 100)


def speech(first: int, count: int) -> str:
    return "".join(f"[Hu{unit}]" for unit in range(first, first + count))


def test_markers_stand_at_changes_and_at_the_end_for_another_output() -> None:
    parts = [Part("text", "the cat"), Part("text", " sat"), Part("speech", "[Hu3]")]
    assert build_prompt(parts, "any") == build_prompt(parts, "speech") == "[Text]the cat sat[Speech][Hu3]"
    assert build_prompt(parts, "text") == "[Text]the cat sat[Speech][Hu3][Text]"
    assert [build_prompt([], output) for output in ("any", "text", "speech")] == ["", "[Text]", "[Speech]"]


def test_unknown_modalities_are_refused() -> None:
    with pytest.raises(InputError, match="modality 'image'"):
        build_prompt([("image", "")], "any")
    with pytest.raises(InputError, match="output 'TEXT'"):
        build_prompt([], "TEXT")  # type: ignore[arg-type]


@given(PARTS)
def test_prompts_come_back_as_parts(parts: list[tuple[str, str]]) -> None:
    found = parse(build_prompt(parts, "any"))
    assert all(a.modality != b.modality for a, b in pairwise(found))
    assert "".join(part.content for part in found) == "".join(content for _, content in parts)
    if not any("[" in content for modality, content in parts if modality == "text"):
        for modality in ("text", "speech"):
            contents = "".join(content for kind, content in parts if kind == modality)
            assert "".join(part.content for part in found if part.modality == modality) == contents


def test_only_whole_tokens_are_speech() -> None:
    assert parse("[Stop] it[Hu1][Hu") == [("text", "[Stop] it"), ("speech", "[Hu1]"), ("text", "[Hu")]
    assert parse("[Stop] it[Hu1][Hu", published=True) == [
        ("speech", "[Stop]"),
        ("text", " it"),
        ("speech", "[Hu1][Hu"),
    ]
    assert starts_with_speech("[Stop]", published=True)
    assert not starts_with_speech("[Stop]")
    assert ends_with_speech("a[Hu1]]", published=True)
    assert not ends_with_speech("a[Hu1]]")
    assert ends_with_speech("a[Hu1]")


def test_start_of_the_last_speech() -> None:
    assert last_speech_start("[Hu1]a[St1][Hu2] b") == 6
    assert last_speech_start("[Stop]") is None


def test_published_bans() -> None:
    assert forbidden_ids(BASE, "text", published=True) == [(32_000, 32_502)]
    assert forbidden_ids(EXPRESSIVE, "text", published=True) == [(32_000, 32_666)]
    assert forbidden_ids(EXPRESSIVE, "speech", published=True) == [(0, 32_001)]
    assert forbidden_ids(BASE, "any", published=True) == []


def test_speech_may_end_and_rows_without_meaning_never_come() -> None:
    assert forbidden_ids(BASE, "speech") == [(0, 1), (3, 32_001), (32_503, 32_511)]
    assert forbidden_ids(EXPRESSIVE, "text") == [(1, 1), (32_000, 32_767)]
    assert forbidden_ids(EXPRESSIVE, "any") == [(1, 1), (32_667, 32_767)]


def test_short_speech_is_left_out_where_either_may_come() -> None:
    generated = f" a[Speech]{speech(0, 24)}[Text]b[Speech]{speech(0, 25)}"
    text, more, wave = decode_output("[Text]x", generated, "any", vocoder)
    assert (text, more, len(wave)) == (" a", "b", 2500)
    published = decode_output("[Text]x", generated, "any", vocoder, published=True)
    assert [piece if isinstance(piece, str) else len(piece) for piece in published] == ["a", 2400, "b", 2500]


def test_speech_that_goes_on_is_cut_at_the_seam() -> None:
    prompt = f"[Text]hi[Speech]{speech(0, 12)}"
    for published, samples, first in ((False, 3000, 12), (True, 3027, 11)):
        (wave,) = decode_output(prompt, speech(12, 30), "any", vocoder, published)
        assert isinstance(wave, np.ndarray)
        assert (len(wave), wave[0]) == (samples, first)


def test_speech_after_a_marker_is_decoded_alone() -> None:
    (wave,) = decode_output(f"[Speech]{speech(0, 12)}[Text]", f"[Speech]{speech(12, 30)}", "any", vocoder)
    assert len(wave) == 3000


def test_one_asked_modality() -> None:
    assert decode_output("[Text]", " a [Hu1]", "text", vocoder) == [" a [Hu1]"]
    (wave,) = decode_output("[Speech]", "[Hu1]x[Hu2]", "speech", vocoder)
    assert wave[::100].tolist() == [1, 2]  # type: ignore[index, union-attr]
