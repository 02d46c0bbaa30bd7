import json
import shutil
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
import torch

from spiritlm.corpus.manifest import SpokenDocument, read_manifest, write_manifest
from spiritlm.run.files import read_json, write_json, write_jsonl
from spiritlm.units.expressive import ExpressiveTokenizer
from spiritlm.units.loading import load_speech_tokenizer
from spiritlm.units.mfcc import MfccKmeansTokenizer
from spiritlm.units.pitch import PitchConfig, PitchTokenizer
from spiritlm.units.pitch_vqvae import PitchVqVae
from spiritlm.units.style import StyleNetwork, StyleShape, StyleTokenizer

from ..programs import run_here

REPO = Path(__file__).resolve().parents[2]


def run(recipe: Path, *overrides: str) -> CompletedProcess[str]:
    return run_here(REPO / "tokenizers/measure.py", recipe, *overrides)


@pytest.fixture
def speech(stages: Path, tmp_path: Path) -> Path:
    """The recordings of the fixture with the letters of each word as its phones; one of test is of another voice."""
    folder = shutil.copytree(stages / "speech", tmp_path / "speech")
    rows = []
    documents = {split: read_manifest(folder, split) for split in ("train", "dev", "test")}
    for document in (d for some in documents.values() for d in some):
        rows.append({"id": document.id, "phones": _letters(document)})
    write_jsonl(folder / "phones.jsonl", rows)
    train = documents["train"]
    write_manifest(folder, "train", train[:1])
    write_manifest(folder, "test", [train[0], train[3], train[1], train[4]])  # f1, f1, f2, f2
    return folder


def _letters(document: SpokenDocument) -> list[list[str | float]]:
    found: list[list[str | float]] = []
    for sentence in document.sentences:
        for word in sentence.words:
            edges = np.linspace(word.start, word.end, len(word.text) + 1)
            found += [[letter, a, b] for letter, a, b in zip(word.text, edges, edges[1:], strict=False)]
    return found


@pytest.fixture
def recipe(stages: Path, speech: Path, tmp_path: Path) -> Path:
    """Measures the k-means of the fixture beside the same one whose units say nothing."""
    deaf = tmp_path / "deaf"
    MfccKmeansTokenizer(np.zeros((20, 39), np.float32)).save_pretrained(deaf / "model")
    write_json(deaf / "stage.json", {"stage": "units", "fingerprint": "deaf", "recipe": {}, "inputs": {}})
    path = tmp_path / "measure.toml"
    path.write_text(
        f'out = "{tmp_path / "measures"}"\nspeech = "{speech}"\n'
        f'[tokenizers]\nkmeans = "{stages / "units"}"\ndeaf = "{deaf}"\n'
    )
    return path


def test_a_tokenizer_that_hears_is_told_from_one_that_does_not(recipe: Path, tmp_path: Path) -> None:
    done = run(recipe)
    assert done.returncode == 0, done.stderr
    out = tmp_path / "measures"
    found = json.loads((out / "measures.json").read_text(), parse_constant=pytest.fail)["measures"]
    for speakers in ("seen", "unseen"):
        hearing, deaf = found["kmeans"][speakers], found["deaf"][speakers]
        assert deaf["pnmi"]["value"] == pytest.approx(0, abs=1e-9)
        assert deaf["abx_within"]["value"] == 0.5
        assert deaf["used"] == 1 and deaf["entropy_bits"] == pytest.approx(0)
        assert hearing["pnmi"]["value"] > 0.2
        assert hearing["abx_within"]["value"] < 0.4
        assert hearing["phone_purity"]["value"] > deaf["phone_purity"]["value"]
        assert hearing["unit_errors"]["10 dB"]["value"] > hearing["unit_errors"]["20 dB"]["value"] > 0
        assert hearing["kept_per_second"] <= hearing["units_per_second"] <= 26
        assert hearing["recordings"] == 2
    seen, unseen = (found["kmeans"][s]["hours"] for s in ("seen", "unseen"))
    assert 3600 * abs(seen - unseen) < 10  # one recording
    text = (out / "measures.md").read_text()
    assert text in done.stdout
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 4 and len({len(line) for line in lines}) == 1
    assert (out / "report.html").read_text().count("data:image/png") == 2
    assert read_json(out / "stage.json")["counts"]["recordings"] == 4


def test_pitch_and_style_are_measured_where_they_are_there(
    recipe: Path, stages: Path, speech: Path, tmp_path: Path
) -> None:
    """Random networks: figures of any height, but of all three streams, in a table and a picture of their own rows."""
    torch.manual_seed(0)
    config = PitchConfig(normalization="none")
    pitch = PitchTokenizer(PitchVqVae(config.shape), config)
    style = StyleTokenizer(StyleNetwork(StyleShape(), 10))
    kmeans = load_speech_tokenizer(stages / "units" / "model")
    ExpressiveTokenizer(kmeans, pitch, style).save_pretrained(tmp_path / "deaf" / "model")
    done = run(recipe, "pictures=0")
    assert done.returncode == 0, done.stderr
    found = read_json(tmp_path / "measures" / "measures.json")["measures"]
    assert "f0_cents" not in found["kmeans"]["seen"]
    seen = found["deaf"]["seen"]
    assert seen["pnmi"] == found["kmeans"]["seen"]["pnmi"]
    assert 0 <= seen["f0_within_10_percent"]["value"] <= 1 and seen["pitch_used"][1] == 64
    assert seen["style_per_second"]["value"] is None and seen["moods"] == 0  # nobody said which mood it is
    for split in ("train", "test"):
        documents = read_manifest(speech, split)
        moods = [["sad", 0.0, 2.0], ["happy", 2.0, 99.0]]
        write_manifest(speech, split, [replace(d, custom={"mood": "sad", "moods": moods}) for d in documents])
    assert run(recipe, f"out={tmp_path / 'moods'}").returncode == 0
    seen = read_json(tmp_path / "moods" / "measures.json")["measures"]["deaf"]["seen"]
    assert 0 <= seen["style_per_second"]["value"] <= 1
    assert seen["moods"] == 2 and seen["changes"] == seen["recordings"] == 2


def test_a_corpus_without_phone_times_is_refused_in_one_line(recipe: Path, speech: Path) -> None:
    (speech / "phones.jsonl").unlink()
    done = run(recipe)
    assert done.returncode == 2
    assert (
        done.stderr
        == f"error: {speech}: expected phones.jsonl, when each phone is heard; a corpus of speak.py has it\n"
    )


def test_a_set_without_speakers_is_refused(recipe: Path, speech: Path, tmp_path: Path) -> None:
    write_manifest(speech, "test", read_manifest(speech, "train"))
    done = run(recipe)
    assert done.returncode == 2
    assert "speakers = unseen: split test" in done.stderr
    assert run(recipe, 'speakers=["all"]', "pictures=0", f"out={tmp_path / 'all'}").returncode == 0


def test_recordings_without_phones_are_named(recipe: Path, speech: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (speech / "phones.jsonl").read_text().splitlines()]
    write_jsonl(speech / "phones.jsonl", (row for row in rows if row["id"] != "train-4"))
    done = run(recipe, "max_bad_fraction=0.3", "pictures=0")
    assert done.returncode == 0, done.stderr
    assert "train-4" in (tmp_path / "measures/rejects.jsonl").read_text()
