import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from spiritlm.errors import InputError
from spiritlm.run.checkpoints import CheckpointPolicy, Checkpoints
from spiritlm.run.status import status


def write(path: Path, *rows: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Begun, twice, and half way; a third checkpoint is being written."""
    write(tmp_path / "stage.begun.json", {"stage": "pretrain", "recipe": {"training": {"steps": 40}}})
    pace = {"tokens_per_second": 50.0}
    write(tmp_path / "metrics.jsonl", *({"step": n, "loss": 9.0 - n / 10, "tokens": 100 * n, **pace} for n in (10, 20)))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 20, "dev_loss": 7.5, "tokens": 2000}\n')
    checkpoints = Checkpoints(tmp_path / "checkpoints", CheckpointPolicy())
    for step in (8, 16):
        checkpoints.begin(step)
        checkpoints.complete(step, {})
    checkpoints.begin(20)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 21, "lo')
    start = {"job": 7, "step": 0, "nodes": "node[1-2]", "at": "2026-01-01T00:00:00+0000"}
    write(tmp_path / "starts.jsonl", {**start, "restart": 0}, {**start, "restart": 1, "nodes": "node[3-4]"})
    write(tmp_path / "rejects.jsonl", {"item": "a"}, {"item": "b"}, {"item": "c"})
    return tmp_path


def test_a_run_on_its_way(run: Path) -> None:
    found = status(run)
    assert (found.stage, found.state, found.step, found.steps, found.tokens) == ("pretrain", "begun", 20, 40, 2000)
    assert (found.loss, found.checkpoint, found.starts, found.nodes, found.rejects) == (7.0, 16, 2, "node[3-4]", 3)
    assert found.seconds_left == pytest.approx(20 * 100 / 50.0)
    assert 0 <= found.seconds_silent < 60


def test_silence_is_measured_from_the_newest_file(run: Path) -> None:
    past = time.time() - 5000
    for path in [*run.rglob("*"), run]:
        os.utime(path, (past, past))
    assert status(run).seconds_silent == pytest.approx(5000, abs=60)
    os.utime(run / "metrics.jsonl", (past + 3000, past + 3000))
    assert status(run).seconds_silent == pytest.approx(2000, abs=60)


def test_how_a_run_ended(run: Path) -> None:
    write(run / "stage.stopped.json", {"why": "at step 20 of 40"})
    assert status(run).state == "stopped: at step 20 of 40"
    (run / "stage.stopped.json").rename(run / "stage.failed.json")
    assert status(run).state == "failed: at step 20 of 40"
    (run / "stage.begun.json").rename(run / "stage.json")
    assert status(run).state == "done"
    assert status(run).seconds_left is None


def test_shards_of_a_corpus_job(tmp_path: Path) -> None:
    write(tmp_path / "stage.begun.json", {"stage": "encode", "recipe": {}})
    write(tmp_path / "shards/log/executor.json", {"world_size": 12})
    (tmp_path / "shards/log/completions").mkdir()
    for number in range(5):
        (tmp_path / f"shards/log/completions/{number:05d}").touch()
    assert status(tmp_path).shards == (5, 12)


def test_what_is_submitted_and_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected the folder of a stage"):
        status(tmp_path)
    (tmp_path / "submit.sbatch").touch()
    assert status(tmp_path).state == "submitted"
    (tmp_path / "submit.sbatch").unlink()
    write(tmp_path / "starts.jsonl", {"job": 7, "restart": 0, "step": 0, "nodes": "node1"})
    assert (status(tmp_path).starts, status(tmp_path).job) == (1, 7)
