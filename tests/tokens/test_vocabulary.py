import json
from pathlib import Path

import numpy as np
import pytest

from spiritlm.errors import InputError
from spiritlm.tokens.vocabulary import Vocabulary


def test_layout_is_text_markers_units_padding(vocabulary: Vocabulary) -> None:
    t = vocabulary.text_size
    assert [vocabulary.token(id) for id in (t, t + 1, t + 2, t + 51)] == ["[Text]", "[Speech]", "[Hu0]", "[Hu49]"]
    assert vocabulary.size == t + 52
    assert vocabulary.padded_size % 64 == 0
    assert 0 <= vocabulary.padded_size - vocabulary.size < 64


def test_every_id_is_of_one_kind(vocabulary: Vocabulary) -> None:
    ids = np.arange(vocabulary.padded_size)
    kinds = vocabulary.is_text(ids).astype(int) + vocabulary.is_unit(ids)
    other = [vocabulary.bos, vocabulary.eos, vocabulary.text_marker, vocabulary.speech_marker]
    assert sorted(np.flatnonzero(kinds == 0)) == sorted([*other, *range(vocabulary.size, vocabulary.padded_size)])
    assert kinds.max() == 1


def test_pieces_do_not_cross_words(vocabulary: Vocabulary) -> None:
    text = "Tom went to catch a Zebra!"
    assert vocabulary.encode_text(text) == [id for word in text.split() for id in vocabulary.encode_text(word)]
    assert vocabulary.decode_text(vocabulary.encode_text(text)) == text


def test_units_outside_the_block_are_refused(vocabulary: Vocabulary) -> None:
    units = np.array([0, 49])
    assert vocabulary.decode_units(vocabulary.encode_units(units)).tolist() == [0, 49]
    for bad in ([50], [-1, 3]):
        with pytest.raises(InputError, match="expected 0 to 49"):
            vocabulary.encode_units(np.array(bad))


def test_saved_and_loaded(vocabulary: Vocabulary, tmp_path: Path) -> None:
    vocabulary.save(tmp_path)
    assert Vocabulary.load(tmp_path).hash == vocabulary.hash


def test_another_text_model_or_size_is_another_vocabulary(text_model: bytes, vocabulary: Vocabulary) -> None:
    other = Vocabulary(text_model, semantic_units=51)
    assert other.hash != vocabulary.hash
    with pytest.raises(InputError) as error:
        vocabulary.require_hash(other.hash, Path("store"))
    assert other.hash[:16] in str(error.value)
    assert vocabulary.hash[:16] in str(error.value)


def test_a_changed_manifest_is_refused(vocabulary: Vocabulary, tmp_path: Path) -> None:
    vocabulary.save(tmp_path)
    manifest = json.loads((tmp_path / "vocabulary.json").read_text())
    manifest["blocks"][0]["size"] = 49
    (tmp_path / "vocabulary.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="made with vocabulary"):
        Vocabulary.load(tmp_path)


def test_not_a_text_model() -> None:
    with pytest.raises(InputError, match="not a sentencepiece model"):
        Vocabulary(b"no", 5)
