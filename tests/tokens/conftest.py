"""Text tokenizers of every kind, each trained in a moment on a few sentences."""

import io

import pytest
import sentencepiece
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from spiritlm.tokens.text import HuggingFaceText, SentencePieceText, TextTokenizer

SENTENCES = [
    "Tom went to the lake with his mother.",
    "He wanted to catch a big fish.",
    "The rain came soon and Tom was sad.",
] * 20
TOKENIZERS = ("unigram", "bpe", "byte-level", "metaspace")


def sentencepiece_text(kind: str, size: int) -> SentencePieceText:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES), model_writer=model, model_type=kind, vocab_size=size, hard_vocab_limit=False,
        byte_fallback=True, character_coverage=1.0, normalization_rule_name="identity", minloglevel=2,
    )  # fmt: skip
    return SentencePieceText(model.getvalue())


def byte_level_tokenizer() -> Tokenizer:
    """As of GPT-2, Qwen and GLM-4: no space is put before the text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=330, special_tokens=["<|end|>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return tokenizer


def metaspace_tokenizer() -> Tokenizer:
    """As of Llama 2: the tokenizer itself puts a space before the text."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=330, special_tokens=["<unk>", "<s>", "</s>", *bytes_], max_token_length=4, show_progress=False
    )
    words = sorted({f"▁{word}" for sentence in SENTENCES for word in sentence.split()})
    bare = Tokenizer(tokenizer.model)
    bare.train_from_iterator(words, trainer)
    tokenizer.model = bare.model
    return tokenizer


@pytest.fixture(scope="session")
def texts() -> dict[str, TextTokenizer]:
    return {
        "unigram": sentencepiece_text("unigram", 400),
        "bpe": sentencepiece_text("bpe", 330),
        "byte-level": HuggingFaceText(byte_level_tokenizer().to_str().encode(), "<|end|>", "<|end|>"),
        "metaspace": HuggingFaceText(metaspace_tokenizer().to_str().encode(), "<s>", "</s>"),
    }


@pytest.fixture(params=TOKENIZERS)
def text(request: pytest.FixtureRequest, texts: dict[str, TextTokenizer]) -> TextTokenizer:
    """Each kind of text tokenizer in turn."""
    return texts[request.param]
