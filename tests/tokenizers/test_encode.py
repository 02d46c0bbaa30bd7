import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from spiritlm.corpus.manifest import read_manifest
from spiritlm.corpus.store import DocumentStore

REPO = Path(__file__).resolve().parents[2]


def program(name: str, recipe: str, *overrides: str) -> subprocess.CompletedProcess[str]:
    folder = REPO / name.split("/")[0]
    command = [sys.executable, str(REPO / name), str(folder / "recipes" / f"{recipe}-tiny.toml"), *overrides]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`speech`, `units` and `text` stages of ten stories in espeak voices."""
    root: Path = tmp_path_factory.mktemp("stages")
    small = ["train=10", "dev=2", "test_pairs=1", "written=20", "shard_size=5", 'voices.train=["espeak:en-us"]']
    runs = (
        ("synth_data/speak.py", "speak", f"out={root}/speech", *small),
        ("tokenizers/fit_units.py", "units", f"out={root}/units", f"speech={root}/speech", "clusters=20"),
        ("tokenizers/fit_text.py", "text", f"out={root}/text", f"speech={root}/speech"),
    )
    for run in runs:
        done = program(*run)
        assert done.returncode == 0, done.stderr
    return root


def encode(root: Path, out: Path, speech: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    folders = (f"out={out}", f"speech={speech}", f"units={root}/units", f"text={root}/text")
    return program("tokenizers/encode.py", "encode", *folders, *overrides)


def copy_speech(stages: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(stages / "speech", tmp_path / "speech"))


def test_a_store_holds_the_words_and_units_of_the_recordings(stages: Path, tmp_path: Path) -> None:
    done = encode(stages, tmp_path / "store", stages / "speech")
    assert done.returncode == 0, done.stderr
    for split in ("train", "dev", "test"):
        store = DocumentStore(tmp_path / "store", split)
        for number, source in enumerate(read_manifest(stages / "speech", split)):
            document = store[number]
            assert store.ids[number] == source.id
            assert store.speakers[number] == source.speaker
            assert store.vocabulary.decode_text(document.text) == source.text
            assert abs(len(document.units) - 25 * source.duration) <= 1
            words = [word for sentence in source.sentences for word in sentence.words]
            begins = document.word_units[1:-1] / 25
            np.testing.assert_allclose(begins, [word.start for word in words[1:]], atol=0.021)
    assert len(DocumentStore(tmp_path / "store", "written")) == 20


def test_bad_recordings_are_named_and_left_out(stages: Path, tmp_path: Path) -> None:
    speech = copy_speech(stages, tmp_path)
    (speech / "wav/train/train-00003.wav").write_text("not audio")
    path = speech / "supervisions-train.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[-1]["alignment"]["word"][-1][1] += 100
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = encode(stages, tmp_path / "store", speech, "max_bad_fraction=0.2")
    assert done.returncode == 0, done.stderr
    rejects = [json.loads(line) for line in (tmp_path / "store/rejects.jsonl").read_text().splitlines()]
    assert [row["item"] for row in rejects] == ["train-00003", "train-00009"]
    assert "train-00003.wav" in rejects[0]["reason"]
    assert "word times do not lie" in rejects[1]["reason"]
    assert len(DocumentStore(tmp_path / "store", "train")) == 8
    assert json.loads((tmp_path / "store/stage.json").read_text())["counts"]["rejected"] == 2


def test_too_many_bad_recordings_stop_the_stage(stages: Path, tmp_path: Path) -> None:
    speech = copy_speech(stages, tmp_path)
    (speech / "wav/train/train-00003.wav").write_text("not audio")
    done = encode(stages, tmp_path / "store", speech)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "1 of 18 items cannot be used" in done.stderr
    assert not (tmp_path / "store/stage.json").exists()
