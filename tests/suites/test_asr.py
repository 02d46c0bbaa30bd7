from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from spiritlm.corpus.datasets import PackedSource, SourceRecipe
from spiritlm.corpus.store import DocumentStore, Record, write_split
from spiritlm.errors import InputError
from spiritlm.inference.decoding import TokenPrompt
from spiritlm.inference.pieces import banned_ids, end_ids
from spiritlm.suites import asr
from spiritlm.tokens.emit import Document, document_of
from spiritlm.tokens.interleave import SPEECH, TEXT
from spiritlm.tokens.layout import spirit
from spiritlm.tokens.text import SentencePieceText, words_to_ids
from spiritlm.tokens.vocabulary import Vocabulary

TEXTS = ("Tom went to the lake.", "He wanted to catch a big fish.")


@pytest.fixture(scope="module")
def tagged(text_model: bytes) -> Vocabulary:
    """With markers of pairs."""
    text = SentencePieceText(text_model)
    return Vocabulary(text, spirit(text.size, {"semantic": 50}, text.bos, text.eos, ("[ASR]", "[TTS]")))


def story(vocabulary: Vocabulary) -> Document:
    """Two sentences of 5 and 7 words, a unit a word, and one unit between the sentences."""
    ids, starts = words_to_ids(" ".join(TEXTS).split(), vocabulary.text)
    units = [number + (number >= 5) for number in range(12)]
    words = [(first, unit, unit + 1) for first, unit in zip(starts[:-1], units, strict=True)]
    return document_of(ids, words, (0, 5), semantic=np.arange(13))


def written(folder: Path, vocabulary: Vocabulary, ids: Sequence[str] = ("b_mutual", "a_mutual")) -> DocumentStore:
    vocabulary.save(folder)
    documents = [(Record(id, f"voice-{id[0]}"), story(vocabulary)) for id in ids]
    write_split(folder, "test", documents, {"semantic": 12.5}, vocabulary)
    return DocumentStore(folder, "test")


def test_a_prompt_is_a_sentence_and_the_marker_of_its_answer(
    tmp_path: Path, tagged: Vocabulary, vocabulary: Vocabulary
) -> None:
    for number, (v, marker) in enumerate(((tagged, tagged.marker("[ASR]")), (vocabulary, vocabulary.opening(TEXT)[0]))):
        items = asr.read_items(written(tmp_path / str(number), v), most=100)
        assert [item.name for item in items] == ["a_mutual-0", "a_mutual-1", "b_mutual-0", "b_mutual-1"]
        assert [item.text for item in items[:2]] == list(TEXTS)
        hu = v.semantic.start
        assert items[0].prompt.tolist() == [v.bos, *v.opening(SPEECH), *range(hu, hu + 6), marker]
        assert items[1].prompt.tolist() == [v.bos, *v.opening(SPEECH), *range(hu + 6, hu + 13), marker]


def test_prompts_are_what_the_mixture_trains_on(tmp_path: Path, tagged: Vocabulary) -> None:
    store = written(tmp_path, tagged)
    row = PackedSource(store, SourceRecipe(kind="asr", split="test"), 200, seed=0)[0]
    bounds = row.cu_seqlens.tolist()
    pairs = [row.input_ids[a:b].tolist() for a, b in pairwise(bounds)]
    for item in asr.read_items(store, most=100):
        text = tagged.encode_text(item.text)
        assert [*item.prompt.tolist(), *text, tagged.eos] in pairs


def test_word_error_rates_of_seen_and_unseen_voices(tmp_path: Path, tagged: Vocabulary) -> None:
    items = asr.read_items(written(tmp_path, tagged), most=100)
    heard = ["tom went to the lake", "He wanted a big fish.", "Tom went", "He wanted to catch a big fish."]

    def transcribe(prompts: Sequence[TokenPrompt]) -> list[np.ndarray]:
        assert [p.sampling.max_new_tokens for p in prompts] == [len(p.ids) for p in prompts]
        return [np.array(tagged.encode_text(text)) for text in heard]

    result = asr.evaluate(items, transcribe, tagged, seen={"voice-a"})
    figures = {k: (v["edits"], v["words"], v["sentences"]) for k, v in result.items() if k != "items"}
    assert figures == {"all": (5, 24, 4), "seen": (2, 12, 2), "unseen": (3, 12, 2)}
    assert result["seen"]["wer"] == pytest.approx(2 / 12)
    assert result["seen"]["standard_error"] == pytest.approx(np.hypot(5 / 6, 5 / 6) / 12)
    assert [item["edits"] for item in result["items"]] == [0, 2, 3, 0]
    assert "unseen" not in asr.evaluate(items, transcribe, tagged, seen={"voice-a", "voice-b"})


def test_only_text_is_taken_and_a_marker_ends_it(tagged: Vocabulary) -> None:
    ends = set(end_ids("text", "transcribe", tagged))
    banned = set(banned_ids("text", "transcribe", tagged))
    assert ends == {tagged.eos, *tagged.opening(SPEECH)}
    left = set(range(tagged.padded_size)) - ends - banned
    assert left == set(np.flatnonzero(tagged.is_text(np.arange(tagged.size))).tolist())


def test_as_many_items_as_asked_and_at_least_one(tmp_path: Path, tagged: Vocabulary) -> None:
    ids = [f"{letter}_mutual" for letter in "abcdef"]
    items = asr.read_items(written(tmp_path / "many", tagged, ids), most=3)
    assert [item.name for item in items] == ["a_mutual-0", "d_mutual-0", "f_mutual-1"]
    with pytest.raises(InputError, match="no sentences to transcribe"):
        asr.read_items(written(tmp_path / "none", tagged, ["a_correct"]), most=3)
