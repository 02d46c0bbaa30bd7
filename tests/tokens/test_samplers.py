import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiritlm.tokens.interleave import SPEECH, TEXT
from spiritlm.tokens.samplers import (
    ANSWER,
    ASR,
    GOES_ON,
    GOLDEN,
    NEW_DOCUMENT,
    POISSON,
    SENTENCES,
    SPANS,
    SPEECH_ONLY,
    TEXT_ONLY,
    TTS,
    below,
    cut,
    document_key,
    mix,
    most_spans,
    uniform,
)

SPIRIT = (10, 30, 5, 15)
GLM = (10, 0.3)
KEYS = st.integers(0, 2**63 - 1)
Table = list[tuple[int, int, int, int]]


def spans_of(kind: int, settings: tuple[float, ...], key: int, words: int, sentences: list[int] | None = None) -> Table:
    """The cut as rows; fails where it writes behind the rows that `most_spans` grants."""
    firsts = np.array([0] if sentences is None and words else sentences or [], dtype=np.int32)
    most = most_spans(kind, words, len(firsts))
    guarded = np.full((most + 8, 4), -7, dtype=np.int32)
    four = np.array((*settings, 0, 0, 0, 0)[:4], dtype=np.float64)
    count = cut(kind, four, np.uint64(key), words, firsts, guarded[:most])
    assert count <= most
    assert np.all(guarded[most:] == -7)
    return [tuple(row) for row in guarded[:count].tolist()]


@st.composite
def documents(draw: st.DrawFn) -> tuple[int, list[int]]:
    """Words, and the first words of the sentences."""
    lengths = draw(st.lists(st.integers(1, 60), min_size=1, max_size=12))
    return sum(lengths), [0, *np.cumsum(lengths)[:-1].tolist()]


def covers(table: Table, words: int) -> bool:
    """Every word once, in order, in spans that are not empty."""
    return [word for _, start, end, _ in table for word in range(start, end)] == list(range(words)) and all(
        start < end for _, start, end, _ in table
    )


def chi_square(counts: np.ndarray) -> float:
    """Of counts that should be alike; its mean is one less than their number."""
    expected = counts.sum() / len(counts)
    return float(np.sum((counts - expected) ** 2) / expected)


def unlikely(freedom: int) -> float:
    """A chi-square above it comes once in some hundred thousand times (Wilson-Hilferty)."""
    return freedom * (1 - 2 / (9 * freedom) + 4.3 * math.sqrt(2 / (9 * freedom))) ** 3


# draws


def test_draws_are_splitmix64() -> None:
    """The published generator, seeded with 1234567: its first outputs."""
    state, found = 1_234_567, []
    for _ in range(3):
        state = (state + int(GOLDEN)) % 2**64
        found.append(int(mix(np.uint64(state))))
    assert found == [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 21, 100])
def test_integers_are_uniform(limit: int) -> None:
    key = np.uint64(document_key(1, 2, 3))
    draws = np.array([below(key, count, limit) for count in range(20_000)])
    counts = np.bincount(draws, minlength=limit)
    assert len(counts) == limit
    assert limit == 1 or chi_square(counts) < unlikely(limit - 1)


def test_integers_reach_both_ends_of_a_long_range() -> None:
    limit = 2**32 - 1
    draws = [below(np.uint64(key), 0, limit) for key in range(2000)]
    assert 0 <= min(draws) < limit // 300
    assert limit - limit // 300 < max(draws) < limit


def test_floats_are_uniform() -> None:
    draws = np.array([uniform(np.uint64(document_key(0, 0, document)), 5) for document in range(20_000)])
    assert draws.min() >= 0
    assert draws.max() < 1
    assert chi_square(np.bincount((draws * 50).astype(int), minlength=50)) < unlikely(49)
    assert abs(np.corrcoef(draws[1:], draws[:-1])[0, 1]) < 0.03


