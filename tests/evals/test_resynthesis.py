import subprocess
import sys
from pathlib import Path

import pytest
import torch

from spiritlm.run.files import read_json, write_json
from spiritlm.synthesis.regression import ModelShape, RegressionConfig, RegressionDecoder, UnitToMel

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


def run(stages: Path, out: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    inputs = [f"speech={stages / 'speech'}", f"units={stages / 'units'}", f"out={out}", "speakers=[]", "english=false"]
    command = [sys.executable, str(PROGRAM), str(RECIPE), *inputs, *overrides]
    return subprocess.run(command, capture_output=True, text=True, timeout=180)


def test_recordings_stand_beside_what_is_made_of_them(stages: Path, decoder: Path, tmp_path: Path) -> None:
    done = run(stages, tmp_path, f'decoders={{flow="{decoder}"}}', "sentences=2", "pictures=1")
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
