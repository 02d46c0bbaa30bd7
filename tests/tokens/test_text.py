import io
import json
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from spiritlm.errors import InputError
from spiritlm.tokens.text import (
    HuggingFaceText,
    SentencePieceText,
    TextTokenizer,
    load_text_tokenizer,
    read_text_tokenizer,
    save_text_tokenizer,
    words_to_ids,
)

WORDS = st.lists(st.text("Tomthelkwns.fish,'Zë日\U0001f41f3", min_size=1, max_size=8), max_size=12)
KINDS = st.sampled_from(["unigram", "bpe", "byte-level", "metaspace"])


def pieces(text: TextTokenizer, ids: list[int]) -> list[str]:
    return [text.token(id) for id in ids]


@given(KINDS, WORDS)
def test_text_comes_back(texts: dict[str, TextTokenizer], kind: str, words: list[str]) -> None:
    text = texts[kind]
    ids = text.encode(" ".join(words))
    assert text.decode(ids) == " ".join(words)
    assert not {text.bos, text.eos} & set(ids)
    assert all(0 <= id < text.size for id in ids)


@given(KINDS, WORDS, st.sampled_from(["  ", "\n", "\t ", "\u3000"]))
def test_words_have_the_ids_of_the_joined_text(
    texts: dict[str, TextTokenizer], kind: str, words: list[str], between: str
) -> None:
    text = texts[kind]
    ids, starts = words_to_ids(words, text)
    assert ids == text.encode(" ".join(words)) == text.encode(f"{between}{between.join(words)}{between}")
    assert [ids[start:end] for start, end in pairwise(starts)] == [text.encode(word) for word in words]
    assert (starts[0], starts[-1], len(starts)) == (0, len(ids), len(words) + 1)


def test_a_word_is_encoded_as_after_a_space(text: TextTokenizer) -> None:
    """No matter whether the tokenizer puts a space before the text by itself."""
    after = text.encode_document("Tom went")
    assert text.encode("Tom went")[-len(text.encode("went")) :] == after[-len(text.encode("went")) :]
    assert text.encode("went went") == 2 * text.encode("went")
    assert pieces(text, text.encode("Tom"))[0][0] in "Ġ▁"
    assert pieces(text, text.encode("Tom"))[0:2] != ["▁", "▁T"]


def test_no_words_have_no_ids(text: TextTokenizer) -> None:
    assert text.encode("") == text.encode(" \n") == text.encode_document("") == []
    assert words_to_ids([], text) == ([], [0])
    assert words_to_ids(["", "a"], text)[1][:2] == [0, 0]


def test_running_text_keeps_its_line_breaks(text: TextTokenizer) -> None:
    running = "Tom went.\n\nHe was sad."
    assert text.decode(text.encode_document(running)) == running
    assert text.decode(text.encode(running)) == "Tom went. He was sad."


def test_control_tokens_in_a_text_are_only_text(text: TextTokenizer) -> None:
    for name in (text.token(text.bos), text.token(text.eos)):
        for encode in (text.encode, text.encode_document):
            ids = encode(f"Tom {name} went")
            assert not {text.bos, text.eos} & set(ids)
            assert text.decode(ids) == f"Tom {name} went"


def test_documents_begin_and_end(texts: dict[str, TextTokenizer]) -> None:
    for kind in ("unigram", "bpe", "metaspace"):
        assert pieces(texts[kind], [texts[kind].bos, texts[kind].eos]) == ["<s>", "</s>"]
    assert pieces(texts["byte-level"], [texts["byte-level"].bos]) == ["<|end|>"]


def test_saved_and_loaded(text: TextTokenizer, tmp_path: Path) -> None:
    save_text_tokenizer(text, tmp_path)
    loaded = load_text_tokenizer(tmp_path)
    assert type(loaded) is type(text)
    assert (loaded.sha256, loaded.size, loaded.bos, loaded.eos) == (text.sha256, text.size, text.bos, text.eos)
    assert loaded.data == text.data
    assert loaded.encode("Tom went to sea.") == text.encode("Tom went to sea.")


def shuffled(value: Any, rng: random.Random) -> Any:
    """The same JSON with the keys of every object in another order."""
    if isinstance(value, dict):
        items = list(value.items())
        rng.shuffle(items)
        return {key: shuffled(inner, rng) for key, inner in items}
    return [shuffled(inner, rng) for inner in value] if isinstance(value, list) else value


@pytest.mark.parametrize("kind", ["byte-level", "metaspace"])
def test_the_order_of_keys_in_the_file_changes_nothing(texts: dict[str, TextTokenizer], kind: str) -> None:
    text = texts[kind]
    data = json.dumps(shuffled(json.loads(text.data), random.Random(0)), indent=1).encode()
    other = HuggingFaceText(data, text.token(text.bos), text.token(text.eos))
    assert data != text.data
    assert (other.sha256, other.size, other.bos, other.eos) == (text.sha256, text.size, text.bos, text.eos)
    assert other.encode("Tom went to the lake.") == text.encode("Tom went to the lake.")


