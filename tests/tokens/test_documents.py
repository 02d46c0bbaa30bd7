import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiritlm.tokens.documents import AlignedDocument, compose, parse
from spiritlm.tokens.interleave import SPEECH, TEXT, Span, alternate, deduplicate
from spiritlm.tokens.vocabulary import Vocabulary

WORDS = ["Tom", "went", "to", "the", "lake", "with", "his", "mother."]


@pytest.fixture(scope="module")
def document(vocabulary: Vocabulary) -> AlignedDocument:
    pieces = [vocabulary.encode_text(word) for word in WORDS]
    text = np.array([id for piece in pieces for id in piece], dtype=np.int32)
    units = np.array([7, 7, 7, 1, 1, 2, 3, 3, 3, 4, 9, 9, 9, 9, 5, 5], dtype=np.uint16)
    word_units = np.array([0, 2, 5, 6, 9, 10, 10, 14, 16])
    return AlignedDocument(text, units, np.cumsum([0, *map(len, pieces)]), word_units)


def test_text_speech_and_interleaved(document: AlignedDocument, vocabulary: Vocabulary) -> None:
    v, hu = vocabulary, vocabulary.semantic.start
    text = compose(document, document.text_span(), v)
    assert text.ids.tolist() == [v.bos, v.text_marker, *v.encode_text(" ".join(WORDS)), v.eos]
    assert not text.modality.any()
    speech = compose(document, document.speech_span(), v)
    units = [hu + u for u in (7, 1, 2, 3, 4, 9, 5)]
    assert speech.ids.tolist() == [v.bos, v.speech_marker, *units, v.eos]
    assert speech.modality.all()
    mixed = compose(document, [Span(SPEECH, 0, 2), Span(TEXT, 2, 7), Span(SPEECH, 7, 8)], v)
    middle = v.encode_text(" ".join(WORDS[2:7]))
    expected = [v.bos, v.speech_marker, hu + 7, hu + 1, v.text_marker, *middle, v.speech_marker, hu + 5, v.eos]
    assert mixed.ids.tolist() == expected
    assert mixed.modality.tolist() == [1] * 4 + [0] * (len(middle) + 1) + [1] * 3


@given(seed=st.integers(0, 2**32))
def test_whatever_the_cut_the_words_come_back(document: AlignedDocument, vocabulary: Vocabulary, seed: int) -> None:
    spans = alternate(len(document), (1, 3), (1, 3), np.random.default_rng(seed))
    segments = parse(compose(document, spans, vocabulary).ids, vocabulary)
    expected: list[tuple[int, object]] = []
    for span in spans:
        units = document.units[document.word_units[span.start] : document.word_units[span.end]]
        if span.modality == TEXT:
            expected.append((TEXT, " ".join(WORDS[span.start : span.end])))
        elif len(units):
            expected.append((SPEECH, deduplicate(units)[0].tolist()))
    found = [(s.modality, s.text if s.modality == TEXT else s.units.tolist()) for s in segments]
    if len(found) == len(expected):  # a spoken word without units joins its neighbours
        assert found == expected


def test_parsing_ends_at_the_end_token_and_forgives_missing_markers(vocabulary: Vocabulary) -> None:
    v, hu = vocabulary, vocabulary.semantic.start
    ids = [v.text_marker, *v.encode_text("Tom went"), hu + 1, hu + 2, v.size, *v.encode_text("to"), v.eos, hu + 3]
    segments = parse(ids, v)
    assert [(s.modality, s.text, s.units.tolist()) for s in segments] == [
        (TEXT, "Tom went", []),
        (SPEECH, "", [1, 2]),
        (TEXT, "to", []),
    ]
    assert parse([v.eos], v) == []
