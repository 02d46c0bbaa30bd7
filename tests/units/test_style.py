import numpy as np
import pytest
import torch

from spiritlm.errors import InputError
from spiritlm.units.style import MIDDLE, StyleNetwork, StyleShape, StyleTokenizer, prosody

SMALL = {"width": 24, "blocks": 2, "features": 8}
LENGTHS = (1, 160, 800, 15_999, 16_000, 16_001, 32_000, 40_123, 90_000)


def tokenizer(classes=12, **changes):
    """With a head that spreads units over some noise."""
    torch.manual_seed(0)
    network = StyleNetwork(StyleShape(**{**SMALL, **changes}), classes).eval()
    windows = torch.from_numpy(np.stack([sound(network.shape.window, seed) for seed in range(40)]))
    with torch.inference_mode():
        ends = torch.full((40,), network.shape.window)
        features = network.features(windows, torch.zeros_like(ends), ends)
        network.classifier.weight.copy_(2 * features[:classes])
        network.classifier.bias.copy_(-features[:classes].square().sum(1))
    return StyleTokenizer(network)


def sound(samples, seed):
    """Noise whose colour and loudness change every 100 ms."""
    rng = np.random.default_rng(seed)
    pieces = [
        np.convolve(rng.standard_normal(1600), rng.standard_normal(8), mode="same") * 10 ** rng.uniform(-3, -0.7)
        for _ in range(-(-samples // 1600))
    ]
    return np.concatenate(pieces).astype(np.float32)[:samples]


def tone(pitch, seconds, gain=0.1):
    times = np.arange(round(seconds * 16_000)) / 16_000
    return (gain * sum(np.sin(2 * np.pi * pitch * n * times) / n for n in range(1, 6))).astype(np.float32)


@pytest.fixture(scope="module")
def ears():
    return tokenizer()


@pytest.mark.parametrize("samples", LENGTHS)
def test_every_sample_belongs_to_a_unit(ears, samples):
    stream = ears.encode(sound(samples, 0), 16_000)
    assert stream.rate == ears.rate == 1.0 and ears.sample_rate == 16_000
    assert stream.values.dtype == np.int32 and stream.values.shape == (-(-samples // 16_000),)
    assert 0 <= stream.values.min() <= stream.values.max() < ears.vocabulary_size == 12


@pytest.mark.parametrize("context", [0.0, 1.0, 0.73])
def test_batched_and_streamed_equal_single(context):
    ears = tokenizer(context_seconds=context)
    waves = [sound(samples, seed) for seed, samples in enumerate((*LENGTHS, 1_200_000))]
    together = ears.encode_batch(waves, 16_000)
    rng = np.random.default_rng(0)
    for wave, found in zip(waves, together, strict=True):
        assert np.array_equal(found.values, ears.encode(wave, 16_000).values)
        stream, units, at = ears.stream(), [], 0
        while at < len(wave):
            size = int(rng.integers(1, 50_000))
            units.append(stream.push(wave[at : at + size]))
            at = min(len(wave), at + size)
            assert sum(map(len, units)) == at // 16_000, "a unit leaves when its second is over"
        units.append(stream.finish())
        assert np.concatenate(units).dtype == np.int32
        assert np.array_equal(np.concatenate(units), found.values)
        assert len(stream.finish()) == 0
    assert len(np.unique(together[-1].values)) > 4
    assert ears.encode_batch([], 16_000) == []


def test_a_unit_knows_its_second_and_the_one_before_only(ears):
    wave = sound(160_000, 1)
    whole = ears.encode(wave, 16_000).values
    other = wave.copy()
    other[: 4 * 16_000], other[6 * 16_000 :] = 0.9, sound(64_000, 2)
    assert ears.encode(other, 16_000).values[5] == whole[5]
    assert np.array_equal(ears.encode(wave[: 7 * 16_000], 16_000).values, whole[:7])


def features(ears, window, start, end):
    with torch.inference_mode():
        return ears.network.features(torch.from_numpy(window[None]), torch.tensor([start]), torch.tensor([end]))[0]


def test_what_is_not_there_changes_nothing(ears):
    """Zeros before and behind a short sound are no part of the means; sound there would be."""
    window = np.zeros(32_000, np.float32)
    window[16_000:16_800] = sound(800, 3)
    found = features(ears, window, 16_000, 16_800)
    assert not torch.allclose(found, features(ears, window, 0, 32_000), atol=1e-2)
    far = window.copy()
    far[20_000:], far[:12_000] = sound(12_000, 4), sound(12_000, 5)
    torch.testing.assert_close(found, features(ears, far, 16_000, 16_800), atol=1e-5, rtol=0)


@pytest.mark.parametrize("samples", [1, 800, 16_000, 16_001, 40_000])
@pytest.mark.parametrize("kind", ["silence", "full scale", "clipped", "constant", "impulse"])
def test_odd_sounds_have_units(ears, samples, kind):
    wave = {
        "silence": np.zeros(samples),
        "full scale": np.resize([1.0, -1.0], samples),
        "clipped": np.clip(30 * sound(samples, 4), -1, 1),
        "constant": np.full(samples, 0.5),
        "impulse": np.eye(1, samples)[0],
    }[kind].astype(np.float32)
    units = ears.encode(wave, 16_000).values
    assert len(units) == -(-samples // 16_000) and units.max() < 12
    window = np.pad(wave[:16_000], (16_000, max(0, 16_000 - samples)))
    assert torch.isfinite(features(ears, window, 16_000, 16_000 + min(samples, 16_000))).all()


def test_silence_is_the_same_unit_each_time(ears):
    units = ears.encode(np.zeros(10 * 16_000, np.float32), 16_000).values
    assert len(set(units[1:].tolist())) == 1


@pytest.mark.parametrize(
    ("wave", "rate", "match"),
    [
        (np.zeros(100, np.float32), 8_000, "8000 Hz: expected 16000"),
        (np.zeros((2, 100), np.float32), 16_000, "of one channel"),
        (np.zeros(0, np.float32), 16_000, "at least 1"),
        (np.full(100, np.nan, np.float32), 16_000, "finite"),
        (np.zeros(100, np.int16), 16_000, "int16"),
    ],
)
def test_what_is_no_wave_is_refused(ears, wave, rate, match):
    with pytest.raises(InputError, match=match):
        ears.encode(wave, rate)


def test_a_stream_refuses_what_is_not_finite(ears):
    with pytest.raises(InputError, match="finite"):
        ears.stream().push(np.full(10, np.inf, np.float32))


@pytest.mark.parametrize("pitch", [80, 110, 163, 230, 390])
def test_pitch_is_found_whatever_the_loudness(pitch):
    for gain in (0.1, 0.001):
        found = prosody(torch.from_numpy(tone(pitch, 1.0, gain))[None])
        assert found.shape == (1, 50, 5)
        assert found[0, 25, 4] == 1 and abs(found[0, 25, 3] / 2 - np.log2(pitch / MIDDLE)) < 0.06
    assert not prosody(torch.zeros(1, 16_000))[..., 3:].any()


def test_saved_is_loaded(ears, tmp_path):
    named = StyleTokenizer(ears.network, [f"mood {n}" for n in range(12)])
    named.save_pretrained(tmp_path / "model")
    loaded = StyleTokenizer.from_pretrained(tmp_path / "model")
    wave = sound(100_000, 6)
    assert np.array_equal(loaded.encode(wave, 16_000).values, ears.encode(wave, 16_000).values)
    assert loaded.config == named.config and loaded.config.type == "style"


def test_another_folder_is_refused(ears, tmp_path):
    ears.save_pretrained(tmp_path)
    config = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(config.replace('"vocabulary_size": 12', '"vocabulary_size": 13'))
    with pytest.raises(InputError, match=r"classifier\.weight is \[12, 8\], expected \[13, 8\]"):
        StyleTokenizer.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(config.replace('"style"', '"hubert"'))
    with pytest.raises(InputError, match="type"):
        StyleTokenizer.from_pretrained(tmp_path)
