import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForSequenceClassification,
)

from spiritlm.errors import InputError
from spiritlm.inference.request import Speech
from spiritlm.scoring.judges import SpeechClassifier, TextClassifier
from spiritlm.scoring.sentiment import (
    HuggingFaceSpeechClassifier,
    HuggingFaceTextClassifier,
    load_speech_classifier,
    load_text_classifier,
    select_labels,
    sentiment_of,
)
from spiritlm.scoring.small_classifiers import VoiceMood, WordSentiment

RATE = 16_000
EMOTIONS = ("angry", "default", "happy", "sad")
WORDS = ["<s>", "<pad>", "</s>", "?", "tom", "was", "glad", "sad", "and", "he", "lost", "it"]


def write_speech_network(folder: Path, norm: str, rate: int = RATE) -> Path:
    torch.manual_seed(0)
    config = Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, conv_dim=(8, 8),
        conv_kernel=(10, 8), conv_stride=(5, 4), num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2,
        feat_extract_norm=norm, do_stable_layer_norm=norm == "layer", classifier_proj_size=8,
        id2label=dict(enumerate(EMOTIONS)), initializer_range=1.0,
    )  # fmt: skip
    Wav2Vec2ForSequenceClassification(config).save_pretrained(folder)
    extractor = Wav2Vec2FeatureExtractor(sampling_rate=rate, do_normalize=True, return_attention_mask=norm == "layer")
    extractor.save_pretrained(folder)
    return folder


def write_text_network(folder: Path, pad: str | None = "<pad>") -> Path:
    torch.manual_seed(0)
    tokenizer = Tokenizer(models.WordLevel({word: id for id, word in enumerate(WORDS)}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="?", pad_token=pad).save_pretrained(folder)
    config = RobertaConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=18, pad_token_id=1, id2label={0: "Negative", 1: "Neutral", 2: "Positive"},
        initializer_range=1.0,
    )  # fmt: skip
    RobertaForSequenceClassification(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=["group", "layer"])
