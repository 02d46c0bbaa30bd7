from pathlib import Path

import numpy as np
import pytest

from spiritlm.corpus.store import DocumentStore, Record, write_split
from spiritlm.errors import InputError
from spiritlm.scoring.loglikelihood import Request, Score
from spiritlm.suites import storycloze
from spiritlm.tokens.emit import Document, document_of
from spiritlm.tokens.interleave import SPEECH, TEXT
from spiritlm.tokens.text import words_to_ids
from spiritlm.tokens.vocabulary import Vocabulary


def spoken(vocabulary: Vocabulary, text: str, unit: int) -> Document:
    """One unit a word."""
    ids, starts = words_to_ids(text.split(), vocabulary.text)
    words = [(first, number, number + 1) for number, first in enumerate(starts[:-1])]
    return document_of(ids, words, semantic=np.arange(len(words)) + unit)


@pytest.fixture
def documents(vocabulary: Vocabulary) -> list[tuple[Record, Document]]:
    parts = {
        "mutual": ("Tom went to the lake.", 0),
        "correct": ("Tom was sad.", 20),
        "incorrect": ("the rain came.", 30),
    }
    return [
        (Record(f"{name}_{part}", "slt"), spoken(vocabulary, text, unit))
        for name in ("b", "a")
        for part, (text, unit) in parts.items()
    ]


def read(folder: Path, documents: list[tuple[Record, Document]], vocabulary: Vocabulary) -> list[storycloze.Item]:
    vocabulary.save(folder)
    write_split(folder, "test", documents, {"semantic": 25.0}, vocabulary)
    return storycloze.read_items(DocumentStore(folder, "test"))


def test_requests_of_the_four_directions(
    tmp_path: Path, documents: list[tuple[Record, Document]], vocabulary: Vocabulary
) -> None:
    v, hu = vocabulary, vocabulary.semantic.start
    item = read(tmp_path, documents, vocabulary)[0]
    text, speech = v.encode_text("Tom went to the lake."), [hu + unit for unit in range(5)]
    expected = {
        "T>T": ([v.bos, *v.opening(TEXT), *text], v.encode_text("Tom was sad.")),
        "S>S": ([v.bos, *v.opening(SPEECH), *speech], [hu + 20, hu + 21, hu + 22]),
        "T>S": ([v.bos, *v.opening(TEXT), *text, *v.opening(SPEECH)], [hu + 20, hu + 21, hu + 22]),
        "S>T": ([v.bos, *v.opening(SPEECH), *speech, *v.opening(TEXT)], v.encode_text("Tom was sad.")),
    }
    for direction, (prompt, right) in expected.items():
        first, second = storycloze.requests(item, direction, v)
        assert first.prompt.tolist() == second.prompt.tolist() == prompt
        assert first.continuation.tolist() == right
        assert first.continuation.tolist() != second.continuation.tolist()


def test_items_by_name_and_accuracy(
    tmp_path: Path, documents: list[tuple[Record, Document]], vocabulary: Vocabulary
) -> None:
    items = read(tmp_path, documents, vocabulary)
    assert [item.name for item in items] == ["a", "b"]
    right = set(vocabulary.encode_text("Tom was sad."))

    def knows(requests: list[Request]) -> list[Score]:
        return [Score(-float(set(r.continuation.tolist()) != right), len(r.continuation)) for r in requests]

    result = storycloze.evaluate(items, "S>T", knows, vocabulary)
    assert result["mean"] == {"value": 1.0, "standard_error": 0.0, "pairs": 2}
    assert [item["name"] for item in result["items"]] == ["a", "b"]


def test_an_incomplete_item_is_refused(
    tmp_path: Path, documents: list[tuple[Record, Document]], vocabulary: Vocabulary
) -> None:
    with pytest.raises(InputError, match="b_incorrect"):
        read(tmp_path, [d for d in documents if d[0].id != "b_incorrect"], vocabulary)
    with pytest.raises(InputError, match="no StoryCloze items"):
        read(tmp_path, [d for d in documents if not d[0].id.endswith("_mutual")], vocabulary)
