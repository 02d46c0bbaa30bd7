import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from spiritlm.audio.files import write_wav
from spiritlm.corpus.manifest import Sentence, SpokenDocument, Word, write_manifest
from spiritlm.run.files import read_json, read_jsonl, write_json
from spiritlm.units.hubert import HubertTokenizer
from spiritlm.units.hubert_encoder import HubertEncoder, HubertShape, save_encoder
from spiritlm.units.loading import load_speech_tokenizer

from ..programs import run_here

REPO = Path(__file__).resolve().parents[2]
RECIPE = REPO / "tokenizers" / "recipes" / "units0-tiny.toml"
SECONDS = 2.0


def write_corpus(folder: Path) -> None:
    """Twelve training and two dev recordings of noise that changes its colour."""
    (folder / "audio").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for split, count in {"train": 12, "dev": 2}.items():
        documents = []
        for i in range(count):
            pieces = [np.convolve(rng.standard_normal(3200), rng.standard_normal(8), "same") for _ in range(10)]
            name = f"{split}-{i}"
            write_wav(folder / "audio" / f"{name}.wav", 0.05 * np.concatenate(pieces), 16000)
            sentence = Sentence.of_words((Word("noise", 0.0, SECONDS),))
            documents.append(SpokenDocument(name, Path("audio") / f"{name}.wav", SECONDS, 16000, "noise", (sentence,)))
        write_manifest(folder, split, documents)
    write_json(folder / "stage.json", {"stage": "speak", "fingerprint": "0", "recipe": {}, "inputs": {}})


@pytest.fixture
def speech(tmp_path):
    write_corpus(tmp_path / "speech")
    return tmp_path / "speech"


def fit_units(tmp_path, *overrides):
    paths = [f"out={tmp_path / 'units'}", f"speech={tmp_path / 'speech'}", "clusters=16"]
    return run_here(REPO / "tokenizers" / "fit_units.py", RECIPE, *paths, *overrides)


def test_writes_a_tokenizer_and_its_figures(tmp_path, speech):
    done = fit_units(tmp_path, f"max_hours={5 * SECONDS / 3600}")
    assert done.returncode == 0, done.stderr
    counts = read_json(tmp_path / "units" / "stage.json")["counts"]
    assert counts["recordings"] == 5 and counts["rejected"] == 0 and counts["dev_units"] == 100
    assert 1 < counts["dev_perplexity"] <= counts["dev_clusters_used"] <= 16
    assert load_speech_tokenizer(tmp_path / "units" / "model").vocabulary_size == 16


def test_bad_recording_is_named_and_counted(tmp_path, speech):
    (speech / "audio" / "train-3.wav").write_bytes(b"not a wav")
    done = fit_units(tmp_path, "max_bad_fraction=0.1")
    assert done.returncode == 0, done.stderr
    assert [row["item"] for row in read_jsonl(tmp_path / "units" / "rejects.jsonl")] == ["train-3"]
    assert read_json(tmp_path / "units" / "stage.json")["counts"]["rejected"] == 1


def test_too_many_bad_recordings_stop_the_stage(tmp_path, speech):
    (speech / "audio" / "train-3.wav").write_bytes(b"not a wav")
    done = fit_units(tmp_path)
    assert done.returncode == 2 and "1 of 14 items cannot be used" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "units" / "model").exists() and not (tmp_path / "units" / "stage.json").exists()


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A stage with a network that nobody trained."""
    folder = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(0)
    shape = HubertShape(
        conv_channels=(16,) * 8, width=24, layers=3, heads=2, feed_forward=24, position_kernel=8, position_groups=2
    )
    save_encoder(HubertEncoder(shape), folder / "model")
    write_json(folder / "stage.json", {"stage": "train hubert", "fingerprint": "1", "recipe": {}, "inputs": {}})
    return folder


def test_clusters_a_layer_of_a_network(tmp_path, speech, encoder):
    done = fit_units(tmp_path, f"encoder={encoder}", "layer=2", "standardize=true", "chunk_seconds=1.5")
    assert done.returncode == 0, done.stderr
    counts = read_json(tmp_path / "units" / "stage.json")["counts"]
    assert counts["dev_units"] == 100 and 1 < counts["dev_perplexity"] <= counts["dev_clusters_used"] <= 16
    assert set(counts["dev_error_in_noise"]) == {"kmeans"}
    tokenizer = load_speech_tokenizer(tmp_path / "units" / "model")
    assert isinstance(tokenizer, HubertTokenizer) and tokenizer.encoder.shape.layers == 2
    assert tokenizer.config.standardize and tokenizer.config.chunk_seconds == 1.5


def test_trains_a_linear_quantizer_and_goes_on_after_a_stop(tmp_path, speech, encoder):
    options = [f"encoder={encoder}", "layer=2", "quantizer=ctc", "ctc.batch_size=4", "ctc.crop_seconds=1.0",
               "ctc.training.steps=6", "ctc.training.log_every=2"]  # fmt: skip
    options += ["ctc.training.checkpoint.every=3", "ctc.training.checkpoint.keep_last=9"]
    done = fit_units(tmp_path, *options)
    assert done.returncode == 0, done.stderr
    units = tmp_path / "units"
    counts = read_json(units / "stage.json")["counts"]
    assert set(counts["dev_error_in_noise"]) == {"kmeans", "ctc"} and np.isfinite(counts["ctc"]["loss"])
    tokenizer = load_speech_tokenizer(units / "model")
    assert tokenizer.vocabulary_size == 16 and tokenizer.config.quantizer.kind == "ctc"
    assert {path.name for path in units.iterdir()} == {
        "checkpoints", "clean", "metrics.jsonl", "model", "rejects.jsonl", "stage.json"
    }  # fmt: skip
    whole = (units / "model/model.safetensors").read_bytes()
    for left in ("stage.json", "model", "checkpoints/step-00000006"):
        shutil.rmtree(units / left) if (units / left).is_dir() else (units / left).unlink()
    done = fit_units(tmp_path, *options)
    assert done.returncode == 0, done.stderr
    assert (units / "model/model.safetensors").read_bytes() == whole


@pytest.mark.parametrize("wrong", ["layer=2", "quantizer=ctc"])
def test_what_needs_an_encoder(tmp_path, speech, wrong):
    done = fit_units(tmp_path, wrong)
    assert done.returncode == 2 and "encoder" in done.stderr and len(done.stderr.splitlines()) == 1
