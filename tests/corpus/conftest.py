"""A small store with known content: 12 spoken and 4 written documents."""

from pathlib import Path

import numpy as np
import pytest

from spiritlm.corpus.store import NamedDocument, write_split
from spiritlm.tokens.documents import AlignedDocument
from spiritlm.tokens.vocabulary import Vocabulary

WORDS = ["Tom", "went", "to", "the", "lake", "with", "his", "mother", "and", "soon", "the", "rain", "came", "."]


def document(vocabulary: Vocabulary, seed: int, spoken: bool = True) -> AlignedDocument:
    rng = np.random.default_rng(seed)
    pieces = [vocabulary.encode_text(str(word)) for word in rng.choice(WORDS, size=rng.integers(5, 30))]
    text = np.array([id for piece in pieces for id in piece], dtype=np.int32)
    counts = rng.integers(0, 9, size=len(pieces)) if spoken else np.zeros(len(pieces), dtype=int)
    units = rng.integers(0, 50, size=counts.sum()).astype(np.uint16)
    return AlignedDocument(text, units, np.cumsum([0, *map(len, pieces)]), np.concatenate([[0], np.cumsum(counts)]))


@pytest.fixture(scope="session")
def documents(vocabulary: Vocabulary) -> list[NamedDocument]:
    return [NamedDocument(f"doc-{i}", f"voice-{i % 3}", document(vocabulary, i)) for i in range(12)]


@pytest.fixture(scope="session")
def store(vocabulary: Vocabulary, documents: list[NamedDocument], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("store")
    vocabulary.save(folder)
    write_split(folder, "train", documents, 25.0, vocabulary)
    write_split(folder, "dev", documents[:3], 25.0, vocabulary)
    written = [NamedDocument(f"w-{i}", "", document(vocabulary, 100 + i, spoken=False)) for i in range(4)]
    write_split(folder, "written", written, 25.0, vocabulary)
    return folder
