from pathlib import Path

import numpy as np
import pytest
import torch

from spiritlm.audio.files import write_wav
from spiritlm.errors import InputError
from spiritlm.pipelines.wave_crops import Crops, Told, UnitWaveCrops, WaveCrops
from spiritlm.run.rejects import Rejects
from spiritlm.tokens.emit import document_of

RATE, HOP, UNITS = 16_000, 1280, 8
RATES = (12.5, 6.25, 1.0)


def crops(size: int = 4, rank: int = 0, ranks: int = 1) -> Crops:
    return Crops(RATE, UNITS * HOP, size, 0, rank, ranks)


def level(unit: np.ndarray) -> np.ndarray:
    return (unit + 1) / 200


@pytest.fixture
def told(tmp_path: Path) -> list[Told]:
    """Recordings whose samples tell the number of their unit, pitch and style units that count time; one begins late,
    and one is shorter than a crop."""
    rows = []
    for number, (units, start) in enumerate(((117, 0.0), (61, 0.8), (5, 0.0))):
        semantic = np.arange(units) + 20 * number
        wave = np.repeat(level(semantic), HOP).astype(np.float32)
        path = tmp_path / f"{number}.wav"
        write_wav(path, np.concatenate([np.zeros(int(start * RATE), np.float32), wave]), RATE)
        pitch, style = np.arange(-(-units // 2)), np.arange(int(np.ceil(units / 12.5)))
        document = document_of(semantic=semantic, pitch=pitch, style=style)
        rows.append(Told(str(number), path, start, document, number, np.arange(units) // 10))
    return rows


def batches(told: list[Told], folder: Path, steps: int, **kind: int) -> list[dict[str, torch.Tensor]]:
    found = UnitWaveCrops(crops(**kind), told, RATES, 40, 2, Rejects(folder, 0.0))
    return [found.batch(step) for step in range(steps)]


def test_waves_units_pitch_and_style_lie_on_one_another(told: list[Told], tmp_path: Path) -> None:
    for batch in batches(told, tmp_path, 20):
        assert batch["waves"].shape == (4, UNITS * HOP) and batch["units"].shape == (4, UNITS)
        middles = batch["waves"].view(4, UNITS, HOP)[:, :, HOP // 2].numpy()
        assert middles == pytest.approx(level(batch["units"].numpy()), abs=1e-4)
        places = batch["units"] - 20 * batch["speakers"][:, None]
        assert torch.equal(batch["pitch"], places // 2)
        assert torch.equal(batch["style_units"], (places / 12.5).long())
        assert torch.equal(batch["styles"], places[:, UNITS // 2] // 10)
        assert (batch["speakers"] < 2).all()


def test_every_unit_of_a_recording_is_trained_on(told: list[Told], tmp_path: Path) -> None:
    pieces = UnitWaveCrops(crops(), told, RATES, 40, 2, Rejects(tmp_path, 0.0)).pieces
    for one in told[:2]:
        covered = {unit for who, first, last in pieces if who is one for unit in range(first, last)}
        assert covered == set(range(len(one.document.semantic)))
    assert all(last - first >= UNITS for _, first, last in pieces)


def test_durations_are_whole_where_all_that_they_hear_is_there(told: list[Told], tmp_path: Path) -> None:
    for batch in batches(told, tmp_path, 20):
        for row in range(4):
            runs, durations, whole = (batch[name][row] for name in ("runs", "durations", "whole"))
            known = 117 if batch["speakers"][row] == 0 else 61
            begin, end = int(batch["units"][row, 0]) - 20 * int(batch["speakers"][row]), int(durations.sum())
            assert torch.equal(runs[0], batch["units"][row, 0]) and not durations[end:].any()
            counted = torch.nonzero(whole).flatten()
            assert int(counted[0]) == (2 if begin else 0)
            assert int(counted[-1]) == (end - 1 if begin + end == known else end - 3)


def test_processes_share_a_batch(told: list[Told], tmp_path: Path) -> None:
    (whole,) = batches(told, tmp_path, 1)
    parts = [batches(told, tmp_path, 1, rank=rank, ranks=2)[0] for rank in range(2)]
    for name, rows in whole.items():
        assert torch.equal(rows[0::2], parts[0][name]) and torch.equal(rows[1::2], parts[1][name])


def test_recordings_that_are_too_short(told: list[Told], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no recording is as long as a crop of 0\.64 s"):
        batches(told[2:], tmp_path, 1)


def test_crops_of_waves_are_of_one_recording(told: list[Told], tmp_path: Path) -> None:
    found = WaveCrops(crops(), [(told[0].audio, 117 * HOP / RATE)], Rejects(tmp_path, 0.0)).batch(3)["waves"]
    assert found.shape == (4, UNITS * HOP) and (found.diff(dim=1) >= -1e-4).all() and found.max() > 0
    again = WaveCrops(crops(), [(told[0].audio, 117 * HOP / RATE)], Rejects(tmp_path, 0.0)).batch(3)["waves"]
    assert torch.equal(found, again)
