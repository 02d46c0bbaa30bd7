import json
from pathlib import Path

import numpy as np
import pytest
import torch

from spiritlm.alignment.crops import SentenceCrops
from spiritlm.alignment.mel_ctc import MelCtc, MelCtcConfig, MelCtcModel, MelCtcShape, ctc_losses, sound_edges
from spiritlm.alignment.models import log_probs_of
from spiritlm.errors import InputError

SHAPE = MelCtcShape(width=16, blocks=2, reach=2)


@pytest.fixture
def aligner() -> MelCtcModel:
    torch.manual_seed(0)
    return MelCtcModel(MelCtc(SHAPE, -3.0, 1.5), MelCtcConfig(shape=SHAPE, lag_start=0.06))


def noise(samples: int) -> np.ndarray:
    return (0.1 * np.random.default_rng(0).standard_normal(samples)).astype(np.float32)


def test_log_probs_are_probabilities_of_fifty_frames_a_second(aligner: MelCtcModel) -> None:
    log_probs = aligner.log_probs(noise(16_100))
    assert log_probs.shape == (51, 29) and log_probs.dtype == np.float32
    np.testing.assert_allclose(np.exp(log_probs).sum(axis=1), 1, atol=1e-5)


def test_a_long_recording_in_windows_is_the_recording(aligner: MelCtcModel) -> None:
    assert aligner.reach == pytest.approx(0.1)
    for samples in (100_000, 96_000, 96_001, 40_000):
        wave = noise(samples)
        whole = aligner.log_probs(wave)
        np.testing.assert_allclose(log_probs_of(aligner, wave, window=3.0, overlap=0.5), whole, atol=1e-4)


def test_padding_changes_no_frame(aligner: MelCtcModel) -> None:
    mel = torch.randn(2, 60, 80)
    mel[1, 40:] = 7.0
    both = aligner.model(mel, torch.tensor([30, 20]))
    torch.testing.assert_close(both[1, :20], aligner.model(mel[1:, :40], torch.tensor([20]))[0], atol=1e-5, rtol=1e-4)


def test_saved_and_loaded_it_is_the_same(aligner: MelCtcModel, tmp_path: Path) -> None:
    aligner.save_pretrained(tmp_path)
    again = MelCtcModel.from_pretrained(tmp_path)
    assert again.lag.start == 0.06
    np.testing.assert_array_equal(again.log_probs(noise(9000)), aligner.log_probs(noise(9000)))
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "shape": {**config["shape"], "width": 8}}))
    with pytest.raises(InputError, match="not the weights of this model"):
        MelCtcModel.from_pretrained(tmp_path)


def test_a_batch_follows_from_seed_and_step_and_an_epoch_has_each_sentence_once() -> None:
    frames = np.array([20, 80, 40, 24, 76, 36])
    ends = np.cumsum(frames)
    labels = [np.full(n, n) for n in range(2, 8)]
    crops = SentenceCrops(labels, ends - frames, ends, np.random.default_rng(0).random((ends[-1], 80)))
    batches = [crops.batch(0, step, 2) for step in range(6)]
    for step, batch in enumerate(batches):
        assert batch["mel"].shape == (2, 2 * batch["lengths"].max(), 80)
        again = crops.batch(0, step, 2)
        assert all(torch.equal(batch[name], again[name]) for name in batch)
        halves = [crops.batch(0, step, 2, rank, 2)["label_counts"] for rank in (0, 1)]
        assert torch.equal(torch.cat(halves), batch["label_counts"])
    for epoch in (batches[:3], batches[3:]):
        assert sorted(torch.cat([b["label_counts"] for b in epoch]).tolist()) == [2, 3, 4, 5, 6, 7]
    assert len(crops.batch(0, 0, 48)["lengths"]) == 6


def test_a_few_steps_on_one_sentence_learn_it(aligner: MelCtcModel) -> None:
    batch = {"mel": torch.randn(1, 80, 80) - 3, "lengths": torch.tensor([40])}
    batch |= {"labels": torch.tensor([[5, 6, 6, 1, 9]]), "label_counts": torch.tensor([5])}
    model = aligner.model.train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = ctc_losses(model, batch)["loss"]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


def test_edges_of_sound() -> None:
    mel = np.full((50, 80), -5.5, np.float32)
    mel[12:40] = -1.0
    assert sound_edges(mel) == (12, 40)
    assert sound_edges(np.full((10, 80), -6.0, np.float32)) == (0, 10)
