"""Seeded five-sentence stories whose ending follows from their beginning, and endings that do not.

A story is a combination of scenario, object and protagonist; it ends well or badly, which sets the mood it is told
in. A digest of the combination decides its split, so no held-out story shares its combination with training.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from spiritlm.smallworld.scenarios import BAD_MOODS, COMPANIONS, FEELINGS, GOOD_MOODS, NAMES, SCENARIOS

Split = Literal["train", "dev", "test"]

HELD_OUT = {0: "dev", 1: "test"}
"""Of eight parts of all combinations, which splits two of them belong to; the others are for training."""
LETTERS = 3
"""Most letters by which the two endings of a cloze item differ."""


@dataclass(frozen=True)
class Story:
    """Four sentences and an ending that follows from them."""

    scenario: int
    object: int
    pronoun: Literal["he", "she"]
    name: str
    mood: str
    feeling: str
    frame: int
    """Which of the forms of `tell_ending` the ending has."""
    beginning: tuple[str, str, str, str]

    @property
    def split(self) -> str:
        combination = f"{self.scenario}-{self.object}-{self.name}"
        part = hashlib.sha256(combination.encode()).digest()[0] % 8
        return HELD_OUT.get(part, "train")

    @property
    def action(self) -> str:
        """What happens in the end, the protagonist left out."""
        scenario = SCENARIOS[self.scenario]
        form = scenario.good_end if self.mood in GOOD_MOODS else scenario.bad_end
        return form.format(o=scenario.objects[self.object])

    @property
    def ending(self) -> str:
        return tell_ending(self, self.action, self.feeling)

    @property
    def sentences(self) -> tuple[str, ...]:
        return (*self.beginning, self.ending)

    @property
    def text(self) -> str:
        return " ".join(self.sentences)


@dataclass(frozen=True)
class ClozeItem:
    """A held-out story and an ending that is not its own.

    Items come in pairs of stories, nearly equal in the length of their endings. The wrong ending of each is the right
    ending of the other, told of its own protagonist: every ending is once right and once wrong, so a scorer that looks
    at endings alone is at chance.
    """

    story: Story
    wrong_ending: str


def tell_ending(story: Story, action: str, feeling: str) -> str:
    """A fifth sentence for `story` in which `action` happens."""
    subject = story.pronoun.capitalize()
    return (
        f"In the end {story.name} {action}.",
        f"{subject} {action} and felt {feeling}.",
        f"{story.name} was {feeling} and {action}.",
        f"Finally {story.pronoun} {action}.",
    )[story.frame]


def stories(split: Split, seed: int) -> Iterator[Story]:
    """Stories of one split without end, no text twice; the same seed gives the same stories."""
    rng = random.Random(f"{seed}-{split}")
    told: set[str] = set()
    while True:
        story = _story(rng)
        if story.split == split and story.text not in told:
            told.add(story.text)
            yield story


def cloze_items(pairs: int, seed: int) -> list[ClozeItem]:
    """`2 * pairs` items over stories of the test split, partners next to each other: the wrong ending is of another
    scenario, and the same in mood, pronoun, form and feeling."""

    def shape(story: Story) -> tuple[object, ...]:
        return story.mood, story.pronoun, story.frame, story.feeling, len(story.action.split())

    def fits(story: Story, other: Story) -> bool:
        return story.scenario != other.scenario and abs(len(story.action) - len(other.action)) <= LETTERS

    return _exchanged(pairs, seed, shape, fits)


def contradiction_items(pairs: int, seed: int) -> list[ClozeItem]:
    """`2 * pairs` items over stories of the test split, partners next to each other: the wrong ending is of the same
    protagonist, scenario and object, and ends badly what began well, or the other way about."""

    def shape(story: Story) -> tuple[object, ...]:
        return story.name, story.scenario, story.object, story.frame, len(story.ending.split())

    def fits(story: Story, other: Story) -> bool:
        is_flipped = (story.mood in GOOD_MOODS) != (other.mood in GOOD_MOODS)
        return is_flipped and abs(len(story.ending) - len(other.ending)) <= LETTERS

    return _exchanged(pairs, seed, shape, fits)


def _exchanged(
    pairs: int, seed: int, shape: Callable[[Story], tuple[object, ...]], fits: Callable[[Story, Story], bool]
) -> list[ClozeItem]:
    """Two stories of the same shape that fit each other exchange their endings."""
    items: list[ClozeItem] = []
    waiting: dict[tuple[object, ...], list[Story]] = {}
    for story in stories("test", seed):
        others = waiting.setdefault(shape(story), [])
        partner = next((other for other in others if fits(story, other)), None)
        if partner is None:
            others.append(story)
            continue
        others.remove(partner)
        items += [
            ClozeItem(partner, tell_ending(partner, story.action, story.feeling)),
            ClozeItem(story, tell_ending(story, partner.action, partner.feeling)),
        ]
        if len(items) == 2 * pairs:
            break
    return items


def _story(rng: random.Random) -> Story:
    pronoun: Literal["he", "she"] = rng.choice(("he", "she"))
    name, scenario, object = rng.choice(NAMES[pronoun]), rng.randrange(len(SCENARIOS)), rng.randrange(3)
    mood = rng.choice((*GOOD_MOODS, *BAD_MOODS))
    return Story(
        scenario=scenario,
        object=object,
        pronoun=pronoun,
        name=name,
        mood=mood,
        feeling=rng.choice(FEELINGS[mood]),
        frame=rng.randrange(4),
        beginning=_beginning(rng, scenario, object, pronoun, name, mood in GOOD_MOODS),
    )


def _beginning(
    rng: random.Random, scenario: int, object: int, pronoun: str, name: str, good: bool
) -> tuple[str, str, str, str]:
    place, wish, objects, tool, misfortune, fortune, _, _ = SCENARIOS[scenario]
    thing, companion = objects[object], rng.choice(COMPANIONS)
    he, his = pronoun, {"he": "his", "she": "her"}[pronoun]
    event = fortune if good else misfortune
    choices = (
        (
            f"{name} went to the {place} with {his} {companion}.",
            f"One morning {name} walked to the {place}.",
            f"{name} and {his} {companion} visited the {place}.",
            f"Last week {name} was at the {place}.",
        ),
        (
            f"{he.capitalize()} wanted to {wish} {thing}.",
            f"{his.capitalize()} dream was to {wish} {thing}.",
            f"{he.capitalize()} hoped to {wish} {thing}.",
            f"The plan was to {wish} {thing}.",
        ),
        (
            f"{he.capitalize()} brought the {tool} from home.",
            f"{his.capitalize()} {companion} gave {name} the {tool}.",
            f"First {he} needed the {tool}.",
            f"The {tool} was ready by noon.",
        ),
        (
            f"Luckily {event}." if good else f"Sadly {event}.",
            f"Then {event}.",
            f"Soon {he} saw that {event}.",
            f"That day {event}.",
        ),
    )
    first, second, third, fourth = (rng.choice(forms) for forms in choices)
    return first, second, third, fourth
