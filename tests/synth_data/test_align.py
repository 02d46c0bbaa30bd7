import filecmp
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from spiritlm.alignment.mel_ctc import MelCtc, MelCtcConfig, MelCtcModel
from spiritlm.corpus.manifest import corpus_root, read_manifest
from spiritlm.run.files import read_json, read_jsonl, write_json

from ..programs import run_here

REPO = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
SPLITS = {"train": 6, "dev": 2, "test": 6}


def command(name: str, *overrides: str) -> list[str]:
    paths = (str(REPO / f"synth_data/{name}.py"), str(REPO / f"synth_data/recipes/{name}-tiny.toml"))
    return [*paths, *overrides]


def program(name: str, *overrides: str) -> subprocess.CompletedProcess[str]:
    return run_here(*command(name, *overrides))


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `speech` stage of synthesizers, and an `aligner` that has learnt nothing yet."""
    root: Path = tmp_path_factory.mktemp("stages")
    small = [
        "train=6",
        "dev=2",
        "excerpts=0.0",
        "test_pairs=1",
        "written=3",
        "shard_size=6",
        'voices.train=["espeak:en-us"]',
    ]
    done = program("speak", f"out={root}/speech", *small)
    assert done.returncode == 0, done.stderr
    torch.manual_seed(0)
    config = MelCtcConfig()
    MelCtcModel(MelCtc(config.shape, -3.0, 1.5), config).save_pretrained(root / "aligner/model")
    write_json(root / "aligner/stage.json", {"stage": "train aligner", "fingerprint": "0", "recipe": {}, "inputs": {}})
    return root


def arguments(stages: Path, out: Path, *overrides: str) -> list[str]:
    return [f"out={out}", f"speech={stages}/speech", f"aligner={stages}/aligner", "executor.workers=1", *overrides]


@pytest.fixture(scope="module")
def aligned(stages: Path) -> Path:
    done = program("align", *arguments(stages, stages / "aligned"))
    assert done.returncode == 0, done.stderr
    return stages / "aligned"


def test_what_comes_out_stands_in_the_place_of_what_went_in(stages: Path, aligned: Path) -> None:
    speech = stages / "speech"
    assert corpus_root(aligned).resolve() == speech.resolve()
    assert not Path(read_json(aligned / "corpus.json")["root"]).is_absolute()
    assert filecmp.cmp(speech / "stories.jsonl", aligned / "stories.jsonl", shallow=False)
    for split, count in SPLITS.items():
        documents = read_manifest(aligned, split)
        assert len(documents) == count
        for found, source in zip(documents, read_manifest(speech, split), strict=True):
            assert (found.id, found.audio, found.text, found.custom) == (
                source.id, source.audio, source.text, source.custom
            )  # fmt: skip
            assert all(len(s.words) == len(s.text.split()) for s in found.sentences)
            words = [word for sentence in found.sentences for word in sentence.words]
            assert all(0 <= a.start <= a.end <= b.start for a, b in pairwise(words))
            assert words[-1].end <= found.duration
    counts = read_json(aligned / "stage.json")["counts"]
    assert counts["train"]["recordings"] == 6 and counts["train"]["sentences"] == 30 and counts["rejected"] == 0
    assert counts["start_error"]["overall"]["words"] > 200
    assert not (aligned / "shards").exists()


def test_killed_it_goes_on_with_the_shards_that_are_left(stages: Path, aligned: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    run = command("align", *arguments(stages, out, "shard_hours=0.0001"))  # a shard is a recording
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([sys.executable, *run], **quiet, start_new_session=True, env=ENVIRONMENT)
    deadline = time.monotonic() + 60
    while not list(out.glob("shards/log/completions/*")) and time.monotonic() < deadline:
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (out / "stage.json").exists()
    finished = out / "shards/00000/recordings-part.jsonl"
    row = json.loads(finished.read_text())
    finished.write_text(json.dumps({**row, "id": "not-done-again"}) + "\n")
    supervisions = finished.with_name("supervisions-part.jsonl")
    supervisions.write_text(
        supervisions.read_text().replace(f'"recording_id": "{row["id"]}"', '"recording_id": "not-done-again"')
    )
    assert run_here(*run).returncode == 0
    found, whole = read_manifest(out, "train"), read_manifest(aligned, "train")
    assert [document.id for document in found] == ["not-done-again", *(document.id for document in whole[1:])]
    assert [document.sentences for document in found] == [document.sentences for document in whole]
    for split in ("dev", "test"):
        assert filecmp.cmp(out / f"supervisions-{split}.jsonl", aligned / f"supervisions-{split}.jsonl", shallow=False)


def test_rejects_have_a_budget(stages: Path, tmp_path: Path) -> None:
    speech = Path(shutil.copytree(stages / "speech", tmp_path / "speech"))
    (speech / "wav/train/train-00003.wav").write_text("not audio")
    path = speech / "supervisions-dev.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text(
        "".join(
            json.dumps({key: row[key] for key in row if key not in ("text", "alignment")}) + "\n" for row in rows[:5]
        )
    )
    recordings = speech / "recordings-dev.jsonl"
    recordings.write_text(recordings.read_text().splitlines()[0] + "\n")
    done = program("align", *arguments(stages, tmp_path / "out", f"speech={speech}"))
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert "2 of 39 items cannot be used" in done.stderr
    assert not (tmp_path / "out/stage.json").exists()
    rejects = {row["item"]: row["reason"] for row in read_jsonl(tmp_path / "out/rejects.jsonl")}
    assert list(rejects) == ["train-00003", "dev-00000"]
    assert "cannot be read" in rejects["train-00003"] and rejects["dev-00000"] == "empty transcript"


def test_textgrids_give_the_times_they_hold(stages: Path, tmp_path: Path) -> None:
    grids = tmp_path / "grids"
    for split in SPLITS:
        for document in read_manifest(stages / "speech", split):
            words = [word for sentence in document.sentences for word in sentence.words]
            rows = "\n".join(f'{w.start}\n{w.end}\n"{w.text.lower().strip(".")}"' for w in words)
            head = '"ooTextFile"\n"TextGrid"\n0\n99\n<exists>\n1\n"IntervalTier"\n"words"\n0\n99\n'
            path = grids / document.audio.with_suffix(".TextGrid")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{head}{len(words)}\n{rows}\n")
    recipe = tmp_path / "textgrids.toml"
    recipe.write_text(
        f'out = "{tmp_path}/out"\nspeech = "{stages}/speech"\ntextgrids = "{grids}"\nexecutor.workers = 1\n'
    )
    run = [REPO / "synth_data/align.py", recipe]
    done = run_here(*run)
    assert done.returncode == 0, done.stderr
    counts = read_json(tmp_path / "out/stage.json")["counts"]
    assert counts["rejected"] == 0 and counts["start_error"]["overall"]["p95_ms"] == 0
    done = run_here(*run, f"aligner={stages}/aligner")
    assert done.returncode == 2
    assert "expected one of aligner, model and textgrids, found aligner and textgrids" in done.stderr
