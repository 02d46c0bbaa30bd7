from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from spiritlm.corpus.manifest import SpokenDocument
from spiritlm.corpus.store import DocumentStore, Record, write_split
from spiritlm.errors import InputError
from spiritlm.inference.decoding import TokenPrompt
from spiritlm.suites import style_consistency
from spiritlm.suites.style_consistency import Item
from spiritlm.tokens.emit import document_of
from spiritlm.tokens.vocabulary import Vocabulary

RATES = {"semantic": 12.5, "pitch": 12.5, "style": 1.0}


def told(id: str, mood: str, moods: list[list[object]] | None = None) -> SpokenDocument:
    custom = {"mood": mood, **({"moods": moods} if moods else {})}
    return SpokenDocument(id, Path(f"{id}.wav"), 2.4, 16_000, "voice", (), custom)


def written(folder: Path, vocabulary: Vocabulary) -> DocumentStore:
    vocabulary.save(folder)
    documents = [
        (
            Record(id, "voice", f"{id}.wav", 0.0, 2.4),
            document_of(semantic=np.arange(30), pitch=np.arange(30) // 10, style=(3, 4, 4)),
        )
        for id in ("b_mutual", "a_mutual", "a_correct")
    ]
    write_split(folder, "test", documents, RATES, vocabulary)
    return DocumentStore(folder, "test")


def test_a_prompt_is_the_story_in_all_streams(tmp_path: Path, expressive_vocabulary: Vocabulary) -> None:
    v = expressive_vocabulary
    items = style_consistency.read_items(written(tmp_path, v), [told("a_mutual", "sad"), told("b_mutual", "happy")])
    assert [(item.name, item.mood) for item in items] == [("a_mutual", "sad"), ("b_mutual", "happy")]
    names = [v.token(id) for id in items[0].prompt]
    assert names[:6] == [v.token(v.bos), "[Speech]", "[St3]", "[Pi0]", "[Hu0]", "[Hu1]"]
    assert [name for name in names if name.startswith("[St")] == ["[St3]", "[St4]", "[St4]"]
    assert [name for name in names if name.startswith("[Pi")] == ["[Pi0]", "[Pi1]", "[Pi2]"]


def test_a_unit_stands_for_the_mood_it_mostly_has(tmp_path: Path, expressive_vocabulary: Vocabulary) -> None:
    """Of a recording that changes, each second has the mood of its middle."""
    changing = told("a_mutual", "sad", [["sad", 0.0, 1.2], ["happy", 1.2, 2.4]])
    recordings = [changing, told("b_mutual", "happy"), told("a_correct", "happy")]
    moods = style_consistency.moods_of_units(written(tmp_path, expressive_vocabulary), recordings)
    assert len(moods) == 10
    assert moods[3:5] == ["happy", "happy"]
    alone = style_consistency.moods_of_units(written(tmp_path / "again", expressive_vocabulary), [changing])
    assert alone[3:5] == ["sad", "happy"]


def test_stores_without_styles_or_moods_are_refused(
    tmp_path: Path, vocabulary: Vocabulary, expressive_vocabulary: Vocabulary
) -> None:
    store = written(tmp_path / "a", expressive_vocabulary)
    with pytest.raises(InputError, match="mood is known"):
        style_consistency.read_items(store, [told("a_mutual", "sad")])
    vocabulary.save(tmp_path / "b")
    plain = [(Record("a_mutual", "voice"), document_of(semantic=[1]))]
    write_split(tmp_path / "b", "test", plain, {"semantic": 25.0}, vocabulary)
    with pytest.raises(InputError, match="no style units"):
        style_consistency.read_items(DocumentStore(tmp_path / "b", "test"), [])


def test_kept_and_shuffled(expressive_vocabulary: Vocabulary) -> None:
    """Of four stories, two are kept; a continuation without style keeps nothing; chance is that of all other pairs."""
    v = expressive_vocabulary
    items = [Item(str(n), "voice", mood, np.array([v.bos])) for n, mood in enumerate(("sad", "sad", "happy", "happy"))]
    said = [[1, 1, 2], [2], [2], []]
    table = ["angry", "sad", "happy"]

    def tell_on(prompts: Sequence[TokenPrompt]) -> list[np.ndarray]:
        return [v.encode_units(np.array(units, dtype=np.int64), "style") for units in said]

    found = style_consistency.evaluate(items, tell_on, v, table)
    assert [item["continued"] for item in found["items"]] == ["sad", "happy", "happy", ""]
    assert found["kept"]["value"] == 0.5
    assert found["without_style"] == 1
    everything = [float(found["items"][i]["continued"] == items[j].mood) for i in range(4) for j in range(4) if i != j]
    assert found["shuffled"]["value"] == pytest.approx(np.mean(everything))
    assert found["difference"]["value"] == pytest.approx(0.5 - np.mean(everything))
