from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiritlm.errors import InputError
from spiritlm.tokens import chat
from spiritlm.tokens.chat import decoder_calls, prompt, published_decoder_calls, runs, split_reply, token_counts

AUDIO, END = 152_353, 151_336
REPLIES = st.lists(st.one_of(st.integers(0, 100), st.integers(AUDIO, AUDIO + 16_383)), max_size=400)


def test_a_conversation() -> None:
    first = prompt("Hello?")
    assert first.startswith("<|system|>\nUser will provide you with a text instruction. ")
    assert first.endswith("26 audio tokens.<|user|>\nHello?<|assistant|>streaming_transcription\n")
    second = prompt([5, 16_383], first + "Hi.")
    turn = (
        "<|user|>\n<|begin_of_audio|><|audio_5|><|audio_16383|><|end_of_audio|><|assistant|>streaming_transcription\n"
    )
    assert second == f"{first}Hi.{turn}"
    assert "26 audio tokens. <|user|>\n<|begin_of_audio|>" in prompt([1])


@pytest.mark.parametrize("text", ["a<|user|>b", "<|system|> x", "<|audio_3|>"])
def test_users_cannot_forge_turns(text: str) -> None:
    with pytest.raises(InputError, match="special token"):
        prompt(text)
    assert text in prompt(text, published=True)


@pytest.mark.parametrize(("units", "problem"), [([], "empty"), ([16_384], "16384"), ([-1], "-1")])
def test_speech_that_is_none_is_refused(units: list[int], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        prompt(units)


def test_a_reply_taken_apart() -> None:
    assert split_reply([7, AUDIO, 8, AUDIO + 3, END, 9]) == ([7, 8], [0, 3], True)
    assert split_reply([7]) == ([7], [], False)


@given(REPLIES, st.booleans())
def test_every_unit_is_spoken_once(ids: list[int], ended: bool) -> None:
    calls = list(decoder_calls([*ids, *[END, AUDIO] * ended]))
    audio = split_reply(ids).audio
    assert [unit for call in calls for unit in call.units] == audio
    assert [call.before for call in calls] == [sum(len(c.units) for c in calls[:n]) for n in range(len(calls))]
    assert [call.last for call in calls] == ([False] * (len(calls) - 1) + [True] if audio else [])
    assert all(len(call.units) == size for call, size in zip(calls[:-1], chat.BLOCK_SIZES, strict=False))
    if ended and audio:
        published = published_decoder_calls([*ids, END])
        assert [call.units for call in published] == [call.units for call in calls if call.units]


def test_a_full_block_does_not_wait() -> None:
    stream = iter([*range(AUDIO, AUDIO + 26)])
    assert len(next(decoder_calls(stream)).units) == 25
    assert next(stream) == AUDIO + 25


def test_published_calls_lose_the_tail_without_an_end() -> None:
    ids = list(range(AUDIO, AUDIO + 60))
    assert [len(call.units) for call in published_decoder_calls(ids)] == [25]
    assert [len(call.units) for call in decoder_calls(ids)] == [25, 35]
    with pytest.raises(InputError, match="no speech"):
        published_decoder_calls([1, 2, END])
    assert list(decoder_calls([1, 2, END])) == []


def test_the_last_block_size_goes_on() -> None:
    calls = list(decoder_calls([AUDIO] * 1000))
    assert [len(call.units) for call in calls] == [25, 50, 100, 150, 200, 200, 200, 75]


@given(st.integers(0, 200), st.integers(0, 400))
def test_layout_holds_all_tokens_in_turns(text: int, audio: int) -> None:
    found = runs(text, audio)
    assert sum(length for name, length in found if name == "text") == text
    assert sum(length for name, length in found if name == "audio") == audio
    assert all(a[0] != b[0] for a, b in pairwise(found))
    assert all(run in (("text", 13), ("audio", 26)) for run in found[:-3])


def test_text_that_ends_first() -> None:
    assert runs(30, 100) == [("text", 13), ("audio", 26), ("text", 13), ("audio", 26), ("text", 4), ("audio", 48)]


def test_counts_of_tokens() -> None:
    assert token_counts(480_001) == [(480_000, 3000, 3000, 375), (1, 8, 1, 1)]
    with pytest.raises(InputError, match="empty"):
        token_counts(0)
