import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

from spiritlm.alignment.models import load_frame_model, log_probs_of
from spiritlm.alignment.words import align_words
from spiritlm.errors import InputError

SYMBOLS = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ETAONIHSRDLUMWCFGYPBVK'XJQZ"]


@pytest.fixture(scope="module")
def wav2vec2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny wav2vec 2.0 of random weights, laid out as the published ones are."""
    folder: Path = tmp_path_factory.mktemp("models") / "wav2vec2"
    torch.manual_seed(0)
    config = Wav2Vec2Config(
        vocab_size=len(SYMBOLS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        conv_dim=(8,) * 7, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2, pad_token_id=0,
    )  # fmt: skip
    Wav2Vec2ForCTC(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps({symbol: id for id, symbol in enumerate(SYMBOLS)}))
    return folder


def noise(seconds: float) -> np.ndarray:
    return (0.1 * np.random.default_rng(0).standard_normal(int(16000 * seconds))).astype(np.float32)


def test_a_hugging_face_folder_aligns(wav2vec2: Path) -> None:
    model = load_frame_model(wav2vec2)
    assert model.frame_rate == 50.0
    assert (model.alphabet.blank, model.alphabet.separator) == (0, 4)
    assert model.alphabet.spell("Tea's") == [SYMBOLS.index(letter) for letter in "TEA'S"]
    log_probs = log_probs_of(model, noise(7.0), window=4.0, overlap=1.0)
    assert log_probs.shape == (349, len(SYMBOLS))
    np.testing.assert_allclose(np.exp(log_probs).sum(axis=1), 1, atol=1e-4)
    words = align_words(["It", "was", "23"], log_probs, model.alphabet, model.frame_rate)
    assert [word.text for word in words] == ["It", "was", "23"]
    assert 0 <= words[0].start <= words[0].end <= words[1].start <= words[1].end <= words[2].end <= 7


def test_sound_shorter_than_a_frame_is_refused(wav2vec2: Path) -> None:
    with pytest.raises(InputError, match="100 samples cannot be aligned"):
        load_frame_model(wav2vec2).log_probs(noise(100 / 16000))


def changed(wav2vec2: Path, folder: Path, name: str, **values: object) -> Path:
    """A copy with other values in a JSON file; a value of None takes the key out."""
    folder.mkdir()
    for file in wav2vec2.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    content = {**json.loads((folder / name).read_text()), **values}
    (folder / name).write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
    return folder


def test_folders_that_cannot_align_are_refused(wav2vec2: Path, tmp_path: Path) -> None:
    other = changed(wav2vec2, tmp_path / "a", "config.json", architectures=["Wav2Vec2Model"])
    with pytest.raises(InputError, match="found type None, architectures"):
        load_frame_model(other)
    other = changed(wav2vec2, tmp_path / "b", "vocab.json", eng={"A": 5})
    with pytest.raises(InputError, match="of one language"):
        load_frame_model(other)
    other = changed(wav2vec2, tmp_path / "c", "config.json", pad_token_id="none")
    with pytest.raises(InputError, match="the id of the blank"):
        load_frame_model(other)
    other = changed(wav2vec2, tmp_path / "d", "preprocessor_config.json", sampling_rate=8000)
    with pytest.raises(InputError, match="8000 Hz"):
        load_frame_model(other)
    (wav2vec2 / "model.safetensors").rename(wav2vec2 / "pytorch_model.bin")  # pickles are never opened
    with pytest.raises(InputError, match="not a model to align with"):
        load_frame_model(wav2vec2)
    (wav2vec2 / "pytorch_model.bin").rename(wav2vec2 / "model.safetensors")
    with pytest.raises(InputError, match="No such file"):
        load_frame_model(tmp_path / "absent")


def test_both_cases_of_a_letter_go_to_the_small_one(wav2vec2: Path, tmp_path: Path) -> None:
    other = changed(wav2vec2, tmp_path / "cases", "vocab.json", **{"<s>": None, "e": 1})
    assert load_frame_model(other).alphabet.spell("eE") == [1, 1]
