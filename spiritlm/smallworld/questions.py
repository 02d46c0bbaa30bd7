"""Questions that a model of the small world answers by telling on: half-told stories, in OpenAudioBench's layout.

    topic_qa.csv, outcome_qa.csv      question, answers, audio_filename, and what is known of the story
    audios/0000.wav ...               the question told aloud

Such a model knows no questions, so one is a held-out story without its end, and right is a word of the true one. Two
sets ask of the same recordings:

- `topic_qa`: what it is about. Right is the object of the story ("fish"), one of 66, and one of three to who knows the
  scenario. Every true ending names it and so does the beginning: who repeats what was heard is right too, for that is
  listening.
- `outcome_qa`: how it ended. Right is a word of what happened in the end that no other ending of the world has and no
  beginning ("fried" or "dinner"; "rowed" or "without"): nothing can be repeated.

Stories come in pairs of one protagonist, scenario and object, of which one ends well and the other badly, told in one
voice and one mood. So who understands what a story is about and not how it goes is right in half of outcome_qa at most,
by construction; who tells the end of any story whatever, in about one of 40. Two scenarios are left out (forest,
office): one of their endings has no word of its own.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from spiritlm.smallworld.scenarios import GOOD_MOODS, SCENARIOS
from spiritlm.smallworld.stories import Story, stories, tell_ending
from spiritlm.smallworld.telling import Telling

SETS = ("topic_qa", "outcome_qa")
AUDIOS = Path("audios")
MANY = 4000
"""Stories that have all words of beginnings."""


class Plan(NamedTuple):
    """What is to be recorded and written into a folder."""

    tellings: list[tuple[Telling]]
    """One a story, partners next to each other; they belong into `AUDIOS`."""
    files: dict[Path, str]
    """Texts by their path."""


def plan(couples: int, seed: int, voices: Iterable[tuple[str, str]]) -> Plan:
    """`2 * couples` questions of each set. `voices`: for each a voice heard in training and a held-out one, the same
    for partners; couples are told by the one and the other in turns."""
    told = half_told(couples, seed)
    tellings = []
    for number, (story, both) in enumerate(zip(told, voices, strict=False)):
        couple = number // 2
        mood = told[2 * couple + couple // 2 % 2].mood  # of either partner, so that no voice says how it ends
        place = SCENARIOS[story.scenario].place
        tellings.append((Telling(f"{number:04d}", story.beginning, both[couple % 2], (mood,) * 4, place),))
    return Plan(tellings, {Path(f"{name}.csv"): _table(list(_rows(name, told, tellings))) for name in SETS})


def half_told(couples: int, seed: int) -> list[Story]:
    """Stories of the test split, partners next to each other; the same seed gives the same ones."""
    waiting: dict[tuple[object, ...], list[Story]] = {}
    found: list[Story] = []
    for story in stories("test", seed):
        if len(found) == 2 * couples:
            break
        if not outcome_words(story):
            continue
        kind = story.name, story.scenario, story.object
        if others := waiting.get((*kind, not _ends_well(story))):
            found += [others.pop(), story]
        else:
            waiting.setdefault((*kind, _ends_well(story)), []).append(story)
    return found


def topic_words(story: Story) -> tuple[str, ...]:
    return (SCENARIOS[story.scenario].objects[story.object],)


def outcome_words(story: Story) -> tuple[str, ...]:
    """Words of what happens in the end that are nowhere else in the world, in the order they are said."""
    return tuple(word for word in _words(story.action) if _endings()[word] == 1 and word not in _said_before())


@cache
def _endings() -> Counter[str]:
    """In how many of the world's endings each word is; objects left out."""
    forms = (form.format(o="") for scenario in SCENARIOS for form in (scenario.good_end, scenario.bad_end))
    return Counter(word for form in forms for word in set(_words(form)))


@cache
def _said_before() -> set[str]:
    """Words of beginnings, and of the forms of endings that tell of nothing yet."""
    some = list(islice(stories("train", 0), MANY))
    frames = [tell_ending(replace(some[0], frame=frame), "", "") for frame in range(4)]
    return {word for text in (*frames, *(text for story in some for text in story.beginning)) for word in _words(text)}


def _words(text: str) -> list[str]:
    return text.lower().replace(".", "").split()


def _ends_well(story: Story) -> bool:
    return story.mood in GOOD_MOODS


def _rows(name: str, told: Sequence[Story], tellings: Sequence[tuple[Telling]]) -> Iterator[dict[str, str]]:
    words = topic_words if name == "topic_qa" else outcome_words
    for story, (telling,) in zip(told, tellings, strict=True):
        yield {
            "question": " ".join(story.beginning),
            "answers": ";".join(words(story)),
            "audio_filename": f"{telling.id}.wav",
            "voice": telling.voice,
            "mood": telling.moods[0],
            "scenario": telling.scenario,
            "ends": "well" if _ends_well(story) else "badly",
        }


def _table(rows: Sequence[dict[str, str]]) -> str:
    table = io.StringIO()
    writer = csv.DictWriter(table, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return table.getvalue()
