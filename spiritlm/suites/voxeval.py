"""VoxEval: MMLU asked aloud and answered aloud, behind examples that are heard too.

    test/SUBJECT.csv                                             MMLU's columns, no header: the letter is the sixth
    test/TIMBRE/SUBJECT/00000000_question.mp3, ..._answer.mp3    of each row of the table
    all_fewshot_examples/TIMBRE/SUBJECT/00000000_question.mp3, ...

SUBJECT ends in `_4o` (spelt out to be spoken) or `_test`; the examples of `NAME_test` are in `NAME_val`, or in
`NAME_test`. What is heard is one recording: examples, their answers and the question, a second of silence between any
two, cut to its last 80 seconds, as VoxEval's own program has it. It is made when it is listened to, for those of a
timbre together fill 50 GB.

The answer is heard by a recogniser and becomes a letter by rule 1: the first of A, B, C and D that stands alone. "A"
before another word is an article, unless it follows is, answer, option, choice or letter. Where there is none, what
sounds like one (be, bee, see, sea, dee, ay, eh) counts if it is all that was said or follows those words. An answer
without a letter is wrong. VoxEval publishes no rule, so figures are near its own and not the same. Its examples that
think aloud (`math_CoT_fewshot`) are not read.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from spiritlm.audio.files import read_audio
from spiritlm.errors import InputError
from spiritlm.inference.request import greedy
from spiritlm.run.files import read_bytes
from spiritlm.scoring.judges import Judges, Recognizer
from spiritlm.scoring.protocol import Answer, Question, Sound
from spiritlm.suites.asked import AskedTask, Grade, Item
from spiritlm.suites.pairs import ITEM
from spiritlm.suites.shots import spread
from spiritlm.suites.spoken_qa import transcripts

VERSION = 1
"""Of the task, and of the rule by which an answer is a letter."""
NAME = "voxeval S>S"
TEST, EXAMPLES = "test", "all_fewshot_examples"
SHOTS = 5
RATE = 24_000
"""Hz, of VoxEval's recordings; what has another rate is resampled to it."""
PAUSE, LAST = 1, 80
"""Seconds of silence, and of what is heard."""
NEW_TOKENS = 300
"""Of an answer, at most."""
LETTERS = "ABCD"
POINTING = ("is", "answer", "option", "choice", "letter")
"""Words behind which a letter is meant."""
ALIKE = {"be": "B", "bee": "B", "see": "C", "sea": "C", "dee": "D", "ay": "A", "eh": "A"}

_WORD = re.compile(r"([\w']+)\s*([^\w\s']?)")


class Exam(Sound):
    """Recordings one after the other: a WAV of 16 bits that is made anew whenever it is asked for."""

    parts: tuple[Path, ...]
    """At least one: examples, their answers, the question."""

    def __init__(self, name: str, parts: tuple[Path, ...]) -> None:
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "parts", parts)

    @property
    def source(self) -> bytes:
        *examples, question = self.parts
        wave = np.concatenate([_joined(tuple(examples)), read_audio(question, RATE)])[-LAST * RATE :]
        file = io.BytesIO()
        soundfile.write(file, wave, RATE, subtype="PCM_16", format="WAV")
        return file.getvalue()


@lru_cache(maxsize=8)
def _joined(parts: tuple[Path, ...]) -> np.ndarray:
    """With silence after each, float32 `[samples]`; the questions of a subject have the same ones before them."""
    silence = np.zeros(PAUSE * RATE, np.float32)
    waves = [wave for part in parts for wave in (read_audio(part, RATE), silence)]
    return np.concatenate([np.zeros(0, np.float32), *waves])


def read(
    folder: Path,
    judges: Judges,
    timbres: Sequence[str] | None = None,
    shots: int = SHOTS,
    most: int | None = None,
) -> list[AskedTask]:
    """One task, `voxeval S>S N-shot` (`voxeval S>S` where N is 0), by `subject` and `timbre`. `timbres`: all that are
    there where None. `most`: questions, spread evenly; the others are skipped, as are rows without recordings, which
    VoxEval's own program passes over.

    Raises `InputError` where there is no recogniser, no table, no such timbre, a table is not MMLU's, or the recordings
    of a subject or of one of its examples are absent.
    """
    recognizer = judges.hear(NAME)
    rows = [row for timbre in _timbres(folder, timbres) for row in _rows(folder, timbre, shots)]
    recorded = [row for row in rows if all(path.is_file() for path in row.recordings)]
    if not recorded:
        raise InputError(f"{folder / TEST}: none of its {len(rows)} questions is recorded with its answer")
    items = [_item(row) for row in spread(recorded, most)]
    note = f"a letter by rule {VERSION}; heard by {recognizer.name}"
    judge = partial(_grades, recognizer)
    name = f"{NAME} {shots}-shot" if shots else NAME
    return [AskedTask(name, VERSION, "test", items, judge, "accuracy", len(rows) - len(items), note)]


