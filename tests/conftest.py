import io
import random
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
import torch
from hypothesis import settings

from spiritlm.audio.files import write_wav
from spiritlm.corpus.manifest import Sentence, SpokenDocument, Word, write_manifest
from spiritlm.run.files import write_json
from spiritlm.smallworld.voices import SAMPLE_RATE, speak
from spiritlm.tokens.layout import spirit
from spiritlm.tokens.text import SentencePieceText, save_text_tokenizer
from spiritlm.tokens.vocabulary import Vocabulary
from spiritlm.units.mfcc import fit_mfcc_kmeans

settings.register_profile("unhurried", deadline=None)  # the first call of a numba function compiles it
settings.load_profile("unhurried")

SENTENCES = (
    "Tom went to the lake with his mother.",
    "He wanted to catch a big fish.",
    "The rain came soon and Tom was sad.",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take minutes come first: the last one is waited for by all workers but its own."""
    items.sort(key=lambda item: "launch" not in item.path.parts)


@pytest.fixture(autouse=True)
def _denormal_numbers() -> None:
    """Trainings flush them, in the tests' process too, where hypothesis then refuses to draw floats."""
    torch.set_flush_denormal(False)


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """Gives a port that nobody listens on, each once; of those that connections are never given by themselves."""
    ports = list(range(10_000, 16_000))
    random.SystemRandom().shuffle(ports)

    def choose() -> int:
        while True:
            port = ports.pop()
            with suppress(OSError), socket.create_server(("127.0.0.1", port)):
                return port

    return choose


@pytest.fixture(scope="session")
def text_model() -> bytes:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 20), model_writer=model, vocab_size=400, hard_vocab_limit=False,
        byte_fallback=True, character_coverage=1.0, normalization_rule_name="identity", minloglevel=2,
    )  # fmt: skip
    return model.getvalue()


@pytest.fixture(scope="session")
def vocabulary(text_model: bytes) -> Vocabulary:
    """Text, markers and 50 semantic units."""
    text = SentencePieceText(text_model)
    return Vocabulary(text, spirit(text.size, {"semantic": 50}, text.bos, text.eos))


@pytest.fixture(scope="session")
def expressive_vocabulary(text_model: bytes) -> Vocabulary:
    """Text, markers, 50 semantic, 8 pitch and 10 style units."""
    text = SentencePieceText(text_model)
    return Vocabulary(text, spirit(text.size, {"semantic": 50, "pitch": 8, "style": 10}, text.bos, text.eos))


@pytest.fixture(scope="session")
def stages(text_model: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Finished `speech`, `units` and `text` stages of synthesized recordings: 5 train, 2 dev, 1 test."""
    root: Path = tmp_path_factory.mktemp("stages")
    waves = []
    for split, count in {"train": 5, "dev": 2, "test": 1}.items():
        documents = []
        for number in range(count):
            wave, sentences = _tell(
                SENTENCES[number % 3 :] + SENTENCES[: number % 2], f"espeak:en-us+f{number % 3 + 1}"
            )
            path = Path("wav") / split / f"{split}-{number}.wav"
            (root / "speech" / path).parent.mkdir(parents=True, exist_ok=True)
            write_wav(root / "speech" / path, wave, SAMPLE_RATE)
            seconds = len(wave) / SAMPLE_RATE
            documents.append(SpokenDocument(path.stem, path, seconds, SAMPLE_RATE, f"f{number % 3 + 1}", sentences))
            waves.append(wave)
        write_manifest(root / "speech", split, documents)
    fit_mfcc_kmeans(waves, clusters=20, seed=0).save_pretrained(root / "units" / "model")
    (root / "text").mkdir()
    save_text_tokenizer(SentencePieceText(text_model), root / "text")
    for stage in ("speech", "units", "text"):
        write_json(root / stage / "stage.json", {"stage": stage, "fingerprint": stage, "recipe": {}, "inputs": {}})
    return root


def _tell(texts: Sequence[str], voice: str) -> tuple[np.ndarray, tuple[Sentence, ...]]:
    """Sentences one after the other with pauses of a fifth of a second."""
    pieces, sentences, at = [], [], 0
    for text in texts:
        spoken = speak(text, voice, "happy")
        start = at / SAMPLE_RATE
        words = [Word(w.text, round(start + w.start, 4), round(start + w.end, 4)) for w in spoken.words]
        sentences.append(Sentence.of_words(words))
        pieces += [spoken.wave, np.zeros(SAMPLE_RATE // 5, np.float32)]
        at += len(spoken.wave) + SAMPLE_RATE // 5
    return np.concatenate(pieces), tuple(sentences)
