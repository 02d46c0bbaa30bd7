import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer

from spiritlm.errors import InputError
from spiritlm.tokens.interleave import SPEECH, TEXT
from spiritlm.tokens.layout import Block, Layout, Wrap, glm_4_voice, spirit
from spiritlm.tokens.text import HuggingFaceText, TextTokenizer
from spiritlm.tokens.vocabulary import Vocabulary

UNITS = {"semantic": 50, "pitch": 8, "style": 10}


def of(text: TextTokenizer, units: dict[str, int] = UNITS, tasks: tuple[str, ...] = ()) -> Vocabulary:
    return Vocabulary(text, spirit(text.size, units, text.bos, text.eos, tasks))


def shuffled(value: Any, rng: random.Random) -> Any:
    """The same JSON with the keys of every object in another order."""
    if isinstance(value, dict):
        items = list(value.items())
        rng.shuffle(items)
        return {key: shuffled(inner, rng) for key, inner in items}
    return [shuffled(inner, rng) for inner in value] if isinstance(value, list) else value


def rewrite(file: Path, value: Any) -> None:
    file.write_text(json.dumps(value))


# names and kinds


def test_every_id_has_its_name(expressive_vocabulary: Vocabulary) -> None:
    v = expressive_vocabulary
    t = v.text.size
    names = {t: "[Text]", t + 1: "[Speech]", t + 2: "[Hu0]", t + 51: "[Hu49]", t + 52: "[Pi0]", t + 59: "[Pi7]"}
    names |= {t + 60: "[St0]", t + 69: "[St9]", t + 70: f"<unused{t + 70}>", v.bos: "<s>", v.eos: "</s>"}
    assert {id: v.token(id) for id in names} == names
    assert len({v.token(id) for id in range(v.padded_size)}) == v.padded_size


def test_every_id_is_of_one_kind(text: TextTokenizer) -> None:
    v = of(text)
    ids = np.arange(v.padded_size)
    kinds = [v.is_text(ids), *(v.is_unit(ids, stream) for stream in UNITS)]
    other = {v.bos, v.eos, v.marker("[Text]"), v.marker("[Speech]"), *range(v.size, v.padded_size)}
    assert set(np.flatnonzero(np.sum(kinds, axis=0) == 0)) == other
    assert np.sum(kinds, axis=0).max() == 1
    assert [kind.sum() for kind in kinds] == [text.size - len({v.bos, v.eos}), 50, 8, 10]
    assert np.array_equal(v.is_speech(ids), np.sum(kinds[1:], axis=0) == 1)


def test_streams_that_are_not_there_have_no_units(vocabulary: Vocabulary) -> None:
    assert not vocabulary.is_unit(np.arange(vocabulary.padded_size), "pitch").any()


def test_markers_around_spans(vocabulary: Vocabulary) -> None:
    t = vocabulary.text.size
    assert (vocabulary.opening(TEXT), vocabulary.closing(TEXT)) == ([t], [])
    assert (vocabulary.opening(SPEECH), vocabulary.closing(SPEECH)) == ([t + 1], [])
    assert vocabulary.marker("[ASR]") is None
    glm = Vocabulary(vocabulary.text, glm_4_voice())
    assert (glm.opening(TEXT), glm.closing(TEXT)) == ([], [])
    assert (glm.opening(SPEECH), glm.closing(SPEECH)) == ([151_343], [151_344])
    assert (glm.token(glm.bos), glm.token(glm.eos), glm.token(152_360)) == ("<sop>", "<|endoftext|>", "<|audio_7|>")


# text and units


def test_pieces_do_not_cross_words(text: TextTokenizer) -> None:
    v = of(text)
    sentence = "Tom went to catch a Zebra!"
    assert v.encode_text(sentence) == [id for word in sentence.split() for id in v.encode_text(word)]
    assert v.encode_text("  Tom \n went ") == v.encode_text("Tom") + v.encode_text("went")
    assert v.decode_text(v.encode_text(sentence)) == sentence
    assert v.is_text(np.array(v.encode_text(sentence))).all()


@pytest.mark.parametrize("stream", UNITS)
def test_units_there_and_back(expressive_vocabulary: Vocabulary, stream: str) -> None:
    v = expressive_vocabulary
    units = np.arange(UNITS[stream], dtype=np.uint16)
    ids = v.encode_units(units, stream)
    assert ids.dtype == np.int64
    assert v.is_unit(ids, stream).all()
    assert v.decode_units(ids, stream).tolist() == units.tolist()
    assert len(v.encode_units(units[:0], stream)) == 0


