import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from spiritlm.audio.files import write_wav
from spiritlm.corpus.manifest import Sentence, SpokenDocument, Word, write_manifest
from spiritlm.run.files import read_json, write_json
from spiritlm.run.metrics import read_metrics
from spiritlm.synthesis.vocoder import load_vocoder, speak

REPO = Path(__file__).resolve().parents[2]
PROGRAM = REPO / "training" / "train_vocoder.py"
RECIPE = REPO / "training" / "recipes" / "vocoder-tiny.toml"


@pytest.fixture(scope="module")
def speech(tmp_path_factory) -> Path:
    """Buzzing tones of two speakers."""
    folder = tmp_path_factory.mktemp("run") / "speech"
    (folder / "audio").mkdir(parents=True)
    time = np.arange(32_000) / 16_000
    for split in ("train", "dev"):
        documents = []
        for number, speaker in enumerate(("low", "high", "low")):
            f0 = (110 if speaker == "low" else 220) * (1 + 0.1 * np.sin(2 * np.pi * time + number))
            wave = 0.05 * sum(np.sin(2 * np.pi * k * np.cumsum(f0) / 16_000) / k for k in range(1, 12))
            write_wav(folder / "audio" / f"{split}-{number}.wav", wave.astype(np.float32), 16_000)
            sentence = Sentence.of_words((Word("buzz", 0.0, 2.0),))
            path = Path("audio") / f"{split}-{number}.wav"
            documents.append(SpokenDocument(f"{split}-{number}", path, 2.0, 16_000, speaker, (sentence,)))
        write_manifest(folder, split, documents)
    write_json(folder / "stage.json", {"fingerprint": "speech", "inputs": {}})
    return folder


def train(speech: Path, out: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(PROGRAM), str(RECIPE), f"out={out}", f"speech={speech}", *overrides]
    return subprocess.run(command, capture_output=True, text=True, timeout=180)


def test_a_run_that_was_stopped_ends_with_the_same_bits(speech: Path, tmp_path: Path) -> None:
    out, model = tmp_path / "out", tmp_path / "out" / "model" / "model.safetensors"
    done = train(speech, out, "training.checkpoint.keep_last=2")
    assert done.returncode == 0, done.stderr
    counts = read_json(out / "stage.json")["counts"]
    assert counts["recordings"] == 3 and counts["train"]["skipped"] == 0 and counts["train"]["judges"] > 0
    assert {path.suffix for path in (out / "samples").iterdir()} == {".wav", ".png"}
    assert [row["step"] for row in read_metrics(out)] == [4]
    vocoder, config = load_vocoder(out / "model")
    assert len(speak(vocoder, torch.zeros(80, 7))) == 7 * config.mel.hop

    bits = model.read_bytes()
    for gone in (out / "stage.json", model):
        gone.unlink()
    shutil.rmtree(out / "checkpoints" / "step-00000004")
    done = train(speech, out, "training.checkpoint.keep_last=2")
    assert done.returncode == 0 and model.read_bytes() == bits, done.stderr


def test_only_the_speakers_that_are_named(speech: Path, tmp_path: Path) -> None:
    done = train(speech, tmp_path / "one", 'speakers=["high"]')
    assert done.returncode == 0, done.stderr
    assert read_json(tmp_path / "one" / "stage.json")["counts"]["recordings"] == 1
    done = train(speech, tmp_path / "none", 'speakers=["hihg"]')
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "speakers: 'hihg' has no recordings" in done.stderr


def test_frames_of_another_network_are_refused(speech: Path, tmp_path: Path) -> None:
    done = train(speech, tmp_path / "out", "mel.hop=160")
    assert done.returncode == 2 and "320 samples a frame" in done.stderr and done.stderr.count("\n") == 1
