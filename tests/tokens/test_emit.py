from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiritlm.tokens.emit import (
    BEGINS,
    NO_WORD,
    PITCH,
    SEMANTIC,
    STYLE,
    Document,
    Ids,
    Row,
    document_of,
    emit,
    empty_row,
    ids_of,
)
from spiritlm.tokens.interleave import SPEECH, TEXT
from spiritlm.tokens.layout import Block, Layout, Wrap, glm_4_voice, spirit
from spiritlm.tokens.samplers import (
    ANSWER,
    ASR,
    GOES_ON,
    NEW_DOCUMENT,
    POISSON,
    SENTENCES,
    SPANS,
    SPEECH_ONLY,
    TEXT_ONLY,
    TTS,
    cut,
    most_spans,
)
from spiritlm.tokens.text import SentencePieceText
from spiritlm.tokens.vocabulary import Vocabulary

SPIRIT_IDS = Ids(1, 2, 100, -1, 101, -1, 100, 101, 200, 300, 400, True)
TASK_IDS = SPIRIT_IDS._replace(asr=102, tts=103)
GLM_IDS = Ids(1, 2, -1, -1, 110, 111, -1, 110, 200, 300, 400, False)
WRAPPED_IDS = Ids(1, 2, 100, 104, 101, 105, 102, 103, 200, 300, 400, True)
ALL_IDS = [SPIRIT_IDS, TASK_IDS, GLM_IDS, WRAPPED_IDS]
SPIRIT_RATES = ("25", "12.5", "1")
ALL_RATES = [SPIRIT_RATES, ("24.99", "12.5", "1"), ("12.5", "12.5", "12.5"), ("6.25", "12.5", "50"), ("5", "2", "3")]
SETTINGS = {
    TEXT_ONLY: (0, 0, 0, 0),
    SPEECH_ONLY: (0, 0, 0, 0),
    SPANS: (1, 4, 1, 4),
    POISSON: (2, 0.5, 0, 0),
    SENTENCES: (1, 2, 0, 0),
    ASR: (1, 2, 0, 0),
    TTS: (1, 2, 0, 0),
}


class Token(NamedTuple):
    id: int
    modality: int
    word: int
    frame: int


class Case(NamedTuple):
    """A document, its cut, and what it is written with."""

    document: Document
    spans: np.ndarray
    kind: int
    ids: Ids
    rates: tuple[str, ...]

    def speeds(self) -> np.ndarray:
        return np.array([float(rate) for rate in self.rates])

    def write(self, row: Row, at: int = 0) -> int:
        return emit(self.document, self.speeds(), self.ids, self.kind, self.spans, len(self.spans), row, at)

    def tokens(self) -> list[Token]:
        row = empty_row(self.write(empty_row(0)))
        assert self.write(row) == len(row.ids)
        return tokens_of(row)


def tokens_of(row: Row) -> list[Token]:
    return [Token(*values) for values in zip(*(column.tolist() for column in row), strict=True)]


