import random
from collections import Counter
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spiritlm.errors import InputError
from spiritlm.scoring.accuracy import pair_win
from spiritlm.scoring.ngram import NGram
from spiritlm.scoring.rows import TokenRequest
from spiritlm.smallworld.minimal_pairs import SUBTYPES, MinimalPair, minimal_pairs, told_texts
from spiritlm.smallworld.stories import stories

TRAIN = list(islice(stories("train", 0), 4500))
TOLD = told_texts(story.sentences for story in TRAIN)


def words(text: str) -> list[str]:
    return text.lower().replace(".", "").split()


@pytest.fixture(scope="module")
def pairs() -> list[MinimalPair]:
    return minimal_pairs(1000, 0, TOLD)


def test_every_subtype_is_there_by_turns(pairs: list[MinimalPair]) -> None:
    assert Counter(pair.subtype for pair in pairs) == dict.fromkeys(SUBTYPES, 100)
    assert all(pair.type == SUBTYPES[pair.subtype].type for pair in pairs)


def test_no_text_is_there_twice_or_in_training(pairs: list[MinimalPair]) -> None:
    assert len({(pair.subtype, pair.right) for pair in pairs}) == 1000
    assert not {pair.right for pair in pairs} & TOLD
    assert not {pair.wrong for pair in pairs} & TOLD
    assert not {pair.right for pair in pairs} & {pair.wrong for pair in pairs}


def test_partners_exchange_right_and_wrong(pairs: list[MinimalPair]) -> None:
    for one, two in zip(pairs[::2], pairs[1::2], strict=True):
        assert one.subtype == two.subtype
        right, wrong = (Counter(words(one[side]) + words(two[side])) for side in (2, 3))
        assert right == wrong
        assert all(len(pair.right.split()) == len(pair.wrong.split()) for pair in (one, two))


@pytest.mark.parametrize(
    ("subtype", "forms"),
    [("his_with", "his her"), ("his_before", "his her"), ("he_after", "he she"), ("himself", "himself herself"),
     ("a_an", "a an"), ("was_were", "was were")],
)  # fmt: skip
def test_only_the_form_differs(pairs: list[MinimalPair], subtype: str, forms: str) -> None:
    for pair in pairs:
        if pair.subtype == subtype:
            differing = [{a, b} for a, b in zip(words(pair.right), words(pair.wrong), strict=True) if a != b]
            assert differing == [set(forms.split())]


def test_words_of_right_members_are_those_of_training_but_for_one_subtype(pairs: list[MinimalPair]) -> None:
    known = {word for story in TRAIN for word in words(story.text)}
    for pair in pairs:
        unknown = set(words(pair.right)) - known
        assert unknown <= ({"himself", "herself"} if pair.subtype == "himself" else set()), pair


@settings(max_examples=10)
@given(st.integers())
def test_single_words_and_lengths_are_at_chance(pairs: list[MinimalPair], seed: int) -> None:
    rng = random.Random(seed)
    worth: dict[str, float] = {}
    for score in (
        lambda text: sum(worth.setdefault(word, rng.random()) for word in words(text)),
        lambda text: len(text) * 1.0,
        lambda text: -len(text) * 1.0,
    ):
        gains = [score(pair.right) - score(pair.wrong) for pair in pairs]
        assert sum(0.5 if abs(gain) < 1e-9 else gain > 0 for gain in gains) == 500


def test_what_ngrams_know(pairs: list[MinimalPair]) -> None:
    """Single words nothing at all; three in a row all that is told by neighbours, and nothing of what is farther."""
    ids: dict[str, int] = {"<s>": 0}
    sequences = [np.array([0, *(ids.setdefault(w, len(ids)) for w in words(story.text))]) for story in TRAIN]

    def request(text: str) -> TokenRequest:
        return TokenRequest(np.zeros(1, np.int64), np.array([ids.setdefault(word, len(ids)) for word in words(text)]))

    requests = [request(text) for pair in pairs for text in (pair.right, pair.wrong)]
    share: dict[int, dict[str, float]] = {}
    for order in (1, 3):
        scores = NGram(sequences, 600, order).loglikelihood(requests)
        wins = dict.fromkeys(SUBTYPES, 0.0)
        for pair, right, wrong in zip(pairs, scores[::2], scores[1::2], strict=True):
            wins[pair.subtype] += pair_win(right.total, wrong.total)
        share[order] = {subtype: wins[subtype] / 100 for subtype in SUBTYPES}
    assert set(share[1].values()) == {0.5}
    far, near = ("his_with", "his_before", "himself"), ("his_and", "a_an", "was_were", "base_past", "the_noun")
    assert all(abs(share[3][subtype] - 0.5) <= 0.1 for subtype in far), share[3]
    assert all(share[3][subtype] >= 0.9 for subtype in near), share[3]


def test_the_seed_repeats_and_matters() -> None:
    assert minimal_pairs(40, 1) == minimal_pairs(40, 1) != minimal_pairs(40, 2)
    assert len(minimal_pairs(30, 1)) == 30


def test_more_than_there_are_is_one_line() -> None:
    with pytest.raises(InputError, match=r"held-out stories give .* pairs of himself, expected 1000"):
        minimal_pairs(10_000, 0)


def test_told_texts_are_sentences_and_neighbours() -> None:
    assert told_texts([["A b.", "C.", "D."], ["E."]]) == {"A b.", "C.", "D.", "A b. C.", "C. D.", "E."}
