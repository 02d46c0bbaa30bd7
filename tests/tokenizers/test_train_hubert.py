import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from spiritlm.run.files import read_json, read_jsonl
from spiritlm.units.hubert_encoder import HubertShape, load_encoder
from spiritlm.units.hubert_pretraining import HubertPretraining, masked_prediction_losses, spans

from ..programs import run_here

REPO = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
RECIPE = REPO / "tokenizers/recipes/hubert-tiny.toml"


def command(stages: Path, out: Path, *overrides: str) -> list[str]:
    inputs = [f"speech={stages / 'speech'}", f"targets={stages / 'units'}"]
    return [str(REPO / "tokenizers/train_hubert.py"), str(RECIPE), f"out={out}", *inputs, *overrides]


def train(stages: Path, out: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    return run_here(*command(stages, out, *overrides))


@pytest.fixture(scope="module")
def trained(stages, tmp_path_factory):
    out = tmp_path_factory.mktemp("hubert") / "whole"
    done = train(stages, out, "training.checkpoint.every=5", "training.checkpoint.keep_last=9")
    assert done.returncode == 0, done.stderr
    return out


def test_writes_a_network_and_its_figures(trained):
    names = {path.name for path in trained.iterdir()}
    assert names == {"checkpoints", "metrics.jsonl", "model", "rejects.jsonl", "stage.json"}
    counts = read_json(trained / "stage.json")["counts"]
    assert (counts["recordings"], counts["rejected"], counts["steps"]) == (5, 0, 12)
    assert set(counts["dev"]) == {"loss", "masked_accuracy", "unmasked_accuracy"}
    rows = list(read_jsonl(trained / "metrics.jsonl"))
    assert all(np.isfinite(row["loss"]) for row in rows) and {"masked_accuracy", "unmasked_accuracy"} <= set(rows[0])
    encoder = load_encoder(trained / "model", layer=1)
    assert encoder.shape.layers == 1 and encoder.shape.rate == 25.0


def test_a_stopped_run_ends_with_the_same_bits(trained, stages, tmp_path):
    """What a stop after step 5 leaves: the checkpoint of that step, and no stage.json."""
    stopped = tmp_path / "stopped"
    shutil.copytree(trained / "checkpoints" / "step-00000005", stopped / "checkpoints" / "step-00000005")
    options = ("training.checkpoint.every=5", "training.checkpoint.keep_last=9")
    done = train(stages, stopped, *options)
    assert done.returncode == 0, done.stderr
    assert min(row["step"] for row in read_jsonl(stopped / "metrics.jsonl")) > 5
    whole, resumed = (load_file(folder / "model/model.safetensors") for folder in (trained, stopped))
    assert whole.keys() == resumed.keys() and all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_two_processes(stages, tmp_path, free_port):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={free_port()}"]
    run = [*launcher, *command(stages, tmp_path / "two", "training.steps=3")]
    done = subprocess.run(run, capture_output=True, text=True, timeout=240, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    assert load_encoder(tmp_path / "two/model").shape.layers == 2


def test_unreadable_recordings_are_named_and_counted(stages, tmp_path):
    corpus = tmp_path / "stages"
    shutil.copytree(stages, corpus)
    (corpus / "speech/wav/train/train-3.wav").write_text("not audio")
    done = train(corpus, tmp_path / "out", "training.steps=1", "max_bad_fraction=0.3")
    assert done.returncode == 0, done.stderr
    assert [row["item"] for row in read_jsonl(tmp_path / "out/rejects.jsonl")] == ["train-3"]


def test_targets_of_another_rate(stages, tmp_path):
    conv = ("model.conv_channels=[8,8]", "model.conv_kernels=[30,20]", "model.conv_strides=[20,16]")
    done = train(stages, tmp_path / "out", *conv)
    assert done.returncode == 2
    assert "the tokenizer gives 25 units a second of sound at 16000 Hz, expected 50" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_spans_are_of_their_length_and_share():
    rng = np.random.default_rng(0)
    hidden = spans(np.array([400, 400, 3, 1]), 400, 0.16, 5, rng)
    assert not hidden[2, 3:].any() and not hidden[3, 1:].any() and hidden[2:].any(axis=1).all()
    share = hidden[:2].mean()
    assert abs(share - (1 - (1 - 0.16) ** 5)) < 0.08
    row = np.flatnonzero(np.diff(np.concatenate([[0], hidden[0].astype(int), [0]])))
    assert np.all(row[1::2] - row[::2] >= 5)


def test_only_masked_frames_count_unless_asked_otherwise():
    torch.manual_seed(0)
    shape = HubertShape(
        conv_channels=(8,) * 8, width=16, layers=1, heads=2, feed_forward=16, position_kernel=4, position_groups=2
    )
    model = HubertPretraining(shape, units=5, projected=8)
    batch = {
        "waves": torch.randn(2, shape.samples_of(10)),
        "samples": torch.tensor([shape.samples_of(10), shape.samples_of(6)]),
        "targets": torch.randint(5, (2, 10)),
        "hidden": torch.rand(2, 10) < 0.5,
    }
    batch["targets"][1, 6:] = -1
    found = masked_prediction_losses(model, batch, 0.0)
    batch["targets"][~batch["hidden"]] = -1
    assert torch.allclose(found["loss"], masked_prediction_losses(model, batch, 3.0)["loss"])
