import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spiritlm.corpus.store import DocumentStore, Record, write_split
from spiritlm.errors import InputError
from spiritlm.pipelines.shards import Rejected, WriteShard, join_shards, once, shard_folder
from spiritlm.run.files import write_json
from spiritlm.tokens.emit import Document, document_of
from spiritlm.tokens.vocabulary import Vocabulary

RATES = {"semantic": 25.0}
SPLITS = ["train", "train", "dev"]
Items = list[tuple[Record, Document] | Rejected]


def items(shard: int) -> Items:
    """Three documents; in shard 1 a reject between them."""
    rng = np.random.default_rng(shard)
    made: Items = [
        (Record(f"{shard}-{n}"), document_of((5, 6), [(0, 0, 4), (1, 5, 9)], (), rng.integers(0, 50, 9)))
        for n in range(3)
    ]
    return [*made[:1], Rejected("bad", "no sound"), *made[1:]] if shard == 1 else made


@pytest.fixture
def out(tmp_path: Path, vocabulary: Vocabulary) -> Path:
    vocabulary.save(tmp_path)
    for shard in range(3):
        list(WriteShard(tmp_path / "shards", tmp_path, RATES).run(items(shard), rank=shard, world_size=3))
    return tmp_path


def test_shards_are_joined_into_their_splits(out: Path, vocabulary: Vocabulary) -> None:
    counts = join_shards(out / "shards", SPLITS, out, vocabulary, 0.1)
    assert (counts["rejected"], counts["train"]["documents"], counts["dev"]["documents"]) == (1, 6, 3)
    assert json.loads((out / "rejects.jsonl").read_text()) == {"item": "bad", "reason": "no sound"}
    told = [item for shard in range(2) for item in items(shard) if not isinstance(item, Rejected)]
    write_split(out, "at-once", told, RATES, vocabulary)
    for file in (out / "at-once").iterdir():
        assert file.read_bytes() == (out / "train" / file.name).read_bytes()
    for split in ("train", "dev"):
        DocumentStore(out, split).check()


def test_what_was_joined_is_not_joined_again(out: Path, vocabulary: Vocabulary) -> None:
    """Killed while the shards are removed: half of them are gone."""
    shards = out / "shards"

    def run() -> dict[str, Any]:
        return join_shards(shards, SPLITS, out, vocabulary, 0.1)

    counts = run()
    write_json(out / "joined.json", counts)
    shutil.rmtree(shard_folder(shards, 0))
    assert once(out, shards, run) == counts
    assert not shards.exists()
    assert once(out, shards, run) == counts


def test_a_corrupt_shard_is_not_joined(out: Path, vocabulary: Vocabulary) -> None:
    path = shard_folder(out / "shards", 1) / "store" / "semantic.bin"
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])
    with pytest.raises(InputError, match=r"semantic\.bin: corrupt"):
        join_shards(out / "shards", SPLITS, out, vocabulary, 0.1)
    assert not (out / "train").exists()


def test_too_many_rejects_stop_and_keep_what_was_done(out: Path, vocabulary: Vocabulary) -> None:
    with pytest.raises(InputError, match=r"1 of 10 items cannot be used, .* = 0.05; the first is bad: no sound"):
        join_shards(out / "shards", SPLITS, out, vocabulary, 0.05)
    assert not (out / "train").exists()
    assert (out / "rejects.jsonl").exists()
    assert join_shards(out / "shards", SPLITS, out, vocabulary, 0.1)["train"]["documents"] == 6


def test_a_shard_that_is_not_there_is_refused(out: Path, vocabulary: Vocabulary) -> None:
    shutil.rmtree(shard_folder(out / "shards", 1))
    with pytest.raises(InputError, match=r"00001.rejects\.jsonl: No such file"):
        join_shards(out / "shards", SPLITS, out, vocabulary, 0.1)
    assert not (out / "train").exists()


def test_a_shard_of_rejects_only_is_an_empty_split(tmp_path: Path, vocabulary: Vocabulary) -> None:
    vocabulary.save(tmp_path)
    list(WriteShard(tmp_path / "shards", tmp_path, RATES).run([Rejected("a", "b")], rank=0, world_size=1))
    counts = join_shards(tmp_path / "shards", ["train"], tmp_path, vocabulary, 1.0)
    assert (counts["rejected"], counts["train"]["documents"]) == (1, 0)
    assert len(DocumentStore(tmp_path, "train")) == 0


def test_a_shard_that_fails_leaves_no_store(tmp_path: Path, vocabulary: Vocabulary) -> None:
    def failing() -> Iterator[tuple[Record, Document] | Rejected]:
        yield from items(0)
        raise OSError("disk gone")

    vocabulary.save(tmp_path)
    with pytest.raises(OSError, match="disk gone"):
        list(WriteShard(tmp_path / "shards", tmp_path, RATES).run(failing(), rank=0, world_size=1))
    assert not list(shard_folder(tmp_path / "shards", 0).iterdir())


def test_killed_while_it_clears_up_nothing_is_done_again(out: Path) -> None:
    log = out / "shards" / "log"
    log.mkdir()
    for number in range(5000):
        (log / str(number)).touch()
    process = subprocess.Popen([sys.executable, __file__, str(out)])
    while process.poll() is None and not (out / "joined.json").is_file():
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    before = (out / "train" / "manifest.json").stat().st_mtime_ns
    assert subprocess.run([sys.executable, __file__, str(out)], check=False).returncode == 0
    assert not (out / "shards").exists()
    assert (out / "train" / "manifest.json").stat().st_mtime_ns == before
    assert DocumentStore(out, "train").counts["documents"] == 6


if __name__ == "__main__":
    store = Path(sys.argv[1])
    once(store, store / "shards", lambda: join_shards(store / "shards", SPLITS, store, Vocabulary.load(store), 0.5))
