"""The example of a model of someone else, in docs/evals-model.md, as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast

from spiritlm.audio.files import write_wav
from spiritlm.errors import InputError
from spiritlm.inference.request import Speech, greedy
from spiritlm.scoring.protocol import Question, Request, Sound, SpeechTextModel
from spiritlm.scoring.resumable import resumable_scores

PAGE = Path(__file__).resolve().parents[2] / "docs" / "evals-model.md"
WORDS = ["<s>", "</s>", "<unk>", "Tom", "was", "sad", "happy", "the", "rain", "came", "soon", "."]
UNITS, FRAME = 30, 320


def units(wave: np.ndarray) -> np.ndarray:
    """Loudness of pieces of 20 ms."""
    frames = wave[: len(wave) // FRAME * FRAME].reshape(-1, FRAME)
    return np.minimum(UNITS - 1, (UNITS * np.abs(frames).max(axis=1))).astype(np.int64)


def voice(units: np.ndarray) -> np.ndarray:
    return np.repeat(units.astype(np.float32) / UNITS, FRAME)


def blocks() -> list[str]:
    """Of code on the page."""
    found: list[str] = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stranger") / "folder"


@pytest.fixture(scope="module")
def model(folder: Path) -> SpeechTextModel:
    words = Tokenizer(WordLevel({word: id for id, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    shape = GPTNeoXConfig(
        vocab_size=len(WORDS) + UNITS, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=48, max_position_embeddings=256, initializer_range=0.1, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    GPTNeoXForCausalLM(shape).save_pretrained(folder)
    code = blocks()[0]
    assert sum(bool(line.strip()) for line in code.splitlines()) <= 22
    names: dict = {}
    exec(compile(code, PAGE, "exec"), names)
    found: SpeechTextModel = names["MyModel"](folder, units, voice)
    return found


def test_it_is_scored_like_any_other(model: SpeechTextModel, tmp_path: Path) -> None:
    wave = np.random.default_rng(0).uniform(-1, 1, 16000).astype(np.float32)
    write_wav(tmp_path / "story.wav", wave, 16000)
    story = Sound("story", tmp_path / "story.wav")
    spoken = Sound("ending", (tmp_path / "story.wav").read_bytes())
    requests = {
        "S>T": Request((story,), ("Tom was sad.",)),
        "T>T": Request(("the rain came soon.",), ("Tom was happy.",)),
        "T>S": Request(("the rain came soon.",), (spoken,)),
        "whole": Request((), (story, "Tom was sad.")),
    }
    scores = resumable_scores(model, requests, tmp_path / "scores", {"name": "all"})
    heard = (len(WORDS) + units(story.read(16000))).tolist()
    said = {"Tom was sad.": [3, 4, 5, 11], "Tom was happy.": [3, 4, 6, 11], "the rain came soon.": [7, 8, 9, 10, 11]}
    for key, request in requests.items():
        parts = [[heard if isinstance(piece, Sound) else said[piece] for piece in part] for part in request]
        prompt, continuation = ([id for piece in part for id in piece] for part in parts)
        ids = torch.tensor([[0, *prompt, *continuation]])
        with torch.inference_mode():
            log_p = model.model(input_ids=ids).logits[0].double().log_softmax(-1)  # type: ignore[attr-defined]
        expected = log_p[len(prompt) : -1].gather(1, ids[0, len(prompt) + 1 :, None]).sum()
        assert scores[key].tokens == len(continuation)
        assert scores[key].total / scores[key].tokens == pytest.approx(float(expected) / len(continuation), abs=1e-6)
    answers = model.generate([Question((story,), "text", greedy(5)), Question(("Tom was sad.",), "speech", greedy(7))])
    assert isinstance(answers[0], str)
    assert isinstance(answers[1], Speech)
    assert len(answers[1].wave) <= 7 * FRAME


def test_its_figures(model: SpeechTextModel, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    stories = folder.parent / "ROOT" / "storycloze"
    stories.mkdir(parents=True)
    for seed, (part, text) in enumerate({"mutual": "the rain", "correct": "came soon.", "incorrect": "Tom."}.items()):
        (stories / f"a_{part}.txt").write_text(text)
        write_wav(stories / f"a_{part}.wav", np.random.default_rng(seed).uniform(-1, 1, 4000), 16000)
    names: dict = {"MyModel": type(model), "units": units, "voice": voice}
    exec(compile(blocks()[1], PAGE, "exec"), names)
    assert len(names["figures"]) == 8
    assert (folder.parent / "out" / "items" / "storycloze_S_T_whole.jsonl").is_file()


def test_a_sound_that_is_none_is_called_by_its_name(model: SpeechTextModel) -> None:
    with pytest.raises(InputError, match=r"^row 3: expected an audio file, but it cannot be read"):
        model.loglikelihood([Request((Sound("row 3", b"none"),), ("Tom",))])