def test_every_part_of_the_key_matters() -> None:
    keys = {int(document_key(*parts)) for parts in np.ndindex(12, 12, 144)}
    assert len(keys) == 12 * 12 * 144
    near = [document_key(seed, epoch, document) for seed in (0, 1) for epoch in (0, 1) for document in (-1, 0, 1)]
    flips = [int(one ^ other).bit_count() for at, one in enumerate(near) for other in near[:at]]
    assert min(flips) > 10
    assert 30 < np.mean(flips) < 34


# cuts


def all_cuts(kind: int, settings: tuple[float, ...], seed: int, epoch: int) -> list[Table]:
    """Of 1,000 documents of 100 to 299 words."""
    return [
        spans_of(kind, settings, document_key(seed, epoch, document), 100 + document % 200) for document in range(1000)
    ]


@pytest.mark.parametrize(("kind", "settings"), [(SPANS, SPIRIT), (POISSON, GLM)])
def test_three_epochs_give_three_cuts_and_the_same_ones_again(kind: int, settings: tuple[float, ...]) -> None:
    epochs = [all_cuts(kind, settings, 5, epoch) for epoch in range(3)]
    assert [all_cuts(kind, settings, 5, epoch) for epoch in range(3)] == epochs
    for number, one in enumerate(epochs):
        for other in (*epochs[:number], all_cuts(kind, settings, 6, number)):
            same = sum(a == b for a, b in zip(one, other, strict=True))
            assert same <= 2
    by_words: dict[int, set[tuple]] = {}
    for table in epochs[0]:
        by_words.setdefault(table[-1][2], set()).add(tuple(table))
    assert sum(map(len, by_words.values())) > 990


def test_sentences_and_pairs_differ_between_epochs_too() -> None:
    sentences = list(range(0, 200, 5))
    for kind in (SENTENCES, ASR, TTS):
        found = {tuple(spans_of(kind, (1, 3), document_key(0, epoch, 9), 200, sentences)) for epoch in range(50)}
        assert len(found) == 50


@given(documents(), st.sampled_from([SPANS, POISSON, SENTENCES]), st.integers(1, 20), st.integers(0, 20), KEYS)
def test_spans_cover_the_words_in_order(
    document: tuple[int, list[int]], kind: int, least: int, more: int, key: int
) -> None:
    words, sentences = document
    settings = (least, more / 20) if kind == POISSON else (least, least + more, least + 1, least + 1 + more)
    table = spans_of(kind, settings, key, words, sentences)
    assert covers(table, words)
    assert [begins for *_, begins in table] == [NEW_DOCUMENT] + [GOES_ON] * (len(table) - 1)


@given(documents(), st.sampled_from([SPANS, SENTENCES]), st.integers(1, 9), st.integers(0, 9), KEYS)
def test_text_and_speech_take_turns(
    document: tuple[int, list[int]], kind: int, least: int, more: int, key: int
) -> None:
    table = spans_of(kind, (least, least + more, least, least + more), key, *document)
    assert all(one[0] != other[0] for one, other in pairwise(table))


@pytest.mark.parametrize("kind", [SPANS, SENTENCES])
def test_either_modality_begins_as_often(kind: int) -> None:
    begins = [spans_of(kind, (1, 2, 1, 2), document_key(0, 0, document), 9)[0][0] for document in range(4000)]
    assert 1850 < begins.count(TEXT) < 2150
    assert set(begins) == {TEXT, SPEECH}


@given(st.integers(1, 400), *[st.integers(1, 12), st.integers(0, 20)] * 2, KEYS)
def test_lengths_of_turns_stay_in_bounds(
    words: int, text: int, more_text: int, speech: int, more_speech: int, key: int
) -> None:
    bounds = {TEXT: (text, text + more_text), SPEECH: (speech, speech + more_speech)}
    table = spans_of(SPANS, (*bounds[TEXT], *bounds[SPEECH]), key, words)
    for modality, start, end, _ in table[:-1]:
        assert bounds[modality][0] <= end - start <= bounds[modality][1]
    modality, start, end, _ = table[-1]
    assert end - start <= bounds[modality][1]


