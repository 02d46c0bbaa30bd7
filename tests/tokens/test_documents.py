from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiritlm.tokens import streams
from spiritlm.tokens.documents import compose, pair, parse, span_ids, whole, words_of
from spiritlm.tokens.emit import Document, document_of
from spiritlm.tokens.interleave import MODALITIES, SPEECH, TEXT, Span, deduplicate
from spiritlm.tokens.layout import STREAMS, glm_4_voice
from spiritlm.tokens.samplers import SPANS, cut, document_key, most_spans
from spiritlm.tokens.text import words_to_ids
from spiritlm.tokens.vocabulary import Vocabulary

WORDS = ["Tom", "went", "to", "the", "lake", "with", "his", "mother."]
UNITS = [7, 7, 7, 1, 1, 2, 3, 3, 3, 4, 9, 9, 9, 9, 5, 5]
EDGES = [0, 2, 5, 6, 9, 10, 10, 14, 16]
"""Of the words among the units; there is no gap, and the sixth word has no unit."""


@pytest.fixture(scope="module")
def document(vocabulary: Vocabulary) -> Document:
    ids, starts = words_to_ids(WORDS, vocabulary.text)
    return document_of(ids, list(zip(starts[:-1], EDGES[:-1], EDGES[1:], strict=True)), semantic=UNITS)


def turns(document: Document, seed: int) -> list[Span]:
    words = words_of(document)
    table = np.zeros((most_spans(SPANS, words, 1), 4), dtype=np.int32)
    settings = np.array([1, 3, 1, 3], dtype=np.float64)
    key = np.uint64(document_key(0, 0, seed))
    count = cut(SPANS, settings, key, words, document.sentences, table)
    return [Span(*row[:3]) for row in table[:count].tolist()]


def test_text_speech_and_interleaved(document: Document, vocabulary: Vocabulary) -> None:
    v, hu = vocabulary, vocabulary.semantic.start
    to_text, to_speech = v.opening(TEXT)[0], v.opening(SPEECH)[0]
    text = compose(document, whole(document, TEXT), v)
    assert text.ids.tolist() == [v.bos, to_text, *v.encode_text(" ".join(WORDS)), v.eos]
    assert not text.modality.any()
    speech = compose(document, whole(document, SPEECH), v)
    assert speech.ids.tolist() == [v.bos, to_speech, *(hu + u for u in (7, 1, 2, 3, 4, 9, 5)), v.eos]
    assert speech.modality.all()
    mixed = compose(document, [Span(SPEECH, 0, 2), Span(TEXT, 2, 7), Span(SPEECH, 7, 8)], v)
    middle = v.encode_text(" ".join(WORDS[2:7]))
    assert mixed.ids.tolist() == [v.bos, to_speech, hu + 7, hu + 1, to_text, *middle, to_speech, hu + 5, v.eos]
    assert mixed.modality.tolist() == [1] * 4 + [0] * (len(middle) + 1) + [1] * 3
    assert len(mixed) == len(mixed.ids) == len(middle) + 8
    assert (mixed.ids.dtype, mixed.modality.dtype) == (np.int64, np.uint8)


def test_pairs_of_both_kinds(document: Document, vocabulary: Vocabulary) -> None:
    v, hu = vocabulary, vocabulary.semantic.start
    to_text, to_speech, text = v.opening(TEXT)[0], v.opening(SPEECH)[0], v.encode_text(" ".join(WORDS[2:5]))
    speech = [hu + unit for unit in (7, 1, 2, 3, 4)]
    given, answer = pair(document, SPEECH, 2, 5, v)
    assert (given.tolist(), answer.tolist()) == ([v.bos, to_speech, hu + 2, hu + 3, hu + 4, to_text], text)
    given, answer = pair(document, TEXT, 1, 5, v)
    assert given.tolist() == [v.bos, to_text, *v.encode_text(" ".join(WORDS[1:5])), to_speech]
    assert answer.tolist() == speech
    for modality in (TEXT, SPEECH):
        assert [len(part) for part in pair(document, modality, 5, 6, v)] == [0, 0]


def test_a_cut_of_nothing(document: Document, vocabulary: Vocabulary) -> None:
    assert len(compose(document, [], vocabulary)) == 0
    assert len(compose(document_of(), whole(document_of(), SPEECH), vocabulary)) == 0
    assert len(compose(document, [Span(SPEECH, 5, 6)], vocabulary)) == 0


@given(seed=st.integers(0, 2**32))
def test_whatever_the_cut_the_words_come_back(document: Document, vocabulary: Vocabulary, seed: int) -> None:
    spans = turns(document, seed)
    expected: list[tuple[int, object]] = []
    for span in spans:
        units = np.array(UNITS[EDGES[span.start] : EDGES[span.end]])
        before = expected.pop() if expected and span.modality == TEXT == expected[-1][0] else (TEXT, "")
        if span.modality == TEXT:
            expected.append((TEXT, f"{before[1]} {' '.join(WORDS[span.start : span.end])}".strip()))
        elif len(units):
            expected.append((SPEECH, deduplicate(units)[0].tolist()))
    segments = parse(compose(document, spans, vocabulary).ids, vocabulary)
    assert [(s.modality, s.text if s.modality == TEXT else s.units.tolist()) for s in segments] == expected


