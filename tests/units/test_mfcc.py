import json

import numpy as np
import pytest

from spiritlm.errors import InputError
from spiritlm.units.loading import load_speech_tokenizer
from spiritlm.units.mfcc import MfccKmeansTokenizer, fit_mfcc_kmeans, unit_features


def sound(seconds, seed):
    """Noise whose colour and loudness change every 100 ms."""
    rng = np.random.default_rng(seed)
    pieces = [
        np.convolve(rng.standard_normal(1600), rng.standard_normal(8), mode="same") * rng.uniform(0.01, 0.2)
        for _ in range(int(seconds * 10))
    ]
    return np.concatenate(pieces).astype(np.float32)


@pytest.fixture(scope="module")
def tokenizer():
    return fit_mfcc_kmeans((sound(4, seed) for seed in range(4)), clusters=16, seed=0)


def test_units_are_25_hz_in_the_vocabulary(tokenizer):
    stream = tokenizer.encode(sound(2, 9), 16000).semantic
    assert stream.rate == tokenizer.rate == 25.0 and tokenizer.sample_rate == 16000
    assert stream.values.dtype == np.int32 and stream.values.shape == (50,)
    assert stream.values.min() >= 0 and stream.values.max() < tokenizer.vocabulary_size == 16
    assert len(np.unique(stream.values)) > 4


def test_targets_of_a_50_hz_network(tmp_path):
    made = fit_mfcc_kmeans((sound(4, seed) for seed in range(2)), clusters=16, seed=0, rate=50)
    made.save_pretrained(tmp_path)
    stream = load_speech_tokenizer(tmp_path).encode(sound(2, 9)[:-1], 16000).semantic
    assert stream.rate == made.rate == 50.0 and len(stream.values) == 100


@pytest.mark.parametrize(("samples", "units"), [(1, 1), (640, 1), (641, 2), (1919, 3)])
def test_last_partial_unit_averages_what_is_left(samples, units):
    wave = sound(1, 0)[:samples]
    features = unit_features(wave, 25)
    assert features.shape == (units, 39) and np.isfinite(features).all()


def test_batched_equals_single(tokenizer):
    waves = [sound(seconds, seed) for seed, seconds in enumerate([0.3, 2, 1])]
    for wave, streams in zip(waves, tokenizer.encode_batch(waves, 16000), strict=True):
        assert np.array_equal(streams.semantic.values, tokenizer.encode(wave, 16000).semantic.values)


def test_loudness_changes_few_units(tokenizer):
    wave = sound(4, 5)
    loud, quiet = (tokenizer.encode(wave * gain, 16000).semantic.values for gain in (1, 0.5))
    assert np.mean(loud == quiet) > 0.95


def test_same_input_gives_the_same_centroids(tokenizer):
    again = fit_mfcc_kmeans((sound(4, seed) for seed in range(4)), clusters=16, seed=0)
    assert np.array_equal(again.centroids, tokenizer.centroids)


def test_saved_is_loaded(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path / "model")
    loaded = load_speech_tokenizer(tmp_path / "model")
    assert isinstance(loaded, MfccKmeansTokenizer)
    wave = sound(1, 3)
    assert np.array_equal(loaded.encode(wave, 16000).semantic.values, tokenizer.encode(wave, 16000).semantic.values)


def test_too_little_to_fit():
    with pytest.raises(InputError, match=r"clusters = 50.*25 units"):
        fit_mfcc_kmeans([sound(1, 0)], clusters=50, seed=0)


@pytest.mark.parametrize(
    ("wave", "rate", "expected"),
    [
        (np.zeros(800, np.float32), 8000, "8000 Hz: expected 16000 Hz"),
        (np.zeros((2, 800), np.float32), 16000, "one channel"),
        (np.zeros(0, np.float32), 16000, "at least 1"),
        (np.full(800, np.inf, np.float32), 16000, "finite"),
    ],
)
def test_unusable_waves(tokenizer, wave, rate, expected):
    with pytest.raises(InputError, match=expected):
        tokenizer.encode(wave, rate)


def test_folder_of_another_kind(tokenizer, tmp_path):
    with pytest.raises(InputError, match=r"config.json"):
        load_speech_tokenizer(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"type": "other"}))
    with pytest.raises(InputError, match="'other', expected one of mfcc-kmeans"):
        load_speech_tokenizer(tmp_path)


def test_truncated_weights(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(InputError, match=r"model.safetensors"):
        load_speech_tokenizer(tmp_path)
