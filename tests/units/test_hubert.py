import json
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from spiritlm.errors import InputError
from spiritlm.run.files import write_json
from spiritlm.units.hubert import HubertTokenizer
from spiritlm.units.hubert_checkpoint import from_published, read_encoder, read_quantizer
from spiritlm.units.hubert_encoder import (
    HubertEncoder,
    HubertShape,
    MaskedGroupNorm,
    load_encoder,
    save_encoder,
)
from spiritlm.units.loading import load_speech_tokenizer
from spiritlm.units.quantizers import (
    KmeansQuantizer,
    LinearQuantizer,
    default_widths,
    published_without_blanks,
    without_blanks,
)

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
TINY = {
    "conv_channels": (16,) * 8, "width": 32, "layers": 2, "heads": 4, "feed_forward": 48, "position_kernel": 16,
    "position_groups": 4,
}  # fmt: skip
LENGTHS = (1, 640, 641, 16_000, 719, 9_999, 30_001, 23_000)


def network(**changes):
    torch.manual_seed(0)
    return HubertEncoder(HubertShape(**{**TINY, **changes})).eval()


def sound(samples, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def kmeans(encoder, units=20):
    """Centroids are frames of some noise, so that units are spread."""
    with torch.inference_mode():
        wave = torch.from_numpy(sound(160_000, 99))
        frames = encoder(wave[None], torch.tensor([len(wave)]), encoder.shape.layers)[0]
    return KmeansQuantizer.of(frames[torch.randperm(len(frames))[:units]])


def linear(width, units=12):
    torch.manual_seed(1)
    quantizer = LinearQuantizer(width, default_widths(width, units), units)
    with torch.no_grad():
        for layer in quantizer.layers:
            layer.weight.mul_(4)
    return quantizer


@pytest.fixture(scope="module")
def tokenizer():
    encoder = network()
    return HubertTokenizer(encoder, kmeans(encoder))


SHAPES = {
    "group": {},
    "layer": {"conv_norm": "layer", "conv_bias": True, "pre_norm": True, "normalize": True},
    "50 Hz": {"conv_channels": (16,) * 7, "conv_kernels": (10, 3, 3, 3, 3, 2, 2), "conv_strides": (5, *(2,) * 6)},
}


@pytest.mark.parametrize("changes", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("kind", ["kmeans", "standardized", "linear"])
def test_batched_equals_single(changes, kind):
    encoder = network(**changes)
    quantizer = linear(32) if kind == "linear" else kmeans(encoder)
    tokenizer = HubertTokenizer(encoder, quantizer, standardize=kind == "standardized")
    waves = [sound(samples, seed) for seed, samples in enumerate(LENGTHS)]
    together = tokenizer.encode_batch(waves, 16_000)
    for wave, streams in zip(waves, together, strict=True):
        alone = tokenizer.encode(wave, 16_000).semantic
        assert alone.values.dtype == np.int32 and alone.rate == tokenizer.rate == 16_000 / encoder.shape.hop
        assert len(alone.values) == -(-len(wave) // encoder.shape.hop)
        assert np.array_equal(streams.semantic.values, alone.values)
        assert 0 <= alone.values.min() <= alone.values.max() < tokenizer.vocabulary_size
    assert len(np.unique(together[6].semantic.values)) > 1


def test_padding_changes_no_feature():
    encoder = network()
    short, long = torch.from_numpy(sound(8_000)), torch.from_numpy(sound(32_000, 1))
    batch = torch.stack([F.pad(short, (0, 24_000)), long])
    with torch.inference_mode():
        together = encoder(batch, torch.tensor([8_000, 32_000]))
        alone = encoder(short[None], torch.tensor([8_000]))
    torch.testing.assert_close(together[:1, : alone.shape[1]], alone, atol=1e-5, rtol=0)


def test_masked_group_norm_is_group_norm_of_the_true_frames():
    norm = MaskedGroupNorm(4, 4)
    torch.nn.init.normal_(norm.weight)
    x, lengths = torch.randn(3, 4, 50) + 2, torch.tensor([50, 2, 17])
    found = norm.masked(x, lengths)
    for row, masked, n in zip(x, found, lengths.tolist(), strict=True):
        torch.testing.assert_close(masked[:, :n], norm(row[None, :, :n])[0], atol=1e-5, rtol=0)


def test_lengths_and_chunks(tokenizer):
    """Chunks know nothing of each other, and each gives units for all of its samples."""
    chunked = HubertTokenizer(tokenizer.encoder, tokenizer.quantizer, chunk_seconds=1.0)
    wave = sound(40_001)
    expected = [tokenizer.encode(wave[start : start + 16_000], 16_000) for start in range(0, 40_001, 16_000)]
    found = chunked.encode(wave, 16_000).semantic.values
    assert len(found) == 63
    assert np.array_equal(found, np.concatenate([part.semantic.values for part in expected]))
    published = HubertTokenizer(tokenizer.encoder, tokenizer.quantizer, chunk_seconds=1.0, published=True)
    assert len(published.encode(wave, 16_000).semantic.values) == 24 + 24 + 12
    assert len(published.encode(wave[:32_100], 16_000).semantic.values) == 48
    with pytest.raises(InputError, match="at least 720"):
        published.encode(wave[:719], 16_000)
    with pytest.raises(InputError, match="chunk_seconds"):
        HubertTokenizer(tokenizer.encoder, tokenizer.quantizer, chunk_seconds=0.04)


def test_blanks():
    raw = torch.tensor([9, 9, 3, 9, 9, 1, 9])
    assert without_blanks(raw, 9).tolist() == [3, 3, 3, 3, 3, 1, 1]
    assert published_without_blanks(raw, 9).tolist() == [1, 1, 3, 3, 3, 1, 1]
    assert published_without_blanks(torch.tensor([[9, 4], [9, 7]]), 9).tolist() == [[7, 4], [4, 7]]
    nothing = torch.full((3,), 9)
    assert without_blanks(nothing, 9).tolist() == [0, 0, 0]
    assert published_without_blanks(nothing, 9).tolist() == [9, 9, 9]


def test_saved_is_loaded(tokenizer, tmp_path):
    wave = sound(20_000)
    quantizers = {"kmeans": tokenizer.quantizer, "linear": linear(32)}
    for name, quantizer in quantizers.items():
        for options in ({}, {"standardize": True, "chunk_seconds": 0.5}, {"published": True}):
            saved = HubertTokenizer(tokenizer.encoder, quantizer, **options)
            saved.save_pretrained(tmp_path / name)
            loaded = load_speech_tokenizer(tmp_path / name)
            assert isinstance(loaded, HubertTokenizer) and loaded.config == saved.config
            assert loaded.vocabulary_size == saved.vocabulary_size
            expected = saved.encode(wave, 16_000).semantic.values
            assert np.array_equal(loaded.encode(wave, 16_000).semantic.values, expected)
    assert HubertTokenizer(tokenizer.encoder, linear(32), published=True).vocabulary_size == 13


def test_network_saved_is_loaded_up_to_a_layer(tmp_path):
    encoder, waves = network(layers=3), torch.from_numpy(sound(8_000))[None]
    save_encoder(encoder, tmp_path)
    with torch.inference_mode():
        expected = encoder(waves, torch.tensor([8_000]), 2)
        found = load_encoder(tmp_path, 2)
        assert len(found.encoder.layers) == found.shape.layers == 2
        assert torch.equal(found(waves, torch.tensor([8_000]), 2), expected)
    with pytest.raises(InputError, match="layer = 4: expected one of the 3 layers"):
        load_encoder(tmp_path, 4)


@pytest.mark.parametrize(
    ("wave", "rate", "expected"),
    [
        (np.zeros(800, np.float32), 8000, "8000 Hz: expected 16000 Hz"),
        (np.zeros((2, 800), np.float32), 16000, "one channel"),
        (np.zeros(0, np.float32), 16000, "at least 1"),
        (np.full(800, np.nan, np.float32), 16000, "finite"),
    ],
)
def test_unusable_waves(tokenizer, wave, rate, expected):
    with pytest.raises(InputError, match=expected):
        tokenizer.encode_batch([np.zeros(800, np.float32), wave], rate)


def test_does_not_stream(tokenizer):
    with pytest.raises(InputError, match="do not stream"):
        tokenizer.stream()


def published_files(folder, case="spirit_hubert25", **changes):
    """A golden case as the files that are published; `changes` to what the network's file holds."""
    config = json.loads((GOLDEN / case / "config.json").read_text())
    state = load_file(GOLDEN / case / "state.safetensors")
    quantizer = {n.removeprefix("quantizer::"): t for n, t in state.items() if n.startswith("quantizer::")}
    content = {name: config[name] for name in ("model_cfg", "task_cfg")}
    content["model_weight"] = {n: t for n, t in state.items() if not n.startswith("quantizer::")}
    content["dictionaries_symbols"] = [["0", "1"]]
    torch.save({**content, **changes}, folder / "model.pt")
    torch.save({"model_cfg": config["quantizer_model_cfg"], "model_weight": quantizer}, folder / "quantizer.pt")
    io = load_file(GOLDEN / case / "io.safetensors")
    return config["output_layer"], io


def test_published_files(tmp_path):
    layer, io = published_files(tmp_path)
    tokenizer = from_published(tmp_path / "model.pt", tmp_path / "quantizer.pt", layer, published=True)
    assert (tokenizer.rate, tokenizer.vocabulary_size) == (25.0, 61)
    found = tokenizer.encode(io["waveform"].numpy(), 16_000).semantic.values
    assert found.tolist() == io["linear_ids"].tolist()
    np.save(tmp_path / "centroids.npy", io["kmeans_centers"].numpy())
    save_file({"centroids": io["kmeans_centers"]}, tmp_path / "centroids.safetensors")
    for name in ("centroids.npy", "centroids.safetensors"):
        tokenizer = from_published(tmp_path / "model.pt", tmp_path / name, layer, published=True)
        assert tokenizer.encode(io["waveform"].numpy(), 16_000).semantic.values.tolist() == io["kmeans_ids"].tolist()
    tokenizer = from_published(tmp_path / "model.pt", tmp_path / "quantizer.pt", layer)
    assert (
        tokenizer.encode(io["sine"].numpy(), 16_000).semantic.values.shape == (25,) and tokenizer.vocabulary_size == 60
    )


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("stable", [False, True])
def test_hugging_face_folder(tmp_path, file, stable):
    """What transformers itself saves gives what transformers itself computes."""
    from transformers import HubertConfig, HubertModel

    torch.manual_seed(0)
    config = HubertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, conv_dim=(16,) * 7,
        num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4, do_stable_layer_norm=stable,
        feat_extract_norm="layer" if stable else "group",
    )  # fmt: skip
    model = HubertModel(config).eval()
    model.save_pretrained(tmp_path)
    if file == "pytorch_model.bin":
        torch.save(load_file(tmp_path / "model.safetensors"), tmp_path / file)
        (tmp_path / "model.safetensors").unlink()
    encoder = read_encoder(tmp_path).eval()
    assert (encoder.shape.rate, encoder.shape.window) == (50.0, 400)
    wave = torch.from_numpy(sound(8_000))[None]
    with torch.inference_mode():
        expected = model(wave).last_hidden_state
        torch.testing.assert_close(encoder(wave, torch.tensor([8_000])), expected, atol=1e-5, rtol=0)


def test_networks_that_are_refused(tmp_path):
    published_files(tmp_path, model_weight={"encoder.layer_norm.weight": torch.ones(48)})
    with pytest.raises(InputError, match="not the weights of this model"):
        read_encoder(tmp_path / "model.pt")
    layer, io = published_files(tmp_path)
    content = torch.load(tmp_path / "model.pt", weights_only=True)
    for part, name, value, expected in (
        ("model_cfg", "layer_type", "conformer", "layer_type is 'conformer'"),
        ("model_cfg", "conv_feature_layers", "exit()", "conv_feature_layers is 'exit"),
        ("task_cfg", "sample_rate", 8000, "8000 Hz, expected 16000 Hz"),
        ("model_weight", "encoder.layers.9.fc1.bias", torch.ones(1), "layers.9.feed_forward.intermediate_dense.bias"),
    ):
        torch.save({**content, part: {**content[part], name: value}}, tmp_path / "other.pt")
        with pytest.raises(InputError, match=expected):
            read_encoder(tmp_path / "other.pt")
    torch.save({"state_dict": {}}, tmp_path / "other.pt")
    with pytest.raises(InputError, match="expected a published HuBERT"):
        read_encoder(tmp_path / "other.pt")
    (tmp_path / "text.pt").write_text("text")
    with pytest.raises(InputError, match="not a file of tensors"):
        read_encoder(tmp_path / "text.pt")
    write_json(tmp_path / "config.json", {"model_type": "wav2vec2"})
    with pytest.raises(InputError, match="type 'wav2vec2', expected 'hubert'"):
        read_encoder(tmp_path)
    with pytest.raises(InputError, match="layer = 5: expected one of the 4 layers"):
        np.save(tmp_path / "centroids.npy", io["kmeans_centers"].numpy())
        from_published(tmp_path / "model.pt", tmp_path / "centroids.npy", 5)
    np.save(tmp_path / "narrow.npy", np.zeros((5, 7), np.float32))
    with pytest.raises(InputError, match=r"narrow.npy: a quantizer of features 7 wide, expected 48"):
        from_published(tmp_path / "model.pt", tmp_path / "narrow.npy", layer)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_published_centroids_are_an_array_in_a_pt_file(tmp_path, dtype):
    centroids = np.random.default_rng(0).normal(size=(12, 48)).astype(dtype)
    torch.save({"cluster_centers": centroids, "n_clusters": 12}, tmp_path / "km.pt")
    quantizer = read_quantizer(tmp_path / "km.pt")
    assert torch.equal(quantizer.centroids, torch.from_numpy(centroids.astype(np.float32)))


def test_published_blanks_are_filled_over_all_chunks():
    """A wave that begins with a blank begins with its last unit, whichever chunk that is in."""
    torch.manual_seed(0)
    encoder, quantizer = HubertEncoder(HubertShape(**TINY)), linear(32)
    tokenizer = HubertTokenizer(encoder, quantizer, chunk_seconds=0.2, published=True)
    symbols = iter([torch.tensor([12, 3, 12, 5])])
    tokenizer.quantizer.forward = lambda features: next(symbols)
    wave = np.random.default_rng(0).normal(size=6400).astype(np.float32)
    assert tokenizer.encode(wave, 16000).semantic.values.tolist() == [5, 3, 3, 5]


def test_quantizers_that_are_refused(tmp_path):
    torch.save({"cluster_centers": Fraction(1, 3)}, tmp_path / "code.pt")
    torch.save({"cluster_centers": "of text"}, tmp_path / "text.pt")
    with pytest.raises(InputError, match=r"text\.pt: centroids: expected an array of numbers"):
        read_quantizer(tmp_path / "text.pt")
    with pytest.raises(InputError, match=r"code\.pt: not a file of tensors and plain values, which alone are read$"):
        read_quantizer(tmp_path / "code.pt")
    (tmp_path / "km.bin").write_bytes(b"pickle")
    with pytest.raises(InputError, match=r"km.bin: a pickle may run code.*cluster_centers_"):
        read_quantizer(tmp_path / "km.bin")
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object))
    with pytest.raises(InputError, match="not an array of numbers"):
        read_quantizer(tmp_path / "objects.npy")
    np.save(tmp_path / "line.npy", np.zeros(3, np.float32))
    with pytest.raises(InputError, match="centroids \\[3\\]"):
        read_quantizer(tmp_path / "line.npy")
    published_files(tmp_path)
    content = torch.load(tmp_path / "quantizer.pt", weights_only=True)
    torch.save({**content, "model_cfg": {"dim": 48, "vocab_size": 500}}, tmp_path / "other.pt")
    with pytest.raises(InputError, match="vocab_size = 500, but the weights 60"):
        read_quantizer(tmp_path / "other.pt")


def test_folders_that_are_refused(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path / "model")
    config = json.loads((tmp_path / "model/config.json").read_text())
    config["quantizer"]["units"] = 21
    write_json(tmp_path / "model/config.json", config)
    with pytest.raises(InputError, match=r"quantizer.centroids is \[20, 32\], expected \[21, 32\]"):
        load_speech_tokenizer(tmp_path / "model")
    save_encoder(tokenizer.encoder, tmp_path / "encoder")
    with pytest.raises(InputError, match="'hubert-encoder', expected one of"):
        load_speech_tokenizer(tmp_path / "encoder")
    shutil.rmtree(tmp_path / "encoder")
