from pathlib import Path

import pytest

from spiritlm.corpus.store import Record
from spiritlm.corpus.texts import TextsRecipe
from spiritlm.pipelines.encode_text import EncodeText, ReadTexts
from spiritlm.pipelines.shards import Rejected
from spiritlm.tokens.emit import Document
from spiritlm.tokens.vocabulary import Vocabulary

Encoded = list[tuple[Record, Document] | Rejected]


@pytest.fixture
def texts(tmp_path: Path, vocabulary: Vocabulary) -> Path:
    vocabulary.save(tmp_path / "store")
    (tmp_path / "a.jsonl").write_text(
        '{"text": "Tom was sad."}\n{"text": " "}\nno json\n{"other": 1}\n{"text": "He wanted\\nto catch"}\n'
    )
    (tmp_path / "b.txt").write_text("The rain came soon.\n\nHe wanted\nto catch a big fish.\n")
    return tmp_path


def encode(texts: Path, recipe: TextsRecipe, shards: int = 1) -> list[Encoded]:
    return [
        list(EncodeText(texts / "store").run(ReadTexts(recipe).run(rank=rank, world_size=shards)))
        for rank in range(shards)
    ]


def test_texts_become_documents_and_the_rest_is_rejected(texts: Path, vocabulary: Vocabulary) -> None:
    (found,) = encode(texts, TextsRecipe(root=texts, files=("*.jsonl", "*.txt"), documents="paragraph"))
    kept = [item for item in found if not isinstance(item, Rejected)]
    assert [(record.id, vocabulary.decode_text(document.text)) for record, document in kept] == [
        ("a.jsonl:1", "Tom was sad."),
        ("a.jsonl:5", "He wanted\nto catch"),
        ("b.txt:1", "The rain came soon."),
        ("b.txt:2", "He wanted\nto catch a big fish."),
    ]
    for record, document in kept:
        assert record == Record(record.id)
        assert not any(len(stream) for stream in document[1:])
    rejected = [(item.item, item.reason) for item in found if isinstance(item, Rejected)]
    assert rejected[0] == ("a.jsonl:2", "text empty")
    assert [item for item, _ in rejected] == ["a.jsonl:2", "a.jsonl:3", "a.jsonl:4"]


def test_a_plain_file_may_be_one_document(texts: Path, vocabulary: Vocabulary) -> None:
    ((found,),) = encode(texts, TextsRecipe(root=texts, files=("b.txt",)))
    assert not isinstance(found, Rejected)
    assert (found[0].id, vocabulary.decode_text(found[1].text)) == ("b.txt:1", (texts / "b.txt").read_text().strip())


def test_shards_are_files(texts: Path) -> None:
    recipe = TextsRecipe(root=texts, files=("*.jsonl", "*.txt"))
    (whole,) = encode(texts, recipe)
    one, two = encode(texts, recipe, shards=2)
    assert str([*one, *two]) == str(whole)
    assert len(two) == 1
