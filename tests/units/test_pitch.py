import math
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from spiritlm.errors import InputError
from spiritlm.units.pitch import PitchBlocks, PitchConfig, PitchTokenizer, read_published_pitch
from spiritlm.units.pitch_vqvae import PitchVqVae, PitchVqVaeShape

SHAPE = PitchVqVaeShape(codes=16, code_width=6, width=4, depth=2)


def tokenizer(**options) -> PitchTokenizer:
    torch.manual_seed(0)
    model = PitchVqVae(SHAPE)
    config = PitchConfig(shape=SHAPE, **options)
    rng = np.random.default_rng(0)
    f0 = np.where(rng.random((16, 16)).cumsum(1) % 3 < 2, 200 + 60 * rng.standard_normal((16, 16)), 0)
    seen = torch.from_numpy(np.stack([config.features(row.astype(np.float32)) for row in f0]))
    with torch.no_grad():
        model.codebook.start(model.encoder(seen)[:, :, 0])
    return PitchTokenizer(model, config)


def streaming(**options) -> PitchTokenizer:
    blocks = PitchBlocks(context=2, units=4, ahead=1)
    return tokenizer(scale="octaves", normalization="none", blocks=blocks, **options)


def voice(seconds: float) -> np.ndarray:
    """Gliding, with pauses, float32 `[samples]`."""
    t = np.arange(round(16_000 * seconds)) / 16_000
    phase = 2 * np.pi * np.cumsum(150 + 60 * np.sin(2 * np.pi * 0.7 * t)) / 16_000
    return (0.3 * (np.sin(phase) + 0.5 * np.sin(2 * phase)) * (np.sin(2 * np.pi * 1.3 * t) > -0.5)).astype(np.float32)


@pytest.mark.parametrize("make", [tokenizer, streaming])
@pytest.mark.parametrize("samples", [1, 800, 1279, 1280, 1281, 16_000])
def test_every_sample_belongs_to_a_unit(make, samples):
    found = make().encode(voice(1.0)[:samples], 16_000)
    assert (found.rate, found.values.dtype) == (12.5, np.int32)
    assert found.values.shape == (math.ceil(samples / 1280),)
    assert found.values.min() >= 0 and found.values.max() < 16


def test_published_lengths_lose_the_tail():
    published = tokenizer(published=True)
    assert len(published.encode(voice(1.0), 16_000).values) == 12
    with pytest.raises(InputError, match="at least 1280"):
        published.encode(voice(0.05), 16_000)


@pytest.mark.parametrize("make", [tokenizer, streaming])
def test_batched_equals_single(make):
    found = make()
    waves = [voice(1.3), voice(0.05), voice(2.0)[5000:], np.zeros(4000, np.float32)]
    for wave, stream in zip(waves, found.encode_batch(waves, 16_000), strict=True):
        assert np.array_equal(stream.values, found.encode(wave, 16_000).values)


@pytest.mark.parametrize("samples", [1, 6400, 5 * 1280, 6 * 1280, 40_000])
def test_streamed_equals_offline(samples):
    found, wave = streaming(), voice(2.5)[:samples]
    stream, parts = found.stream(), []
    for piece in np.split(wave, np.sort(np.random.default_rng(samples).integers(0, samples, 5))):
        parts.append(stream.push(piece))
    parts.append(stream.finish())
    assert np.array_equal(np.concatenate(parts), found.encode(wave, 16_000).values)


def test_units_leave_as_soon_as_later_sound_cannot_change_them():
    found = streaming()
    stream, wave = found.stream(), voice(1.0)
    assert len(stream.push(wave[: 5 * 1280 - 1])) == 0
    first = stream.push(wave[5 * 1280 - 1 : 5 * 1280])
    assert np.array_equal(first, found.encode(wave, 16_000).values[:4])


def test_what_needs_the_whole_recording_does_not_stream():
    with pytest.raises(InputError, match="do not stream"):
        tokenizer().stream()


@pytest.mark.parametrize("make", [tokenizer, streaming])
def test_nothing_voiced_has_units_too(make):
    found = make()
    assert not found.config.features(np.zeros(64, np.float32)).any()
    silent = found.encode(np.zeros(16_000, np.float32), 16_000).values
    assert len(silent) == 13
    noise = 0.1 * np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    assert np.array_equal(silent, found.encode(noise, 16_000).values)


def test_means_that_are_taken_off():
    f0 = np.array([0, 100, 200, 0], np.float32)
    assert PitchConfig().features(f0).tolist() == [[-50, -50, 50, 50], [0, 1, 1, 0]]
    assert PitchConfig(interpolate=False).features(f0).tolist() == [[0, -50, 50, 0], [0, 1, 1, 0]]
    assert PitchConfig(normalization="none").features(f0)[0].tolist() == [100, 100, 200, 200]
    speaker = PitchConfig(normalization="speaker", speaker_means={"anna": 120.0})
    assert speaker.features(f0, speaker="anna")[0].tolist() == [-20, -20, 80, 80]
    assert speaker.features(f0, speaker="bob")[0].tolist() == [-50, -50, 50, 50]
    octaves = PitchConfig(normalization="none", scale="octaves").features(np.array([150, 300, 75], np.float32))
    assert octaves[0].tolist() == [0, 1, -1]


