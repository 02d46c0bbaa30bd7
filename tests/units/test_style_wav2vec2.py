import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from spiritlm.errors import InputError
from spiritlm.run.files import write_json
from spiritlm.units.style_wav2vec2 import Wav2Vec2StyleTokenizer, from_published, is_published

SIZES = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
    "conv_dim": (16,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4,
    "classifier_proj_size": 24, "num_labels": 9,
}  # fmt: skip
LENGTHS = (1, 399, 400, 16_000, 16_079, 16_080, 16_001, 50_000, 33_333)


def sound(samples, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def published(folder, legacy=True, **changes):
    """A folder as transformers writes it, and its model; with `legacy`, as an older version wrote it."""
    from transformers import Wav2Vec2Config, Wav2Vec2ForSequenceClassification

    torch.manual_seed(3)
    model = Wav2Vec2ForSequenceClassification(Wav2Vec2Config(**{**SIZES, **changes})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    if legacy:
        names = {
            "parametrizations.weight.original0": "weight_g",
            "parametrizations.weight.original1": "weight_v",
        }
        tensors = load_file(folder / "model.safetensors")
        for new, old in names.items():
            tensors = {name.replace(new, old): tensor for name, tensor in tensors.items()}
        assert any("weight_g" in name for name in tensors)
        torch.save(tensors, folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
    return model


@torch.inference_mode()
def expected_logits(model, wave):
    """The published computation, by transformers' own forward pass."""
    x = torch.from_numpy(wave)
    x = (x - x.mean()) / (x.var(unbiased=False) + 1e-7).sqrt()
    frames = model.projector(model.wav2vec2(x[None]).last_hidden_state[0])
    return model.classifier(torch.stack([chunk.mean(0) for chunk in frames.split(50)]))


VARIANTS = {
    "base": {},
    "pre-norm": {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True},
    "safetensors": {"legacy": False},
}


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_units_are_those_of_transformers(tmp_path, changes):
    model = published(tmp_path, **changes)
    tokenizer = from_published(tmp_path)
    assert (tokenizer.rate, tokenizer.vocabulary_size, tokenizer.sample_rate) == (1.0, 9, 16_000)
    for seed, samples in enumerate((400, 16_080, 50_000, 120_000)):
        wave = sound(samples, seed) + 0.02 * seed
        expected = expected_logits(model, wave)
        torch.testing.assert_close(tokenizer.logits([wave])[0], expected, atol=1e-4, rtol=0)
        units, published_units = tokenizer.encode(wave, 16_000).values, expected.argmax(-1).numpy()
        assert units.dtype == np.int32 and len(units) == -(-samples // 16_000)
        assert np.array_equal(units[: len(expected)], published_units)
        assert set(units[len(expected) :]) <= {published_units[-1]}, "the last unit is repeated"


def test_batched_equals_single(tmp_path):
    published(tmp_path)
    tokenizer = from_published(tmp_path)
    waves = [sound(samples, seed) for seed, samples in enumerate(LENGTHS)]
    for wave, found in zip(waves, tokenizer.encode_batch(waves, 16_000), strict=True):
        assert np.array_equal(found.values, tokenizer.encode(wave, 16_000).values)
        assert len(found.values) == -(-len(wave) // 16_000) and found.rate == 1.0
    together, alone = tokenizer.logits(waves), [tokenizer.logits([wave])[0] for wave in waves]
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=0)
    assert tokenizer.encode_batch([], 16_000) == []


def test_silence_and_short_sounds_have_units(tmp_path):
    published(tmp_path)
    tokenizer = from_published(tmp_path)
    for samples in (1, 800, 40_000):
        wave = np.zeros(samples, np.float32)
        assert torch.isfinite(tokenizer.logits([wave])[0]).all()
        assert len(tokenizer.encode(wave, 16_000).values) == -(-samples // 16_000)


def test_the_whole_file_is_heard(tmp_path):
    published(tmp_path)
    tokenizer = from_published(tmp_path)
    with pytest.raises(InputError, match="do not stream"):
        tokenizer.stream()
    with pytest.raises(InputError, match="8000 Hz"):
        tokenizer.encode(sound(100), 8_000)


def test_saved_is_loaded(tmp_path):
    published(tmp_path / "published")
    tokenizer = from_published(tmp_path / "published")
    tokenizer.save_pretrained(tmp_path / "own")
    loaded = Wav2Vec2StyleTokenizer.from_pretrained(tmp_path / "own")
    wave = sound(70_000)
    assert torch.equal(loaded.logits([wave])[0], tokenizer.logits([wave])[0])
    assert loaded.config == tokenizer.config and loaded.config.type == "style-wav2vec2"


def test_the_preprocessor_says_whether_to_normalize(tmp_path):
    published(tmp_path)
    assert from_published(tmp_path).config.normalize
    write_json(tmp_path / "preprocessor_config.json", {"do_normalize": False, "sampling_rate": 16_000})
    assert not from_published(tmp_path).config.normalize
    write_json(tmp_path / "preprocessor_config.json", {"do_normalize": True, "sampling_rate": 8_000})
    with pytest.raises(InputError, match="sound at 8000 Hz"):
        from_published(tmp_path)


def edited(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    write_json(folder / "config.json", {**config, **changes})
    return config


def test_what_is_not_supported_is_named(tmp_path):
    published(tmp_path)
    before = edited(tmp_path, use_weighted_layer_sum=True)
    assert is_published(before)
    for changes, match in (
        ({"use_weighted_layer_sum": True}, "use_weighted_layer_sum is True"),
        ({"model_type": "hubert"}, "model_type is 'hubert'"),
        ({"id2label": {"0": "a"}}, "1 labels in its configuration, but the weights have 9"),
        ({"num_hidden_layers": 3}, "not the weights of this model"),
        ({"num_attention_heads": 5}, "multiple of heads"),
    ):
        write_json(tmp_path / "config.json", {**before, **changes})
        with pytest.raises(InputError, match=match):
            from_published(tmp_path)


def test_a_network_without_a_classifier(tmp_path):
    published(tmp_path)
    tensors = torch.load(tmp_path / "pytorch_model.bin", weights_only=True)
    torch.save({n: t for n, t in tensors.items() if not n.startswith("classifier")}, tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"it has no classifier\.weight"):
        from_published(tmp_path)