@pytest.mark.parametrize(
    ("stream", "units", "problem"),
    [
        ("semantic", [0, 50], "semantic unit 50 is outside the vocabulary: expected 0 to 49"),
        ("semantic", [-1, 3], "semantic unit -1"),
        ("pitch", [8], "pitch unit 8 is outside the vocabulary: expected 0 to 7"),
        ("style", [65_535], "style unit 65535"),
    ],
)
def test_units_outside_of_their_block_are_refused(
    expressive_vocabulary: Vocabulary, stream: str, units: list[int], problem: str
) -> None:
    with pytest.raises(InputError, match=problem):
        expressive_vocabulary.encode_units(np.array(units), stream)


# one meaning for one id


def test_a_text_tokenizer_may_know_the_layouts_tokens(texts: dict[str, TextTokenizer]) -> None:
    """The released GLM-4-Voice tokenizer does: what it calls <|audio_0|>, the layout calls so too."""
    layout = spirit(texts["byte-level"].size, {"semantic": 3}, texts["byte-level"].bos, texts["byte-level"].eos)
    tokenizer = Tokenizer.from_str(texts["byte-level"].data.decode())
    tokenizer.add_tokens([AddedToken(name) for name in ("[Text]", "[Speech]", "[Hu0]")])
    knows = Vocabulary(HuggingFaceText(tokenizer.to_str().encode(), "<|end|>", "<|end|>"), layout)
    unit = layout.blocks[0].start
    assert knows.token(unit) == "[Hu0]"
    assert knows.is_unit(np.array([unit]))[0]
    assert not knows.is_text(np.array([unit]))[0]


def test_a_text_piece_with_the_id_of_a_unit_is_refused(texts: dict[str, TextTokenizer]) -> None:
    text = texts["unigram"]
    with pytest.raises(InputError, match=r"to the text tokenizer, '\[Text\]' to the layout"):
        Vocabulary(text, spirit(text.size - 1, {"semantic": 3}))
    with pytest.raises(InputError, match="'<u0>' to the layout"):
        Vocabulary(text, Layout(text.size, {}, (Block("semantic", "<u{}>", 280, 5),), Wrap(), Wrap()))
    with pytest.raises(InputError, match=r"'\[ASR\]' to the layout"):
        Vocabulary(text, Layout(text.size, {"[ASR]": 5}, (), Wrap(), Wrap()))


# hashes and files


def test_whatever_an_id_means_is_in_the_hash(texts: dict[str, TextTokenizer]) -> None:
    text = texts["unigram"]
    layouts = [
        spirit(text.size, {"semantic": 50}),
        spirit(text.size, {"semantic": 51}),
        spirit(text.size, {"semantic": 50, "pitch": 1}),
        spirit(text.size, {"semantic": 50}, tasks=("[ASR]",)),
        spirit(text.size, {"semantic": 50}, bos=2),
        spirit(text.size, {"semantic": 50}, eos=1),
        spirit(text.size, {"semantic": 50}, pad_to_multiple=64),
        spirit(text.size + 1, {"semantic": 50}),
        replace(spirit(text.size, {"semantic": 50}), deduplicate=False),
        glm_4_voice(),
    ]
    hashes = {Vocabulary(text, layout).hash for layout in layouts}
    assert len(hashes) == len(layouts)
    assert len({Vocabulary(other, glm_4_voice()).hash for other in texts.values()}) == len(texts)


def test_what_the_manifest_says(texts: dict[str, TextTokenizer], tmp_path: Path) -> None:
    """The hash is of this: whoever changes it makes every store and checkpoint unreadable."""
    text = texts["unigram"]
    markers = {"[ASR]": 999, "<a>": 900, "</a>": 901}
    layout = Layout(500, markers, (Block("semantic", "<u{}>", 902, 3),), Wrap(), Wrap("<a>", "</a>"), 1, 2, 100)
    Vocabulary(text, layout).save(tmp_path)
    manifest = json.loads((tmp_path / "vocabulary.json").read_text())
    assert len(manifest.pop("hash")) == 64
    assert manifest == {
        "version": 3,
        "text": {"kind": "sentencepiece", "sha256": text.sha256, "size": 500},
        "bos": 1,
        "eos": 2,
        "markers": markers,
        "blocks": [{"name": "semantic", "token": "<u{}>", "start": 902, "size": 3}],
        "spans": {"text": {"open": "", "close": ""}, "speech": {"open": "<a>", "close": "</a>"}},
        "pad_to_multiple": 100,
        "deduplicate": True,
        "padded_size": 1000,
    }