def test_spans_without_their_markers(document: Document, vocabulary: Vocabulary) -> None:
    hu = vocabulary.semantic.start
    assert span_ids(document, Span(SPEECH, 0, 2), vocabulary).tolist() == [hu + 7, hu + 1]
    assert span_ids(document, Span(TEXT, 2, 4), vocabulary).tolist() == vocabulary.encode_text("to the")
    assert span_ids(document, Span(SPEECH, 5, 6), vocabulary).tolist() == []
    glm = Vocabulary(vocabulary.text, glm_4_voice())
    assert span_ids(document, Span(SPEECH, 0, 2), glm).tolist() == [152_360] * 3 + [152_354] * 2
    assert span_ids(document, Span(TEXT, 2, 4), glm).tolist() == vocabulary.encode_text("to the")


def test_parsing_ends_at_the_end_token_and_forgives_missing_markers(vocabulary: Vocabulary) -> None:
    v, hu = vocabulary, vocabulary.semantic.start
    ids = [*v.opening(TEXT), *v.encode_text("Tom went"), hu + 1, hu + 2, v.size, *v.encode_text("to"), v.eos, hu + 3]
    segments = parse(ids, v)
    assert [(s.modality, s.text, s.units.tolist()) for s in segments] == [
        (TEXT, "Tom went", []),
        (SPEECH, "", [1, 2]),
        (TEXT, "to", []),
    ]
    again = [hu + 1, hu + 1, hu + 2]
    assert parse(again, v)[0].units.tolist() == [1, 2]
    assert parse(again, Vocabulary(v.text, replace(v.layout, deduplicate=False)))[0].units.tolist() == [1, 1, 2]
    assert parse([v.eos], v) == parse([], v) == parse([v.bos, *v.opening(SPEECH), v.padded_size + 5], v) == []


def test_parsing_speech_with_pitch_and_style(expressive_vocabulary: Vocabulary) -> None:
    v = expressive_vocabulary
    hu, pi, st_ = (v.blocks[stream].start for stream in STREAMS)
    found = parse([*v.opening(SPEECH), st_, pi + 3, hu + 4, pi + 5, hu + 4, hu + 6, st_ + 1], v)
    assert [(s.modality, s.units.tolist()) for s in found] == [(SPEECH, [4, 6])]
    assert found[0].prosody is not None
    assert (found[0].prosody.pitch.tolist(), found[0].prosody.style.tolist()) == ([3, 5], [0, 0])


def test_pitch_and_style_go_on_from_what_was_said_before(expressive_vocabulary: Vocabulary) -> None:
    v = expressive_vocabulary
    hu, pi, st_ = (v.blocks[stream].start for stream in STREAMS)
    text = [*v.opening(TEXT), *v.encode_text("Tom went"), *v.opening(SPEECH)]
    found = parse([hu + 4, pi + 5, hu + 6, *text, hu + 1], v, before=[v.bos, st_ + 2, pi + 3, hu + 9])
    prosodies = [s.prosody for s in found if s.prosody is not None]
    assert [p.pitch.tolist() for p in prosodies] == [[3, 5], [5]]
    assert [p.style.tolist() for p in prosodies] == [[2, 2], [2]]
    (alone,) = parse([hu + 4], v)
    assert alone.prosody is not None and alone.prosody.pitch.tolist() == alone.prosody.style.tolist() == [0]


@given(st.lists(st.integers(0, 500), max_size=60))
def test_anything_can_be_parsed(expressive_vocabulary: Vocabulary, ids: list[int]) -> None:
    for segment in parse(ids, expressive_vocabulary):
        assert segment.text == "" if segment.modality == SPEECH else len(segment.units) == 0
        assert np.all(segment.units[1:] != segment.units[:-1])
        if segment.prosody is not None:
            assert len(segment.prosody.pitch) == len(segment.prosody.style) == len(segment.units)


@st.composite
def recordings(draw: st.DrawFn) -> dict[str, list[int]]:
    """Streams of one recording, each as long as it: up to 100 s."""
    seconds, rest = draw(st.integers(0, 99)), draw(st.integers(0, 25))
    units = min(2500, 25 * seconds + rest)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    most = draw(st.integers(1, 8))
    lengths = {"semantic": units, "pitch": -(-units // 2), "style": -(-units // 25)}
    return {stream: rng.integers(0, most, length).tolist() for stream, length in lengths.items()}


@given(recordings())
def test_whole_recordings_are_spirit_lms_streams(
    expressive_vocabulary: Vocabulary, recording: dict[str, list[int]]
) -> None:
    v, document = expressive_vocabulary, document_of(**recording)
    composed = compose(document, whole(document, SPEECH), v)
    chunk = {stream: np.array(values, dtype=np.int64) for stream, values in recording.items()}
    for merge in (streams.merge, streams.published_merge):
        assert "".join(v.token(id) for id in composed.ids[2:-1]) == streams.tokens(merge([chunk]))
    if recording["semantic"]:
        names = [MODALITIES[modality] for modality in composed.modality[2:-1]]
        merged = streams.merge([chunk])
        assert names == [STREAMS[stream] for stream in merged.stream]
        back = streams.units("".join(v.token(id) for id in composed.ids[2:-1]))
        assert back["semantic"].tolist() == deduplicate(chunk["semantic"])[0].tolist()


def test_other_rates(expressive_vocabulary: Vocabulary) -> None:
    v, document = expressive_vocabulary, document_of(semantic=[1, 2, 3, 4], pitch=[1, 2, 3, 4], style=[5, 6])
    told = compose(document, whole(document, SPEECH), v, (12.5, 12.5, 6.25)).ids[2:-1]
    assert "".join(map(v.token, told)) == "[St5][Pi1][Hu1][Pi2][Hu2][St6][Pi3][Hu3][Pi4][Hu4]"