def test_decoded_f0_is_in_range_or_unvoiced():
    found = streaming()
    f0 = found.decode_f0(np.arange(16, dtype=np.int32))
    assert f0.shape == (256,) and f0.dtype == np.float32
    assert np.all((f0 == 0) | ((f0 >= 50) & (f0 <= 1100)))
    assert found.decode_f0(np.zeros(0, np.int32)).shape == (0,)
    for wrong in ([16], [-1]):
        with pytest.raises(InputError, match="expected units of 0 to 15"):
            found.decode_f0(np.array(wrong))


def test_the_mean_comes_back():
    found = tokenizer()
    with torch.no_grad():
        found.model.decoder.out.weight.zero_()
        found.model.decoder.out.bias.copy_(torch.tensor([20.0, 1.0]))
    assert found.decode_f0(np.zeros(1, np.int32), mean=130.0).tolist() == [150.0] * 16


@pytest.mark.parametrize("make", [tokenizer, streaming])
def test_saved_and_loaded(make, tmp_path):
    first = make()
    first.save_pretrained(tmp_path)
    second = PitchTokenizer.from_pretrained(tmp_path)
    assert second.config == first.config
    assert np.array_equal(first.encode(voice(1.7), 16_000).values, second.encode(voice(1.7), 16_000).values)


def test_a_wave_that_cannot_be_encoded():
    for wave, rate, named in (
        (np.zeros(0, np.float32), 16_000, "at least 1"),
        (np.zeros((2, 5), np.float32), 16_000, "one channel"),
        (np.full(9, np.nan, np.float32), 16_000, "finite"),
        (np.zeros(9, np.float32), 8000, "8000 Hz"),
    ):
        with pytest.raises(InputError, match=named):
            streaming().encode(wave, rate)


def test_blocks_know_no_mean():
    with pytest.raises(ValueError, match="blocks know no mean"):
        PitchConfig(blocks=PitchBlocks())


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """The layout of Spirit LM, with the state of its own names."""
    convolutions = {"levels": 1, "downs_t": [1], "strides_t": [2], "input_emb_width": 2, "output_emb_width": 6}
    convolutions |= {"width": 4, "depth": 1, "m_conv": 1.0, "dilation_growth_rate": 3}
    sizes = {"encoder_params": convolutions, "decoder_params": {**convolutions, "reverse_decoder_dilation": True}}
    sizes["vq_params"] = {"levels": 1, "l_bins": 5, "emb_width": 6, "mu": 0.99}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({**sizes, "features": "norm_f0_interp,vuv"}))
    generator = torch.Generator().manual_seed(0)
    encoder, decoder = "encoder.level_blocks.0.model", "decoder.level_blocks.0.model"
    weights = {
        f"{encoder}.0.0": (4, 2, 4), f"{encoder}.0.1.model.0.model.1": (4, 4, 3),
        f"{encoder}.0.1.model.0.model.3": (4, 4, 1), f"{encoder}.1": (6, 4, 3), f"{decoder}.0": (4, 6, 3),
        f"{decoder}.1.0.model.0.model.1": (4, 4, 3), f"{decoder}.1.0.model.0.model.3": (4, 4, 1),
        f"{decoder}.1.1": (4, 6, 4), "decoder.out": (2, 6, 3),
    }  # fmt: skip
    state = {f"{name}.weight": torch.randn(size, generator=generator) for name, size in weights.items()}
    for name, size in weights.items():
        state[f"{name}.bias"] = torch.zeros(size[1] if name == f"{decoder}.1.1" else size[0])
    state["vq.level_blocks.0.k"] = torch.randn(5, 6, generator=generator)
    torch.save({"model": state}, tmp_path / "model.pt")
    return tmp_path


def test_a_published_folder(published, tmp_path):
    found = read_published_pitch(published, "world", published=True)
    assert (found.rate, found.vocabulary_size, found.config.normalization) == (100.0, 5, "speaker")
    units = found.encode(voice(0.5), 16_000).values
    assert len(units) == 50
    found.save_pretrained(tmp_path / "own")
    assert np.array_equal(units, PitchTokenizer.from_pretrained(tmp_path / "own").encode(voice(0.5), 16_000).values)


def test_published_folders_that_cannot_be_read(published):
    described = published / "config.yaml"
    for change, named in (
        ({"features": "energy"}, "features is 'energy'"),
        ({"f0_hop_samples": 100}, "f0_hop_samples is 100"),
        ({"speaker_stats": {"a": 3}}, "expected an f0_mean"),
        ({"vq_params": {"l_bins": 6, "emb_width": 6}}, "not the weights of this model: codebook.k"),
    ):
        text = described.read_text()
        described.write_text(yaml.safe_dump({**yaml.safe_load(text), **change}))
        with pytest.raises(InputError, match=named):
            read_published_pitch(published)
        described.write_text(text)
    (published / "model.pt").unlink()
    with pytest.raises(InputError, match=r"model\.pt: does not exist"):
        read_published_pitch(published)