def test_the_order_of_merges_is_another_tokenizer(texts: dict[str, TextTokenizer]) -> None:
    data = json.loads(texts["byte-level"].data)
    data["model"]["merges"].reverse()
    assert HuggingFaceText(json.dumps(data).encode(), "<|end|>", "<|end|>").sha256 != texts["byte-level"].sha256


def test_ids_that_the_file_leaves_out_count(texts: dict[str, TextTokenizer]) -> None:
    """Some published tokenizers have holes between their ids: new ids begin after the last one."""
    data = json.loads(texts["byte-level"].data)
    data["added_tokens"].append({**data["added_tokens"][0], "id": 400, "content": "<|far|>"})
    data["model"]["vocab"]["<|far|>"] = 400
    assert HuggingFaceText(json.dumps(data).encode(), "<|end|>", "<|end|>").size == 401


def write_folder(folder: Path, tokenizer: bytes, **config: Any) -> None:
    (folder / "tokenizer.json").write_bytes(tokenizer)
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def test_a_model_folder_says_how_documents_begin_and_end(texts: dict[str, TextTokenizer], tmp_path: Path) -> None:
    write_folder(tmp_path, texts["metaspace"].data, bos_token="<s>", eos_token={"content": "</s>", "lstrip": False})
    found = read_text_tokenizer(tmp_path)
    assert pieces(found, [found.bos, found.eos]) == ["<s>", "</s>"]


@pytest.mark.parametrize("bos", [{}, {"bos_token": None}])
def test_documents_begin_with_the_end_token_where_there_is_no_other(
    texts: dict[str, TextTokenizer], tmp_path: Path, bos: dict[str, Any]
) -> None:
    write_folder(tmp_path, texts["byte-level"].data, eos_token="<|end|>", **bos)
    found = read_text_tokenizer(tmp_path)
    assert pieces(found, [found.bos, found.eos]) == ["<|end|>"] * 2


def test_a_sentencepiece_model_is_read_where_there_is_nothing_else(
    texts: dict[str, TextTokenizer], tmp_path: Path
) -> None:
    (tmp_path / "tokenizer.model").write_bytes(texts["unigram"].data)
    assert read_text_tokenizer(tmp_path).kind == "sentencepiece"
    write_folder(tmp_path, texts["byte-level"].data, eos_token="<|end|>")
    assert read_text_tokenizer(tmp_path).kind == "huggingface"


def test_folders_without_a_tokenizer_are_refused(texts: dict[str, TextTokenizer], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"tokenizer\.model: No such file"):
        read_text_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes(texts["byte-level"].data)
    with pytest.raises(InputError, match=r"tokenizer_config\.json: No such file"):
        read_text_tokenizer(tmp_path)
    write_folder(tmp_path, texts["byte-level"].data, bos_token="<|end|>")
    with pytest.raises(InputError, match="has no eos_token"):
        read_text_tokenizer(tmp_path)
    write_folder(tmp_path, texts["byte-level"].data, eos_token="</s>")
    with pytest.raises(InputError, match="has no token '</s>'"):
        read_text_tokenizer(tmp_path)
    write_folder(tmp_path, b'{"model": 3}', eos_token="</s>")
    with pytest.raises(InputError, match="not a Hugging Face fast tokenizer"):
        read_text_tokenizer(tmp_path)


@pytest.mark.parametrize("data", [b"", b"no", bytes(range(256))])
def test_files_that_are_no_tokenizers_are_refused(data: bytes) -> None:
    with pytest.raises(InputError, match=r"^text\.model"):
        SentencePieceText(data)
    with pytest.raises(InputError, match="not a Hugging Face fast tokenizer"):
        HuggingFaceText(data, "<s>", "</s>")


def test_a_sentencepiece_model_that_ends_no_documents_is_refused() -> None:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["Tom went"]), model_writer=model, vocab_size=20, hard_vocab_limit=False, eos_id=-1,
        minloglevel=2,
    )  # fmt: skip
    with pytest.raises(InputError, match="begin and end documents"):
        SentencePieceText(model.getvalue())


@pytest.mark.parametrize(
    ("said", "problem"), [({"kind": "tiktoken"}, "kind 'tiktoken', expected"), ({}, "kind None, expected")]
)
def test_an_unknown_kind_is_refused(tmp_path: Path, said: dict[str, str], problem: str) -> None:
    (tmp_path / "text-tokenizer.json").write_text(json.dumps(said))
    with pytest.raises(InputError, match=problem):
        load_text_tokenizer(tmp_path)


def test_the_library_agrees_with_the_tokenizer_it_was_made_from(texts: dict[str, TextTokenizer]) -> None:
    tokenizer = Tokenizer.from_str(texts["byte-level"].data.decode())
    ids = tokenizer.encode(" Tom went to the lake.", add_special_tokens=False).ids
    assert texts["byte-level"].encode("Tom went to the lake.") == ids
