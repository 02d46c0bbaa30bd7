"""The trainer of VQ-Whisper, on a few synthesized recordings."""

import json
import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import WhisperConfig, WhisperModel

from spiritlm.audio.files import read_audio
from spiritlm.run.metrics import read_metrics
from spiritlm.units.loading import load_speech_tokenizer

from ..programs import run_here

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "tokenizers" / "train_vq_whisper.py"
RECIPE = """
batch_seconds = 12.0
sentences = [1, 2]
[model]
d_model = 24
num_mel_bins = 20
encoder_layers = 3
encoder_attention_heads = 2
encoder_ffn_dim = 32
pooling_position = 1
quantize_position = 2
quantize_vocab_size = 16
quantize_causal_block_size = 40
quantize_ema_decay = 0.9
quantize_restart_interval = 2
ctc_letters = " abcdefghijklmnopqrstuvwxyz"
[training]
steps = 6
warmup_steps = 2
log_every = 1
checkpoint = {every = 2, keep_last = 1}
"""


KILLER = """
import os, runpy, signal, sys
from spiritlm.units.vq_whisper import VqWhisper

losses, calls = VqWhisper.losses, [0]

def counted(self, batch):
    calls[0] += 1
    if calls[0] == 3:  # the first step with a codebook, after its k-means
        os.kill(os.getpid(), signal.SIGKILL)
    return losses(self, batch)

VqWhisper.losses = counted
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def arguments(stages, folder, *overrides):
    recipe = folder.with_suffix(".toml")
    recipe.write_text(RECIPE)
    return [str(PROGRAM), str(recipe), f"out={folder}", f"speech.main={stages / 'speech'}", *overrides]


def run(stages, folder, *overrides):
    return run_here(*arguments(stages, folder, *overrides))


def finished(stages, folder, *overrides):
    process = run(stages, folder, *overrides)
    assert process.returncode == 0, process.stderr
    return json.loads((folder / "stage.json").read_text())["counts"]


@pytest.fixture(scope="module")
def trained(stages, tmp_path_factory):
    folder = tmp_path_factory.mktemp("vq") / "model"
    return folder, finished(stages, folder)


def test_a_tokenizer_comes_out(stages, trained):
    folder, counts = trained
    tokenizer = load_speech_tokenizer(folder / "model")
    wave = read_audio(stages / "speech" / "wav" / "dev" / "dev-0.wav", 16000)
    units = tokenizer.encode(wave, 16000).semantic.values
    assert tokenizer.rate == 12.5 and len(units) == -(-len(wave) // 1280)
    assert isinstance(tokenizer.transcribe(units), str)
    dev = counts["dev"]
    assert dev["sentences"] == 6 and 1 <= dev["codes_used"] <= 16 and dev["wer_seen_speakers"] > 0


def test_the_codebook_is_shown_once_it_is_in_use(trained):
    rows = list(read_metrics(trained[0]))
    assert [("perplexity" in row) for row in rows] == [False, False, True, True, True, True]
    assert all(1 <= row["perplexity"] <= 16 for row in rows[2:])


def test_killed_as_the_codebook_begins_and_resumed_equals_never_stopped(stages, trained, tmp_path):
    folder = tmp_path / "model"
    (tmp_path / "killer.py").write_text(KILLER)
    command = [sys.executable, str(tmp_path / "killer.py"), *arguments(stages, folder)]
    environment = {**ENVIRONMENT, "PYTHONPATH": str(ROOT)}
    killed = subprocess.run(command, env=environment, capture_output=True, timeout=120)
    assert killed.returncode == -signal.SIGKILL
    assert [path.name for path in (folder / "checkpoints").glob("step-*")] == ["step-00000002"]
    finished(stages, folder)
    first, second = (load_speech_tokenizer(f / "model").model.state_dict() for f in (trained[0], folder))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_from_a_whisper_with_its_decoder(stages, tmp_path):
    torch.manual_seed(0)
    shape = {"d_model": 24, "num_mel_bins": 20, "vocab_size": 420, "max_source_positions": 400}
    layers = {f"{part}_{name}": value for part in ("encoder", "decoder")
              for name, value in (("layers", 3), ("attention_heads", 2), ("ffn_dim", 32))}  # fmt: skip
    whisper = WhisperModel(WhisperConfig(**shape, **layers, pad_token_id=0, decoder_start_token_id=1))
    whisper.save_pretrained(tmp_path / "whisper")
    overrides = ["quantize_from=0.0", "model.ctc_letters=", "training.steps=2", f"text={stages / 'text'}"]
    counts = finished(stages, tmp_path / "model", f"whisper={tmp_path / 'whisper'}", *overrides)
    assert {"text", "codebook", "perplexity"} <= set(counts["train"])
    tokenizer = load_speech_tokenizer(tmp_path / "model" / "model")
    weight = tokenizer.model.encoder.layers[0].fc1.weight
    assert torch.allclose(weight, whisper.encoder.layers[0].fc1.weight, atol=0.02), "it began at the Whisper's weights"
    assert np.isfinite(weight.detach().numpy()).all()


def test_two_processes_agree_and_share_the_codebook(stages, tmp_path, free_port):
    folder = tmp_path / "model"
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={free_port()}"]
    command += arguments(stages, folder)
    process = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=180)
    assert process.returncode == 0, process.stderr
    assert load_speech_tokenizer(folder / "model").vocabulary_size == 16


def test_wrong_recipes_are_refused_in_one_line(stages, tmp_path):
    for overrides, named in (
        (["model.ctc_letters="], "expected decoder_layers, ctc_letters or both"),
        (["model.decoder_layers=1"], "a text decoder needs text"),
        (["shares.other=1"], "shares.other: no corpus of that name"),
        ([f"speech.other={stages / 'speech'}", "shares.main=1"], "found none for other"),
        ([f"whisper={stages / 'units' / 'model'}", f"text={stages / 'text'}"], "expected 'whisper'"),
    ):
        process = run(stages, tmp_path / "model", *overrides)
        assert process.returncode == 2 and named in process.stderr, process.stderr
        assert len(process.stderr.strip().splitlines()) == 1


def test_paper_recipe_is_whisper_large():
    recipe = tomllib.loads((ROOT / "tokenizers" / "recipes" / "vq-whisper-paper.toml").read_text())
    assert recipe["model"]["quantize_vocab_size"] == 16384 and recipe["training"]["learning_rate"] == 1e-5
