import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from spiritlm.corpus.store import DocumentStore, NamedDocument, write_split
from spiritlm.errors import InputError
from spiritlm.tokens.vocabulary import Vocabulary


def test_documents_come_back(store: Path, documents: list[NamedDocument]) -> None:
    read = DocumentStore(store, "train")
    assert (len(read), read.rate, read.ids[3], read.speakers[4]) == (12, 25.0, "doc-3", "voice-1")
    for index, named in enumerate(documents):
        for field in ("text", "units", "word_text", "word_units"):
            np.testing.assert_array_equal(getattr(read[index], field), getattr(named.document, field))
    np.testing.assert_array_equal(read.named("doc-5").units, read.units(5))
    with pytest.raises(InputError, match="doc-99"):
        read.named("doc-99")


def test_same_documents_same_bytes(store: Path, documents: list[NamedDocument], vocabulary: Vocabulary) -> None:
    write_split(store, "again", documents, 25.0, vocabulary)
    for file in (store / "train").iterdir():
        assert file.read_bytes() == (store / "again" / file.name).read_bytes()


def test_truncated_arrays_and_absent_splits_are_refused(store: Path, tmp_path: Path) -> None:
    copy = tmp_path / "store"
    shutil.copytree(store, copy)
    with pytest.raises(InputError, match="absent"):
        DocumentStore(copy, "absent")
    units = copy / "train" / "units.npy"
    units.write_bytes(units.read_bytes()[:-8])
    with pytest.raises(InputError, match=r"units\.npy: not a whole array"):
        DocumentStore(copy, "train")
    shutil.copy(copy / "dev" / "units.npy", units)
    with pytest.raises(InputError, match="do not fit the manifest"):
        DocumentStore(copy, "train")


def test_another_vocabulary_is_refused(store: Path, tmp_path: Path, text_model: bytes, vocabulary: Vocabulary) -> None:
    copy, other = tmp_path / "store", Vocabulary(text_model, semantic_units=60)
    shutil.copytree(store, copy)
    other.save(copy)
    with pytest.raises(InputError) as error:
        DocumentStore(copy, "train")
    assert vocabulary.hash[:16] in str(error.value)
    assert other.hash[:16] in str(error.value)
    assert json.loads((copy / "train" / "manifest.json").read_text())["vocabulary"] == vocabulary.hash
