"""The end of every pipeline that fills a store: shards are written apart, then joined into splits.

Items that cannot be used travel with the documents as `Rejected` and end in the shard's `rejects.jsonl`.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datatrove.pipeline.base import PipelineStep

from spiritlm.corpus.store import STORE_MANIFEST, Record, merge_splits, write_split
from spiritlm.run.files import TEMPORARY, read_json, read_jsonl, write_jsonl
from spiritlm.run.rejects import Rejects
from spiritlm.tokens.emit import Document
from spiritlm.tokens.vocabulary import Vocabulary

STORE, REJECTS = "store", "rejects.jsonl"


@dataclass(frozen=True)
class Rejected:
    item: str
    reason: str


class WriteShard(PipelineStep):
    """Shard number `rank` as a split of its own under `folder/RANK/store`, with its `rejects.jsonl`."""

    name, type = "write shard", "writer"

    def __init__(self, folder: Path, vocabulary: Path, rates: Mapping[str, float]) -> None:
        super().__init__()
        self.folder, self.vocabulary, self.rates = folder, vocabulary, rates

    def run(
        self, data: Iterable[tuple[Record, Document] | Rejected], rank: int = 0, world_size: int = 1
    ) -> Iterator[None]:
        rejects: list[Rejected] = []

        def kept() -> Iterator[tuple[Record, Document]]:
            for item in data:
                if isinstance(item, Rejected):
                    rejects.append(item)
                else:
                    yield item

        folder = shard_folder(self.folder, rank)
        folder.mkdir(parents=True, exist_ok=True)
        write_split(folder, STORE, kept(), self.rates, Vocabulary.load(self.vocabulary))
        write_jsonl(folder / REJECTS, (vars(rejected) for rejected in rejects))
        yield from ()


def shard_folder(folder: Path, rank: int) -> Path:
    return folder / f"{rank:05d}"


def join_shards(
    folder: Path, splits: Sequence[str], out: Path, vocabulary: Vocabulary, max_bad_fraction: float
) -> dict[str, Any]:
    """Join the shards in `folder` into the splits of store `out`, and their rejects; then remove `folder`.

    `splits`: the split of each shard. Returns `rejected` and the counts of each split. Raises `InputError` where more
    than `max_bad_fraction` of all items were rejected.
    """
    folders = [shard_folder(folder, rank) for rank in range(len(splits))]
    rejects = Rejects(out, max_bad_fraction)
    for shard in folders:
        for row in read_jsonl(shard / REJECTS):
            rejects.add(**row)
    kept = sum(read_json(shard / STORE / STORE_MANIFEST)["counts"]["documents"] for shard in folders)
    counts: dict[str, Any] = {"rejected": rejects.close(kept + len(rejects.items))}
    for split in dict.fromkeys(splits):
        parts = [shard / STORE for shard, of in zip(folders, splits, strict=True) if of == split]
        counts[split] = merge_splits(parts, out, split, vocabulary)
    cleared = folder.rename(folder.with_name(TEMPORARY + folder.name))  # a kill leaves all of the shards, or none
    shutil.rmtree(cleared)
    return counts
