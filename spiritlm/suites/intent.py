"""Fluent Speech Commands: what does a spoken command want, told from examples?

    FOLDER/data/{train,valid,test}_data.csv    path (below FOLDER), speakerId, transcription, action, object, location
    FOLDER/wavs/speakers/SPEAKER/*.wav

The prompt is Spirit LM's (appendix B): SOUND "A:activate lights bedroom" ... SOUND "A:". A label is action, object and
location; what is `none` is left out of it. Examples are of `train`, of every intent as many, give or take one. An
answer is right where it is the label, spaces and case aside. A model that may only write has no way to end where its
examples do, by the next sound: so of an answer counts the longest label that it begins with, and the rest does not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from spiritlm.errors import InputError
from spiritlm.inference.request import greedy
from spiritlm.scoring.protocol import Answer, Question, Sound
from spiritlm.suites.asked import AskedTask, Grade, Item
from spiritlm.suites.gold import Row, read_table
from spiritlm.suites.shots import balanced, prompt, spread

VERSION = 1
SPLITS = ("test", "valid")
"""That can be asked."""
FROM = "train"
SLOTS = ("action", "object", "location")
NONE, FLAG = "none", "A:"
LABEL_TOKENS = 24
"""Of an answer, at most: labels have up to four words."""


class Command(NamedTuple):
    id: str
    """Its path."""
    sound: Sound
    label: str
    speaker: str
    transcription: str


def read(folder: Path, split: str | None, shots: int = 30, most: int | None = None, seed: int = 0) -> AskedTask:
    """`intent SPLIT N-shot`, of `test` where `split` is None; at most `most` commands, evenly spread.

    Raises `InputError` for another split, a table that lacks a column or names a recording twice or one that is not
    there, a command that wants nothing, and where there are too few examples.
    """
    split = split or SPLITS[0]
    if split not in SPLITS:
        raise InputError(f"{folder}: split {split!r}: expected {' or '.join(SPLITS)}, examples are of {FROM}")
    commands = _commands(folder, split)
    shown: dict[str, list[Command]] = defaultdict(list)
    for command in _commands(folder, FROM) if shots else []:
        shown[command.label].append(command)
    some = spread(commands, most)
    items = []
    for command in some:
        examples = balanced(shown, shots, f"{seed}-{command.id}", f"{folder}: {FROM}")
        pieces = prompt([(one.sound, FLAG + one.label) for one in examples], command.sound, FLAG)
        question = Question(pieces, "text", greedy(LABEL_TOKENS))
        labels = {"speaker": command.speaker, "intent": command.label}
        items.append(Item(command.id, question, (command.label,), labels))
    judge = partial(grade_labels, labels=sorted({*shown, *(command.label for command in commands)}))
    note = f"{shots} examples of {FROM}, intents balanced"
    name = f"intent {split}" + (f" {shots}-shot" if shots else "")
    return AskedTask(name, VERSION, split, items, judge, "accuracy", len(commands) - len(some), note)


def _commands(folder: Path, split: str) -> list[Command]:
    table = folder / "data" / f"{split}_data.csv"
    found: dict[str, Command] = {}
    for number, row in enumerate(read_table(table, ["path", "speakerId", "transcription", *SLOTS]), 2):
        path = row["path"].strip()
        if path in found:
            raise InputError(f"{table}: row {number}: recording {path!r} is there twice, expected once")
        if not (folder / path).is_file():
            raise InputError(f"{table}: row {number}: {folder / path}: expected a recording, but there is none")
        if not (label := label_of(row)):
            raise InputError(f"{table}: row {number}: {', '.join(SLOTS)} are {NONE}, expected an intent")
        sound = Sound(str(folder / path), folder / path)
        found[path] = Command(path, sound, label, row["speakerId"].strip(), row["transcription"].strip())
    return list(found.values())


def label_of(row: Row) -> str:
    return plain(" ".join(row[slot] for slot in SLOTS if plain(row[slot]) != NONE))


def plain(text: str) -> str:
    """Small letters, words a space apart."""
    return " ".join(text.lower().split())


def grade_labels(items: Sequence[Item], answers: Sequence[Answer], labels: Sequence[str]) -> list[Grade]:
    """`heard` is the label, or all of an answer that begins with none."""
    grades = []
    for item, answer in zip(items, answers, strict=True):
        text = plain(str(answer))
        begun = [label for label in labels if f"{text} ".startswith(f"{label} ")]
        heard = max(begun, key=len, default=text)
        grades.append(Grade(float(heard == item.expected[0]), 1.0, heard))
    return grades
