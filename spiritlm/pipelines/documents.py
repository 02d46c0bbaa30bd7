"""The beginning of every pipeline over recordings: a corpus is cut into shards, each with manifests of its own.

So a worker reads the documents of its shard and no others, however large the corpus.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

from datatrove.pipeline.base import PipelineStep

from spiritlm.corpus.manifest import CORPUS_FILE, SpokenDocument, corpus_root, read_manifest, splits_of, write_manifest
from spiritlm.run.files import read_json, write_json

INPUT, SHARDS_FILE = "input", "shards.json"


@dataclass(frozen=True)
class Shards:
    """How a corpus was cut."""

    splits: tuple[str, ...]
    """The split of each shard."""
    documents: int
    """Of all shards together."""
    sentences: int
    """That have a transcript."""
    sentences_without_words: int
    """Of these; each will count as one long word."""
    hours: float
    """Of audio."""


def cut_into_shards(corpus: Path, work: Path, hours: float) -> Shards:
    """Write manifests of runs of documents, of about `hours` of audio each, to `work/input`, unless they are there."""
    folder = work / INPUT
    if (folder / SHARDS_FILE).is_file():
        found = {"hours": 0.0, **read_json(folder / SHARDS_FILE)}
        return Shards(**{**found, "splits": tuple(found["splits"])})
    names, splits = splits_of(corpus), list[str]()
    folder.mkdir(parents=True, exist_ok=True)
    total = told = unaligned = 0
    seconds = 0.0
    for split in names:
        documents = read_manifest(corpus, split)
        total += len(documents)
        seconds += sum(document.duration for document in documents)
        sentences = [sentence for document in documents for sentence in document.sentences if sentence.text]
        told += len(sentences)
        unaligned += sum(not sentence.words for sentence in sentences)
        for first, end in pairwise(_ends(documents, hours)):
            write_manifest(folder, _name(len(splits)), documents[first:end])
            splits.append(split)
    write_json(folder / CORPUS_FILE, {"root": str(corpus_root(corpus).absolute())})
    shards = Shards(tuple(splits), total, told, unaligned, seconds / 3600)
    write_json(folder / SHARDS_FILE, asdict(shards))
    return shards


def _ends(documents: Sequence[SpokenDocument], hours: float) -> list[int]:
    """Where shards begin and end among the documents, from 0."""
    ends, seconds = [0], 0.0
    for number, document in enumerate(documents, start=1):
        seconds += document.duration
        if seconds >= 3600 * hours or number == len(documents):
            ends.append(number)
            seconds = 0.0
    return ends


def _name(rank: int) -> str:
    return f"{rank:05d}"


class ReadDocuments(PipelineStep):
    """The documents of shard number `rank`."""

    name, type = "read documents", "reader"

    def __init__(self, work: Path) -> None:
        """`work`: what `cut_into_shards` was given."""
        super().__init__()
        self.folder = work / INPUT

    def run(self, data: None = None, rank: int = 0, world_size: int = 1) -> Iterator[SpokenDocument]:
        yield from read_manifest(self.folder, _name(rank))
