import math
import re
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import soxr
import torch
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)

from spiritlm.errors import InputError
from spiritlm.inference.request import Speech
from spiritlm.scoring.judges import Judges
from spiritlm.scoring.recognizer import SAMPLE_RATE, SphinxRecognizer, bigram_arpa, load_recognizer, pieces_of
from spiritlm.smallworld import flite
from spiritlm.units.mfcc import FEATURES, MfccKmeansTokenizer
from spiritlm.units.vq_whisper import VqWhisper, VqWhisperConfig
from spiritlm.units.vq_whisper_tokenizer import VqWhisperTokenizer

SENTENCES = ("Tom went to the lake with his mother.", "He wanted to catch a big fish.", "The rain came soon.")
NEEDS_FLITE = pytest.mark.skipif(not flite.is_installed(), reason="flite is not installed")


def test_what_may_follow_a_word_adds_up() -> None:
    arpa = bigram_arpa([["a", "b"], ["a", "c", "a", "b"], ["b"]])
    head, _, tail = arpa.partition("\\2-grams:")
    singles = {w: (10 ** float(p), 10 ** float(b)) for p, w, b in re.findall(r"^(-\S+) (\S+) (-?\S+)$", head, re.M)}
    known: dict[str, dict[str, float]] = defaultdict(dict)
    for p, first, second in re.findall(r"^(-\S+) (\S+) (\S+)$", tail, re.M):
        known[first][second] = 10 ** float(p)
    assert math.isclose(sum(p for p, _ in singles.values()), 1, abs_tol=1e-3)
    for first, after in known.items():
        unseen = sum(p for word, (p, _) in singles.items() if word not in after)
        assert math.isclose(sum(after.values()) + singles[first][1] * unseen, 1, abs_tol=1e-3)


@NEEDS_FLITE
def test_it_understands_what_may_be_said() -> None:
    recognizer = SphinxRecognizer([*SENTENCES, "Zqwx came."])
    assert recognizer.unknown == ("zqwx",)
    for sentence in SENTENCES:
        heard = recognizer(flite.speak(sentence, "rms").wave)
        assert heard == sentence.lower().rstrip(".")


def test_no_sentence_that_it_can_say() -> None:
    with pytest.raises(InputError, match="2 sentences: expected words that pocketsphinx's dictionary has, found none"):
        SphinxRecognizer(["Zqwx.", ""])


@NEEDS_FLITE
def test_utterances_are_heard_alone_at_any_rate() -> None:
    said = [*SENTENCES, "", "He came."]
    recognizer = load_recognizer("sphinx", said)
    judges = Judges(recognizer=recognizer)
    assert judges.hear("tts") is recognizer
    waves = [flite.speak(text, "rms").wave if text else np.zeros(0, np.float32) for text in said]
    spoken = [Speech(wave, SAMPLE_RATE) for wave in waves]
    spoken[0] = Speech(soxr.resample(waves[0], SAMPLE_RATE, 24_000), 24_000)
    noise = Speech(0.3 * np.random.default_rng(0).standard_normal(SAMPLE_RATE).astype(np.float32), SAMPLE_RATE)
    heard = recognizer(spoken)
    assert heard == [text.lower().rstrip(".") for text in said]
    assert recognizer([noise, *reversed(spoken), noise])[1:-1] == heard[::-1]
    assert recognizer([]) == [] and recognizer([spoken[3]]) == [""]


@NEEDS_FLITE
def test_what_the_noise_of_one_utterance_does_to_the_next() -> None:
    """Its noise removal goes on from one to the next by itself."""
    recognizer = SphinxRecognizer(SENTENCES)
    wave = flite.speak(SENTENCES[1], "awb").wave

    def likelihood() -> float:
        recognizer(wave)
        return float(recognizer._decoder.hyp().score)

    alone = likelihood()
    recognizer(0.5 * np.random.default_rng(0).standard_normal(3 * SAMPLE_RATE).astype(np.float32))
    assert likelihood() == alone


def test_names_tell_recognisers_apart() -> None:
    names = [load_recognizer("sphinx", said).name for said in (SENTENCES, SENTENCES[::-1], SENTENCES[:2])]
    assert names[0] == names[1] != names[2] and re.fullmatch(r"sphinx [0-9a-f]{12}", names[0])
    assert load_recognizer("sphinx").name == "sphinx English"


@pytest.mark.parametrize(
    ("spec", "nearest"), [("sphynx", "sphinx"), ("ctc", "ctc:FOLDER"), ("whisper:", "whisper:FOLDER")]
)
def test_unknown_recognisers(spec: str, nearest: str) -> None:
    with pytest.raises(InputError, match=f"recognizer '{spec}': the nearest is '{nearest}' of sphinx, ctc:FOLDER"):
        load_recognizer(spec)


