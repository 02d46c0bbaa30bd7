import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from spiritlm.audio.files import read_audio, write_wav
from spiritlm.corpus.manifest import Sentence, SpokenDocument, write_manifest
from spiritlm.run.files import read_json, read_jsonl, write_json
from spiritlm.units.style import StyleTokenizer

from ..programs import run_here

REPO = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
RECIPE = REPO / "tokenizers/recipes/style-tiny.toml"
EVERY = ("training.checkpoint.every=5", "training.checkpoint.keep_last=9", "distillation.checkpoint.every=4")


def told(mood, seconds, rng):
    """A hum that is high and loud, or low and soft."""
    times = np.arange(round(seconds * 16_000)) / 16_000
    pitch, gain = {"happy": (260, 0.3), "sad": (110, 0.05)}[mood]
    pitch *= rng.uniform(0.95, 1.05)
    hum = sum(np.sin(2 * np.pi * pitch * n * times) / n for n in range(1, 5))
    return gain * hum + 0.001 * rng.standard_normal(len(times))


def write_corpus(folder, custom=lambda mood: {"mood": mood}):
    """Twelve training recordings of two speakers, four dev ones of which two are of a third."""
    (folder / "audio").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for split, speakers in {"train": "ab" * 6, "dev": "abcc"}.items():
        documents = []
        for number, speaker in enumerate(speakers):
            mood = ("happy", "sad")[number // 2 % 2]
            path, seconds = Path("audio") / f"{split}-{number}.wav", 2.3 + 0.4 * number
            write_wav(folder / path, told(mood, seconds, rng), 16_000)
            sentence = Sentence("Hm.", 0.0, seconds)
            documents.append(SpokenDocument(path.stem, path, seconds, 16_000, speaker, (sentence,), custom(mood)))
        write_manifest(folder, split, documents)
    write_json(folder / "stage.json", {"stage": "speak", "fingerprint": "0", "recipe": {}, "inputs": {}})
    return folder


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus") / "speech")


def command(speech: Path, out: Path, *overrides: str) -> list[str]:
    return [str(REPO / "tokenizers/train_style.py"), str(RECIPE), f"out={out}", f"speech={speech}", *overrides]


def train(speech: Path, out: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    return run_here(*command(speech, out, *overrides))


@pytest.fixture(scope="module")
def trained(speech, tmp_path_factory):
    out = tmp_path_factory.mktemp("style") / "whole"
    done = train(speech, out, *EVERY)
    assert done.returncode == 0, done.stderr
    return out


def test_writes_a_tokenizer_and_its_figures(trained, speech):
    names = {path.name for path in trained.iterdir()}
    assert names == {
        "checkpoints", "metrics.jsonl", "distillation", "centroids.npy", "model", "rejects.jsonl", "stage.json"
    }  # fmt: skip
    counts = read_json(trained / "stage.json")["counts"]
    assert (counts["recordings"], counts["rejected"], counts["labels"]) == (12, 0, {"happy": 6, "sad": 6})
    dev = counts["dev"]
    assert dev["chance"] == 0.5 and 1 <= dev["perplexity"] <= dev["classes_used"] <= 6
    assert [dev[whose]["recordings"] for whose in ("seen_speakers", "unseen_speakers")] == [2, 2]
    assert all(dev[whose]["accuracy"] > 0.8 for whose in ("seen_speakers", "unseen_speakers"))
    tokenizer = StyleTokenizer.from_pretrained(trained / "model")
    assert tokenizer.vocabulary_size == 6 and set(tokenizer.config.labels) == {"happy", "sad"}
    wave = read_audio(speech / "audio/dev-0.wav", 16_000)
    heard = [tokenizer.config.labels[unit] for unit in tokenizer.encode(wave, 16_000).values]
    assert len(heard) == 3 and heard.count("happy") >= 2


def test_a_stopped_run_ends_with_the_same_bits(trained, speech, tmp_path):
    """What a stop in the first training leaves, and what one in the second does."""
    whole = load_file(trained / "model/model.safetensors")
    first, second = tmp_path / "first", tmp_path / "second"
    shutil.copytree(trained / "checkpoints/step-00000005", first / "checkpoints/step-00000005")
    shutil.copytree(trained / "checkpoints", second / "checkpoints")
    shutil.copytree(trained / "distillation/checkpoints", second / "distillation/checkpoints")
    shutil.copy(trained / "centroids.npy", second)
    for stopped in (first, second):
        done = train(speech, stopped, *EVERY)
        assert done.returncode == 0, done.stderr
        resumed = load_file(stopped / "model/model.safetensors")
        assert whole.keys() == resumed.keys() and all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert not (second / "metrics.jsonl").is_file() or not list(read_jsonl(second / "metrics.jsonl"))


def test_two_processes(speech, tmp_path, free_port):
    short = ("training.steps=3", "distillation.steps=3")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={free_port()}"]
    run = [*launcher, *command(speech, tmp_path / "two", *short)]
    done = subprocess.run(run, capture_output=True, text=True, timeout=240, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    assert StyleTokenizer.from_pretrained(tmp_path / "two/model").vocabulary_size == 6


def test_moods_inside_a_recording(tmp_path):
    def changing(mood):
        return {"mood": mood, "moods": [[mood, 0.0, 1.0], ["sad", 1.0, 99.0]]}

    speech = write_corpus(tmp_path / "speech", changing)
    done = train(speech, tmp_path / "out", "training.steps=2", "distillation.steps=2")
    assert done.returncode == 0, done.stderr
    assert read_json(tmp_path / "out/stage.json")["counts"]["labels"] == {"happy": 6, "sad": 12}


@pytest.mark.parametrize(
    ("custom", "override", "message"),
    [
        (lambda mood: {"mood": mood}, "label=style", "expected custom.style in its manifest, found none"),
        (lambda mood: {"mood": "sad"}, "label=mood", "all recordings have 'sad', expected at least two labels"),
        (lambda mood: {"mood": mood}, "classes=500", "classes = 500: "),
    ],
)
def test_a_corpus_that_does_not_do(tmp_path, custom, override, message):
    speech = write_corpus(tmp_path / "speech", custom)
    done = train(speech, tmp_path / "out", override, "training.steps=1", "clustered=1")
    assert done.returncode == 2 and message in done.stderr, done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_unreadable_recordings_are_named_and_counted(tmp_path):
    speech = write_corpus(tmp_path / "speech")
    (speech / "audio/train-3.wav").write_text("not audio")
    options = ("training.steps=3", "distillation.steps=2", "max_bad_fraction=0.2")
    done = train(speech, tmp_path / "out", *options)
    assert done.returncode == 0, done.stderr
    rejected = list(read_jsonl(tmp_path / "out/rejects.jsonl"))
    assert len(rejected) == 1 and "train-3.wav" in rejected[0]["item"]
