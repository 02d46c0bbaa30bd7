import shutil
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
import torch

from spiritlm.audio.files import write_wav
from spiritlm.corpus.manifest import Sentence, SpokenDocument, Word, read_manifest, write_manifest
from spiritlm.corpus.store import Record, write_split
from spiritlm.run.files import read_json, write_json
from spiritlm.run.metrics import read_metrics
from spiritlm.synthesis.loading import load_speech_decoder
from spiritlm.synthesis.unit_decoder import UnitDecoder
from spiritlm.synthesis.vocoder import load_vocoder, speak
from spiritlm.tokens.emit import document_of
from spiritlm.tokens.layout import spirit
from spiritlm.tokens.streams import Prosody
from spiritlm.tokens.text import SentencePieceText
from spiritlm.tokens.vocabulary import Vocabulary

from ..programs import run_here

REPO = Path(__file__).resolve().parents[2]
PROGRAM = REPO / "training" / "train_vocoder.py"
RECIPE = REPO / "training" / "recipes" / "vocoder-tiny.toml"
UNITS_RECIPE = RECIPE.with_name("hifigan-tiny.toml")


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
            custom = {"mood": ("sad", "happy", "happy")[number]}
            documents.append(SpokenDocument(f"{split}-{number}", path, 2.0, 16_000, speaker, (sentence,), custom))
        write_manifest(folder, split, documents)
    write_json(folder / "stage.json", {"fingerprint": "speech", "inputs": {}})
    return folder


@pytest.fixture(scope="module")
def told(speech: Path, text_model) -> Path:
    """Units at 25 Hz, pitch at 12.5 Hz and style at 1 Hz of those tones."""
    folder, text = speech.parent / "store", SentencePieceText(text_model)
    sizes = {"semantic": 20, "pitch": 4, "style": 3}
    vocabulary = Vocabulary(text, spirit(text.size, sizes, text.bos, text.eos))
    vocabulary.save(folder)
    rates = {"semantic": 25.0, "pitch": 12.5, "style": 1.0}
    for split in ("train", "dev"):
        rows = []
        for number, document in enumerate(read_manifest(speech, split)):
            units = np.arange(50) // 3 % 20
            pitch, style = np.full(25, 1 + (document.speaker == "high")), np.full(2, min(number, 1))
            aligned = document_of([5], [(0, 0, 50)], semantic=units, pitch=pitch, style=style)
            rows.append((Record(document.id, document.speaker, str(document.audio), 0.0, 2.0), aligned))
        write_split(folder, split, rows, rates, vocabulary)
    for name, inputs in (("units", {}), ("store", {"speech": "speech", "units": "units"})):
        (speech.parent / name).mkdir(exist_ok=True)
        write_json(speech.parent / name / "stage.json", {"fingerprint": name, "inputs": inputs})
    return speech.parent


def train(speech: Path, out: Path, *overrides: str, recipe: Path = RECIPE) -> CompletedProcess[str]:
    return run_here(PROGRAM, recipe, f"out={out}", f"speech={speech}", *overrides)


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


def train_units(told: Path, out: Path, *overrides: str) -> CompletedProcess[str]:
    inputs = [f"units={told / 'units'}", f"store={told / 'store'}"]
    return train(told / "speech", out, *inputs, *overrides, recipe=UNITS_RECIPE)


def test_units_pitch_and_style_become_a_voice(told: Path, tmp_path: Path) -> None:
    out, model = tmp_path / "out", tmp_path / "out" / "model" / "model.safetensors"
    done = train_units(told, out, "training.checkpoint.keep_last=2")
    assert done.returncode == 0, done.stderr
    counts = read_json(out / "stage.json")["counts"]
    assert counts["train"]["judges"] > 0 and counts["train"]["duration"] > 0 and counts["dev_recordings"] == 1
    decoder = load_speech_decoder(out / "model")
    assert isinstance(decoder, UnitDecoder) and decoder.expressive
    assert decoder.speakers == ("low", "high") and decoder.styles == ("happy", "sad")
    assert decoder.config.style_units == (1, 0)
    hertz = decoder.config.pitch_hertz
    assert (
        hertz[0] == hertz[3] == 0
        and hertz[1] == pytest.approx(110, rel=0.1)
        and hertz[2] == pytest.approx(220, rel=0.1)
    )
    assert decoder.config.gain != 1
    units = np.arange(4)
    assert len(decoder.decode(units, "high", "sad", Prosody(units % 3, units % 2))) >= 4 * 640

    bits = model.read_bytes()
    for gone in (out / "stage.json", model):
        gone.unlink()
    shutil.rmtree(out / "checkpoints" / "step-00000004")
    done = train_units(told, out, "training.checkpoint.keep_last=2")
    assert done.returncode == 0 and model.read_bytes() == bits, done.stderr


def test_the_base_voice_hears_the_style_of_an_utterance(told: Path, tmp_path: Path) -> None:
    done = train_units(told, tmp_path / "out", "expressive=false", "training.steps=2")
    assert done.returncode == 0, done.stderr
    decoder = load_speech_decoder(tmp_path / "out" / "model")
    assert isinstance(decoder, UnitDecoder) and not decoder.expressive and decoder.styles == ("happy", "sad")
    assert decoder.config.shape.styles == 2 and not decoder.config.pitch_hertz


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("hifigan.up_rates=[5,4,4,4,4]", "1280 samples a unit; units of 25 Hz at 16000 Hz have 640"),
        ("crop_frames=13", "expected a multiple of the unit's 640"),
        ("label=humour", "expected custom.humour"),
        ("model.causal=true", "without [model]"),
        ("default_speaker=lwo", "default_speaker: 'lwo' is not one of the 2"),
        ("discriminators.period_channels=[]", "expected at least one"),
        ("mel.lowest=8500", "expected 0 <= lowest < highest <= 8000 Hz"),
    ],
)
def test_recipes_of_units_that_do_not_fit(told: Path, tmp_path: Path, change: str, message: str) -> None:
    done = train_units(told, tmp_path / "out", change)
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1
