import io
import json
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from spiritlm.errors import InputError
from spiritlm.tokens.huggingface import save_huggingface_tokenizer
from spiritlm.tokens.layout import Block, Layout, Wrap, spirit
from spiritlm.tokens.text import HuggingFaceText, SentencePieceText, TextTokenizer
from spiritlm.tokens.vocabulary import Vocabulary

from_pieces = pytest.mark.parametrize("kind", ["unigram", "bpe"])
TEXTS = [
    "Tom went to the lake.",
    "Zoë ate 3 fish!",
    "  two  spaces ",
    "a\tb\nc",
    "fish",
    "",
    "日本 語\U0001f41f",
    "'s ,",
]


@pytest.fixture(scope="session")
def saved(
    texts: dict[str, TextTokenizer], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Vocabulary, Any]]:
    """Vocabularies over every kind of text tokenizer, and what transformers reads of them."""
    found = {}
    for kind, text in texts.items():
        layout = spirit(text.size, {"semantic": 120, "pitch": 8, "style": 10}, text.bos, text.eos, ("[ASR]",))
        vocabulary, folder = Vocabulary(text, layout), tmp_path_factory.mktemp(kind)
        save_huggingface_tokenizer(vocabulary, folder)
        found[kind] = vocabulary, AutoTokenizer.from_pretrained(folder)
    return found


@pytest.fixture(params=["unigram", "bpe", "byte-level", "metaspace"])
def pair(request: pytest.FixtureRequest, saved: dict[str, tuple[Vocabulary, Any]]) -> tuple[Vocabulary, Any]:
    return saved[request.param]


def test_every_id_has_the_same_name(pair: tuple[Vocabulary, Any]) -> None:
    vocabulary, tokenizer = pair
    names = [vocabulary.token(id) for id in range(vocabulary.size)]
    assert tokenizer.convert_ids_to_tokens(range(vocabulary.size)) == names
    assert tokenizer.convert_tokens_to_ids(names) == list(range(vocabulary.size))
    assert len(tokenizer) == vocabulary.size


def test_control_tokens(pair: tuple[Vocabulary, Any]) -> None:
    vocabulary, tokenizer = pair
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (vocabulary.bos, vocabulary.eos)
    assert tokenizer.pad_token_id == vocabulary.eos
    assert set(tokenizer.all_special_ids) <= {vocabulary.bos, vocabulary.eos, 0}
    assert tokenizer("")["input_ids"] == [vocabulary.bos]


@from_pieces
@pytest.mark.parametrize("text", TEXTS)
def test_text_has_the_same_ids(saved: dict[str, tuple[Vocabulary, Any]], kind: str, text: str) -> None:
    vocabulary, tokenizer = saved[kind]
    ids = tokenizer(text)["input_ids"]
    assert ids == [vocabulary.bos, *vocabulary.text.encode_document(text)]
    assert tokenizer.decode(ids[1:]) == vocabulary.decode_text(ids[1:])
    assert tokenizer(" ".join(text.split()))["input_ids"] == [vocabulary.bos, *vocabulary.encode_text(text)]


@given(st.sampled_from(["unigram", "bpe"]), st.text("Tomthelkwns.fish,'Zë日\n [] ", max_size=60))
def test_any_text_has_the_same_ids(saved: dict[str, tuple[Vocabulary, Any]], kind: str, text: str) -> None:
    vocabulary, tokenizer = saved[kind]
    assert tokenizer(text)["input_ids"] == [vocabulary.bos, *vocabulary.text.encode_document(text)]


def test_a_model_that_normalizes_text_is_not_exported(tmp_path: Path) -> None:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["the fine fish"] * 50), model_writer=model, vocab_size=290, hard_vocab_limit=False,
        byte_fallback=True, normalization_rule_name="nmt_nfkc", minloglevel=2,
    )  # fmt: skip
    text = SentencePieceText(model.getvalue())
    with pytest.raises(InputError, match="without its own normalization"):
        save_huggingface_tokenizer(Vocabulary(text, spirit(text.size, {"semantic": 9}, text.bos, text.eos)), tmp_path)


@pytest.mark.parametrize("kind", ["byte-level", "metaspace"])
@pytest.mark.parametrize("text", TEXTS)
def test_a_fast_tokenizer_reads_running_text_as_it_did(
    saved: dict[str, tuple[Vocabulary, Any]], kind: str, text: str
) -> None:
    vocabulary, tokenizer = saved[kind]
    ids = tokenizer(text)["input_ids"]
    assert ids == [vocabulary.bos, *vocabulary.text.encode_document(text)]
    assert tokenizer.decode(ids[1:]) == text


