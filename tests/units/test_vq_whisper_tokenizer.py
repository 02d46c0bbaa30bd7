import numpy as np
import pytest
import torch

from spiritlm.errors import InputError
from spiritlm.units.loading import load_speech_tokenizer
from spiritlm.units.vq_whisper import VqWhisper, VqWhisperConfig
from spiritlm.units.vq_whisper_tokenizer import VqWhisperTokenizer

SMALL = {
    "d_model": 32, "num_mel_bins": 20, "encoder_layers": 3, "encoder_attention_heads": 2, "encoder_ffn_dim": 48,
    "pooling_position": 1, "quantize_position": 2, "quantize_vocab_size": 64, "quantize_causal_block_size": 40,
    "quantize_norm": True, "ctc_letters": " ab",
}  # fmt: skip


def tokenizer(**changes):
    """With a codebook among the vectors that it meets, so that many codes are in use."""
    torch.manual_seed(0)
    made = VqWhisperTokenizer(VqWhisper(VqWhisperConfig(**{**SMALL, **changes})))
    mel = torch.randn(1, made.config.num_mel_bins, 1600)
    vectors = made.model.encoder.vectors(mel, torch.ones(1, 1600, dtype=torch.bool)).detach()[0]
    made.model.encoder.codebook.start(vectors[torch.randperm(len(vectors))[: made.vocabulary_size]])
    return made


def sound(samples, seed):
    """Noise whose colour and loudness change every 50 ms."""
    rng = np.random.default_rng(seed)
    pieces = [
        np.convolve(rng.standard_normal(800), rng.standard_normal(8), mode="same") * 10 ** rng.uniform(-3, -0.7)
        for _ in range(-(-samples // 800))
    ]
    return np.concatenate(pieces).astype(np.float32)[:samples]


@pytest.fixture(scope="module")
def ears():
    return tokenizer()


@pytest.mark.parametrize(("samples", "units"), [(1, 1), (1280, 1), (1281, 2), (16000, 13), (480_001, 376)])
def test_units_cover_the_sound(ears, samples, units):
    stream = ears.encode(sound(samples, 0), 16000).semantic
    assert stream.rate == ears.rate == 12.5 and stream.values.dtype == np.int32
    assert stream.values.shape == (units,) and stream.values.max() < ears.vocabulary_size == 64


@pytest.mark.parametrize("floor", [-6.0, None])
def test_batched_equals_single(floor):
    made = tokenizer(mel_floor=floor)
    rng = np.random.default_rng(0)
    waves = [sound(int(n), seed) for seed, n in enumerate([1, 700, 490_000, *rng.integers(1, 90_000, 37)])]
    batched = made.encode_batch(waves, 16000)
    for wave, found in zip(waves, batched, strict=True):
        assert np.array_equal(found.semantic.values, made.encode(wave, 16000).semantic.values)
    assert len(np.unique(np.concatenate([s.semantic.values for s in batched]))) > 30


@pytest.mark.parametrize("changes", [{}, {"pooling_kernel_size": 8}, {"encoder_causal_attention": True}])
@pytest.mark.parametrize("piece", [0.02, 0.37, 3.0, None])
def test_streamed_equals_whole(changes, piece):
    made = tokenizer(**changes)
    wave = sound(35 * 16000 + 77, 1)  # across a segment of 30 s
    rng = np.random.default_rng(0)
    stream, at, units, late = made.stream(), 0, [], 0.0
    while at < len(wave):
        size = round(16000 * (piece or rng.uniform(0.02, 3.0)))
        units.append(stream.push(wave[at : at + size]))
        at = min(len(wave), at + size)
        late = max(late, at / 16000 - sum(map(len, units)) / made.rate)
    units.append(stream.finish())
    assert np.array_equal(np.concatenate(units), made.encode(wave, 16000).semantic.values)
    assert late <= 0.8 + (piece or 3.0) + 0.1, "a block of 0.8 s leaves when it is complete"


@pytest.mark.parametrize("tail", [0, 1, 100, 199, 200, 201])
@pytest.mark.parametrize("before", [12_800, 480_000, 480_000 + 12_800])
def test_an_end_just_behind_a_block_changes_nothing_before_it(ears, monkeypatch, before, tail):
    """Vectors, not codes: codes forgive much."""
    found = []
    monkeypatch.setattr(ears.model.encoder.codebook, "codes", lambda x: found.append(x[0]) or x[..., 0].long())
    wave = sound(before + tail, 5)
    stream = ears.stream()
    stream.push(wave)
    stream.finish()
    streamed = torch.cat(found)
    found.clear()
    ears.encode(wave[: 30 * 16000], 16000)
    ears.encode(wave[30 * 16000 :], 16000) if len(wave) > 30 * 16000 else None
    assert torch.allclose(streamed, torch.cat(found)[: len(streamed)], atol=1e-4)


def test_nothing_streamed_is_nothing(ears):
    stream = ears.stream()
    assert len(stream.push(np.zeros(0, np.float32))) == 0 and len(stream.finish()) == 0


def test_what_cannot_stream_says_so():
    with pytest.raises(InputError, match="does not stream"):
        tokenizer(quantize_causal_block_size=None).stream()


@pytest.mark.parametrize(
    ("wave", "rate", "expected"),
    [
        (np.zeros(1600, np.float32), 8000, "expected 16000 Hz"),
        (np.zeros((2, 1600), np.float32), 16000, "one channel"),
        (np.full(1600, np.nan, np.float32), 16000, "finite"),
        (np.zeros(0, np.float32), 16000, "at least 1"),
    ],
)
def test_unusable_waves(ears, wave, rate, expected):
    with pytest.raises(InputError, match=expected):
        ears.encode(wave, rate)


def test_saved_and_read_again(ears, tmp_path):
    ears.save_pretrained(tmp_path)
    again = load_speech_tokenizer(tmp_path)
    wave = sound(50_000, 3)
    units = ears.encode(wave, 16000).semantic.values
    assert np.array_equal(again.encode(wave, 16000).semantic.values, units)
    assert again.transcribe(units) == ears.transcribe(units)
    config = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(config.replace('"quantize_vocab_size": 64', '"quantize_vocab_size": 65'))
    with pytest.raises(InputError, match=r"codebook.weight is \[64, 32\], expected \[65, 32\]"):
        load_speech_tokenizer(tmp_path)
