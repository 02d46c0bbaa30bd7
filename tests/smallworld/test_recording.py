from pathlib import Path

from spiritlm.smallworld.recording import cut_shards, forget_shards, read_shard, record_shards
from spiritlm.smallworld.telling import Telling

TELLINGS = [[Telling(f"{n}", (f"Tom saw {n} boats.",), "espeak:en-us+f3", ("sad",), "lake")] for n in range(5)]


def content(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_what_is_left_is_recorded_and_gives_the_same_bytes(tmp_path: Path) -> None:
    shards = list(cut_shards("some", Path("wav"), TELLINGS, 2, written=True))
    assert [len(shard.tellings) for shard in shards] == [2, 2, 1]
    record_shards("speak", tmp_path / "one", shards, workers=1)
    record_shards("speak", tmp_path / "two", shards[1:], workers=2)
    begun = content(tmp_path / "two")
    (tmp_path / "two" / "wav" / ".partial-1-0.wav").write_bytes(b"half a recording")
    record_shards("speak", tmp_path / "two", shards, workers=2)
    assert content(tmp_path / "one") == content(tmp_path / "two") != begun
    rows = [row for shard in shards for row in read_shard(tmp_path / "one", shard)]
    assert [row["wav"] for row in rows] == [f"wav/{n}.wav" for n in range(5)]
    assert [[word for word, _, _ in row["sentences"][0]] for row in rows[:1]] == [["Tom", "saw", "0", "boats."]]
    forget_shards(tmp_path / "one", shards)
    assert sorted(path.suffix for path in (tmp_path / "one").rglob("*.*")) == [".txt"] * 5 + [".wav"] * 5
