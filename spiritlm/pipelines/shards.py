"""The end of every pipeline that fills a store: shards are written apart, then joined into splits.

Items that cannot be used travel with the documents as `Rejected` and end in the shard's `rejects.jsonl`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datatrove.pipeline.base import PipelineStep

from spiritlm.corpus.store import STORE_MANIFEST, Record, merge_splits, write_split
from spiritlm.run.files import read_json, read_jsonl, write_json, write_jsonl
from spiritlm.run.rejects import Rejects
from spiritlm.tokens.emit import Document
from spiritlm.tokens.vocabulary import Vocabulary

STORE, REJECTS, JOINED = "store", "rejects.jsonl", "joined.json"


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


def once(out: Path, work: Path, run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """`run` what fills `out` from shards in `work`, then remove `work`. Returns its counts.

    They are kept in `out`, so that a process killed while `work` is removed has nothing to do again.
    """
    joined = out / JOINED
    if not joined.is_file():
        write_json(joined, run())
    shutil.rmtree(work, ignore_errors=True)
    return read_json(joined)


def join_shards(
    folder: Path,
    splits: Sequence[str],
    out: Path,
    vocabulary: Vocabulary,
    max_bad_fraction: float,
    total: int | None = None,
) -> dict[str, Any]:
    """Join the shards in `folder` into the splits of store `out`, and their rejects.

    `splits`: the split of each shard; `total`: items that went in, where several documents may come of one. Returns
    `rejected` and the counts of each split. Raises `InputError` where more than `max_bad_fraction` of all items were
    rejected.
    """
    folders = [shard_folder(folder, rank) for rank in range(len(splits))]
    rejects = Rejects(out, max_bad_fraction)
    for shard in folders:
        for row in read_jsonl(shard / REJECTS):
            rejects.add(**row)
    if total is None:
        kept = sum(read_json(shard / STORE / STORE_MANIFEST)["counts"]["documents"] for shard in folders)
        total = kept + len(rejects.items)
    counts: dict[str, Any] = {"rejected": rejects.close(total)}
    for split in dict.fromkeys(splits):
        parts = [shard / STORE for shard, of in zip(folders, splits, strict=True) if of == split]
        counts[split] = merge_splits(parts, out, split, vocabulary)
    return counts
