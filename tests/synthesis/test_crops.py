import numpy as np
import pytest
import torch

from spiritlm.synthesis.crops import UnitCrops, UnitMelCrops
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


def unit_crops() -> UnitCrops:
    units = [np.array([1, 1, 2, 3, 3, 3, 4]), np.array([5, 6, 6])]
    mel = np.repeat(np.concatenate(units), 2)[:, None].astype(np.float16)
    return UnitCrops(units, [0, 1], mel, frames_per_unit=2)


@pytest.mark.parametrize("prefix", [0, 2])
def test_unit_crops_hold_their_own_mel(prefix: int) -> None:
    crops, again = unit_crops(), unit_crops().batch(0, 3, 8, 4, prefix)
    for step in range(5):
        batch = crops.batch(0, step, 8, 4, prefix)
        assert batch["units"].shape[1] == int(batch["lengths"].max()) <= 4
        for units, length, mel in zip(batch["units"], batch["lengths"], batch["mel"], strict=True):
            assert torch.equal(mel[: 2 * length, 0], units[:length].repeat_interleave(2).float())
            assert not mel[2 * length :].any() and not units[length:].any()
            if prefix:
                assert units[0] in (1, 5) and (length % prefix == 0 or length == 3)
        assert torch.equal(batch["durations"].sum(1), batch["lengths"])
        if step == 3:
            assert all(torch.equal(batch[name], again[name]) for name in batch)


def test_runs_that_a_crop_cuts_do_not_count() -> None:
    batch = unit_crops().batch(1, 0, 64, 4)
    for units, runs, durations, whole in zip(
        *(batch[name] for name in ("units", "runs", "durations", "whole")), strict=True
    ):
        true = {1: 2, 2: 1, 3: 3, 4: 1, 5: 1, 6: 2}
        for value, lasting, counted in zip(runs.tolist(), durations.tolist(), whole.tolist(), strict=True):
            assert not counted or lasting == true[value], units
    assert batch["whole"].any()


def test_ranks_share_a_batch() -> None:
    crops = unit_crops()
    parts = [crops.batch(0, 1, 6, 4, rank=rank, world_size=2)["speakers"] for rank in range(2)]
    assert torch.equal(torch.stack(parts, 1).flatten(), crops.batch(0, 1, 6, 4)["speakers"])
