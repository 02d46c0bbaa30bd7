"""LibriSpeech: what is heard is written down (ASR), what is read is said (TTS).

    FOLDER/SPLIT/SPEAKER/CHAPTER/SPEAKER-CHAPTER.trans.txt, SPEAKER-CHAPTER-NUMBER.flac (or .wav)
    FOLDER/items.csv    if you have it: `name` (of an utterance), and columns by which figures are told apart
    FOLDER/stop.wav     if you have it: the spoken word "stop"

SPLIT is `test-clean`, `dev-other` ... Figures: word error rate of what is written, letter error rate of what a
recogniser hears in what is said; case and punctuation do not count. A transcript in capitals only, as LibriSpeech has
them, is shown to the model in small letters. Answers are the likeliest tokens, so many at most as `TEXT_TOKENS` and
`SPEECH_TOKENS` say.

Without examples the model is asked as in its own training (`transcribe`, `read`). Examples are of `dev` where `test` is
asked, and of at most `EXAMPLE_LETTERS` letters: ten of them and a question take some 1,000 tokens. They are of the
asked split only where there is no other, and then of other speakers. Two templates:

    published   SOUND "<START Transcript> text <END>" ... SOUND "<START Transcript>", and the answer counts up to <END>;
                "text stop" SOUND ... "text stop". In Spirit LM's prompts the units of the spoken word "stop" end each
                sound: stop.wav stands for them, and of an answer counts what is heard before a "stop" that the text
                has not. Without the file sounds end as they do, and all that is heard counts.
    plain       SOUND "text" ... SOUND; "text" SOUND ... "text": for models whose texts have no such words. An answer
                ends where the model ends it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

from spiritlm.corpus.layouts.check import audio_header
from spiritlm.corpus.layouts.found import Reject
from spiritlm.corpus.layouts.librispeech import SOUNDS, read_librispeech
from spiritlm.errors import InputError
from spiritlm.inference.request import Speech, greedy
from spiritlm.run.files import files_below
from spiritlm.scoring.error_rates import error_rate, plain_words
from spiritlm.scoring.judges import Judges, Recognizer
from spiritlm.scoring.protocol import Answer, Question, Sound
from spiritlm.suites.asked import AskedTask, Grade, Item, Judge, Metric
from spiritlm.suites.gold import read_table
from spiritlm.suites.shots import drawn, prompt, spread, until

VERSION = 1
Template = Literal["published", "plain"]
START, END, STOP = "<START Transcript>", "<END>", "stop"
TEXT_TOKENS, TEXT_BOUNDS = 25, (16, 400)
"""A second of what is heard: a babbling model needs an end, and the largest number of tokens must not tell how long the
transcript is."""
SPEECH_TOKENS, SPEECH_BOUNDS = 5, (100, 1500)
"""A letter of what is read: twice as long as reading takes (14 letters a second) at 35 tokens a second."""
EXAMPLE_LETTERS = 60
"""Of an example, at most: some four seconds."""


ITEMS = "items.csv"
TAKEN = ("speaker", "item", "id", "expected", "wav", "text", *Grade._fields)
"""What no column of it may be called: these are kept of every item."""


class Utterance(NamedTuple):
    id: str
    text: str
    """As its transcript has it."""
    speaker: str
    path: Path

    @property
    def shown(self) -> str:
        return self.text.lower() if self.text.isupper() else self.text

    @property
    def sound(self) -> Sound:
        return Sound(str(self.path), self.path)


@dataclass(frozen=True)
class Shots:
    """The examples of a task."""

    count: int
    template: Template
    pool: Sequence[Utterance]
    folder: Path
    """Where they are from."""
    of_others: bool
    """Whether none may be of the speaker that is asked."""
    seed: int
    stop: Sound | None
    """The spoken word "stop"."""

    def of(self, asked: Utterance) -> list[Utterance]:
        pool = [one for one in self.pool if one.speaker != asked.speaker] if self.of_others else self.pool
        kind = f"of at most {EXAMPLE_LETTERS} letters" + (" by other speakers" if self.of_others else "")
        return drawn(pool, self.count, f"{self.seed}-{asked.id}", f"{self.folder}: {kind}")

    @property
    def flagged(self) -> bool:
        return bool(self.count) and self.template == "published"

    @property
    def note(self) -> str:
        return f"{self.count} examples of {self.folder.name}, {self.template} prompts" if self.count else "no examples"


def read(
    name: Literal["asr", "tts"],
    folder: Path,
    split: str | None,
    judges: Judges,
    shots: int = 0,
    template: Template = "published",
    most: int | None = None,
    seed: int = 0,
) -> list[AskedTask]:
    """`NAME SPLIT`, or with `shots` examples `NAME SPLIT N-shot`; where `split` is None of every `test-` that is there,
    else of every `dev-`. `most` utterances of each, evenly spread; `tts` needs `judges.recognizer`.

    Raises `InputError` where the split is not there, a recording has no transcript, a transcript no words or (asked for
    ASR) no recording, an utterance is not in `items.csv`, and where there are too few examples.
    """
    labels = _labels(folder / ITEMS)
    there = sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")
    question, tasks = _asr if name == "asr" else _tts, []
    for asked in _asked(folder, there, split):
        utterances = _utterances(folder, asked)
        some = spread(utterances, most)
        examples = _shots(folder, there, asked, shots, template, seed)
        task = f"{name} {asked}" + (f" {shots}-shot" if shots else "")
        metric, note, judge = _judged(examples, None if name == "asr" else judges.hear(task))
        if labels and (missing := [one.id for one in some if one.id not in labels]):
            raise InputError(f"{folder / ITEMS}: has no utterance {missing[0]!r} of {asked}")
        items = [
            Item(one.id, question(one, examples), (one.text,), {"speaker": one.speaker, **labels.get(one.id, {})})
            for one in some
        ]
        tasks.append(AskedTask(task, VERSION, asked, items, judge, metric, len(utterances) - len(some), note))
    return tasks


def _labels(path: Path) -> dict[str, dict[str, str]]:
    """Of each utterance, none where there is no table. Raises `InputError` where it has one twice, or a column that is
    called as what is kept of every item."""
    table: dict[str, dict[str, str]] = {}
    for number, row in enumerate(read_table(path, ["name"]) if path.is_file() else [], 2):
        if row["name"] in table:
            raise InputError(f"{path}: row {number}: utterance {row['name']!r} is there twice, expected once")
        table[row["name"]] = {key: value for key, value in row.items() if key != "name"}
        if taken := table[row["name"]].keys() & TAKEN:
            raise InputError(f"{path}: column {min(taken)!r}: expected another name, {', '.join(TAKEN)} are taken")
    return table


def _asked(folder: Path, there: Sequence[str], split: str | None) -> list[str]:
    if split is not None:
        if split not in there:
            near = "".join(f"; the nearest is {found!r}" for found in get_close_matches(split, there, 1))
            raise InputError(f"{folder}: has no split {split!r}, it has {', '.join(there) or 'none'}{near}")
        return [split]
    for kind in ("test-", "dev-"):
        if found := [one for one in there if one.startswith(kind)]:
            return found
    raise InputError(f"{folder}: expected test-clean, test-other or dev-..., it has {', '.join(there) or 'no folder'}")


def _utterances(folder: Path, split: str) -> list[Utterance]:
    at = (folder / split).resolve()  # a split may be a link
    found: dict[str, Utterance] = {}
    for one in read_librispeech(at.parent, at.name):
        if isinstance(one, Reject):
            raise InputError(f"{folder / split}: {one.item}: {one.reason}")
        (sentence,) = one.sentences
        if not plain_words(sentence.text):
            raise InputError(f"{folder / split}: {one.id}: its transcript has no words")
        if one.id in found:
            raise InputError(f"{folder / split}: {one.id}: has two transcripts, expected one")
        found[one.id] = Utterance(one.id, sentence.text, one.speaker, at.parent / one.audio)
    if strays := [path for path in files_below(at) if path.suffix in SOUNDS and path.stem not in found]:
        raise InputError(f"{strays[0]}: expected a line of SPEAKER-CHAPTER.trans.txt beside it, found none")
    if not found:
        raise InputError(f"{folder / split}: expected SPEAKER/CHAPTER/SPEAKER-CHAPTER.trans.txt, found none")
    return list(found.values())


def _shots(folder: Path, there: Sequence[str], asked: str, count: int, template: Template, seed: int) -> Shots:
    """`count` examples of the split that is nearest to `asked`."""
    kind = asked.partition("-")[2]
    others = [one for one in there if one != asked and one.startswith(("dev-", "test-"))]
    source = min(others, key=lambda one: (one.startswith("test-"), one.partition("-")[2] != kind, one), default=asked)
    pool = _utterances(folder, source) if count else []
    stop = folder / "stop.wav"
    return Shots(
        count,
        template,
        [one for one in pool if len(one.text) <= EXAMPLE_LETTERS],
        folder / source,
        source == asked,
        seed,
        Sound(str(stop), stop) if stop.is_file() else None,
    )


def _asr(asked: Utterance, shots: Shots) -> Question:
    header = audio_header(asked.path)
    if isinstance(header, Reject):
        raise InputError(f"{asked.path}: {header.reason}")
    sampling = greedy(_within(TEXT_TOKENS * header.duration, TEXT_BOUNDS))
    if shots.flagged:
        shown = [(one.sound, f"{START} {one.shown} {END}") for one in shots.of(asked)]
        return Question(prompt(shown, asked.sound, START), "text", sampling)
    shown = [(one.sound, one.shown) for one in shots.of(asked)]
    return Question(prompt(shown, asked.sound), "text", sampling, "transcribe")


def _tts(asked: Utterance, shots: Shots) -> Question:
    sampling = greedy(_within(SPEECH_TOKENS * len(asked.text), SPEECH_BOUNDS))
    if shots.flagged:
        end = (shots.stop,) if shots.stop else ()
        said = [(f"{one.shown} {STOP}", one.sound, *end) for one in shots.of(asked)]
        return Question(prompt(said, f"{asked.shown} {STOP}"), "speech", sampling)
    shown = [(one.shown, one.sound) for one in shots.of(asked)]
    return Question(prompt(shown, asked.shown), "speech", sampling, "read")


def _within(tokens: float, bounds: tuple[int, int]) -> int:
    return min(max(round(tokens), bounds[0]), bounds[1])


def _judged(shots: Shots, recognizer: Recognizer | None) -> tuple[Metric, str, Judge]:
    """`recognizer`: of what is said, None for what is written."""
    if recognizer is None:
        return "WER", shots.note, partial(grade_texts, flagged=shots.flagged)
    stops = shots.flagged and shots.stop is not None
    note = f"{shots.note}; heard by {recognizer.name}"
    return "CER", note, partial(grade_speech, recognizer=recognizer, stops=stops)


def grade_texts(items: Sequence[Item], answers: Sequence[Answer], flagged: bool) -> list[Grade]:
    """Edits of words. `flagged`: an answer ends at `<END>`."""
    grades = []
    for item, answer in zip(items, answers, strict=True):
        text = until(str(answer), END) if flagged else str(answer)
        rate = error_rate([(plain_words(item.expected[0]), plain_words(text))])
        grades.append(Grade(rate.edits, rate.length, text))
    return grades


def grade_speech(items: Sequence[Item], answers: Sequence[Answer], recognizer: Recognizer, stops: bool) -> list[Grade]:
    """Edits of letters, words a space apart. `stops`: an answer ends at a "stop" that the text has not."""
    heard = recognizer([answer for answer in answers if isinstance(answer, Speech)])
    grades = []
    for item, told in zip(items, heard, strict=True):
        true, words = plain_words(item.expected[0]), plain_words(told)
        if stops:
            words = _before_stop(words, true.count(STOP))
        rate = error_rate([(" ".join(true), " ".join(words))])
        grades.append(Grade(rate.edits, rate.length, " ".join(words)))
    return grades


def _before_stop(words: Sequence[str], own: int) -> list[str]:
    """Up to the "stop" after `own` of them."""
    places = [place for place, word in enumerate(words) if word == STOP][own:]
    return list(words[: places[0]] if places else words)
