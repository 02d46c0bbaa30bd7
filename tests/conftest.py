import io

import pytest
import sentencepiece

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
    return Vocabulary(text_model, semantic_units=50)