def speech_network(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_speech_network(tmp_path_factory.mktemp("speech"), request.param)


@pytest.fixture(scope="module")
def text_network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text_network(tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="module")
def spoken() -> list[Speech]:
    """Some of one length, one of another rate, one shorter than the first window."""
    rng = np.random.default_rng(0)
    lengths = [9000, 16000, 9000, 4000, 30, 9000, 12345]
    waves = [rng.standard_normal(n).astype(np.float32) * rng.uniform(0.01, 0.3) for n in lengths]
    return [Speech(wave, 8000 if n == 12345 else RATE) for n, wave in zip(lengths, waves, strict=True)]


TEXTS = ["tom was glad", "he lost it and tom was sad", "sad", "he was glad " * 30, "?", "tom was glad"]


def test_speech_is_judged_alike_alone_and_among_others(speech_network: Path, spoken: list[Speech]) -> None:
    network = HuggingFaceSpeechClassifier(speech_network)
    together = network.scores(spoken)
    alone = np.concatenate([network.scores([one]) for one in spoken])
    assert together.shape == (len(spoken), len(EMOTIONS)) and np.ptp(together, axis=0).min() > 1e-3
    assert np.abs(together - alone).max() < 1e-4


def test_speech_is_judged_as_transformers_has_it(speech_network: Path, spoken: list[Speech]) -> None:
    model = Wav2Vec2ForSequenceClassification.from_pretrained(speech_network).eval()
    wave = spoken[1].wave.astype(np.float64)
    normal = torch.from_numpy((wave - wave.mean()) / np.sqrt(wave.var() + 1e-7)).float()
    with torch.inference_mode():
        expected = model(normal[None]).logits[0].numpy()
    judge: SpeechClassifier = load_speech_classifier(speech_network)
    assert judge.labels == EMOTIONS
    assert judge([spoken[1]]) == [EMOTIONS[expected.argmax()]]
    assert np.abs(HuggingFaceSpeechClassifier(speech_network).scores(spoken[:2])[1] - expected).max() < 1e-4


def test_texts_are_judged_alike_alone_and_among_others(text_network: Path) -> None:
    network = HuggingFaceTextClassifier(text_network)
    together = network.scores(TEXTS)
    alone = np.concatenate([network.scores([text]) for text in TEXTS])
    assert np.abs(together - alone).max() < 1e-5 and np.ptp(together, axis=0).min() > 1e-3
    assert np.abs(together[3] - network.scores(["he was glad " * 20])[0]).max() < 1e-5
    judge: TextClassifier = load_text_classifier(text_network)
    assert judge(TEXTS) == [judge.labels[place] for place in together.argmax(1)]
    assert judge([]) == []


def test_some_labels_only(speech_network: Path, spoken: list[Speech]) -> None:
    scores = HuggingFaceSpeechClassifier(speech_network).scores(spoken)
    whole, judge = load_speech_classifier(speech_network), load_speech_classifier(speech_network, ["sad", "angry"])
    assert judge.labels == ("angry", "sad") and judge.name == f"{whole.name} among angry, sad"
    assert judge(spoken) == [("angry", "sad")[int(row[3] > row[0])] for row in scores]
    with pytest.raises(InputError, match="there is no 'glad', expected some of angry, default, happy, sad"):
        load_speech_classifier(speech_network, ["glad"])
    with pytest.raises(InputError, match="found none"):
        select_labels([], EMOTIONS)


def test_sentiments_of_labels() -> None:
    assert [sentiment_of(label) for label in ("Neutral", "amused", "excited", "angry", "default")] == [
        "neutral", "positive", "positive", "negative", "neutral",
    ]  # fmt: skip
    with pytest.raises(InputError, match="label 'LABEL_1' stands for no sentiment; expected positive"):
        sentiment_of("LABEL_1")


def test_a_folder_says_which_kind_it_is(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    VoiceMood.fit(rng.standard_normal((8, 82)), ["sad", "happy"] * 4, 0).save_pretrained(tmp_path / "voice")
    WordSentiment.fit(["so glad", "so sad"] * 2, ["positive", "negative"] * 2).save_pretrained(tmp_path / "words")
    voice, words = load_speech_classifier(tmp_path / "voice"), load_text_classifier(tmp_path / "words")
    assert voice.name.startswith("voice-mood ") and voice.labels == ("happy", "sad")
    assert words.name.startswith("word-sentiment ") and words(["glad", "sad"]) == ["positive", "negative"]
    for load, folder in ((load_speech_classifier, "words"), (load_text_classifier, "voice")):
        with pytest.raises(InputError, match=r"ForSequenceClassification, found type '(word|voice)-"):
            load(tmp_path / folder)


def test_another_network_has_another_name(text_network: Path, tmp_path: Path) -> None:
    other = shutil.copytree(text_network, tmp_path / "other")
    assert load_text_classifier(other).name == load_text_classifier(text_network).name
    tensors = load_file(other / "model.safetensors")
    tensors["classifier.out_proj.bias"] += 1
    save_file(tensors, other / "model.safetensors", {"format": "pt"})
    assert load_text_classifier(other).name != load_text_classifier(text_network).name


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def with_config(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


def without_weight(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["classifier.out_proj.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("config.json"), r"expected the folder of a classifier: it has no config\.json"),
        (without("model.safetensors"), "expected a whole classifier"),
        (without("tokenizer.json"), "expected a whole classifier, with what prepares its input"),
        (with_config(architectures=["RobertaModel"]), r"found type None, architectures \['RobertaModel'\]"),
        (without_weight, r"its weights lack 'classifier\.out_proj\.weight'"),
        (lambda folder: write_text_network(folder, pad=None), "expected a tokenizer with a token of padding"),
    ],
)
def test_faulty_folders(text_network: Path, tmp_path: Path, change: Callable[[Path], None], message: str) -> None:
    folder = shutil.copytree(text_network, tmp_path / "faulty")
    change(folder)
    with pytest.raises(InputError, match=message) as error:
        load_text_classifier(folder)
    assert "\n" not in str(error.value)


def test_networks_of_other_sounds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="takes input_values at 8000 Hz, expected input_values at 16000 Hz"):
        load_speech_classifier(write_speech_network(tmp_path, "group", rate=8000))
    with pytest.raises(InputError, match="it does not exist"):
        load_speech_classifier(tmp_path / "none")
