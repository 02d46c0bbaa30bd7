from pathlib import Path

import numpy as np
import pytest
import torch

from spiritlm.errors import InputError
from spiritlm.units.expressive import ExpressiveTokenizer
from spiritlm.units.loading import load_speech_tokenizer, load_stream_tokenizer
from spiritlm.units.mfcc import MfccKmeansTokenizer
from spiritlm.units.pitch import PitchConfig, PitchTokenizer
from spiritlm.units.pitch_vqvae import PitchVqVae
from spiritlm.units.protocol import StreamShape
from spiritlm.units.style import StyleNetwork, StyleShape, StyleTokenizer


def voice(seconds: float, f0: float = 120.0) -> np.ndarray:
    """A buzz with some noise in it, float32 `[samples]` at 16 kHz."""
    at = np.arange(round(16_000 * seconds)) / 16_000
    buzz = sum(np.sin(2 * np.pi * f0 * n * at) / n for n in range(1, 12))
    return (0.1 * buzz + 0.01 * np.random.default_rng(0).standard_normal(len(at))).astype(np.float32)


@pytest.fixture(scope="module")
def tokenizer() -> ExpressiveTokenizer:
    torch.manual_seed(0)
    centroids = np.random.default_rng(0).normal(size=(50, 39)).astype(np.float32)
    config = PitchConfig()
    pitch, style = PitchTokenizer(PitchVqVae(config.shape), config), StyleTokenizer(StyleNetwork(StyleShape(), 10))
    return ExpressiveTokenizer(MfccKmeansTokenizer(centroids), pitch, style)


def test_three_streams_cover_the_sound(tokenizer: ExpressiveTokenizer) -> None:
    shapes = {"semantic": StreamShape(25.0, 50), "pitch": StreamShape(12.5, 64), "style": StreamShape(1.0, 10)}
    assert tokenizer.streams == shapes
    for seconds in (0.05, 1.0, 2.3):
        streams = dict(tokenizer.encode(voice(seconds), 16_000).items())
        assert list(streams) == ["semantic", "pitch", "style"]
        for name, stream in streams.items():
            assert stream.rate == shapes[name].rate
            assert len(stream.values) == np.ceil(seconds * stream.rate), name
            assert 0 <= stream.values.min() <= stream.values.max() < shapes[name].size


def test_batched_equals_single(tokenizer: ExpressiveTokenizer) -> None:
    waves = [voice(seconds, f0) for seconds, f0 in ((0.4, 90.0), (2.1, 200.0), (1.0, 130.0))]
    for wave, batched in zip(waves, tokenizer.encode_batch(waves, 16_000), strict=True):
        for (name, one), (_, other) in zip(tokenizer.encode(wave, 16_000).items(), batched.items(), strict=True):
            assert np.array_equal(one.values, other.values), name


def test_saved_is_loaded(tokenizer: ExpressiveTokenizer, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    loaded = load_speech_tokenizer(tmp_path)
    assert isinstance(loaded, ExpressiveTokenizer)
    for (name, one), (_, other) in zip(
        tokenizer.encode(voice(1.5), 16_000).items(), loaded.encode(voice(1.5), 16_000).items(), strict=True
    ):
        assert np.array_equal(one.values, other.values), name


def test_what_is_no_tokenizer_of_a_stream_is_refused(tokenizer: ExpressiveTokenizer, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no config\.json"):
        load_stream_tokenizer(tmp_path, "pitch")
    tokenizer.style.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="type is 'style', expected pitch-vqvae"):
        load_stream_tokenizer(tmp_path, "pitch")
    with pytest.raises(InputError, match=r"\.semantic, \.pitch and \.style"):
        tokenizer.stream()