def test_saved_and_loaded(text: TextTokenizer, tmp_path: Path) -> None:
    for number, v in enumerate((of(text), of(text, {"semantic": 3}, ("[ASR]", "[TTS]")))):
        folder = tmp_path / "new" / str(number)
        v.save(folder)
        loaded = Vocabulary.load(folder)
        assert loaded.hash == v.hash
        assert loaded.layout == v.layout
        assert json.loads((folder / "vocabulary.json").read_text())["hash"] == v.hash
        assert [loaded.token(id) for id in range(v.padded_size)] == [v.token(id) for id in range(v.padded_size)]
        assert loaded.encode_text("Tom went to sea.") == v.encode_text("Tom went to sea.")


def test_glm_saved_and_loaded(texts: dict[str, TextTokenizer], tmp_path: Path) -> None:
    v = Vocabulary(texts["byte-level"], glm_4_voice())
    v.save(tmp_path)
    loaded = Vocabulary.load(tmp_path)
    assert (loaded.hash, loaded.layout) == (v.hash, glm_4_voice())


def test_the_order_of_keys_in_the_files_changes_nothing(text: TextTokenizer, tmp_path: Path) -> None:
    v = of(text, tasks=("[TTS]", "[ASR]"))
    v.save(tmp_path)
    for seed in range(5):
        for file in tmp_path.glob("*.json"):
            rewrite(file, shuffled(json.loads(file.read_text()), random.Random(seed)))
        loaded = Vocabulary.load(tmp_path)
        assert loaded.hash == v.hash
        assert [loaded.token(id) for id in range(v.size)] == [v.token(id) for id in range(v.size)]
        assert loaded.encode_text("Tom went to sea.") == v.encode_text("Tom went to sea.")


@pytest.mark.parametrize(
    ("key", "value"),
    [("bos", 2), ("pad_to_multiple", 64), ("markers", {"[Text]": 900, "[Speech]": 901}), ("hash", "0" * 64)],
)
def test_a_changed_manifest_is_refused(vocabulary: Vocabulary, tmp_path: Path, key: str, value: Any) -> None:
    vocabulary.save(tmp_path)
    manifest = json.loads((tmp_path / "vocabulary.json").read_text())
    rewrite(tmp_path / "vocabulary.json", {**manifest, key: value})
    with pytest.raises(InputError, match="made with vocabulary"):
        Vocabulary.load(tmp_path)


def test_a_changed_text_tokenizer_is_refused(texts: dict[str, TextTokenizer], tmp_path: Path) -> None:
    of(texts["byte-level"]).save(tmp_path)
    data = json.loads((tmp_path / "text.json").read_text())
    data["model"]["merges"].reverse()
    rewrite(tmp_path / "text.json", data)
    with pytest.raises(InputError, match="made with vocabulary"):
        Vocabulary.load(tmp_path)


def test_incomplete_folders_are_refused(vocabulary: Vocabulary, tmp_path: Path) -> None:
    for name in ("vocabulary.json", "text-tokenizer.json", "text.model"):
        vocabulary.save(tmp_path)
        (tmp_path / name).unlink()
        with pytest.raises(InputError, match=name):
            Vocabulary.load(tmp_path)


def test_another_version_is_refused(vocabulary: Vocabulary, tmp_path: Path) -> None:
    vocabulary.save(tmp_path)
    rewrite(tmp_path / "vocabulary.json", {"version": 1})
    with pytest.raises(InputError, match=r"vocabulary\.json: version 1, expected 3"):
        Vocabulary.load(tmp_path)


def test_a_hash_that_differs_is_refused_with_both_named(
    vocabulary: Vocabulary, texts: dict[str, TextTokenizer]
) -> None:
    other = of(texts["bpe"])
    with pytest.raises(InputError) as error:
        vocabulary.require_hash(other.hash, Path("store"))
    assert str(error.value).startswith("store: ")
    assert other.hash[:16] in str(error.value)
    assert vocabulary.hash[:16] in str(error.value)
    vocabulary.require_hash(vocabulary.hash, Path("store"))
