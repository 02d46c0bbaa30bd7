from collections import Counter
from itertools import islice

import pytest

from spiritlm.smallworld.scenarios import GOOD_MOODS, SCENARIOS
from spiritlm.smallworld.stories import ClozeItem, cloze_items, contradiction_items, stories


def test_stories_are_repeated_by_their_seed() -> None:
    first, again, other = (list(islice(stories("train", seed), 50)) for seed in (1, 1, 2))
    assert first == again != other


def test_no_text_twice_and_several_hundred_words() -> None:
    told = list(islice(stories("train", 0), 3000))
    assert len({story.text for story in told}) == 3000
    assert len({word.strip(".").lower() for story in told for word in story.text.split()}) > 400
    assert all(len(story.sentences) == 5 for story in told)


def test_no_combination_is_in_two_splits() -> None:
    combinations = {
        split: {(s.scenario, s.object, s.name) for s in islice(stories(split, 0), 2000)}
        for split in ("train", "dev", "test")
    }
    assert not combinations["train"] & (combinations["dev"] | combinations["test"])
    assert not combinations["dev"] & combinations["test"]


def test_the_ending_follows_from_the_beginning() -> None:
    for story in islice(stories("train", 3), 500):
        assert SCENARIOS[story.scenario].objects[story.object] in story.beginning[1]
        assert SCENARIOS[story.scenario].objects[story.object] in story.ending


@pytest.fixture(scope="module")
def items() -> list[ClozeItem]:
    return cloze_items(150, seed=0)


def test_partners_are_alike_but_for_the_meaning(items: list[ClozeItem]) -> None:
    assert len(items) == 300
    for one, two in zip(items[::2], items[1::2], strict=True):
        for item, other in ((one, two), (two, one)):
            assert item.wrong_ending.replace(item.story.name, "N") == other.story.ending.replace(other.story.name, "N")
            assert item.story.scenario != other.story.scenario
            assert (item.story.mood, item.story.pronoun) == (other.story.mood, other.story.pronoun)
            assert len(item.wrong_ending.split()) == len(item.story.ending.split())
            assert abs(len(item.wrong_ending) - len(item.story.ending)) <= 3
            assert item.story.split == "test"


def test_an_ending_alone_says_nothing(items: list[ClozeItem]) -> None:
    """Whatever is preferred in an ending is found in as many right as wrong ones."""
    right = Counter(w for item in items for w in item.story.ending.split() if w.strip(".") != item.story.name)
    wrong = Counter(w for item in items for w in item.wrong_ending.split() if w.strip(".") != item.story.name)
    assert right == wrong


@pytest.fixture(scope="module")
def contradictions() -> list[ClozeItem]:
    return contradiction_items(150, seed=0)


def test_contradictions_tell_of_the_same_what_does_not_follow(contradictions: list[ClozeItem]) -> None:
    assert len(contradictions) == 300
    for one, two in zip(contradictions[::2], contradictions[1::2], strict=True):
        assert (one.wrong_ending, two.wrong_ending) == (two.story.ending, one.story.ending)
        assert (one.story.name, one.story.scenario, one.story.object) == (
            two.story.name,
            two.story.scenario,
            two.story.object,
        )
        assert (one.story.mood in GOOD_MOODS) != (two.story.mood in GOOD_MOODS)
        assert len(one.story.ending.split()) == len(two.story.ending.split())
        assert abs(len(one.story.ending) - len(two.story.ending)) <= 3
        assert one.story.split == two.story.split == "test"
