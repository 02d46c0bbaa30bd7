"""Single sentences of stories read by known and by unknown voices, in the layout of LibriSpeech.

    test-clean   sentences of test stories, in voices of training
    test-other   the same sentences, in voices that are never heard in training: what differs is the voice
    dev-clean    sentences of training stories, in voices of training, for examples

    SPLIT/SPEAKER/CHAPTER/SPEAKER-CHAPTER-NUMBER.wav, SPEAKER-CHAPTER.trans.txt; SPEAKERS.TXT: whose voice a number is
    items.csv: `name` of each recording, its `voice`, and at which `place` of its story (1 to 5) the sentence stands

Recordings are .wav, where LibriSpeech's are .flac: the readers take both. Transcripts have capitals and full stops, as
the stories have. A sentence may stand anywhere in its story; out of context, a small model takes many for another (15 %
of words wrong in first sentences, 40 to 54 in others, of the quickstart's model), so read the table by `place`. Stories
share sentences: some 70 of 100 are in the quickstart's training text too, word by word, and are not easier for it. None
of `dev-clean` is one of the test splits, and none is there twice in a split.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from spiritlm.errors import InputError
from spiritlm.smallworld.recording import Shard
from spiritlm.smallworld.scenarios import SCENARIOS
from spiritlm.smallworld.stories import Split, stories
from spiritlm.smallworld.telling import Telling

MOOD = "happy"
"""The mood that changes a voice least."""
WORDS = range(3, 13)
"""Of a sentence."""
CHAPTER = 32
"""Sentences in one, at most."""
DRY = 500
"""Stories in a row without a new sentence that end the search for one."""


class Line(NamedTuple):
    text: str
    scenario: str
    place: int
    """In its story, from 1 on."""


@dataclass(frozen=True)
class Chapter:
    """Some sentences in one voice."""

    split: str
    speaker: int
    number: int
    voice: str
    lines: tuple[Line, ...]

    @property
    def name(self) -> str:
        return f"{self.speaker}-{self.number}"

    @property
    def folder(self) -> Path:
        return Path(self.split, str(self.speaker), str(self.number))

    @property
    def tellings(self) -> tuple[Telling, ...]:
        return tuple(
            Telling(f"{self.name}-{number:04d}", (line.text,), self.voice, (MOOD,), line.scenario)
            for number, line in enumerate(self.lines)
        )

    @property
    def transcripts(self) -> str:
        return "".join(f"{telling.id} {telling.sentences[0]}\n" for telling in self.tellings)


def plan(seen: Sequence[str], unseen: Sequence[str], sentences: int, seed: int) -> list[Chapter]:
    """`sentences` of each split, shared out among the voices heard in training, `seen`, or never. Raises `InputError`
    where the world has not so many."""
    test = _lines("test", sentences, seed)
    dev = _lines("train", sentences, seed, {line.text for line in test})
    speakers = {voice: number for number, voice in enumerate([*sorted(set(seen)), *sorted(set(unseen))], 1)}
    parts = (("dev-clean", seen, dev), ("test-clean", seen, test), ("test-other", unseen, test))
    chapters: list[Chapter] = []
    for split, voices, lines in parts:
        for voice, own in _shared_out(lines, sorted(set(voices))).items():
            for first in range(0, len(own), CHAPTER):
                some = tuple(own[first : first + CHAPTER])
                chapters.append(Chapter(split, speakers[voice], len(chapters) + 1, voice, some))
    return chapters


def shards(chapters: Sequence[Chapter], folder: Path) -> list[Shard]:
    """A chapter each, to be recorded below `folder`, relative to that of the stage."""
    return [Shard(f"read-{chapter.number:05d}", folder / chapter.folder, chapter.tellings) for chapter in chapters]


def texts(chapters: Sequence[Chapter]) -> dict[Path, str]:
    """Files of text by their path below the folder of the benchmark."""
    found = {chapter.folder / f"{chapter.name}.trans.txt": chapter.transcripts for chapter in chapters}
    speakers = sorted({(chapter.speaker, chapter.split, chapter.voice) for chapter in chapters})
    rows = "".join(f"{speaker:<4}| {split:<12}| {voice}\n" for speaker, split, voice in speakers)
    items = "".join(
        f"{telling.id},{telling.voice},{line.place}\n"
        for chapter in chapters
        for telling, line in zip(chapter.tellings, chapter.lines, strict=True)
    )
    named = {"SPEAKERS.TXT": f";ID | SUBSET      | VOICE\n{rows}", "items.csv": f"name,voice,place\n{items}"}
    return {**found, **{Path(name): text for name, text in named.items()}}


def _lines(split: Split, count: int, seed: int, without: Collection[str] = ()) -> list[Line]:
    """One of a story, each text once."""
    rng, found, left = random.Random(f"{seed}-read-{split}"), dict[str, Line](), DRY
    for story in stories(split, seed):
        place = rng.randrange(len(story.sentences))
        text = story.sentences[place]
        if len(text.split()) in WORDS and text not in without and text not in found:
            found[text], left = Line(text, SCENARIOS[story.scenario].place, place + 1), DRY
        left -= 1
        if len(found) == count or not left:
            break
    if len(found) < count:
        raise InputError(f"sentences = {count}: the stories of {split} have not so many, found {len(found)}")
    return list(found.values())


def _shared_out(lines: Sequence[Line], voices: Sequence[str]) -> dict[str, list[Line]]:
    found: dict[str, list[Line]] = defaultdict(list)
    for number, line in enumerate(lines):
        found[voices[number % len(voices)]].append(line)
    return found
