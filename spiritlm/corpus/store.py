"""Documents on disk as parallel Megatron streams, so that interleaving happens when they are read.

A store folder holds the vocabulary and one folder a split; sequence `i` of every stream is document `i`:

    vocabulary.json, text.model
    SPLIT/text.bin, .idx        int32   text ids of all words
    SPLIT/words                 int32   three a word: its first text id, its first unit, the end of its units
    SPLIT/sentences             int32   the first word of each sentence
    SPLIT/semantic              uint16  units, not deduplicated
    SPLIT/pitch, SPLIT/style    uint16  where the tokenizers give them
    SPLIT/documents             uint8   UTF-8 JSON: id, speaker, audio, start, duration
    SPLIT/keys                  int64   one sequence: the key that seeds each document's draws, made from its id
    SPLIT/manifest.json         unit rates, vocabulary hash, counts, sha256 of every file; written last

A text store has no units, a store of untranscribed recordings no text: their streams are there and empty.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from spiritlm.corpus.indexed import Indexed, IndexedWriter
from spiritlm.errors import InputError
from spiritlm.run.files import atomic_folder, read_json, sha256_file, write_json
from spiritlm.tokens.documents import words_of
from spiritlm.tokens.emit import Document
from spiritlm.tokens.layout import STREAMS
from spiritlm.tokens.vocabulary import Vocabulary

STORE_MANIFEST, VERSION = "manifest.json", 2
DTYPES: dict[str, type[np.generic]] = {
    "text": np.int32,
    "words": np.int32,
    "sentences": np.int32,
    "semantic": np.uint16,
    "pitch": np.uint16,
    "style": np.uint16,
}
"""The streams of `emit.Document`, in its order."""
RECORDS, KEYS = "documents", "keys"


@dataclass(frozen=True)
class Record:
    """What is known of a document beside its tokens."""

    id: str
    speaker: str = ""
    audio: str = ""
    """Path of the recording relative to the root of its corpus."""
    start: float = 0.0
    """Second of the recording at which its units begin."""
    duration: float = 0.0
    """Seconds that its units cover."""

    @property
    def key(self) -> int:
        """int64: seeds the document's draws; follows from its id alone."""
        return int.from_bytes(hashlib.blake2b(self.id.encode(), digest_size=8).digest(), "little", signed=True)


def write_split(
    folder: Path,
    split: str,
    documents: Iterable[tuple[Record, Document]],
    rates: Mapping[str, float],
    vocabulary: Vocabulary,
) -> dict[str, int]:
    """Write `folder/split`, whole or not at all. `rates`: units per second of each stream, Hz. Returns its counts."""
    keys: list[int] = []
    with atomic_folder(folder / split) as temporary, ExitStack() as stack:
        writers = {
            name: stack.enter_context(IndexedWriter(temporary / name, dtype))
            for name, dtype in {**DTYPES, RECORDS: np.uint8}.items()
        }
        for record, document in documents:
            for name in DTYPES:
                writers[name].append(getattr(document, name))
            row = json.dumps(asdict(record), ensure_ascii=False)
            writers[RECORDS].append(np.frombuffer(row.encode(), np.uint8))
            keys.append(record.key)
        return _finish(temporary, writers, np.array(keys, np.int64), rates, vocabulary)


def merge_splits(parts: Sequence[Path], folder: Path, split: str, vocabulary: Vocabulary) -> dict[str, int]:
    """Join split folders, in order, into `folder/split`; one is open at a time. Returns its counts.

    Raises `InputError` where a file of a part is corrupt.
    """
    keys: list[np.ndarray] = [np.zeros(0, np.int64)]
    rates: dict[str, float] = {}
    with atomic_folder(folder / split) as temporary, ExitStack() as stack:
        writers = {
            name: stack.enter_context(IndexedWriter(temporary / name, dtype))
            for name, dtype in {**DTYPES, RECORDS: np.uint8}.items()
        }
        for part in parts:
            files = SplitFiles(part, vocabulary)
            files.verify()
            for name, writer in writers.items():
                writer.extend(files.streams[name])
            keys.append(files.keys.copy())
            rates = files.rates
        return _finish(temporary, writers, np.concatenate(keys), rates, vocabulary)


def _finish(
    folder: Path,
    writers: dict[str, IndexedWriter],
    keys: np.ndarray,
    rates: Mapping[str, float],
    vocabulary: Vocabulary,
) -> dict[str, int]:
    sums: dict[str, str] = {}
    for writer in writers.values():
        sums |= writer.close()
    with IndexedWriter(folder / KEYS, np.int64) as writer:
        writer.append(keys)
        sums |= writer.close()
    streams = {name: Indexed(folder / name, dtype) for name, dtype in DTYPES.items()}
    counts = {"documents": len(keys)}
    counts |= {_COUNTED[name]: len(stream.values) for name, stream in streams.items()}
    counts["words"] //= 3
    manifest = {"version": VERSION, "vocabulary": vocabulary.hash, "rates": dict(rates), "counts": counts}
    write_json(folder / STORE_MANIFEST, {**manifest, "sha256": sums})
    return counts


