"""Spoken questions with short answers: Llama Questions, Web Questions, TriviaQA, and what is written like them.

Two layouts of a folder:

    NAME.csv, audios/                        OpenAudioBench: a row a question, with its recording in `audio_filename`
    llama_questions_300.tsv, 1.wav, ...      Llama Questions as first published: Questions, Answer, Wav Filename

Other columns of the first, by name: `question` and `answers` (`;` between them); `Questions` and `Answer`; or
`question`, `answer_normalized_value` and `answer_normalized_aliases` (`,` between them). `voice`, `scenario` and `ends`
are labels where they are there.

A question is heard and answered in text (S>T) or in speech, which a recogniser hears (S>S); read and answered in text
(T>T) it shows what the model would know without listening. It is posed by itself and continued greedily, as base models
are asked; `wording` ("The answer is", say) stands in text behind it. A model that was trained on turns puts the
question into its own, behind the seam.

An answer is right where an accepted one is in it as whole words (rule 1): lower case, punctuation and symbols become
blanks, the words a, an and the go (TriviaQA's normalisation). 8 and eight are two answers. A long answer may be right
by saying much: figures compare only where `new_tokens` are the same. OpenAudioBench itself lets a language model judge,
so its figures are not these; reasoning_qa and alpaca_eval, which nothing else can judge, are not read.
"""

from __future__ import annotations

import ast
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from spiritlm.errors import InputError
from spiritlm.inference.request import Speech, greedy
from spiritlm.run.files import read_bytes
from spiritlm.scoring.judges import Judges, Recognizer
from spiritlm.scoring.protocol import Answer, Question, Segment, Sound
from spiritlm.suites.asked import AskedTask, Grade, Item, Judge
from spiritlm.suites.gold import Row, read_table
from spiritlm.suites.shots import spread

VERSION = 1
"""Of the tasks, and of the rule by which an answer is right."""
AUDIOS, RECORDING = "audios", "audio_filename"
ORIGINAL = "llama_questions_300.tsv"
LABELS = ("voice", "scenario", "ends")
NEW_TOKENS = {"text": 64, "speech": 300}
"""Of an answer, at most."""
ARTICLES = re.compile(r"\b(a|an|the)\b")


class Columns(NamedTuple):
    question: str
    answers: Mapping[str, str]
    """Columns of accepted answers, with what is between several."""


LAYOUTS = (
    Columns("question", {"answer_normalized_value": "", "answer_normalized_aliases": ","}),
    Columns("question", {"answers": ";"}),
    Columns("Questions", {"Answer": ""}),
)


class Asked(NamedTuple):
    """A question of a folder."""

    id: str
    text: str
    sound: Sound
    accepted: tuple[str, ...]
    """As `plain` makes them."""
    labels: Mapping[str, str]


def read(
    name: str,
    folder: Path,
    judges: Judges,
    most: int | None = None,
    wording: str = "",
    new_tokens: Mapping[str, int] = NEW_TOKENS,
) -> list[AskedTask]:
    """`NAME S>T`, `NAME T>T`, and `NAME S>S` where `judges` have a recogniser. `most`: questions, spread evenly over
    the table; the others are skipped, as are those of whose accepted answers the rule leaves nothing.

    Raises `InputError` where the folder has neither layout, a column or a recording is absent, a question is empty or a
    recording is there twice.
    """
    found = list(_original(folder) if (folder / ORIGINAL).is_file() else _table(folder / f"{name}.csv"))
    usable = [asked for asked in found if asked.accepted]
    if not usable:
        raise InputError(f"{folder}: none of its {len(found)} questions has an accepted answer")
    chosen = spread(usable, most)
    tasks = []
    for direction, output in (("S>T", "text"), ("S>S", "speech"), ("T>T", "text")):
        recognizer = judges.recognizer if output == "speech" else None
        if output == "speech" and recognizer is None:
            continue
        items = [_item(asked, direction, wording, new_tokens) for asked in chosen]
        note = f"right: an accepted answer is in it as whole words (rule {VERSION})"
        if recognizer is not None:
            note += f"; heard by {recognizer.name}"
        judge = containment_judge(recognizer)
        tasks.append(
            AskedTask(f"{name} {direction}", VERSION, "test", items, judge, "accuracy", len(found) - len(chosen), note)
        )
    return tasks


def _item(asked: Asked, direction: str, wording: str, new_tokens: Mapping[str, int]) -> Item:
    output: Literal["text", "speech"] = "speech" if direction.endswith("S") else "text"
    posed: Segment = asked.sound if direction.startswith("S") else asked.text
    if wording and isinstance(posed, str):
        posed = f"{posed} {wording}"
    prompt = (posed, wording) if wording and isinstance(posed, Sound) else (posed,)
    question = Question(prompt, output, greedy(new_tokens[output]))
    return Item(asked.id, question, asked.accepted, asked.labels)


