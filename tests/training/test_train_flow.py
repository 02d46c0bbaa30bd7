import shutil
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest

from spiritlm.audio.vocoder_mel import VocoderMel
from spiritlm.run.files import read_json, write_json
from spiritlm.synthesis.decoder import FlowDecoder
from spiritlm.synthesis.hift import Hift, HiftShape
from spiritlm.synthesis.loading import load_speech_decoder
from spiritlm.synthesis.vocoder import VocoderConfig, save_vocoder

from ..programs import run_here

REPO = Path(__file__).resolve().parents[2]
PROGRAM = REPO / "training" / "train_flow.py"
RECIPE = REPO / "training" / "recipes" / "flow-tiny.toml"
OF_25_HZ = ("model.encoder.up_stride=2", "model.estimator.block=10")


@pytest.fixture(scope="module")
def vocoder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "vocoder"
    shape = HiftShape(
        sample_rate=16_000, channels=8, up_rates=(8, 5, 2), up_kernels=(16, 10, 4), kernels=(3,), dilations=((1,),),
        source_kernels=(3, 3, 3), source_dilations=((1,), (1,), (1,)), f0_channels=8, causal=True,
    )  # fmt: skip
    config = VocoderConfig(mel=VocoderMel(sample_rate=16_000, size=1280, hop=320), shape=shape)
    save_vocoder(folder / "model", Hift(shape), config)
    write_json(folder / "stage.json", {"fingerprint": "vocoder", "inputs": {}})
    return folder


def train(run_folder: Path, vocoder: Path, out: Path, *overrides: str) -> CompletedProcess[str]:
    inputs = [f"{name}={run_folder / name}" for name in ("speech", "units", "store")]
    return run_here(PROGRAM, RECIPE, f"out={out}", *inputs, f"vocoder={vocoder}", *overrides)


def test_many_voices_and_then_one(run_folder: Path, vocoder: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    done = train(run_folder, vocoder, first, *OF_25_HZ, "training.checkpoint.keep_last=2")
    assert done.returncode == 0, done.stderr
    counts = read_json(first / "stage.json")["counts"]
    assert counts["speakers"] == 2 and counts["train"]["skipped"] == 0 and counts["dev_recordings"] == 1
    assert not (first / "mel.npy").exists() and (first / "samples" / "0.png").is_file()
    decoder = load_speech_decoder(first / "model")
    assert isinstance(decoder, FlowDecoder) and decoder.speakers == ("kal", "slt") and decoder.deduplicated
    assert len(decoder.decode(np.array([1, 2, 3]), "slt")) >= 3 * 640

    model = first / "model" / "model.safetensors"
    bits = model.read_bytes()
    for gone in (model, first / "stage.json"):
        gone.unlink()
    shutil.rmtree(first / "checkpoints" / "step-00000004")
    done = train(run_folder, vocoder, first, *OF_25_HZ, "training.checkpoint.keep_last=2")
    assert done.returncode == 0 and model.read_bytes() == bits, done.stderr

    one = ('speakers=["slt"]', "prefixes=true", f"start={first}", *OF_25_HZ)
    done = train(run_folder, vocoder, second, *one, "training.steps=1", "training.learning_rate=1e-9")
    assert done.returncode == 0, done.stderr
    adapted = load_speech_decoder(second / "model")
    assert adapted.speakers == ("slt",)
    units = np.array([4, 5, 6])
    assert np.allclose(adapted.decode(units), decoder.decode(units, "slt"), atol=1e-3)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ((), "up_stride = 4: units of 25 Hz and mel of 50 Hz are 2 frames a unit"),
        ((*OF_25_HZ, 'speakers=["kall"]'), "speakers: 'kall' has no recordings"),
        ((*OF_25_HZ, "model.estimator.block=20"), "estimator.block = 20: expected 10 mel frames"),
    ],
)
def test_what_does_not_fit(
    run_folder: Path, vocoder: Path, tmp_path: Path, overrides: tuple[str, ...], message: str
) -> None:
    done = train(run_folder, vocoder, tmp_path / "out", *overrides)
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1, done.stderr
