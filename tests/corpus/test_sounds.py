import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiritlm.audio.files import write_wav
from spiritlm.corpus.sounds import LengthBatches, Sounds, Stretch, padded
from spiritlm.errors import InputError
from spiritlm.run.rejects import Rejects


@given(st.lists(st.floats(0.1, 30), min_size=1, max_size=60), st.floats(1, 100), st.integers(0, 3))
def test_an_epoch_takes_every_stretch_once(seconds, budget, epoch):
    batches = LengthBatches(np.array(seconds), budget, seed=0)
    count = len(batches.bounds) - 1
    taken = np.concatenate([batches.of_step(epoch * count + number) for number in range(count)])
    assert sorted(taken) == list(range(len(seconds)))
    again = LengthBatches(np.array(seconds), budget, seed=0).of_step(epoch * count)
    assert np.array_equal(batches.of_step(epoch * count), again) and len(again)


def test_batches_are_of_one_length_and_full():
    seconds = np.random.default_rng(0).uniform(1, 10, 500)
    batches = LengthBatches(seconds, 60, seed=1)
    chosen = [batches.of_step(step) for step in range(len(batches.bounds) - 1)]
    held = [len(c) * seconds[c].max() for c in chosen]
    assert np.mean(held) > 48 and np.max(held) < 60 * 1.25
    assert np.mean([seconds[c].sum() / (len(c) * seconds[c].max()) for c in chosen]) > 0.8


@pytest.fixture
def folder(tmp_path):
    wave = np.linspace(-0.5, 0.5, 16000, dtype=np.float32)
    write_wav(tmp_path / "a.wav", wave, 16000)
    (tmp_path / "b.wav").write_bytes(b"no sound")
    return tmp_path


def test_a_stretch_is_read_and_what_cannot_be_is_stood_in_for(folder):
    stretches = [Stretch(folder / "a.wav", 0.25, 0.5), Stretch(folder / "b.wav", 0, 1), Stretch(folder / "a.wav", 0, 9)]
    sounds = Sounds(stretches, 16000, Rejects(folder, max_bad_fraction=0.5))
    numbers, waves = sounds.read([0, 1, 2, 1])
    assert numbers == [0, 2, 2, 2] and [len(w) for w in waves] == [4000, 16000, 16000, 16000]
    assert waves[0][0] == pytest.approx(-0.25, abs=1e-3)
    assert sounds.rejects.close(3) == 1
    batch = padded(waves)
    assert batch["samples"].tolist() == [4000, 16000, 16000, 16000]
    assert batch["waves"].shape == (4, 16000) and not batch["waves"][0, 4000:].any()


def test_too_many_unreadable_stop_it(folder):
    sounds = Sounds([Stretch(folder / "b.wav", 0, 1)] * 3, 16000, Rejects(folder, max_bad_fraction=0.1))
    with pytest.raises(InputError, match="cannot be used"):
        sounds.read([0])
    with pytest.raises(InputError, match="no recording"):
        Sounds([], 16000, Rejects(folder, 0.1))