def test_lengths_of_turns_are_uniform() -> None:
    lengths: dict[int, list[int]] = {TEXT: [], SPEECH: []}
    for document in range(300):
        for modality, start, end, _ in spans_of(SPANS, SPIRIT, document_key(3, 1, document), 1000)[:-1]:
            lengths[modality].append(end - start)
    for modality, (least, most) in {TEXT: (10, 30), SPEECH: (5, 15)}.items():
        counts = np.bincount(lengths[modality], minlength=most + 1)
        assert counts[:least].sum() == 0
        assert len(counts) == most + 1
        assert chi_square(counts[least:]) < unlikely(most - least)
    following = np.array(list(pairwise(lengths[TEXT])))
    assert abs(np.corrcoef(following.T)[0, 1]) < 0.06


def spoken(table: Table) -> int:
    return sum(end - start for modality, start, end, _ in table if modality == SPEECH)


@pytest.mark.parametrize("words", [1, 2, 3, 7, 20, 150])
@pytest.mark.parametrize("eta", [0.0, 0.1, 0.3, 0.85, 1.0])
def test_the_spoken_share_is_exact_in_the_mean(words: int, eta: float) -> None:
    shares = [spoken(spans_of(POISSON, (10, eta), document_key(0, 0, document), words)) for document in range(1000)]
    assert set(shares) <= {math.floor(eta * words), math.ceil(eta * words)}
    part = eta * words % 1
    assert abs(np.mean(shares) - eta * words) <= 4 * math.sqrt(part * (1 - part) / 1000) + 1e-9


@given(st.integers(1, 200), st.integers(1, 30), st.integers(0, 20), KEYS)
def test_speech_stands_between_text_unless_there_is_no_room(words: int, mean: int, twentieths: int, key: int) -> None:
    table = spans_of(POISSON, (mean, twentieths / 20), key, words)
    text_words = words - spoken(table)
    assert [row[0] for row in table].count(SPEECH) <= text_words + 1
    assert all(one[0] != other[0] for one, other in pairwise(table))


def test_spans_without_room_become_one() -> None:
    """Nineteen words in twenty are spoken, in spans of one or two: they cannot all stand apart."""
    for document in range(50):
        table = spans_of(POISSON, (0.5, 0.95), document_key(0, 0, document), 100)
        assert spoken(table) == 95
        assert sorted(end - start for modality, start, end, _ in table if modality == TEXT) == [1] * 5
        assert len(table) == 11


def test_lengths_of_spoken_spans_are_poisson() -> None:
    """Above zero: a span of no words is none."""
    mean, lengths = 10, []
    for document in range(60):
        table = spans_of(POISSON, (mean, 0.3), document_key(0, 0, document), 5000)
        lengths += [end - start for modality, start, end, _ in table if modality == SPEECH]
    counts = np.bincount(lengths, minlength=31).astype(float)
    share = np.array([math.exp(-mean) * mean**n / math.factorial(n) for n in range(31)])
    share[0] = 0
    few = share * len(lengths) < 20
    expected = share / share.sum() * len(lengths)
    assert len(lengths) > 5000
    assert np.sum((counts[~few] - expected[~few]) ** 2 / expected[~few]) < unlikely(int((~few).sum()) - 1)
    assert counts[few].sum() < 100
    assert counts[0] == 0


def test_spoken_spans_may_stand_anywhere() -> None:
    """The beginning, the middle and the end of documents are alike, but that few spans reach over the first word."""
    heard = np.zeros(60)
    for document in range(4000):
        for modality, start, end, _ in spans_of(POISSON, (3, 0.3), document_key(0, 0, document), 60):
            heard[start:end] += modality == SPEECH
    heard /= 4000
    assert abs(heard.mean() - 0.3) < 1e-9
    assert 0.28 < heard[8:-8].min() < heard[8:-8].max() < 0.35
    assert np.all(np.abs(heard - heard[::-1]) < 0.05)
    assert abs(heard[:20].mean() - heard[40:].mean()) < 0.01


