"""A small store of every stream with known content, and copies of it to spoil."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from spiritlm.corpus.store import Record, write_split
from spiritlm.tokens.emit import Document, document_of
from spiritlm.tokens.layout import spirit
from spiritlm.tokens.text import SentencePieceText, words_to_ids
from spiritlm.tokens.vocabulary import Vocabulary

WORDS = ["Tom", "went", "to", "the", "lake", "with", "his", "mother", "and", "soon", "the", "rain", "came", "."]
RATES = {"semantic": 25.0, "pitch": 12.5, "style": 1.0}
Named = list[tuple[Record, Document]]


def spoken(vocabulary: Vocabulary, seed: int) -> tuple[Record, Document]:
    """Words with gaps between them, some without a unit, in sentences; runs of equal units; pitch and style."""
    rng = np.random.default_rng(seed)
    told = rng.choice(WORDS, size=rng.integers(4, 40)).tolist()
    ids, firsts = words_to_ids(told, vocabulary.text)
    gaps, lengths = rng.integers(0, 3, size=len(told)), rng.integers(0, 9, size=len(told))
    ends = np.cumsum(gaps + lengths)
    units = int(ends[-1] + rng.integers(0, 5))
    sentences = np.unique([0, *rng.integers(0, len(told), size=3)])
    document = document_of(
        ids,
        np.stack([firsts[:-1], ends - lengths, ends], axis=1),
        sentences,
        np.repeat(rng.integers(0, 50, size=units), rng.integers(1, 4, size=units))[:units],
        rng.integers(0, 8, size=units // 2),
        rng.integers(0, 10, size=-(-units // 25)),
    )
    return Record(f"doc-{seed}", f"voice-{seed % 3}", f"wav/{seed}.wav", 0.5, round(units / 25, 4)), document


@pytest.fixture(scope="session")
def task_vocabulary(text_model: bytes) -> Vocabulary:
    """Text, markers, 50 semantic, 8 pitch and 10 style units, then [ASR] and [TTS]."""
    text = SentencePieceText(text_model)
    sizes = {"semantic": 50, "pitch": 8, "style": 10}
    return Vocabulary(text, spirit(text.size, sizes, text.bos, text.eos, ("[ASR]", "[TTS]")))


@pytest.fixture(scope="session")
def documents(task_vocabulary: Vocabulary) -> Named:
    return [spoken(task_vocabulary, seed) for seed in range(24)]


@pytest.fixture(scope="session")
def store(task_vocabulary: Vocabulary, documents: Named, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Splits: `train`, `dev` (the first three of them), `texts` without units, `untold` without words."""
    folder: Path = tmp_path_factory.mktemp("store")
    task_vocabulary.save(folder)
    write_split(folder, "train", documents, RATES, task_vocabulary)
    write_split(folder, "dev", documents[:3], RATES, task_vocabulary)
    texts = [(Record(f"text-{record.id}"), document_of(document.text)) for record, document in documents]
    write_split(folder, "texts", texts, {}, task_vocabulary)
    untold = [(Record(f"untold-{r.id}"), document_of((), (), (), d.semantic, d.pitch, d.style)) for r, d in documents]
    write_split(folder, "untold", untold, RATES, task_vocabulary)
    return folder


@pytest.fixture
def copy(store: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(store, tmp_path / "store"))