def letter_of(text: str) -> str:
    """`A` to `D`, or nothing: which of them an answer says (rule 1 above)."""
    words = _WORD.findall(text.lower())
    pointed = [place > 0 and words[place - 1][0] in POINTING for place in range(len(words))]
    for place, (word, mark) in enumerate(words):
        is_article = word == "a" and not pointed[place] and not mark and place < len(words) - 1
        if len(word) == 1 and word.upper() in LETTERS and not is_article:
            return str(word.upper())
    found = (
        ALIKE[word] for place, (word, _) in enumerate(words) if word in ALIKE and (pointed[place] or len(words) == 1)
    )
    return next(found, "")


def _grades(recognizer: Recognizer, items: Sequence[Item], answers: Sequence[Answer]) -> list[Grade]:
    heard = transcripts(recognizer, answers)
    said = [letter_of(text) for text in heard]
    counts, others = Counter(said), len(items) - 1
    grades = []
    for item, letter, text in zip(items, said, heard, strict=True):
        right = letter == item.expected[0]
        grades.append(Grade(float(right), 1.0, text, (counts[item.expected[0]] - right) / others if others else None))
    return grades


# the folder


class Row(NamedTuple):
    timbre: str
    subject: str
    """As its folder is called."""
    number: int
    letter: str
    recordings: tuple[Path, Path]
    """Question and answer."""
    examples: tuple[Path, ...]
    """Questions and answers in turns."""


def _item(row: Row) -> Item:
    name = f"{row.subject}/{row.number:08d}"
    sound = Exam(f"{row.timbre}/{name}", (*row.examples, row.recordings[0]))
    labels = {ITEM: name, "subject": row.subject.removesuffix("_4o").removesuffix("_test"), "timbre": row.timbre}
    return Item(sound.name, Question((sound,), "speech", greedy(NEW_TOKENS)), (row.letter,), labels)


def _timbres(folder: Path, asked: Sequence[str] | None) -> list[str]:
    if not (folder / TEST).is_dir():
        raise InputError(f"{folder}: expected {TEST}/ with tables and recordings, found no such folder")
    there = sorted(found.name for found in (folder / TEST).iterdir() if found.is_dir())
    for timbre in asked or ():
        if timbre not in there:
            near = "".join(f"; the nearest is {name!r}" for name in get_close_matches(timbre, there, 1))
            raise InputError(f"{folder / TEST}: has no timbre {timbre!r}, it has {', '.join(there) or 'none'}{near}")
    return list(dict.fromkeys(asked or there))


def _rows(folder: Path, timbre: str, shots: int) -> Iterator[Row]:
    tables = sorted((folder / TEST).glob("*.csv"))
    if not tables:
        raise InputError(f"{folder / TEST}: expected tables SUBJECT.csv, found none")
    for table in tables:
        sounds = folder / TEST / timbre / table.stem
        if not sounds.is_dir():
            raise InputError(f"{sounds}: expected the recordings of {table.name}, found no such folder")
        examples = tuple(_examples(folder / EXAMPLES / timbre, table.stem, shots))
        for number, letter in enumerate(_letters(table)):
            yield Row(timbre, table.stem, number, letter, _recordings(sounds, number), examples)


def _recordings(folder: Path, number: int) -> tuple[Path, Path]:
    return folder / f"{number:08d}_question.mp3", folder / f"{number:08d}_answer.mp3"


def _examples(folder: Path, subject: str, shots: int) -> Iterator[Path]:
    places = dict.fromkeys(folder / name for name in (subject.replace("_test", "_val"), subject))
    found = next((place for place in places if place.is_dir()), None)
    if shots and found is None:
        raise InputError(f"{' or '.join(map(str, places))}: expected the examples of {subject}, found no such folder")
    for number in range(shots):
        for path in _recordings(found or folder, number):
            if not path.is_file():
                raise InputError(f"{path}: absent, expected examples 0 to {shots - 1} and their answers")
            yield path


def _letters(path: Path) -> Iterator[str]:
    try:
        rows = list(csv.reader(io.StringIO(read_bytes(path).decode("utf-8-sig"), newline="")))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: expected a table in UTF-8, comma between columns: {error}") from None
    for number, row in enumerate((row for row in rows if row), 1):
        letter = row[5].strip() if len(row) > 5 else ""
        if letter not in tuple(LETTERS):
            told = f"is {letter!r}" if letter else "is absent"
            raise InputError(f"{path}: row {number}: the sixth column {told}, expected one of {', '.join(LETTERS)}")
        yield letter
