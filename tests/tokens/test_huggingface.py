from pathlib import Path

import pytest
from transformers import AutoTokenizer

from spiritlm.tokens.huggingface import save_huggingface_tokenizer
from spiritlm.tokens.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def tokenizer(vocabulary: Vocabulary, tmp_path_factory: pytest.TempPathFactory):
    folder: Path = tmp_path_factory.mktemp("tokenizer")
    save_huggingface_tokenizer(vocabulary, folder)
    return AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("text", ["Tom went to the lake.", "Zoë ate 3 fish!", "  two  spaces ", "a\tb", "fish"])
def test_text_has_the_same_ids(tokenizer, vocabulary: Vocabulary, text: str) -> None:
    ids = tokenizer(text)["input_ids"]
    assert ids == [vocabulary.bos, *vocabulary.encode_text(text)]
    assert tokenizer.decode(ids[1:]) == vocabulary.decode_text(ids[1:])


def test_every_unit_and_marker_has_the_same_id(tokenizer, vocabulary: Vocabulary) -> None:
    for id in range(vocabulary.text_size, vocabulary.size):
        assert tokenizer.convert_tokens_to_ids(vocabulary.token(id)) == id


def test_a_mixed_stream(tokenizer, vocabulary: Vocabulary) -> None:
    v, hu = vocabulary, vocabulary.semantic.start
    expected = [v.bos, v.text_marker, *v.encode_text("Tom went"), v.speech_marker, hu + 3, hu + 49]
    expected += [v.text_marker, *v.encode_text("the lake"), v.eos]
    assert tokenizer("[Text]Tom went [Speech][Hu3][Hu49][Text]the lake</s>")["input_ids"] == expected
