import json
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiritlm.config import validate_recipe
from spiritlm.errors import InputError
from spiritlm.tokens.layout import SPIRIT_SIZES, Block, Layout, LayoutName, LayoutRecipe, Wrap, glm_4_voice, spirit

GOLDEN = Path(__file__).parents[1] / "golden"
LLAMA = 32_000
EXPRESSIVE = SPIRIT_SIZES["spirit-expressive"]


def ranges(layout: Layout) -> dict[str, tuple[int, int]]:
    """First id and end of every block."""
    return {block.name: (block.start, block.end) for block in layout.blocks}


def recipe(**given: object) -> LayoutRecipe:
    return validate_recipe(LayoutRecipe, given, "recipe")


def test_spirit_base_has_the_published_ids() -> None:
    layout = recipe(name="spirit-base").layout(LLAMA, 1, 2, {"semantic": 501})
    assert layout.markers == {"[Text]": 32_000, "[Speech]": 32_001}
    assert ranges(layout) == {"semantic": (32_002, 32_503)}
    assert (layout.size, layout.padded_size()) == (32_503, 32_512)
    assert (layout.bos, layout.eos) == (1, 2)


def test_spirit_expressive_has_the_published_ids() -> None:
    layout = recipe(name="spirit-expressive").layout(LLAMA, 1, 2, EXPRESSIVE)
    assert layout.markers == {"[Text]": 32_000, "[Speech]": 32_001}
    assert ranges(layout) == {"semantic": (32_002, 32_503), "pitch": (32_503, 32_567), "style": (32_567, 32_667)}
    assert (layout.size, layout.padded_size()) == (32_667, 32_768)


def test_glm_4_voice_has_the_published_ids() -> None:
    published = json.loads((GOLDEN / "glm_chat_template" / "ids.json").read_text())
    layout = recipe(name="glm-4-voice").layout(151_329, 0, 0, {"semantic": 16_384})
    markers = {name: id for name, id in published.items() if name.startswith("<|")}
    assert {name: layout.markers[name] for name in markers} == markers
    assert len(markers) == 9
    first, last = published["audio_offset"], published["last_audio_id"]
    assert ranges(layout) == {"semantic": (first, last + 1)}
    assert layout.blocks[0].size == published["audio_count"]
    assert layout.blocks[0].token.format(7) == published["audio_token_string"].replace("_i|", "_7|")
    assert layout.padded_size() == 168_960
    assert (layout.text, layout.speech) == (Wrap(), Wrap("<|begin_of_audio|>", "<|end_of_audio|>"))


def test_sizes_follow_the_tokenizers() -> None:
    layout = recipe().layout(1000, 1, 2, {"semantic": 40, "style": 5})
    assert ranges(layout) == {"semantic": (1002, 1042), "style": (1042, 1047)}


def test_blocks_stand_in_the_order_of_streams_whatever_the_order_of_keys() -> None:
    sizes = {"semantic": 3, "pitch": 4, "style": 5}
    assert spirit(10, dict(reversed(sizes.items()))) == spirit(10, sizes)


def test_tasks_come_last_and_move_nothing() -> None:
    plain, tasks = spirit(LLAMA, EXPRESSIVE), spirit(LLAMA, EXPRESSIVE, tasks=("[TTS]", "[ASR]"))
    assert ranges(tasks) == ranges(plain)
    assert tasks.markers == {**plain.markers, "[TTS]": 32_667, "[ASR]": 32_668}
    assert tasks.size == plain.size + 2


def test_a_free_layout() -> None:
    given = recipe(
        name="free",
        markers=("<t>", "<s>", "</s>"),
        blocks=({"name": "style", "token": "<y{}>", "size": 4}, {"name": "semantic", "token": "<u{}>", "size": 9}),
        text=("<t>", ""),
        speech=("<s>", "</s>"),
        tasks=("[ASR]",),
        pad_to_multiple=10,
    )
    layout = given.layout(100, 3, 4, {"semantic": 9})
    assert layout.markers == {"<t>": 100, "<s>": 101, "</s>": 102, "[ASR]": 116}
    assert ranges(layout) == {"style": (103, 107), "semantic": (107, 116)}
    assert (layout.text, layout.speech) == (Wrap("<t>"), Wrap("<s>", "</s>"))
    assert (layout.bos, layout.eos, layout.size, layout.padded_size()) == (3, 4, 117, 120)


def test_runs_of_units_are_one_token_but_for_glm() -> None:
    assert recipe().layout(10, 1, 2, {}).deduplicate
    assert not recipe(name="glm-4-voice").layout(10, 1, 2, {}).deduplicate
    for deduplicate in (True, False):
        assert recipe(name="free", deduplicate=deduplicate).layout(10, 1, 2, {}).deduplicate == deduplicate


