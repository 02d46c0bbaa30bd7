"""Aligned documents on disk: flat arrays that are memory-mapped, so that interleaving happens when they are read.

A store folder holds the vocabulary and one folder a split:

    vocabulary.json, text.model
    SPLIT/text.npy            int32  [text ids]      text ids of all words of all documents
    SPLIT/units.npy           uint16 [units]         semantic units, not deduplicated
    SPLIT/word_text.npy       int64  [words + 1]     where each word's text ids begin
    SPLIT/word_units.npy      int64  [words + 1]     where each word's units begin
    SPLIT/document_words.npy  int64  [documents + 1] where each document's words begin
    SPLIT/manifest.json       ids and speakers of the documents, unit rate, vocabulary hash, sha256 of the arrays
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spiritlm.errors import InputError
from spiritlm.run.files import atomic_folder, read_json, sha256_file, write_json
from spiritlm.tokens.documents import AlignedDocument
from spiritlm.tokens.vocabulary import Vocabulary

ARRAYS = ("text", "units", "word_text", "word_units", "document_words")


@dataclass(frozen=True)
class NamedDocument:
    """An aligned document with the id of its recording and its speaker."""

    id: str
    speaker: str
    document: AlignedDocument


def write_split(
    folder: Path, split: str, documents: Sequence[NamedDocument], rate: float, vocabulary: Vocabulary
) -> dict[str, int]:
    """Write `folder/split`, whole or not at all. `rate`: units per second, Hz. Returns its counts."""
    content = [named.document for named in documents]
    arrays = {
        "text": _join([d.text for d in content], np.int32),
        "units": _join([d.units for d in content], np.uint16),
        "word_text": _offsets([np.diff(d.word_text) for d in content]),
        "word_units": _offsets([np.diff(d.word_units) for d in content]),
        "document_words": _offsets([np.array([len(d)]) for d in content]),
    }
    counts = {"documents": len(content), "words": len(arrays["word_text"]) - 1}
    counts |= {"text_ids": len(arrays["text"]), "units": len(arrays["units"])}
    with atomic_folder(folder / split) as temporary:
        for name, array in arrays.items():
            np.save(temporary / f"{name}.npy", array, allow_pickle=False)
        manifest = {
            "rate": rate,
            "vocabulary": vocabulary.hash,
            "counts": counts,
            "sha256": {name: sha256_file(temporary / f"{name}.npy") for name in arrays},
            "ids": [named.id for named in documents],
            "speakers": [named.speaker for named in documents],
        }
        write_json(temporary / "manifest.json", manifest)
    return counts


def _join(parts: Sequence[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate([np.zeros(0, dtype), *parts]).astype(dtype)


def _offsets(lengths: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(_join(lengths, np.int64))]).astype(np.int64)


class DocumentStore:
    """One split of a store, memory-mapped: `store[i]` is an `AlignedDocument`."""

    def __init__(self, folder: Path, split: str) -> None:
        """Raises `InputError` for an absent split, another vocabulary's hash or arrays that do not fit together."""
        self.vocabulary = Vocabulary.load(folder)
        manifest = read_json(folder / split / "manifest.json")
        self.vocabulary.require_hash(manifest["vocabulary"], folder / split / "manifest.json")
        self.ids: list[str] = manifest["ids"]
        self.speakers: list[str] = manifest["speakers"]
        self.rate: float = manifest["rate"]
        self._index = {id: i for i, id in enumerate(self.ids)}
        arrays = {name: _open(folder / split / f"{name}.npy") for name in ARRAYS}
        self._text, self._units, self._word_text, self._word_units, self._document_words = arrays.values()
        self._check(folder / split, manifest["counts"])

    def _check(self, folder: Path, counts: dict[str, int]) -> None:
        found = {
            "documents": len(self._document_words) - 1,
            "words": int(self._document_words[-1]),
            "text_ids": len(self._text),
            "units": len(self._units),
        }
        ends = (int(self._word_text[-1]), int(self._word_units[-1]))
        if found != counts or ends != (found["text_ids"], found["units"]):
            raise InputError(f"{folder}: the arrays do not fit the manifest: found {found}, expected {counts}")

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> AlignedDocument:
        first, last = self._document_words[index], self._document_words[index + 1]
        word_text = self._word_text[first : last + 1]
        word_units = self._word_units[first : last + 1]
        return AlignedDocument(
            self._text[word_text[0] : word_text[-1]],
            self._units[word_units[0] : word_units[-1]],
            word_text - word_text[0],
            word_units - word_units[0],
        )

    def named(self, id: str) -> AlignedDocument:
        """The document of one recording. Raises `InputError` where the store does not hold it."""
        if id not in self._index:
            raise InputError(f"the store has no document {id!r}")
        return self[self._index[id]]

    def units(self, index: int) -> np.ndarray:
        """uint16 `[units]` of one recording, not deduplicated."""
        return self[index].units


def _open(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a whole array: {error}") from None
