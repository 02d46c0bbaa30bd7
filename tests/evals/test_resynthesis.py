from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import torch

from spiritlm.corpus.manifest import read_manifest, write_manifest
from spiritlm.run.files import read_json, write_json
from spiritlm.synthesis.regression import ModelShape, RegressionConfig, RegressionDecoder, UnitToMel
from spiritlm.synthesis.unit_decoder import UnitDecoder, UnitDecoderConfig
from spiritlm.synthesis.unit_hifigan import UnitHifigan, UnitHifiganShape
from spiritlm.units.expressive import ExpressiveTokenizer
from spiritlm.units.loading import load_speech_tokenizer
from spiritlm.units.pitch import PitchConfig, PitchTokenizer
from spiritlm.units.pitch_vqvae import PitchVqVae
from spiritlm.units.style import StyleNetwork, StyleShape, StyleTokenizer

from ..programs import run_here

REPO = Path(__file__).resolve().parents[2]
PROGRAM = REPO / "evals" / "resynthesis.py"
RECIPE = REPO / "evals" / "recipes" / "resynthesis-small.toml"


@pytest.fixture(scope="module")
def decoder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("decoder")
    config = RegressionConfig(
        vocabulary_size=20,
        speakers=("f1", "f2"),
        frames_per_unit=4,
        shape=ModelShape(width=8, unit_blocks=1, frame_blocks=1),
    )
    torch.manual_seed(0)
    RegressionDecoder(UnitToMel(config, -3.0, 1.0), config).save_pretrained(folder / "model")
    write_json(folder / "stage.json", {"stage": "voice", "fingerprint": "voice", "recipe": {}, "inputs": {}})
    return folder


def run(stages: Path, out: Path, *overrides: str) -> CompletedProcess[str]:
    inputs = [f"speech={stages / 'speech'}", f"units={stages / 'units'}", f"out={out}", "speakers=[]", "english=false"]
    return run_here(PROGRAM, RECIPE, *inputs, *overrides)


def test_recordings_stand_beside_what_is_made_of_them(stages: Path, decoder: Path, tmp_path: Path) -> None:
    done = run(stages, tmp_path, f'decoders={{flow="{decoder}"}}', "sentences=2", "pictures=1", "swapped=false")
    assert done.returncode == 0, done.stderr
    results = read_json(tmp_path / "results.json")
    assert set(results["rows"]) == {"recording", "flow"} and results["sentences"] == 2
    made = results["rows"]["flow"]
    assert made["closed"]["value"] >= results["rows"]["recording"]["closed"]["value"]
    assert made["mel_cepstral_distortion"] > 0 and -1 <= made["stoi"] <= 1 and made["real_time_factor"] > 0
    page = (tmp_path / "report.html").read_text()
    assert page.count("<audio") == 2 and page.count("<img") == 1


def test_speakers_that_are_not_there(stages: Path, decoder: Path, tmp_path: Path) -> None:
    done = run(stages, tmp_path, f'decoders={{flow="{decoder}"}}', 'speakers=["nobody"]')
    assert done.returncode == 2 and "has no sentence of the speakers asked for" in done.stderr


@pytest.fixture(scope="module")
def streams(stages: Path, tmp_path_factory) -> Path:
    """Units with pitch and style of random networks, a voice that hears them, and the corpus with a mood."""
    root = tmp_path_factory.mktemp("streams")
    torch.manual_seed(0)
    config, network = PitchConfig(normalization="none"), StyleNetwork(StyleShape(), 3)
    pitch, style = PitchTokenizer(PitchVqVae(config.shape), config), StyleTokenizer(network, ["sad", "happy", "sad"])
    semantic = load_speech_tokenizer(stages / "units" / "model")
    ExpressiveTokenizer(semantic, pitch, style).save_pretrained(root / "units" / "model")
    shape = UnitHifiganShape(
        units=20, pitch_units=64, style_units=3, speakers=2, embedding=4, channels=32, up_rates=(5, 4, 4, 4, 2),
        up_kernels=(11, 8, 8, 8, 4), kernels=(3,), dilations=((1,),), duration_width=4,
    )  # fmt: skip
    voice = UnitDecoderConfig(shape=shape, speakers=("f1", "f2"), styles=("happy", "sad"), style_units=(1, 0))
    UnitDecoder(UnitHifigan(shape), voice).save_pretrained(root / "voice" / "model")
    (root / "speech").mkdir()
    for split in ("train", "test"):
        documents = read_manifest(stages / "speech", split)
        write_manifest(root / "speech", split, [replace(d, custom={"mood": "happy"}) for d in documents])
    write_json(root / "speech" / "corpus.json", {"root": str(stages / "speech")})
    for stage in ("units", "voice", "speech"):
        write_json(root / stage / "stage.json", {"stage": stage, "fingerprint": stage, "recipe": {}, "inputs": {}})
    return root


def test_style_pitch_and_voice_stand_beside_the_words(streams: Path, tmp_path: Path) -> None:
    done = run(streams, tmp_path, f'decoders={{own="{streams / "voice"}"}}', "sentences=2", "pictures=1")
    assert done.returncode == 0, done.stderr
    rows = read_json(tmp_path / "results.json")["rows"]
    assert set(rows) == {"recording", "own", "own, other voice"}
    for row in rows.values():
        assert 0 <= row["style_kept"]["value"] <= 1 and 0 <= row["speaker_heard"]["value"] <= 1
        assert "pitch_followed" in row
    assert rows["recording"]["speaker_heard"]["value"] == 1
    assert "| own, other voice |" in (tmp_path / "results.md").read_text()
