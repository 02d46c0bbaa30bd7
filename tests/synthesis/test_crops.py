import numpy as np
import pytest
import torch

from spiritlm.synthesis.crops import UnitMelCrops
from spiritlm.tokens.interleave import deduplicate


@pytest.fixture(scope="module")
def recordings():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 5, size=n) for n in (40, 3, 25)]


@pytest.fixture(scope="module")
def crops(recordings):
    """The mel frames hold the unit they belong to, and the recording's number."""
    frames = np.concatenate([np.repeat(units, 4) + 100 * i for i, units in enumerate(recordings)])
    mel = np.repeat(frames[:, None], 80, axis=1).astype(np.float16)
    return UnitMelCrops(recordings, [0, 1, 2], mel, frames_per_unit=4)


def test_units_durations_and_frames_belong_together(crops):
    for step in range(20):
        batch = crops.batch(seed=0, step=step, size=6, length=8)
        assert batch["units"].shape == batch["durations"].shape == (6, 8)
        assert batch["mel"].dtype == torch.float32
        for units, durations, speaker, mel in zip(
            *(batch[k] for k in ("units", "durations", "speakers", "mel")), strict=True
        ):
            expected = torch.repeat_interleave(units, 4 * durations) + 100 * speaker
            assert torch.equal(mel[: len(expected), 0], expected.float())
            assert not mel[len(expected) :].any()


def test_short_recording_is_padded_whole(crops, recordings):
    values, durations = deduplicate(recordings[1])
    batches = [crops.batch(seed=0, step=step, size=20, length=8) for step in range(20)]
    rows = [b["durations"][i] for b in batches for i in range(20) if b["speakers"][i] == 1]
    assert rows and all(row.tolist() == [*durations, *[0] * (8 - len(values))] for row in rows)


def test_batch_follows_from_seed_and_step(crops):
    first, again, other = (crops.batch(0, step, 4, 8) for step in (3, 3, 4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["units"], other["units"])


def test_ranks_share_one_batch(crops):
    whole = crops.batch(0, 0, 6, 8)
    for rank in range(2):
        part = crops.batch(0, 0, 6, 8, rank=rank, world_size=2)
        assert torch.equal(part["units"], whole["units"][rank::2])