def test_long_speech_is_cut_where_it_is_quiet() -> None:
    wave = np.random.default_rng(0).standard_normal(200_000).astype(np.float32)
    wave[90_000:93_000] = 0  # in the last sixth of 96,000
    pieces = pieces_of(wave, 96_000)
    assert np.array_equal(np.concatenate(pieces), wave) and max(map(len, pieces)) <= 96_000
    assert 90_000 < len(pieces[0]) < 93_000
    assert [len(piece) for piece in pieces_of(wave[:96_000], 96_000)] == [96_000]


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> VqWhisperTokenizer:
    """A tokenizer of random weights that reads its units, 2 seconds at a time."""
    torch.manual_seed(0)
    config = VqWhisperConfig(
        d_model=32, num_mel_bins=20, encoder_layers=3, encoder_attention_heads=2, encoder_ffn_dim=48,
        pooling_position=1, quantize_position=2, quantize_vocab_size=64, quantize_causal_block_size=40,
        max_source_positions=100, quantize_norm=True, ctc_letters=" abcdefgh",
    )  # fmt: skip
    made = VqWhisperTokenizer(VqWhisper(config))
    vectors = made.model.encoder.vectors(torch.randn(4, 20, 200), torch.ones(4, 200, dtype=torch.bool)).detach()
    made.model.encoder.codebook.start(vectors.flatten(0, 1)[:64])
    return made


def noises(*samples: int) -> list[Speech]:
    rng = np.random.default_rng(0)
    shapes = [np.repeat(rng.uniform(0, 0.5, -(-n // 800)), 800)[:n] for n in samples]
    return [Speech((shape * rng.standard_normal(len(shape))).astype(np.float32), SAMPLE_RATE) for shape in shapes]


def test_the_ctc_head_of_a_tokenizer(letters: VqWhisperTokenizer, tmp_path: Path) -> None:
    letters.save_pretrained(tmp_path / "units")
    recognizer = load_recognizer(f"ctc:{tmp_path / 'units'}")
    spoken = noises(16_000, 90_000, 0, 31_000)
    heard = recognizer(spoken)
    for speech, text in zip(spoken, heard, strict=True):
        assert recognizer([speech]) == [text]
    parts = pieces_of(spoken[1].wave, 32_000)
    assert len(parts) > 2
    read = [letters.transcribe(letters.encode(part, SAMPLE_RATE).semantic.values) for part in parts]
    assert heard[1] == " ".join(filter(None, read)) and any(read) and heard[2] == ""
    torch.nn.init.normal_(letters.model.ctc.weight)
    letters.save_pretrained(tmp_path / "other")
    assert load_recognizer(f"ctc:{tmp_path / 'other'}").name != recognizer.name


def test_tokenizers_that_cannot_read(tmp_path: Path) -> None:
    MfccKmeansTokenizer(np.zeros((5, FEATURES), np.float32)).save_pretrained(tmp_path / "mfcc")
    with pytest.raises(InputError, match=r"mfcc: expected a VQ-Whisper tokenizer with a CTC head"):
        load_recognizer(f"ctc:{tmp_path / 'mfcc'}")


@pytest.fixture(scope="module", params=[True, False], ids=["multilingual", "English"])
def whisper(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Whisper of random weights that writes letters, in windows of 2 s."""
    torch.manual_seed(0)
    control = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>"]
    words = [*"abcdefghijklmnopqrstuvwxyz", "Ġ"]
    ids = {word: number for number, word in enumerate([*words, *control])}
    config = WhisperConfig(
        vocab_size=len(ids), num_mel_bins=80, d_model=16, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=32,
        encoder_attention_heads=2, decoder_attention_heads=2, decoder_ffn_dim=32, max_source_positions=100,
        max_target_positions=40, init_std=1.0, pad_token_id=ids[control[0]], bos_token_id=ids[control[0]],
        eos_token_id=ids[control[0]], decoder_start_token_id=ids[control[1]],
    )  # fmt: skip
    model = WhisperForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        pad_token_id=ids[control[0]], bos_token_id=ids[control[0]], eos_token_id=ids[control[0]], max_length=12,
        decoder_start_token_id=ids[control[1]], no_timestamps_token_id=ids[control[4]], is_multilingual=request.param,
        suppress_tokens=[ids[name] for name in control[1:]],
        **({"lang_to_id": {control[2]: ids[control[2]]}, "task_to_id": {"transcribe": ids[control[3]]}} if request.param
           else {}),
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("whisper")
    model.save_pretrained(folder)
    tokenizer = WhisperTokenizer(vocab=ids, merges=[])
    tokenizer.add_special_tokens({"additional_special_tokens": control[1:]})
    WhisperProcessor(WhisperFeatureExtractor(chunk_length=2), tokenizer).save_pretrained(folder)
    return folder


def test_a_whisper_folder(whisper: Path) -> None:
    recognizer = load_recognizer(f"whisper:{whisper}")
    assert re.fullmatch(r"whisper [0-9a-f]{12}", recognizer.name)
    spoken = noises(16_000, 70_000, 0, *[9_000] * 20)
    heard = recognizer(spoken)
    assert len(heard) == len(spoken) and heard[0] and heard[2] == "" and len(set(heard)) > 2
    for number in (0, 1, 7, -1):
        assert recognizer([spoken[number]]) == [heard[number]]
    parts = [Speech(part, SAMPLE_RATE) for part in pieces_of(spoken[1].wave, 32_000)]
    assert len(parts) > 2 and heard[1] == " ".join(recognizer(parts))


def test_folders_of_no_whisper(whisper: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config\.json: No such file"):
        load_recognizer(f"whisper:{tmp_path}")
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(InputError, match=r"config\.json: model_type is 'llama', expected 'whisper'"):
        load_recognizer(f"whisper:{tmp_path}")
    (tmp_path / "config.json").write_bytes((whisper / "config.json").read_bytes())
    with pytest.raises(InputError, match="expected a whole Whisper folder"):
        load_recognizer(f"whisper:{tmp_path}")
