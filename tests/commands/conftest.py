import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from spiritlm.audio.files import write_wav
from spiritlm.cli import main
from spiritlm.synthesis.regression import ModelShape, RegressionConfig, RegressionDecoder, UnitToMel
from spiritlm.tokens.layout import spirit
from spiritlm.tokens.text import SentencePieceText
from spiritlm.tokens.vocabulary import Vocabulary
from spiritlm.units.mfcc import FEATURES, MfccKmeansTokenizer

RATE = 16_000


@pytest.fixture(scope="session")
def exported(text_model: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of random weights that hears, speaks as `a` or `b`, and has markers of tasks."""
    torch.manual_seed(0)
    text = SentencePieceText(text_model)
    vocabulary = Vocabulary(text, spirit(text.size, {"semantic": 50}, text.bos, text.eos, tasks=("[ASR]", "[TTS]")))
    folder: Path = tmp_path_factory.mktemp("exported")
    llama = LlamaConfig(
        vocab_size=vocabulary.padded_size, hidden_size=32, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=256, initializer_range=0.1,
    )  # fmt: skip
    LlamaForCausalLM(llama).save_pretrained(folder)
    vocabulary.save(folder)
    ears = MfccKmeansTokenizer(np.random.default_rng(0).normal(size=(50, FEATURES)).astype(np.float32))
    ears.save_pretrained(folder / "speech_tokenizer")
    config = RegressionConfig(
        vocabulary_size=50, speakers=("a", "b"), frames_per_unit=4,
        shape=ModelShape(width=16, unit_blocks=1, frame_blocks=1),
    )  # fmt: skip
    RegressionDecoder(UnitToMel(config), config).save_pretrained(folder / "voice")
    return folder


@pytest.fixture(scope="session")
def story(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second of noise."""
    path: Path = tmp_path_factory.mktemp("story") / "story.wav"
    write_wav(path, np.random.default_rng(0).uniform(-0.5, 0.5, RATE).astype(np.float32), RATE)
    return path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """The command with its arguments -> exit status, what it printed, what it complained of."""

    def command(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return command


@pytest.fixture(scope="session")
def rows_of() -> Callable[[str], list[dict]]:
    return lambda text: [json.loads(line) for line in text.splitlines()]