@given(documents(), st.integers(1, 4), st.integers(0, 4), KEYS)
def test_sentences_stay_whole(document: tuple[int, list[int]], least: int, more: int, key: int) -> None:
    words, sentences = document
    table = spans_of(SENTENCES, (least, least + more), key, words, sentences)
    edges = [*sentences, words]
    turns = [edges.index(end) - edges.index(start) for _, start, end, _ in table]
    assert all(least <= turn <= least + more for turn in turns[:-1])
    assert 1 <= turns[-1] <= least + more


@given(documents(), st.sampled_from([ASR, TTS]), st.integers(1, 4), st.integers(0, 4), KEYS)
def test_pairs_say_the_same_words_twice(
    document: tuple[int, list[int]], kind: int, least: int, more: int, key: int
) -> None:
    words, sentences = document
    table = spans_of(kind, (least, least + more), key, words, sentences)
    questions, answers = table[0::2], table[1::2]
    assert covers(questions, words)
    assert [row[1:3] for row in questions] == [row[1:3] for row in answers]
    given = SPEECH if kind == ASR else TEXT
    assert {(row[0], row[3]) for row in questions} == {(given, NEW_DOCUMENT)}
    assert {(row[0], row[3]) for row in answers} == {(1 - given, ANSWER)}
    edges = [*sentences, words]
    sizes = [edges.index(end) - edges.index(start) for _, start, end, _ in questions]
    assert all(least <= size <= least + more for size in sizes[:-1])


@given(documents(), st.sampled_from([ASR, TTS]), st.integers(1, 4), st.integers(0, 4), KEYS)
def test_pairs_of_words_end_anywhere(
    document: tuple[int, list[int]], kind: int, least: int, more: int, key: int
) -> None:
    words, sentences = document
    table = spans_of(kind, (1, 1, least, least + more), key, words, sentences)
    questions, answers = table[0::2], table[1::2]
    assert covers(questions, words)
    assert [row[1:3] for row in questions] == [row[1:3] for row in answers]
    given = SPEECH if kind == ASR else TEXT
    assert {(row[0], row[3]) for row in questions} == {(given, NEW_DOCUMENT)}
    assert {(row[0], row[3]) for row in answers} == {(1 - given, ANSWER)}
    sizes = [end - start for _, start, end, _ in questions]
    assert all(least <= size <= least + more for size in sizes[:-1])
    assert 1 <= sizes[-1] <= least + more


@given(documents(), KEYS)
def test_documents_of_one_modality_are_one_span(document: tuple[int, list[int]], key: int) -> None:
    words, sentences = document
    assert spans_of(TEXT_ONLY, (), key, words, sentences) == [(TEXT, 0, words, NEW_DOCUMENT)]
    assert spans_of(SPEECH_ONLY, (), key, words, sentences) == [(SPEECH, 0, words, NEW_DOCUMENT)]


@pytest.mark.parametrize("kind", range(7))
def test_a_document_without_words_is_one_span_or_no_pair(kind: int) -> None:
    modality = TEXT if kind == TEXT_ONLY else SPEECH
    expected = [] if kind in (ASR, TTS) else [(modality, 0, 0, NEW_DOCUMENT)]
    assert spans_of(kind, (1, 1, 1, 1), 7, 0) == expected


@pytest.mark.parametrize(("kind", "settings"), [(SPANS, SPIRIT), (POISSON, GLM), (SENTENCES, (1, 2)), (ASR, (1, 2))])
def test_documents_of_one_word(kind: int, settings: tuple[float, ...]) -> None:
    for key in range(50):
        table = spans_of(kind, settings, key, 1)
        assert {row[1:3] for row in table} == {(0, 1)}
        assert len(table) == (2 if kind == ASR else 1)