def test_a_free_span_needs_its_marker() -> None:
    with pytest.raises(InputError, match=r"span marker '\[Speech\]' is not among the markers"):
        recipe(name="free", markers=("[Text]",)).layout(10, 1, 2, {})


@pytest.mark.parametrize(
    ("name", "units", "problem"),
    [
        ("spirit-base", {"semantic": 502}, "502 semantic units do not fit in 501"),
        ("spirit-base", {"semantic": 501, "pitch": 64}, "64 pitch units do not fit in 0"),
        ("spirit-expressive", {**EXPRESSIVE, "style": 101}, "101 style units do not fit in 100"),
        ("glm-4-voice", {"semantic": 16_385}, "16385 semantic units do not fit in 16384"),
        ("free", {"semantic": 1}, "1 semantic units do not fit in 0"),
    ],
)
def test_units_that_do_not_fit_are_refused(name: str, units: dict[str, int], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        recipe(name=name).layout(LLAMA, 1, 2, units)


def test_fewer_units_than_published_keep_the_published_ids() -> None:
    assert recipe(name="spirit-base").layout(LLAMA, 1, 2, {"semantic": 50}) == spirit(LLAMA, {"semantic": 501})


@pytest.mark.parametrize(
    ("markers", "blocks"),
    [
        ({"[A]": 10, "[B]": 10}, ()),
        ({"[A]": 14}, (Block("semantic", "[Hu{}]", 11, 4),)),
        ({}, (Block("semantic", "[Hu{}]", 11, 4), Block("pitch", "[Pi{}]", 14, 2))),
        ({}, (Block("semantic", "[Hu{}]", 11, 9), Block("pitch", "[Pi{}]", 12, 2))),
    ],
)
def test_two_names_for_one_id_are_refused(markers: dict[str, int], blocks: tuple[Block, ...]) -> None:
    with pytest.raises(InputError, match="share id"):
        Layout(10, markers, blocks, Wrap(), Wrap())


@pytest.mark.parametrize(
    "given",
    [
        {"tasks": ("[ASR]", "[ASR]")},
        {"tasks": ("[Text]",)},
        {"name": "free", "markers": ("[Text]", "[Speech]", "[Text]")},
        {"name": "free", "blocks": [{"name": "semantic", "token": token, "size": 3} for token in ("[A{}]", "[B{}]")]},
    ],
)
def test_what_is_named_twice_is_refused(given: dict[str, object]) -> None:
    with pytest.raises(InputError, match="twice"):
        recipe(**given).layout(10, 1, 2, {})


@pytest.mark.parametrize(
    "given",
    [
        {"name": "llama"},
        {"pad_to_multiple": 0},
        {"blocks": [{"name": "loudness", "token": "[Lo{}]", "size": 3}]},
        {"blocks": [{"name": "semantic", "token": "[Hu{}]", "size": 0}]},
        {"blocks": [{"name": "semantic", "token": "[Hu]", "size": 3}]},
        {"blocks": [{"name": "semantic", "token": "[Hu{}{}]", "size": 3}]},
    ],
)
def test_recipes_that_make_no_sense_are_refused(given: dict[str, object]) -> None:
    with pytest.raises(InputError):
        recipe(**given)


def test_every_named_layout_can_be_made() -> None:
    for name in (*get_args(LayoutName), "free"):
        assert recipe(name=name).layout(LLAMA, 1, 2, {}).size > LLAMA


@given(st.integers(1, 200_000), st.integers(1, 700), st.integers(1, 16))
def test_padding_is_least_and_divides_among_ranks(text_size: int, pad_to_multiple: int, ranks: int) -> None:
    layout = Layout(text_size, {}, (), Wrap(), Wrap(), pad_to_multiple=pad_to_multiple)
    padded = layout.padded_size(ranks)
    assert padded % pad_to_multiple == padded % ranks == 0
    assert padded >= layout.size == text_size
    fewer = range(padded - pad_to_multiple, text_size - 1, -pad_to_multiple)
    assert not any(size % ranks == 0 for size in fewer)


def test_padding_is_the_same_for_usual_numbers_of_ranks() -> None:
    for layout in (spirit(LLAMA, {"semantic": 501}), spirit(LLAMA, EXPRESSIVE), glm_4_voice()):
        assert len({layout.padded_size(ranks) for ranks in (1, 2, 4, 8, 16, 32)}) == 1
    assert [spirit(LLAMA, {"semantic": 501}).padded_size(ranks) for ranks in (3, 5, 6, 7)] == [
        32_640, 32_640, 32_640, 33_152,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text_size", "tasks", "problem"),
    [(151_330, (), "the text tokenizer has 151330 pieces"), (1000, ("[ASR]",), r"tasks = \['\[ASR\]'\]")],
)
def test_glm_4_voice_has_no_room_for_more(text_size: int, tasks: tuple[str, ...], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        recipe(name="glm-4-voice", tasks=tasks).layout(text_size, 1, 2, {"semantic": 16_384})
