import shutil
import subprocess

import numpy as np
import pytest
import torch

from spiritlm.audio.files import read_audio
from spiritlm.audio.mel import log_mel
from spiritlm.errors import InputError
from spiritlm.run.fit import FitRecipe, fit
from spiritlm.synthesis.crops import UnitMelCrops
from spiritlm.synthesis.regression import (
    ModelShape,
    RegressionConfig,
    RegressionDecoder,
    UnitToMel,
    regression_losses,
)
from spiritlm.tokens.interleave import deduplicate
from spiritlm.units.mfcc import fit_mfcc_kmeans

CONFIG = RegressionConfig(
    vocabulary_size=20,
    speakers=("kal", "slt"),
    frames_per_unit=4,
    shape=ModelShape(width=16, unit_blocks=2, frame_blocks=2),
)


@pytest.fixture(scope="module")
def decoder():
    torch.manual_seed(0)
    return RegressionDecoder(UnitToMel(CONFIG, mel_mean=-3.0, mel_deviation=1.5), CONFIG)


def test_sound_lasts_as_long_as_the_durations(decoder):
    mel = decoder.mel(np.array([3, 7, 1]), "slt", durations=np.array([1, 5, 2]))
    assert mel.shape == (32, 80) and mel.dtype == torch.float32
    wave = decoder.decode(np.array([3, 7, 1]), "slt")
    assert wave.dtype == np.float32 and wave.ndim == 1 and len(wave) % 640 == 0 and len(wave) >= 3 * 640
    assert np.abs(wave).max() <= 1 and decoder.sample_rate == 16000
    assert np.array_equal(wave, decoder.decode(np.array([3, 7, 1], dtype=np.uint16), "slt"))


def test_first_speaker_is_the_default_and_speakers_differ(decoder):
    units = np.array([3, 7, 1])
    assert torch.equal(decoder.mel(units), decoder.mel(units, "kal"))
    assert not torch.equal(decoder.mel(units, "kal"), decoder.mel(units, "slt"))


def test_padding_changes_no_frame(decoder):
    model = decoder.model
    units, durations = torch.tensor([[3, 7, 1]]), torch.tensor([[2, 1, 3]])
    speaker = torch.tensor([1, 0])
    alone = model.encode(units, speaker[:1], durations > 0)
    more_units = torch.tensor([[3, 7, 1, 0, 0], [4, 5, 6, 7, 8]])
    more_durations = torch.tensor([[2, 1, 3, 0, 0], [9, 9, 9, 9, 9]])
    padded = model.encode(more_units, speaker, more_durations > 0)
    torch.testing.assert_close(padded[:1, :3], alone)
    torch.testing.assert_close(model.decode(padded, more_durations)[:1, :24], model.decode(alone, durations))


def test_padding_changes_no_loss(decoder):
    def batch(extra):
        units = torch.tensor([[3, 7, 1] + [0] * extra])
        durations = torch.tensor([[2, 1, 3] + [0] * extra])
        return {"units": units, "durations": durations, "speakers": torch.tensor([0]), "mel": torch.zeros(1, 24, 80)}

    whole, padded = (regression_losses(decoder.model, batch(extra)) for extra in (0, 4))
    for name in whole:
        torch.testing.assert_close(padded[name], whole[name])


@pytest.mark.parametrize(
    ("units", "speaker", "expected"),
    [
        ([], None, "at least one unit"),
        ([[1, 2]], None, r"shape \[1, 2\]"),
        ([3, 20], None, "unit 20 is outside the vocabulary: expected 0 to 19"),
        ([-1], None, "unit -1 is outside"),
        ([1], "sltt", "'sltt' is not one of the decoder's 2; the nearest is 'slt'"),
    ],
)
def test_what_cannot_be_decoded(decoder, units, speaker, expected):
    with pytest.raises(InputError, match=expected) as caught:
        decoder.decode(np.array(units, dtype=np.int64), speaker)
    assert "\n" not in str(caught.value)


def test_saved_is_loaded(decoder, tmp_path):
    decoder.save_pretrained(tmp_path / "voice")
    loaded = RegressionDecoder.from_pretrained(tmp_path / "voice")
    assert loaded.speakers == ("kal", "slt") and loaded.vocabulary_size == 20
    assert np.array_equal(loaded.decode(np.array([5, 2])), decoder.decode(np.array([5, 2])))


def test_folder_of_another_kind(decoder, tmp_path):
    with pytest.raises(InputError, match=r"config.json: No such file"):
        RegressionDecoder.from_pretrained(tmp_path)
    decoder.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"short")
    with pytest.raises(InputError, match=r"model.safetensors: not a safetensors file") as caught:
        RegressionDecoder.from_pretrained(tmp_path)
    assert "\n" not in str(caught.value)
    (tmp_path / "config.json").write_text('{"type": "hifi-gan"}')
    with pytest.raises(InputError, match=r"config.json: type = 'hifi-gan'"):
        RegressionDecoder.from_pretrained(tmp_path)


def test_training_on_one_sentence_beats_the_mean_frame(tmp_path):
    if not shutil.which("espeak-ng"):
        pytest.skip("espeak-ng is not installed")
    subprocess.run(["espeak-ng", "-w", tmp_path / "a.wav", "Tom went to the lake with his mother."], check=True)
    wave = read_audio(tmp_path / "a.wav", 16000)
    tokenizer = fit_mfcc_kmeans([wave], clusters=20, seed=0)
    units = tokenizer.encode(wave, 16000).semantic.values
    mel = log_mel(np.pad(wave, (0, 640 * len(units) - len(wave))))
    crops = UnitMelCrops([units], [0], mel.numpy(), frames_per_unit=4)
    torch.manual_seed(0)
    config = CONFIG.model_copy(update={"shape": ModelShape(width=64, unit_blocks=1, frame_blocks=1)})
    model = UnitToMel(config, float(mel.mean()), float(mel.std()))
    recipe = FitRecipe(steps=100, learning_rate=5e-3, warmup_steps=5)
    fit(model, regression_losses, lambda step: crops.batch(0, step, 4, 16), recipe, tmp_path)

    values, durations = deduplicate(units)
    decoded = RegressionDecoder(model, config).mel(values, "kal", durations).cpu()
    baseline = (mel.mean(dim=0) - mel).abs().mean()
    assert (decoded - mel).abs().mean() < 0.6 * baseline
