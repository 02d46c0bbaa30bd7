import json
import shutil
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from spiritlm.alignment.mel_ctc import MelCtcModel
from spiritlm.run.files import read_json, read_jsonl

from ..programs import run_here

REPO = Path(__file__).resolve().parents[2]


def program(name: str, recipe: str, *overrides: str) -> CompletedProcess[str]:
    return run_here(REPO / f"synth_data/{name}.py", REPO / f"synth_data/recipes/{recipe}-tiny.toml", *overrides)


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("speak") / "speech"
    small = [
        "train=6",
        "dev=2",
        "excerpts=0.0",
        "test_pairs=1",
        "written=1",
        "shard_size=6",
        'voices.train=["espeak:en-us"]',
    ]
    done = program("speak", "speak", f"out={folder}", *small)
    assert done.returncode == 0, done.stderr
    return folder


def test_trains_on_sentences_and_measures_on_dev(spoken: Path, tmp_path: Path) -> None:
    """Word times are used to measure only: without them the model is the same."""
    untimed = Path(shutil.copytree(spoken, tmp_path / "speech"))
    for split in ("train", "dev"):
        path = untimed / f"supervisions-{split}.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text(
            "".join(json.dumps({key: row[key] for key in row if key != "alignment"}) + "\n" for row in rows)
        )
    for speech, out in ((spoken, tmp_path / "a"), (untimed, tmp_path / "b")):
        done = program("train_aligner", "aligner", f"out={out}", f"speech={speech}")
        assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "a").iterdir()} == {
        "checkpoints", "metrics.jsonl", "model", "rejects.jsonl", "stage.json"
    }  # fmt: skip
    counts = read_json(tmp_path / "a/stage.json")["counts"]
    assert (counts["recordings"], counts["sentences"], counts["sentences_left_out"]) == (6, 30, 0)
    assert counts["dev"]["recordings"] == 2 and 0 < counts["dev"]["cer"] <= 1.5
    assert 20 < counts["dev"]["start_error"]["overall"]["words"] <= 80
    assert read_json(tmp_path / "b/stage.json")["counts"]["dev"]["start_error"] == {}
    one, two = ((tmp_path / name / "model/model.safetensors").read_bytes() for name in "ab")
    assert one == two
    assert MelCtcModel.from_pretrained(tmp_path / "a/model").lag.start == counts["lag"]["start"]


def test_unreadable_and_unspeakable_items_are_counted(spoken: Path, tmp_path: Path) -> None:
    speech = Path(shutil.copytree(spoken, tmp_path / "speech"))
    (speech / "wav/train/train-00003.wav").write_text("not audio")
    path = speech / "supervisions-train.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[0]["text"], rows[1]["text"] = "In 1984", ""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = (f"out={tmp_path / 'out'}", f"speech={speech}", "training.steps=1", "max_bad_fraction=0.2")
    done = program("train_aligner", "aligner", *arguments)
    assert done.returncode == 0, done.stderr
    counts = read_json(tmp_path / "out/stage.json")["counts"]
    assert (counts["sentences"], counts["sentences_left_out"], counts["rejected"]) == (23, 2, 1)
    assert [row["item"] for row in read_jsonl(tmp_path / "out/rejects.jsonl")] == ["train-00003"]