# what is right


def plain(text: str) -> str:
    """Words with one blank between them: lower case, without punctuation, symbols and articles."""
    folded = unicodedata.normalize("NFKC", text).lower()
    spaced = "".join(" " if unicodedata.category(sign)[0] in "PS" else sign for sign in folded)
    return " ".join(ARTICLES.sub(" ", spaced).split())


def containment_judge(recognizer: Recognizer | None) -> Judge:
    """Whether one of the answers that an item expects is in what was said; `recognizer`: of spoken answers."""

    def judge(items: Sequence[Item], answers: Sequence[Answer]) -> list[Grade]:
        said = transcripts(recognizer, answers)
        padded = [f" {plain(text)} " for text in said]
        holders: dict[str, set[int]] = {}
        for accepted in dict.fromkeys(answer for item in items for answer in item.expected):
            holders[accepted] = {number for number, text in enumerate(padded) if f" {accepted} " in text}
        grades = []
        for number, (item, heard) in enumerate(zip(items, said, strict=True)):
            right = set[int]().union(*(holders[accepted] for accepted in item.expected))
            others = len(right - {number}) / (len(items) - 1) if len(items) > 1 else None
            grades.append(Grade(float(number in right), 1.0, heard, others))
        return grades

    return judge


def transcripts(recognizer: Recognizer | None, answers: Sequence[Answer]) -> list[str]:
    """Answers in words: as they are heard, or without a recogniser as they are written."""
    if recognizer is not None:
        return recognizer([answer for answer in answers if isinstance(answer, Speech)])
    return [answer for answer in answers if isinstance(answer, str)]


# layouts


def _table(path: Path) -> Iterator[Asked]:
    if not path.is_file():
        raise InputError(f"{path.parent}: expected {path.name} and {AUDIOS}/, or {ORIGINAL}, found neither")
    rows = read_table(path, [RECORDING])
    layout = next((one for one in LAYOUTS if {one.question, *one.answers} <= rows[0].keys()), None)
    if layout is None:
        wanted = ", or ".join(" and ".join([one.question, *one.answers]) for one in LAYOUTS)
        raise InputError(f"{path}: expected the columns {wanted}; it has {', '.join(rows[0])}")
    yield from _asked(path, rows, layout, path.parent / AUDIOS, RECORDING)


def _original(folder: Path) -> Iterator[Asked]:
    """A table with tabs, in which quotation marks mean nothing else."""
    path, layout, recording = folder / ORIGINAL, LAYOUTS[-1], "Wav Filename"
    try:
        lines = read_bytes(path).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise InputError(f"{path}: expected a table in UTF-8, tabs between columns") from None
    first, *others = [[cell.strip() for cell in line.split("\t")] for line in lines if line.strip()] or [[]]
    if missing := [name for name in (layout.question, *layout.answers, recording) if name not in first]:
        raise InputError(f"{path}: has no column {missing[0]!r}, it has {', '.join(first) or 'none'}")
    for number, cells in enumerate(others, 2):
        if len(cells) != len(first):
            raise InputError(f"{path}: row {number}: expected {len(first)} columns, found {len(cells)}")
    rows = [dict(zip(first, cells, strict=True)) for cells in others]
    named = [row | {recording: f"{row[recording].removesuffix('.wav')}.wav"} for row in rows]
    yield from _asked(path, named, layout, folder, recording)


def _asked(path: Path, rows: Sequence[Row], layout: Columns, sounds: Path, recording: str) -> Iterator[Asked]:
    seen: set[str] = set()
    for number, row in enumerate(rows, 2):
        text, name = row[layout.question].strip(), row[recording].strip()
        if not text or not name:
            empty = recording if text else layout.question
            raise InputError(f"{path}: row {number}: {empty} is empty")
        if name in seen:
            raise InputError(f"{path}: row {number}: recording {name!r} is there twice, expected once")
        if not (sounds / name).is_file():
            raise InputError(f"{path}: row {number}: there is no recording {sounds / name}")
        seen.add(name)
        labels = {label: row[label] for label in LABELS if label in row}
        yield Asked(name, text, Sound(str(sounds / name), sounds / name), _accepted(row, layout), labels)


def _accepted(row: Row, layout: Columns) -> tuple[str, ...]:
    told = ((row[column], between) for column, between in layout.answers.items())
    answers = (answer for cell, between in told for answer in _several(cell, between))
    return tuple(dict.fromkeys(words for answer in answers if (words := plain(answer))))


def _several(cell: str, between: str) -> list[str]:
    """Accepted answers of a cell: a list as JSON or Python write it, or what `between` parts."""
    if cell.lstrip().startswith("["):
        try:
            found = ast.literal_eval(cell.strip())
        except (ValueError, SyntaxError):
            found = None
        if isinstance(found, list):
            return [str(answer) for answer in found]
    return cell.split(between) if between else [cell]
