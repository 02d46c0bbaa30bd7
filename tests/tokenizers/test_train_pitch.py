import math
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from spiritlm.audio.files import read_audio
from spiritlm.run.files import read_json, read_jsonl
from spiritlm.units.pitch import PitchTokenizer

from ..programs import run_here

REPO = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
RECIPE = REPO / "tokenizers/recipes/pitch-tiny.toml"


def command(stages: Path, out: Path, *overrides: str) -> list[str]:
    inputs = [f"speech={stages / 'speech'}"]
    return [str(REPO / "tokenizers/train_pitch.py"), str(RECIPE), f"out={out}", *inputs, *overrides]


def train(stages: Path, out: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    return run_here(*command(stages, out, *overrides))


@pytest.fixture(scope="module")
def trained(stages, tmp_path_factory):
    out = tmp_path_factory.mktemp("pitch") / "whole"
    done = train(stages, out, "training.checkpoint.keep_last=9")
    assert done.returncode == 0, done.stderr
    return out


def test_writes_a_tokenizer_and_its_figures(stages, trained):
    names = {path.name for path in trained.iterdir()}
    assert names == {"checkpoints", "metrics.jsonl", "model", "rejects.jsonl", "stage.json"}
    counts = read_json(trained / "stage.json")["counts"]
    assert (counts["recordings"], counts["rejected"], counts["steps"]) == (5, 0, 8)
    assert 0.3 < counts["voiced"] < 0.95
    dev = counts["dev"]
    assert set(dev) == {"seen_speakers", "codes_used", "perplexity"} and dev["codes_used"] >= 1
    figures = {"recordings", "hours", "within_10_percent", "cents", "voicing_error"}
    assert set(dev["seen_speakers"]) == figures and dev["seen_speakers"]["recordings"] == 2
    rows = list(read_jsonl(trained / "metrics.jsonl"))
    assert all(np.isfinite(row["loss"]) for row in rows) and {"pitch", "codes_used", "perplexity"} <= set(rows[0])
    tokenizer = PitchTokenizer.from_pretrained(trained / "model")
    wave = read_audio(stages / "speech/wav/dev/dev-0.wav", 16_000)
    units = tokenizer.encode(wave, 16_000)
    assert units.rate == 12.5 and len(units.values) == math.ceil(len(wave) / 1280)
    stream = tokenizer.stream()
    assert np.array_equal(np.concatenate([stream.push(wave), stream.finish()]), units.values)


def test_a_stopped_run_ends_with_the_same_bits(trained, stages, tmp_path):
    stopped = tmp_path / "stopped"
    shutil.copytree(trained / "checkpoints" / "step-00000004", stopped / "checkpoints" / "step-00000004")
    done = train(stages, stopped, "training.checkpoint.keep_last=9")
    assert done.returncode == 0, done.stderr
    assert min(row["step"] for row in read_jsonl(stopped / "metrics.jsonl")) > 4
    whole, resumed = (load_file(folder / "model/model.safetensors") for folder in (trained, stopped))
    assert whole.keys() == resumed.keys() and all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_two_processes_as_published(stages, tmp_path, free_port):
    published = ("scale=hz", "normalization=speaker", "transpose=0.0", "voiced_only=false", "training.steps=3")
    recipe = tmp_path / "whole.toml"
    text = RECIPE.read_text()
    recipe.write_text(text[: text.index("[blocks]")] + text[text.index("[training]") :])
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={free_port()}"]
    command += [str(REPO / "tokenizers/train_pitch.py"), str(recipe), f"out={tmp_path / 'two'}"]
    command += [f"speech={stages / 'speech'}", *published]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    means = PitchTokenizer.from_pretrained(tmp_path / "two/model").config.speaker_means
    assert set(means) == {"f1", "f2", "f3"} and all(80 < mean < 400 for mean in means.values())


def test_unreadable_recordings_are_named_and_counted(stages, tmp_path):
    corpus = tmp_path / "stages"
    shutil.copytree(stages, corpus)
    (corpus / "speech/wav/train/train-3.wav").write_text("not audio")
    done = train(corpus, tmp_path / "out", "training.steps=1", "max_bad_fraction=0.3")
    assert done.returncode == 0, done.stderr
    assert [row["item"] for row in read_jsonl(tmp_path / "out/rejects.jsonl")] == ["train-3"]
    done = train(corpus, tmp_path / "other", "training.steps=1")
    assert done.returncode == 2 and "1 of 5 items cannot be used" in done.stderr


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("normalization=utterance", "expected scale = octaves and normalization = none"),
        ("model.channels=3", "shape.channels is 3, expected 2"),
        ("tracker=praat", "tracker = 'praat'"),
        ("crop_units=7", "crop_units = 7: expected a multiple of blocks.units, 5"),
        ("model.stride=3", "model.stride = 3"),
    ],
)
def test_wrong_recipes_are_refused_in_one_line(stages, tmp_path, override, named):
    done = train(stages, tmp_path / "out", override)
    assert done.returncode == 2 and named in done.stderr, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_paper_recipe_has_the_published_sizes():
    recipe = tomllib.loads((REPO / "tokenizers/recipes/pitch-paper.toml").read_text())
    assert recipe["model"]["codes"] == 64 and recipe["crop_units"] * 1280 == 16_640
    assert recipe["training"]["steps"] == 400_000 and recipe["training"]["learning_rate"] == 2e-4