_COUNTED = {
    "text": "text_ids",
    "words": "words",
    "sentences": "sentences",
    "semantic": "units",
    "pitch": "pitch_units",
    "style": "style_units",
}


class SplitFiles:
    """The open files of one split folder."""

    def __init__(self, folder: Path, vocabulary: Vocabulary) -> None:
        """Raises `InputError` for another vocabulary's hash and for files that do not fit together."""
        self.folder = folder
        self.manifest: dict[str, Any] = read_json(folder / STORE_MANIFEST)
        if self.manifest.get("version") != VERSION:
            found = self.manifest.get("version")
            raise InputError(f"{folder / STORE_MANIFEST}: store of version {found}, expected {VERSION}")
        vocabulary.require_hash(self.manifest["vocabulary"], folder / STORE_MANIFEST)
        self.rates: dict[str, float] = self.manifest["rates"]
        kinds = {**DTYPES, RECORDS: np.uint8}
        self.streams = {name: Indexed(folder / name, dtype) for name, dtype in kinds.items()}
        keys = Indexed(folder / KEYS, np.int64)
        if len(keys) != 1 or {len(stream) for stream in self.streams.values()} != {len(keys.values)}:
            raise InputError(f"{folder}: its streams do not hold the same documents")
        self.keys = keys.values
        """int64 `[documents]`."""
        self._verified = False

    def verify(self) -> None:
        """Read every file, once, and raise `InputError` for one whose sha256 is not the manifest's."""
        if self._verified:
            return
        for name, expected in self.manifest["sha256"].items():
            found = sha256_file(self.folder / name)
            if found != expected:
                raise InputError(f"{self.folder / name}: corrupt: sha256 {found[:16]}, expected {expected[:16]}")
        self._verified = True

    def stamp(self) -> dict[str, list[int]]:
        """Size in bytes and time in ns of every file: the same until one is written again."""
        found = {name: (self.folder / name).stat() for name in self.manifest["sha256"]}
        return {name: [file.st_size, file.st_mtime_ns] for name, file in found.items()}

    def forget(self) -> None:
        """Give back the memory of everything that was read."""
        for stream in self.streams.values():
            stream.forget()


class DocumentStore(Sequence[Document]):
    """One split of a store, memory-mapped: `store[i]` is document `i`."""

    def __init__(self, folder: Path, split: str, vocabulary: Vocabulary | None = None) -> None:
        """`vocabulary`: what the store must be made with. Raises `InputError` for an absent split, another
        vocabulary's hash, or files that do not fit together."""
        self.vocabulary = Vocabulary.load(folder)
        if vocabulary is not None:
            vocabulary.require_hash(self.vocabulary.hash, folder)
        if not (folder / split / STORE_MANIFEST).is_file():
            there = sorted(path.parent.name for path in folder.glob(f"*/{STORE_MANIFEST}"))
            raise InputError(f"{folder}: has no split {split!r}, it has {', '.join(there) or 'none'}")
        self.files = SplitFiles(folder / split, self.vocabulary)
        self.counts: dict[str, int] = self.files.manifest["counts"]
        self.rates = np.array([self.files.rates.get(stream, 0.0) for stream in STREAMS])
        """float64 `[3]`: units per second of semantic, pitch and style; 0 for a stream the store has not."""

    def __len__(self) -> int:
        return len(self.files.keys)

    def __getitem__(self, index: int) -> Document:  # type: ignore[override]
        return Document(*(self.files.streams[name][index] for name in DTYPES))

    def record(self, index: int) -> Record:
        return Record(**json.loads(self.files.streams[RECORDS][index].tobytes()))

    @cached_property
    def records(self) -> list[Record]:
        """Of all documents; a large store has more of them than one wants in memory."""
        return [self.record(index) for index in range(len(self))]

    @cached_property
    def _index(self) -> dict[str, int]:
        return {record.id: index for index, record in enumerate(self.records)}

    def named(self, id: str) -> Document:
        """The document of one id. Raises `InputError` where the store does not hold it."""
        if id not in self._index:
            raise InputError(f"the store has no document {id!r}")
        return self[self._index[id]]

    def check(self) -> None:
        """Verify every file, then that every word lies within its document and every id within the vocabulary."""
        self.files.verify()
        blocks = self.vocabulary.blocks
        for index, document in enumerate(self):
            words = document.words.reshape(-1, 3)
            fits = np.all(np.diff(words[:, 0]) >= 0) and np.all(np.diff(words[:, 1:].ravel()) >= 0)
            fits &= not len(document.text) or 0 <= document.text.min() <= document.text.max() < self.vocabulary.size
            fits &= not len(words) or (words[-1, 0] <= len(document.text) and words.min() >= 0)
            fits &= not len(words) or words[:, 2].max() <= len(document.semantic)
            fits &= bool(np.all(np.diff(document.sentences, prepend=-1, append=words_of(document)) > 0))
            fits &= not len(words) or document.sentences[:1].tolist() == [0]
            for stream in STREAMS:
                units = getattr(document, stream)
                fits &= not len(units) or (stream in blocks and int(units.max()) < blocks[stream].size)
            if not fits:
                raise InputError(f"{self.files.folder}: document {self.record(index).id} does not fit its streams")
