import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from spiritlm.run.files import read_json, write_json
from spiritlm.run.metrics import read_metrics
from spiritlm.synthesis.regression import RegressionDecoder

from ..programs import run_here

REPO = Path(__file__).resolve().parents[2]
PROGRAM = REPO / "training" / "train_voice.py"
RECIPE = REPO / "training" / "recipes" / "voice-tiny.toml"
SPEAKERS = ("kal", "slt")


def command(run_folder, out, *overrides):
    return [PROGRAM, RECIPE, f"out={out}", *(f"{n}={run_folder / n}" for n in ("speech", "units", "store")), *overrides]


def test_trains_a_decoder_of_the_training_speakers(run_folder, tmp_path):
    done = run_here(*command(run_folder, tmp_path))
    assert done.returncode == 0, done.stderr
    counts = read_json(tmp_path / "stage.json")["counts"]
    assert counts["steps"] == 10 and counts["train"]["skipped"] == 0 and counts["dev_recordings"] == 2
    assert 0 < counts["dev_mel_distance"] < 5 and 0 <= counts["dev_units_kept"] <= 1
    assert [row["step"] for row in read_metrics(tmp_path)] == [10]
    assert not (tmp_path / "mel.npy").exists()
    decoder = RegressionDecoder.from_pretrained(tmp_path / "model")
    assert decoder.speakers == SPEAKERS
    assert len(decoder.decode(np.array([1, 2, 3]), "slt")) >= 3 * 640


def test_two_processes_train_one_decoder(run_folder, tmp_path):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run([*launcher, *command(run_folder, tmp_path)], capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    assert RegressionDecoder.from_pretrained(tmp_path / "model").speakers == SPEAKERS


def test_store_of_another_tokenizer_is_refused(run_folder, tmp_path):
    shutil.copytree(run_folder / "store", tmp_path / "store")
    stage = read_json(tmp_path / "store" / "stage.json")
    stage["inputs"]["units"] = "0" * 64
    write_json(tmp_path / "store" / "stage.json", stage)
    done = run_here(*command(run_folder, tmp_path / "out", f"store={tmp_path / 'store'}"))
    assert done.returncode == 2 and "made from another 'units' stage" in done.stderr
    assert len(done.stderr.splitlines()) == 1
