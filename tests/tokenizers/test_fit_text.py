"""The program `tokenizers/fit_text.py`."""

from pathlib import Path
from subprocess import CompletedProcess

import pytest
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer

from spiritlm.run.files import read_json, write_json
from spiritlm.tokens.text import load_text_tokenizer

from ..programs import run_here

REPO = Path(__file__).resolve().parents[2]
TEXT = "Tom went to the lake with his mother."


def fit_text(stages: Path, out: Path, *overrides: str) -> CompletedProcess[str]:
    recipe = REPO / "tokenizers/recipes/text-tiny.toml"
    return run_here(REPO / "tokenizers/fit_text.py", recipe, f"speech={stages}/speech", f"out={out}", *overrides)


@pytest.fixture
def pretrained(tmp_path: Path) -> Path:
    """A model folder with a byte-level tokenizer, as Qwen's."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = ByteLevel(add_prefix_space=False), ByteLevelDecoder()
    special = ["<|endoftext|>", "<|im_start|>"]
    alphabet = ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        [TEXT] * 9, BpeTrainer(vocab_size=300, initial_alphabet=alphabet, special_tokens=special)
    )
    (tmp_path / "qwen").mkdir()
    tokenizer.save(str(tmp_path / "qwen/tokenizer.json"))
    write_json(tmp_path / "qwen/tokenizer_config.json", {"bos_token": None, "eos_token": "<|endoftext|>"})
    return tmp_path / "qwen"


def test_a_sentencepiece_model_of_the_training_texts(stages: Path, tmp_path: Path) -> None:
    done = fit_text(stages, tmp_path / "text", "vocabulary_size=330")
    assert done.returncode == 0, done.stderr
    text, counts = load_text_tokenizer(tmp_path / "text"), read_json(tmp_path / "text/stage.json")["counts"]
    assert (text.kind, counts["texts"], counts["pieces"]) == ("sentencepiece", 5, text.size)
    assert text.size <= 330
    for written in (TEXT, "ßxyz 42"):
        assert text.decode(text.encode(written)) == written


def test_a_pretrained_tokenizer_is_taken_as_it_is(stages: Path, pretrained: Path, tmp_path: Path) -> None:
    done = fit_text(stages, tmp_path / "text", f"from_pretrained={pretrained}")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "text/text.json").read_bytes() == (pretrained / "tokenizer.json").read_bytes()
    text = load_text_tokenizer(tmp_path / "text")
    assert text.kind == "huggingface"
    assert text.token(text.bos) == text.token(text.eos) == "<|endoftext|>"
    assert text.decode(text.encode(TEXT)) == TEXT


def test_a_folder_without_a_tokenizer_is_refused(stages: Path, pretrained: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    write_json(pretrained / "tokenizer_config.json", {"bos_token": "<|endoftext|>"})
    for folder, said in ((tmp_path / "empty", "tokenizer.model: No such file"), (pretrained, "has no eos_token")):
        done = fit_text(stages, tmp_path / "text", f"from_pretrained={folder}")
        assert done.returncode == 2
        assert said in done.stderr
        assert done.stderr.count("\n") == 1
        assert not (tmp_path / "text").exists()
