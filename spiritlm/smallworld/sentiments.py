"""The small world's own STSP, in the layout that Spirit LM's is published in: prompts that sound, or say, how it goes.

In: voices of training and held-out ones. Out: what is to be recorded below `data`, and the lines of the manifests.

    manifest/emov/emov.test.jsonl                three sentences that tell nothing yet, the same in every mood
    manifest/expresso/expresso_read.test.jsonl   beginnings of four sentences, in the mood that their words have
    manifest/expresso/expresso_asr.test.jsonl    beginnings of four sentences, written
    manifest/few_shot/{t2t,t2s,s2t,s2s}.jsonl    stories of training, cut in the middle of their recordings

Prompts are of held-out stories, half of the spoken ones in voices of training and half in others. A mood is happy or
excited, which is positive, or sad or angry, which is negative; there is no neutral one, so that chance is 50 %, where
it is 33 in the published benchmark.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spiritlm.smallworld.scenarios import BAD_MOODS, GOOD_MOODS, SCENARIOS
from spiritlm.smallworld.stories import Split, Story, stories
from spiritlm.smallworld.telling import Telling

MOODS = (*GOOD_MOODS, *BAD_MOODS)
NEUTRAL = 3
"""Sentences of a story that are told alike whether it ends well or badly."""
EXAMPLES = 24
"""Stories to draw examples from: a multiple of the moods."""
EMOV, READ, TOLD = Path("emov"), Path("expresso/read"), Path("expresso/conversational")
"""Folders of recordings below `data`."""


@dataclass(frozen=True)
class SentimentPlan:
    tellings: dict[Path, list[Telling]]
    """By the folder of their recordings, below `data`."""
    written: list[Story]
    """Those whose beginnings are read."""

    def manifests(self, facts: Mapping[Path, Sequence[Mapping[str, Any]]]) -> dict[Path, list[dict[str, Any]]]:
        """Lines of JSON by path. `facts`: of each folder the rows of its recordings, in order, as `read_shard` gives
        them; only those of the examples are looked at, whose words are cut where their recordings are."""
        examples = [_halves(telling, row) for telling, row in zip(self.tellings[TOLD], facts[TOLD], strict=True)]
        return {
            Path("manifest/emov/emov.test.jsonl"): self._records(EMOV),
            Path("manifest/expresso/expresso_read.test.jsonl"): self._records(READ),
            Path("manifest/expresso/expresso_asr.test.jsonl"): [
                _record(number, story.mood, asr=" ".join(story.beginning)) for number, story in enumerate(self.written)
            ],
            **{
                Path(f"manifest/few_shot/{asked}2{told}.jsonl"): [
                    {"prompt": first[asked], "generation": second[told], "sentiment": sentiment(telling.moods[0])}
                    for telling, (first, second) in zip(self.tellings[TOLD], examples, strict=True)
                ]
                for asked in "ts"
                for told in "ts"
            },
        }

    def _records(self, folder: Path) -> list[dict[str, Any]]:
        return [
            _record(number, told.moods[0], wav_path=str(folder / f"{told.id}.wav"), speaker=told.voice)
            for number, told in enumerate(self.tellings[folder])
        ]


def sentiment(mood: str) -> str:
    return "positive" if mood in GOOD_MOODS else "negative"


def plan_sentiments(prompts: int, seed: int, seen: Sequence[str], unseen: Sequence[str]) -> SentimentPlan:
    """Every mood as often in voices of either kind. `prompts`: of each manifest, rounded down to a multiple of 8, at
    least 8. `seen` and `unseen`: voices, at least one of each. The same arguments give the same plan."""
    texts, kinds, rng = 2 * max(1, prompts // 8), (seen, unseen), random.Random(f"{seed}-sentiments")
    prompts = texts * len(MOODS)
    told = _balanced("test", seed, texts + 2 * prompts)
    emov = [
        _telling(f"{number:04d}", story, NEUTRAL, voice, mood)
        for number, story in enumerate(told[:texts])
        for voice in [rng.choice(kinds[number % 2])]
        for mood in MOODS
    ]
    read = [
        _telling(f"{number:04d}", story, len(story.beginning), rng.choice(kinds[number // len(MOODS) % 2]), story.mood)
        for number, story in enumerate(told[texts:-prompts])
    ]
    examples = [
        _telling(f"{number:04d}", story, len(story.sentences), rng.choice(seen), story.mood)
        for number, story in enumerate(_balanced("train", seed, EXAMPLES))
    ]
    return SentimentPlan({EMOV: emov, READ: read, TOLD: examples}, told[-prompts:])


def _balanced(split: Split, seed: int, count: int) -> list[Story]:
    """The first stories of a split, moods in turn."""
    waiting: dict[str, list[Story]] = {mood: [] for mood in MOODS}
    found: list[Story] = []
    for story in stories(split, seed):
        waiting[story.mood].append(story)
        while len(found) < count and (there := waiting[MOODS[len(found) % len(MOODS)]]):
            found.append(there.pop(0))
        if len(found) == count:
            break
    return found


def _telling(id: str, story: Story, sentences: int, voice: str, mood: str) -> Telling:
    place = SCENARIOS[story.scenario].place
    return Telling(f"{id}_{mood}", story.sentences[:sentences], voice, (mood,) * sentences, place)


def _record(number: int, mood: str, **told: str) -> dict[str, Any]:
    return {"id": number, "emotion": mood, "sentiment": sentiment(mood), "split": "test", **told}


def _halves(telling: Telling, row: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """Of a recording cut in its middle: `s`, its path, and `t`, the words of which most is in each half."""
    words = [word for sentence in row["sentences"] for word in sentence]
    first = [text for text, start, end in words if start + end <= row["duration"]]
    second = [text for text, _, _ in words[len(first) :]]
    path = str(TOLD / f"{telling.id}.wav")
    return {"s": path, "t": " ".join(first)}, {"s": path, "t": " ".join(second)}
