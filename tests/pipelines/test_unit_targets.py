import numpy as np
import pytest

from spiritlm.audio.augment import AugmentRecipe
from spiritlm.audio.files import read_audio, write_wav
from spiritlm.corpus.manifest import Sentence, SpokenDocument
from spiritlm.errors import InputError
from spiritlm.pipelines import unit_targets
from spiritlm.pipelines.unit_targets import NO_UNIT, TargetCrops, encode_targets
from spiritlm.run.rejects import Rejects
from spiritlm.units.protocol import UnitStream, UnitStreams

RATE, HOP = 16_000, 640
STEPS = (60, 3, 25)
"""Units of three recordings."""


class Loudness:
    """A tokenizer whose unit is the loudness of its 40 ms, in hundredths."""

    rate, sample_rate, vocabulary_size = 25.0, RATE, 100

    def encode(self, wave, sample_rate):
        assert sample_rate == RATE
        units = [round(100 * float(wave[at : at + HOP].mean())) for at in range(0, len(wave), HOP)]
        return UnitStreams(UnitStream(np.array(units, np.int32), 25.0))

    def encode_batch(self, waves, sample_rate):
        return [self.encode(wave, sample_rate) for wave in waves]


@pytest.fixture
def corpus(tmp_path):
    """Recordings that get louder from unit to unit; the last is not audio."""
    documents = []
    for number, units in enumerate(STEPS):
        wave = np.repeat(np.arange(1, units + 1) / 100, HOP).astype(np.float32)
        write_wav(tmp_path / f"{number}.wav", wave, RATE)
        seconds = len(wave) / RATE
        sentence = Sentence("", 0.0, seconds)
        documents.append(SpokenDocument(str(number), f"{number}.wav", seconds, RATE, "a", (sentence,)))
    (tmp_path / "2.wav").write_text("not audio")
    return documents


def made(documents, folder, frames=10, augment=None):
    targets = encode_targets(documents, folder, Loudness(), folder, 25.0)
    rejects = Rejects(folder, 1.0)
    return targets, TargetCrops(documents, folder, targets, frames, rejects, augment or AugmentRecipe())


def test_targets_are_written_once(corpus, tmp_path):
    targets, _ = made(corpus, tmp_path)
    assert targets.units.dtype == np.int16 and targets.starts.tolist() == [0, 60, 63, 88]
    assert targets.units[:63].tolist() == [*range(1, 61), 1, 2, 3]
    assert set(targets.units[63:]) == {NO_UNIT} and list(targets.unreadable) == ["2"]

    again = encode_targets(corpus, tmp_path, None, tmp_path, 25.0)
    assert np.array_equal(again.units, targets.units) and again.unreadable == targets.unreadable
    targets.remove_file(tmp_path)
    assert not (tmp_path / "targets.npy").exists()


@pytest.mark.parametrize("left", [0, 1, 119, 120, 121, 126, 175, 176])
def test_a_killed_pass_goes_on(corpus, tmp_path, left):
    """`left`: bytes that were written before; a recording that was cut off is encoded again."""
    whole, _ = made(corpus, tmp_path)
    units = np.array(whole.units)
    whole.remove_file(tmp_path)
    (tmp_path / "targets-0-of-1.bin").write_bytes(units.tobytes()[:left])
    (tmp_path / "targets-1-of-2.bin").write_bytes(b"of another number of processes")
    encoded = []

    class Counting(Loudness):
        def encode(self, wave, sample_rate):
            encoded.append(len(wave) // HOP)
            return super().encode(wave, sample_rate)

    again = encode_targets(corpus, tmp_path, Counting(), tmp_path, 25.0)
    assert np.array_equal(again.units, units) and list(again.unreadable) == ["2"]
    assert encoded == [n for n, end in zip((60, 3), (120, 126), strict=True) if left < end]
    assert not list(tmp_path.glob("targets-*.bin"))


@pytest.mark.parametrize("speed", [1.0, 1.25, 0.8])
def test_units_are_those_of_the_sound(corpus, tmp_path, monkeypatch, speed):
    """Each row's wave has, in the middle of each frame, the loudness that its target says."""
    monkeypatch.setattr(unit_targets, "draw_speed", lambda recipe, rng: speed)
    _, crops = made(corpus, tmp_path)
    starts = set()
    for step in range(6):
        batch = crops.batch(0, step, 4, HOP)
        for wave, samples, targets in zip(batch["waves"], batch["samples"], batch["targets"], strict=True):
            known = targets != NO_UNIT
            assert samples == HOP * known.sum() and not wave[samples:].any()
            middles = 100 * wave.numpy()[HOP // 2 :: HOP][: known.sum()]
            assert np.abs(middles - targets[known].numpy()).max() < (0.2 if speed == 1 else 1.0)
            starts.add(int(targets[0]))
    assert len(starts) > 8


def test_batches_follow_from_the_step_and_are_shared_by_ranks(corpus, tmp_path):
    augment = AugmentRecipe(speed=0.5, noise=0.5)
    _, crops = made(corpus, tmp_path, augment=augment)
    whole, again = (crops.batch(0, 3, 6, 720) for _ in range(2))
    assert all(np.array_equal(whole[name], again[name]) for name in whole)
    parts = [crops.batch(0, 3, 6, 720, rank, 2) for rank in range(2)]
    for rank, part in enumerate(parts):
        assert np.array_equal(part["samples"], whole["samples"][rank::2])
        width = part["waves"].shape[1]
        assert np.array_equal(part["waves"], whole["waves"][rank::2, :width])


def test_long_recordings_are_read_in_pieces(corpus, tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr("spiritlm.corpus.sounds.read_audio", lambda *a: read.append(a[3] - a[2]) or read_audio(*a))
    _, crops = made(corpus, tmp_path, frames=5)
    crops.batch(0, 0, 8, HOP)
    assert max(read) <= 0.8 + 1e-6


def test_a_tokenizer_of_another_rate(corpus, tmp_path):
    with pytest.raises(InputError, match="gives 25 units a second of sound at 16000 Hz, expected 50"):
        encode_targets(corpus, tmp_path, Loudness(), tmp_path, 50.0)


def test_nothing_to_read(corpus, tmp_path):
    targets = encode_targets(corpus[2:], tmp_path, Loudness(), tmp_path, 25.0)
    with pytest.raises(InputError, match="no recording"):
        TargetCrops(corpus[2:], tmp_path, targets, 5, Rejects(tmp_path, 1.0), AugmentRecipe())
