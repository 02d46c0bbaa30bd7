import json
from pathlib import Path

import numpy as np

from spiritlm.audio.files import read_audio
from spiritlm.units.loading import load_speech_tokenizer

from ..programs import run_here

PROGRAM = Path(__file__).parents[2] / "tokenizers" / "import_units.py"


def run(tmp_path, *overrides):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(f'out = "{tmp_path / "units"}"\n')
    return run_here(PROGRAM, recipe, *overrides)


def test_a_folder_becomes_a_stage(stages, tmp_path):
    source = stages / "units" / "model"
    process = run(tmp_path, f"folder={source}")
    assert process.returncode == 0, process.stderr
    assert json.loads((tmp_path / "units" / "stage.json").read_text())["counts"] == {"rate": 25, "vocabulary_size": 20}
    wave = read_audio(stages / "speech" / "wav" / "dev" / "dev-0.wav", 16000)
    found = [
        load_speech_tokenizer(f).encode(wave, 16000).semantic.values for f in (source, tmp_path / "units" / "model")
    ]
    assert np.array_equal(*found)


def test_half_a_hubert_is_refused(tmp_path):
    process = run(tmp_path, "hubert=nowhere.pt")
    assert process.returncode == 2 and "expected folder, or hubert and quantizer" in process.stderr