def test_words_after_a_space_have_the_ids_of_words(saved: dict[str, tuple[Vocabulary, Any]]) -> None:
    vocabulary, tokenizer = saved["byte-level"]
    for text in ("Tom went to the lake.", "Zoë ate 3 fish!", "日本 語"):
        assert tokenizer(f" {text}")["input_ids"] == [vocabulary.bos, *vocabulary.encode_text(text)]


def test_a_stream_of_text_and_units(pair: tuple[Vocabulary, Any]) -> None:
    v, tokenizer = pair
    named = ["[Text]", "[Speech]", "[Hu3]", "[Hu119]", "[Pi7]", "[St9]", "[ASR]"]
    to_text, to_speech, hu3, hu119, pi7, st9, asr = (
        next(id for id in range(v.size) if v.token(id) == name) for name in named
    )
    byte_level = v.text.token(v.text.encode("went")[0])[0] == "Ġ"
    space = " " if byte_level else ""
    ids = tokenizer(
        f"[Speech][St9][Pi7][Hu3][Hu119][Text]{space}Tom went[Speech][Hu3][ASR]{space}the lake{v.token(v.eos)}"
    )["input_ids"]
    expected = [v.bos, to_speech, st9, pi7, hu3, hu119, to_text, *v.encode_text("Tom went"), to_speech, hu3, asr]
    assert ids == [*expected, *v.encode_text("the lake"), v.eos]


@from_pieces
def test_spaces_around_markers_do_not_matter(saved: dict[str, tuple[Vocabulary, Any]], kind: str) -> None:
    _, tokenizer = saved[kind]
    close = tokenizer("[Text]Tom went[Speech][Hu3][Text]the lake")["input_ids"]
    assert tokenizer("[Text] Tom  went [Speech][Hu3][Text] the lake ")["input_ids"] == close


def test_other_layouts_keep_their_ids(texts: dict[str, TextTokenizer], tmp_path: Path) -> None:
    """Ids between the blocks that mean nothing, and documents that begin with a marker, as of GLM-4-Voice."""
    text = texts["byte-level"]
    markers = {"<eod>": 400, "<sop>": 403, "<a>": 404, "</a>": 405}
    layout = Layout(
        text.size, markers, (Block("semantic", "<|audio_{}|>", 500, 9),), Wrap(), Wrap("<a>", "</a>"), 403, 400, 8
    )
    vocabulary = Vocabulary(text, layout)
    save_huggingface_tokenizer(vocabulary, tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.convert_tokens_to_ids([*markers, "<|audio_0|>", "<|audio_8|>"]) == [*markers.values(), 500, 508]
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (403, 400)
    assert tokenizer("<a><|audio_8|></a> Tom")["input_ids"] == [403, 404, 508, 405, *vocabulary.encode_text("Tom")]
    ids = [403, 404, 508, 405, *vocabulary.encode_text("Tom"), 400]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "<a><|audio_8|></a> Tom"


def test_a_tokenizer_with_holes_between_its_ids(texts: dict[str, TextTokenizer], tmp_path: Path) -> None:
    data = json.loads(texts["byte-level"].data)
    data["added_tokens"].append({**data["added_tokens"][0], "id": 350, "content": "<|far|>"})
    data["model"]["vocab"]["<|far|>"] = 350
    text = HuggingFaceText(json.dumps(data).encode(), "<|end|>", "<|far|>")
    vocabulary = Vocabulary(text, spirit(text.size, {"semantic": 5}, text.bos, text.eos))
    save_huggingface_tokenizer(vocabulary, tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    units = [f"[Hu{unit}]" for unit in range(5)]
    assert tokenizer.convert_tokens_to_ids(["<|far|>", "[Text]", "[Speech]", *units]) == list(range(350, 358))


def test_saving_does_not_change_the_text_tokenizer(texts: dict[str, TextTokenizer], tmp_path: Path) -> None:
    text = texts["byte-level"]
    before = text.data, text.encode_document("Tom went [Hu3] <|end|>")
    save_huggingface_tokenizer(Vocabulary(text, spirit(text.size, {"semantic": 5}, text.bos, text.eos)), tmp_path)
    assert (text.data, text.encode_document("Tom went [Hu3] <|end|>")) == before
    assert Tokenizer.from_file(str(tmp_path / "tokenizer.json")).token_to_id("[Hu3]") == text.size + 5