@st.composite
def documents(draw: st.DrawFn) -> Document:
    """Words of any number of ids and units, some of none, with gaps between them; or no words, text only, ..."""
    words = draw(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 5)), max_size=25))
    tail, lengths = draw(st.integers(0, 3)), draw(st.tuples(*[st.integers(-1, 4)] * 2))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    table, ids, units = [], 0, 0
    for pieces, gap, spoken in words:
        table.append((ids, units + gap, units + gap + spoken))
        ids, units = ids + pieces, units + gap + spoken
    units += tail if words else draw(st.integers(0, 60))
    ids += 0 if words else draw(st.integers(0, 9))
    breaks = [word for word in range(1, len(words)) if rng.random() < 0.3]
    slower = [0 if more < 0 else max(0, -(-units // by) + more - 1) for more, by in zip(lengths, (2, 25), strict=True)]
    return document_of(
        rng.integers(3, 90, ids),
        table,
        [0, *breaks] if words else (),
        rng.integers(0, 3, units),
        rng.integers(0, 2, slower[0]),
        rng.integers(0, 2, slower[1]),
    )


@st.composite
def cases(
    draw: st.DrawFn, kinds: Sequence[int] = tuple(SETTINGS), rates: Sequence[tuple[str, ...]] = tuple(ALL_RATES)
) -> Case:
    document, kind = draw(documents()), draw(st.sampled_from(kinds))
    words = len(document.words) // 3
    spans = np.zeros((most_spans(kind, words, len(document.sentences)), 4), dtype=np.int32)
    settings, key = np.array(SETTINGS[kind], dtype=np.float64), np.uint64(draw(st.integers(0, 2**63)))
    count = cut(kind, settings, key, words, document.sentences, spans)
    return Case(document, spans[:count], kind, draw(st.sampled_from(ALL_IDS)), draw(st.sampled_from(rates)))


# the same thing told slowly and exactly


def table_of(document: Document) -> list[tuple[int, int, int]]:
    return [tuple(word) for word in document.words.reshape(-1, 3).tolist()]


def content(document: Document, span: Sequence[int]) -> range:
    """Indices of the text ids or of the semantic units of a span: a gap goes with the word before it."""
    modality, start, end, _ = (int(number) for number in span)
    words, column = table_of(document), 1 if modality == SPEECH else 0
    edges = [0, *(word[column] for word in words[1:]), len(document.semantic if modality == SPEECH else document.text)]
    return range(edges[start], edges[end] if words else edges[-1])


def word_of_unit(document: Document, unit: int) -> int:
    words = table_of(document)
    if not words:
        return NO_WORD
    for number, (_, start, end) in enumerate(words):
        if start <= unit < end:
            return number
    return -2 - sum(end <= unit for _, _, end in words)


def word_of_text(document: Document, index: int) -> int:
    words = table_of(document)
    return max(number for number, word in enumerate(words) if word[0] <= index) if words else NO_WORD


def speech(case: Case, units: range) -> list[Token]:
    document, ids = case.document, case.ids
    semantic, pitch, style = (Fraction(rate) for rate in case.rates)
    first, last = units[0] / semantic, units[-1] / semantic
    timed: list[tuple[Fraction, int, int, Token]] = []
    for order, modality, values, rate, start in (
        (0, STYLE, document.style.tolist(), style, ids.style),
        (1, PITCH, document.pitch.tolist(), pitch, ids.pitch),
    ):
        begun = [index for index in range(len(values)) if index / rate <= last or units.stop == len(document.semantic)]
        in_force = max((index for index in begun if index / rate <= first), default=0)
        previous = -1
        for index in begun[in_force:]:
            time = max(first, index / rate)
            if values[index] != previous or modality == STYLE:
                due = next((unit for unit in units if unit / semantic >= time), units.stop)
                token = Token(start + values[index], modality, word_of_unit(document, due), index)
                timed.append((time, order, index, token))
            previous = values[index]
    values = document.semantic.tolist()
    for unit in units:
        if unit == units[0] or not ids.deduplicate or values[unit] != values[unit - 1]:
            token = Token(ids.semantic + values[unit], SEMANTIC, word_of_unit(document, unit), unit)
            timed.append((unit / semantic, 2, unit, token))
    return [token for *_, token in sorted(timed, key=lambda entry: entry[:3])]


def told_slowly(case: Case) -> list[Token]:
    document, ids = case.document, case.ids
    opens, closes = {TEXT: ids.open_text, SPEECH: ids.open_speech}, {TEXT: ids.close_text, SPEECH: ids.close_speech}
    found: list[list[list[Token]]] = []  # documents of spans
    modalities: list[list[tuple[int, bool]]] = []
    begins_new = True
    for span in case.spans.tolist():
        begins_new = begins_new or span[3] == NEW_DOCUMENT
        part = content(document, span)
        if not part:
            continue
        if begins_new:
            found.append([])
            modalities.append([])
        told = (
            speech(case, part)
            if span[0] == SPEECH
            else [Token(int(document.text[index]), TEXT, word_of_text(document, index), index) for index in part]
        )
        modalities[-1].append((span[0], span[3] == ANSWER and bool(found[-1])))
        found[-1].append(told)
        begins_new = False
    tokens: list[Token] = []

    def marker(id: int, modality: int, frame: int = -1) -> None:
        if id >= 0:
            tokens.append(Token(id, modality, NO_WORD, frame))

    for parts, kinds in zip(found, modalities, strict=True):
        marker(ids.bos, kinds[0][0], BEGINS)
        before = -1
        for part, (modality, answer) in zip(parts, kinds, strict=True):
            if modality != before or answer:
                marker(closes.get(before, -1), before)
                marker((ids.asr if case.kind == ASR else ids.tts) if answer else opens[modality], modality)
            tokens += part
            before = modality
        marker(closes[before], before)
        marker(ids.eos, before)
    return tokens


@given(cases())
def test_tokens_are_those_told_slowly_and_exactly(case: Case) -> None:
    assert case.tokens() == told_slowly(case)


# what must hold whatever the cut


@given(cases(kinds=(SPANS, POISSON, SENTENCES)))
def test_every_unit_and_text_id_is_told_once(case: Case) -> None:
    """By one modality or the other; documents without words are told in one."""
    told: dict[int, list[int]] = {TEXT: [], SPEECH: []}
    for modality, *rest in case.spans.tolist():
        told[modality] += content(case.document, (modality, *rest))
    for modality, array in ((TEXT, case.document.text), (SPEECH, case.document.semantic)):
        other = [content(case.document, (modality, *rest)) for of, *rest in case.spans.tolist() if of != modality]
        untold = [index for part in other for index in part]
        assert told[modality] == sorted(told[modality])
        if len(case.document.words):
            assert sorted(told[modality] + untold) == list(range(len(array)))
    heard = {token.frame for token in case.tokens() if token.modality == SEMANTIC and token.frame >= 0}
    assert heard <= set(told[SPEECH])
    read = [token.frame for token in case.tokens() if token.modality == TEXT and token.frame >= 0]
    assert read == told[TEXT]


@given(cases(kinds=(SPANS, POISSON, SENTENCES, SPEECH_ONLY)))
def test_semantic_tokens_are_the_first_of_their_runs(case: Case) -> None:
    case = case._replace(ids=case.ids._replace(deduplicate=True))
    units = case.document.semantic.tolist()
    frames = [token.frame for token in case.tokens() if token.modality == SEMANTIC and token.frame >= 0]
    firsts = {
        content(case.document, span)[0] for span in case.spans if span[0] == SPEECH and content(case.document, span)
    }
    assert frames == sorted(set(frames))
    assert firsts <= set(frames)
    for frame in frames:
        assert frame in firsts or units[frame] != units[frame - 1]
    written = [units[frame] for frame in frames]
    spans = [content(case.document, span) for span in case.spans if span[0] == SPEECH]
    assert len(written) == sum(1 + sum(units[unit] != units[unit - 1] for unit in part[1:]) for part in spans if part)


@given(cases())
def test_every_token_can_be_traced(case: Case) -> None:
    document, ids = case.document, case.ids
    values = {TEXT: document.text, SEMANTIC: document.semantic, PITCH: document.pitch, STYLE: document.style}
    starts = {TEXT: 0, SEMANTIC: ids.semantic, PITCH: ids.pitch, STYLE: ids.style}
    markers = {ids.bos, ids.eos, ids.open_text, ids.close_text, ids.open_speech, ids.close_speech, ids.asr, ids.tts}
    for token in case.tokens():
        if token.frame < 0:
            assert token.id in markers - {-1}
            assert (token.word, token.modality in (TEXT, SPEECH)) == (NO_WORD, True)
        else:
            assert token.id == starts[token.modality] + values[token.modality][token.frame]


@given(cases())
def test_text_is_told_word_by_word(case: Case) -> None:
    table = table_of(case.document)
    ends = [*(word[0] for word in table[1:]), len(case.document.text)]
    for token in case.tokens():
        if token.modality == TEXT and token.frame >= 0 and table:
            assert table[token.word][0] <= token.frame < ends[token.word]


@given(cases(kinds=(SPANS, POISSON, SENTENCES, SPEECH_ONLY), rates=[SPIRIT_RATES]))
def test_speech_begins_with_the_style_and_pitch_in_force(case: Case) -> None:
    document, tokens = case.document, case.tokens()
    firsts = [content(case.document, span)[0] for span in case.spans if span[0] == SPEECH and content(document, span)]
    streams = [(document.style, 25, STYLE, case.ids.style), (document.pitch, 2, PITCH, case.ids.pitch)]
    for first in firsts:
        at = next(at for at, token in enumerate(tokens) if token.modality == SEMANTIC and token.frame == first)
        expected = []
        for values, units, modality, start in streams:
            if len(values):
                index = min(first // units, len(values) - 1)
                expected.append((start + values[index], modality, index))
        found = [(token.id, token.modality, token.frame) for token in tokens[at - len(expected) : at]]
        assert found == expected


@given(cases(), st.integers(-40, 60), st.integers(0, 60))
def test_a_window_is_a_slice_of_the_whole(case: Case, at: int, size: int) -> None:
    """Writing may begin before the row or behind it, and end anywhere."""
    whole = case.tokens()
    row = empty_row(size)
    for column in row:
        column.fill(77)
    assert case.write(row, at) == at + len(whole)
    untouched = Token(77, 77, 77, 77)
    assert tokens_of(row) == [whole[index - at] if 0 <= index - at < len(whole) else untouched for index in range(size)]


@given(cases())
def test_markers_wrap_every_change_and_nothing_empty(case: Case) -> None:
    case = case._replace(ids=WRAPPED_IDS)
    pairs = {100: 104, 101: 105, 102: 104, 103: 105}
    open_with, before = 0, Token(2, 0, 0, 0)
    for token in case.tokens():
        if token.frame < 0 and token.id in pairs:
            assert not open_with
            open_with = token.id
        elif token.frame < 0 and token.id in pairs.values():
            assert pairs[open_with] == token.id
            assert before.frame >= 0
            open_with = 0
        elif token.frame < 0:
            assert not open_with
            assert (token.id == 1) == (before.id == 2 and before.frame <= 0)
        else:
            assert open_with in ((100, 102) if token.modality == TEXT else (101, 103))
        before = token


# by hand

WORDS = [(0, 0, 2), (2, 4, 7), (3, 7, 8)]
BY_HAND = document_of([11, 12, 21, 31], WORDS, [0, 2], [5, 5, 6, 6, 7, 7, 8, 8, 8, 9], [1, 1, 2, 2, 3], [4])


def written(document: Document, spans: list[tuple[int, ...]], ids: Ids = SPIRIT_IDS, kind: int = SPANS) -> list[Token]:
    return Case(document, np.array(spans, dtype=np.int32).reshape(-1, 4), kind, ids, SPIRIT_RATES).tokens()


def ids_written(
    document: Document, spans: list[tuple[int, ...]], ids: Ids = SPIRIT_IDS, kind: int = SPANS
) -> list[int]:
    return [token.id for token in written(document, spans, ids, kind)]


def test_a_cut_document_by_hand() -> None:
    spans = [(SPEECH, 0, 1, NEW_DOCUMENT), (TEXT, 1, 2, GOES_ON), (SPEECH, 2, 3, GOES_ON)]
    assert written(BY_HAND, spans) == [
        Token(1, SPEECH, -1, BEGINS),
        Token(101, SPEECH, -1, -1),
        Token(404, STYLE, 0, 0),
        Token(301, PITCH, 0, 0),
        Token(205, SEMANTIC, 0, 0),
        Token(206, SEMANTIC, -3, 2),  # the gap before word 1
        Token(100, TEXT, -1, -1),
        Token(21, TEXT, 1, 2),
        Token(101, SPEECH, -1, -1),
        Token(404, STYLE, 2, 0),
        Token(302, PITCH, 2, 3),  # unit 7 begins while pitch unit 3 is in force
        Token(208, SEMANTIC, 2, 7),
        Token(303, PITCH, -5, 4),
        Token(209, SEMANTIC, -5, 9),  # the gap after the last word
        Token(2, SPEECH, -1, -1),
    ]


def test_units_before_the_first_word_go_with_it() -> None:
    document = document_of([11, 21], [(0, 2, 4), (1, 4, 5)], [0], [5, 6, 7, 8, 9])
    tokens = written(document, [(SPEECH, 0, 1, NEW_DOCUMENT), (TEXT, 1, 2, GOES_ON)])
    assert [(token.id, token.word) for token in tokens[2:6]] == [(205, -2), (206, -2), (207, 0), (208, 0)]


def test_at_one_instant_style_comes_before_pitch_before_semantic() -> None:
    document = document_of(semantic=range(51), pitch=range(26), style=range(3))
    tokens = written(document, [(SPEECH, 0, 0, NEW_DOCUMENT)])
    ids = [token.id for token in tokens]
    assert ids[2:7] == [400, 300, 200, 201, 301]
    second = ids.index(401)
    assert ids[second - 1 : second + 4] == [224, 401, 225, 313, 226]  # pitch unit 13 begins with semantic unit 26
    third = ids.index(402)
    assert ids[third : third + 3] == [402, 325, 250]


def test_style_is_repeated_and_pitch_is_not() -> None:
    document = document_of(semantic=[7] * 60, pitch=[3] * 30, style=[1] * 3)
    assert ids_written(document, [(SPEECH, 0, 0, NEW_DOCUMENT)]) == [1, 101, 401, 303, 207, 401, 401, 2]


def test_slower_units_go_on_behind_the_last_semantic_one() -> None:
    document = document_of([11], [(0, 0, 2)], [0], [5, 6, 7], [1, 2, 2, 3], [4, 5])
    tokens = written(document, [(SPEECH, 0, 1, NEW_DOCUMENT)])
    assert [token.id for token in tokens] == [1, 101, 404, 301, 205, 206, 302, 207, 303, 405, 2]
    assert [token.word for token in tokens[-4:-1]] == [-3, -3, -3]
    shorter = document_of([11, 21], [(0, 0, 2), (1, 2, 3)], [0], [5, 6, 7], [1, 2, 2, 3], [4, 5])
    assert ids_written(shorter, [(SPEECH, 0, 1, NEW_DOCUMENT)]) == [1, 101, 404, 301, 205, 206, 2]


def test_where_time_counts_every_unit_is_a_token() -> None:
    document = document_of(semantic=[5, 5, 6, 6, 6], pitch=[1, 1, 2])
    ids = SPIRIT_IDS._replace(deduplicate=False)
    spans = [(SPEECH, 0, 0, NEW_DOCUMENT)]
    assert ids_written(document, spans, ids) == [1, 101, 301, 205, 205, 206, 206, 302, 206, 2]


def test_streams_that_end_early_hold_their_last_unit() -> None:
    document = document_of([11, 21], [(0, 0, 30), (1, 30, 60)], [0], range(60), [3, 4], [1])
    ids = ids_written(document, [(TEXT, 0, 1, NEW_DOCUMENT), (SPEECH, 1, 2, GOES_ON)])
    assert ids[3:7] == [101, 401, 304, 230]


def test_empty_spans_leave_no_markers() -> None:
    silent = document_of([11, 21, 31], [(0, 0, 0), (1, 0, 0), (2, 0, 4)], [0], [5, 6, 7, 8])
    spans = [(TEXT, 0, 1, NEW_DOCUMENT), (SPEECH, 1, 2, GOES_ON), (TEXT, 2, 3, GOES_ON)]
    assert ids_written(silent, spans, WRAPPED_IDS) == [1, 100, 11, 31, 104, 2]
    assert ids_written(silent, [(SPEECH, 0, 2, NEW_DOCUMENT), (TEXT, 2, 3, GOES_ON)]) == [1, 100, 31, 2]
    assert ids_written(silent, [(SPEECH, 0, 2, NEW_DOCUMENT)]) == []


@pytest.mark.parametrize("kind", list(SETTINGS))
def test_documents_without_content_have_no_tokens(kind: int) -> None:
    empty = document_of()
    assert ids_written(empty, [(SPEECH, 0, 0, NEW_DOCUMENT)], kind=kind) == []
    assert ids_written(empty, [(TEXT, 0, 0, NEW_DOCUMENT)], kind=kind) == []
    assert ids_written(BY_HAND, [], kind=kind) == []


def test_documents_without_words_are_told_whole() -> None:
    text, spoken = document_of([11, 12]), document_of(semantic=[5, 5, 6])
    assert written(text, [(TEXT, 0, 0, NEW_DOCUMENT)])[2] == Token(11, TEXT, NO_WORD, 0)
    assert ids_written(text, [(TEXT, 0, 0, NEW_DOCUMENT)]) == [1, 100, 11, 12, 2]
    assert written(spoken, [(SPEECH, 0, 0, NEW_DOCUMENT)])[2:4] == [
        Token(205, SEMANTIC, NO_WORD, 0),
        Token(206, SEMANTIC, NO_WORD, 2),
    ]


def test_speech_of_glm_stands_between_its_markers() -> None:
    spans = [(TEXT, 0, 1, NEW_DOCUMENT), (SPEECH, 1, 2, GOES_ON), (TEXT, 2, 3, GOES_ON)]
    plain = BY_HAND._replace(pitch=BY_HAND.pitch[:0], style=BY_HAND.style[:0])
    assert ids_written(plain, spans, GLM_IDS) == [1, 11, 12, 110, 207, 207, 208, 111, 31, 2]
    assert ids_written(plain, [(SPEECH, 2, 3, NEW_DOCUMENT)], GLM_IDS) == [1, 110, 208, 208, 209, 111, 2]


PAIRS = {
    ASR: [(SPEECH, 0, 2, NEW_DOCUMENT), (TEXT, 0, 2, ANSWER), (SPEECH, 2, 3, NEW_DOCUMENT), (TEXT, 2, 3, ANSWER)],
    TTS: [(TEXT, 0, 2, NEW_DOCUMENT), (SPEECH, 0, 2, ANSWER), (TEXT, 2, 3, NEW_DOCUMENT), (SPEECH, 2, 3, ANSWER)],
}
EVERY_UNIT = [205, 205, 206, 206, 207, 207, 208, 208, 208, 209]
PLAIN = BY_HAND._replace(pitch=BY_HAND.pitch[:0], style=BY_HAND.style[:0])


@pytest.mark.parametrize(
    ("kind", "ids", "expected"),
    [
        (ASR, SPIRIT_IDS, [1, 101, 205, 206, 207, 208, 100, 11, 12, 21, 2, 1, 101, 208, 209, 100, 31, 2]),
        (ASR, TASK_IDS, [1, 101, 205, 206, 207, 208, 102, 11, 12, 21, 2, 1, 101, 208, 209, 102, 31, 2]),
        (TTS, TASK_IDS, [1, 100, 11, 12, 21, 103, 205, 206, 207, 208, 2, 1, 100, 31, 103, 208, 209, 2]),
        (ASR, GLM_IDS, [1, 110, *EVERY_UNIT[:7], 111, 11, 12, 21, 2, 1, 110, *EVERY_UNIT[7:], 111, 31, 2]),
        (TTS, GLM_IDS, [1, 11, 12, 21, 110, *EVERY_UNIT[:7], 111, 2, 1, 31, 110, *EVERY_UNIT[7:], 111, 2]),
    ],
)
def test_pairs_are_documents_of_their_own(kind: int, ids: Ids, expected: list[int]) -> None:
    assert ids_written(PLAIN, PAIRS[kind], ids, kind) == expected


def test_what_has_lost_its_question_is_no_answer_and_joins_no_other_pair() -> None:
    """The words of the second pair have no units: they were not found in the recording."""
    document = document_of([11, 21], [(0, 0, 2), (1, 2, 2)], [0, 1], [5, 6])
    asr = [(SPEECH, 0, 1, NEW_DOCUMENT), (TEXT, 0, 1, ANSWER), (SPEECH, 1, 2, NEW_DOCUMENT), (TEXT, 1, 2, ANSWER)]
    assert ids_written(document, asr, TASK_IDS, ASR) == [1, 101, 205, 206, 102, 11, 2, 1, 100, 21, 2]
    tts = [(TEXT, 0, 1, NEW_DOCUMENT), (SPEECH, 0, 1, ANSWER), (TEXT, 1, 2, NEW_DOCUMENT), (SPEECH, 1, 2, ANSWER)]
    assert ids_written(document, tts, TASK_IDS, TTS) == [1, 100, 11, 103, 205, 206, 2, 1, 100, 21, 2]


def test_streams_that_the_vocabulary_has_no_ids_for_are_left_out() -> None:
    whole = [(SPEECH, 0, 3, NEW_DOCUMENT)]
    base = SPIRIT_IDS._replace(pitch=-1, style=-1)
    assert ids_written(BY_HAND, whole, base) == ids_written(PLAIN, whole)
    assert 404 in ids_written(BY_HAND, whole, SPIRIT_IDS._replace(pitch=-1))


@pytest.mark.parametrize("rates", [(24.99, 12.495), (49.95, 16.65), (24.99, 8.33), (50.0, 50 / 3), (25.0, 12.5)])
def test_speech_begins_with_one_pitch_wherever_it_begins(rates: tuple[float, float]) -> None:
    """Also where the quotient of two rates is no float."""
    units = 1000
    pitch = np.arange(units)
    speeds = np.array([*rates, 1.0])
    for first in range(1, units // 2):
        document = document_of([11, 21], [(0, 0, first), (1, first, units)], [0], [7] * (first + 1), pitch)
        spans = np.array([(TEXT, 0, 1, NEW_DOCUMENT), (SPEECH, 1, 2, GOES_ON)], dtype=np.int32)
        row = empty_row(8)
        emit(document, speeds, SPIRIT_IDS, SPANS, spans, 2, row, 0)
        assert row.modality[4:6].tolist() == [PITCH, SEMANTIC]
        assert row.frame[4] * rates[0] <= first * rates[1] < (row.frame[4] + 1) * rates[0]


# from vocabularies


def test_ids_of_a_vocabulary(expressive_vocabulary: Vocabulary) -> None:
    text = expressive_vocabulary.text.size
    assert ids_of(expressive_vocabulary) == Ids(
        1, 2, text, -1, text + 1, -1, text, text + 1, text + 2, text + 52, text + 60, True
    )


def test_ids_of_a_vocabulary_with_tasks(text_model: bytes) -> None:
    text = SentencePieceText(text_model)
    vocabulary = Vocabulary(text, spirit(text.size, {"semantic": 9}, tasks=("[ASR]", "[TTS]")))
    ids = ids_of(vocabulary)
    assert (ids.asr, ids.tts) == (text.size + 11, text.size + 12)
    assert (ids.pitch, ids.style) == (-1, -1)


def test_ids_of_glm(text_model: bytes) -> None:
    ids = ids_of(Vocabulary(SentencePieceText(text_model), glm_4_voice()))
    assert ids == Ids(151_333, 151_329, -1, -1, 151_343, 151_344, -1, 151_343, 152_353, -1, -1, False)


def test_ids_of_a_layout_of_ones_own(text_model: bytes) -> None:
    text = SentencePieceText(text_model)
    markers = {"<t>": 1000, "</t>": 1001, "<a>": 1002, "</a>": 1003}
    layout = Layout(
        text.size, markers, (Block("semantic", "<u{}>", 2000, 5),), Wrap("<t>", "</t>"), Wrap("<a>", "</a>"), 1, 2
    )
    expected = Ids(1, 2, 1000, 1001, 1002, 1003, 1000, 1002, 2000, -1, -1, True)
    assert ids_of(Vocabulary(text, layout)) == expected


def test_documents_cannot_be_changed() -> None:
    values = np.array([5, 6], dtype=np.uint16)
    document = document_of(semantic=values)
    values[0] = 9
    assert document.semantic.tolist() == [5, 6]
    with pytest.raises(ValueError, match="read-only"):
        document.semantic[0] = 1
    assert [array.dtype for array in document] == [np.int32] * 3 + [np.uint16] * 3
    assert document_of(words=[(0, 0, 1)]).sentences.tolist() == [0]
