"""The program `tokenizers/encode.py` on synthesized recordings."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from spiritlm.corpus.manifest import read_manifest
from spiritlm.corpus.store import DocumentStore

from ..programs import run_here

REPO = Path(__file__).resolve().parents[2]
SMALL_SHARDS = "shard_hours=0.0025"  # nine seconds: one or two recordings
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}


def command(stages: Path, out: Path, speech: Path, *overrides: str) -> list[str]:
    inputs = (f"out={out}", f"speech={speech}", f"units={stages}/units", f"text={stages}/text")
    recipe = REPO / "tokenizers/recipes/encode-tiny.toml"
    return [str(REPO / "tokenizers/encode.py"), str(recipe), *inputs, *overrides]


def encode(stages: Path, out: Path, speech: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    return run_here(*command(stages, out, speech, *overrides))


def content(store: Path) -> dict[str, bytes]:
    files = [file for file in store.rglob("*") if file.is_file() and file.name != "stage.json"]
    return {str(file.relative_to(store)): file.read_bytes() for file in files}


@pytest.fixture(scope="module")
def store(stages: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All recordings as one shard a split, in one process."""
    out: Path = tmp_path_factory.mktemp("encoded") / "store"
    done = encode(stages, out, stages / "speech", "executor.workers=1")
    assert done.returncode == 0, done.stderr
    return out


def test_a_store_holds_the_words_and_units_of_the_recordings(stages: Path, store: Path) -> None:
    for split in ("train", "dev", "test"):
        read = DocumentStore(store, split)
        read.check()
        assert read.rates.tolist() == [25.0, 0.0, 0.0]
        sources = read_manifest(stages / "speech", split)
        assert [record.id for record in read.records] == [source.id for source in sources]
        for source, record, document in zip(sources, read.records, read, strict=True):
            assert (record.speaker, record.audio) == (source.speaker, str(source.audio))
            assert read.vocabulary.decode_text(document.text) == source.text
            assert len(document.semantic) == int(np.ceil(25 * source.duration))
            words = [word for sentence in source.sentences for word in sentence.words]
            begins = document.words.reshape(-1, 3)[:, 1] / 25
            np.testing.assert_allclose(begins, [word.start for word in words], atol=0.0201)
    counts = json.loads((store / "stage.json").read_text())["counts"]
    assert counts["vocabulary"] == DocumentStore(store, "train").vocabulary.size
    assert (counts["rejected"], counts["train"]["documents"], counts["dev"]["documents"]) == (0, 5, 2)
    assert not (store / "shards").exists()


def test_killed_and_resumed_with_other_shards_and_workers_it_is_the_same_store(
    stages: Path, store: Path, tmp_path: Path
) -> None:
    """SIGKILL for the whole program as soon as a shard is done."""
    out = tmp_path / "store"
    run = command(stages, out, stages / "speech", SMALL_SHARDS, "executor.workers=1")
    process = subprocess.Popen(
        [sys.executable, *run], env=ENVIRONMENT, start_new_session=True, stdout=subprocess.DEVNULL
    )
    completions = out / "shards/log/completions"
    while process.poll() is None and not list(completions.glob("*")):
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    for split in ("train", "dev", "test"):
        assert not (out / split).exists()
    refused = encode(stages, out, stages / "speech", "executor.workers=2")
    assert refused.returncode == 2
    assert "shard_hours was 0.0025, now 0.5" in refused.stderr
    done = encode(stages, out, stages / "speech", SMALL_SHARDS, "executor.workers=2")
    assert done.returncode == 0, done.stderr
    assert content(out) == content(store)


def test_bad_recordings_are_named_and_left_out(stages: Path, tmp_path: Path) -> None:
    speech = Path(shutil.copytree(stages / "speech", tmp_path / "speech"))
    (speech / "wav/train/train-1.wav").write_text("not audio")
    path = speech / "supervisions-dev.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[-1]["alignment"]["word"][-1][1] += 100
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = encode(stages, tmp_path / "store", speech, "max_bad_fraction=0.25", SMALL_SHARDS)
    assert done.returncode == 0, done.stderr
    rejects = [json.loads(line) for line in (tmp_path / "store/rejects.jsonl").read_text().splitlines()]
    assert [row["item"] for row in rejects] == ["train-1", "dev-1"]
    assert "train-1.wav" in rejects[0]["reason"]
    assert "word times do not lie" in rejects[1]["reason"]
    assert [record.id for record in DocumentStore(tmp_path / "store", "train").records] == [
        f"train-{number}" for number in (0, 2, 3, 4)
    ]
    assert json.loads((tmp_path / "store/stage.json").read_text())["counts"]["rejected"] == 2


def test_too_many_bad_recordings_stop_the_stage(stages: Path, tmp_path: Path) -> None:
    speech = Path(shutil.copytree(stages / "speech", tmp_path / "speech"))
    (speech / "wav/train/train-3.wav").write_text("not audio")
    done = encode(stages, tmp_path / "store", speech)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "1 of 8 items cannot be used, more than max_bad_fraction = 0.01; the first is train-3" in done.stderr
    assert json.loads((tmp_path / "store/rejects.jsonl").read_text())["item"] == "train-3"
    assert not (tmp_path / "store/train").exists()
    assert not (tmp_path / "store/stage.json").exists()
