import io

import pytest
import sentencepiece

from spiritlm.tokens.layout import spirit
from spiritlm.tokens.text import SentencePieceText
from spiritlm.tokens.vocabulary import Vocabulary

SENTENCES = (
    "Tom went to the lake with his mother.",
    "He wanted to catch a big fish.",
    "The rain came soon and Tom was sad.",
)


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
