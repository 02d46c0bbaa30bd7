"""STSP, speech-text sentiment preservation: is the sentiment of what is asked that of the answer? (Spirit LM.)

The published layout:

    data/                                    recordings, where `wav_path` of a record says
    manifest/emov/emov.SPLIT.jsonl           spoken prompts
    manifest/expresso/expresso_read.SPLIT.jsonl, expresso_asr.SPLIT.jsonl     spoken prompts, written ones (`asr`)
    manifest/few_shot/{t2t,t2s,s2t,s2s}.jsonl    examples: prompt, generation, sentiment
    model/{speech_classifier,text_classifier}    who judges, where nobody else is named

S>T and S>S are asked of both manifests of spoken prompts, and their figure is the mean of both, however many records
each has; the table by `corpus` has them apart. A spoken answer has an emotion, which stands for a sentiment; a written
one has a sentiment. An empty answer is wrong. Beside the figure stands what the same answers get behind the other
prompts of their manifest: 33 % of three sentiments, 50 % of two, where prompts have each as often.

Examples are drawn once a repetition, as many of each sentiment, and stand in a random order before the prompt.
(Published code puts those of a sentiment together, and lets them take the place of the prompt.) A spoken prompt of an
example is the first half of its recording, a spoken answer the second half. Nothing stands between the pieces, for the
text tokenizers here make a blank of the published line break.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from spiritlm.errors import InputError
from spiritlm.inference.request import SAMPLE_RATE, Sampling, Speech
from spiritlm.scoring.judges import Judges, SpeechClassifier, TextClassifier
from spiritlm.scoring.protocol import Answer, Question, Segment
from spiritlm.scoring.sentiment import (
    PUBLISHED_SENTIMENTS,
    SENTIMENT_OF_EMOTION,
    load_speech_classifier,
    load_text_classifier,
    sentiment_of,
)
from spiritlm.suites.asked import AskedTask, Grade, Item, Judge, asked_figures
from spiritlm.suites.pairs import ITEM
from spiritlm.suites.stsp_manifests import (
    CORPORA,
    Record,
    draw_examples,
    manifest_of,
    mixed,
    read_examples,
    read_prompts,
)

VERSION = 1
NEW_TOKENS = {"T>T": 50, "S>T": 50, "T>S": 200, "S>S": 300}
"""Of an answer, at most."""
TEMPERATURE, TOP_P = 0.8, 0.95
CORPUS, REPETITION = "corpus", "repetition"


def read(
    folder: Path,
    split: str | None,
    judges: Judges,
    shots: int = 0,
    repetitions: int = 3,
    seed: int = 0,
    most: int | None = None,
) -> list[AskedTask]:
    """`stsp DIRECTION`, or `stsp DIRECTION K-shot`, for T>T, S>T, T>S and S>S as the manifests that are there allow.
    `split`: `test` where None. `shots`: examples before each prompt. `repetitions`: answers to each prompt, each with a
    seed of its own, and examples. `most`: records of each manifest, evenly spread; the others are skipped.

    Raises `InputError` where there is no manifest of the split or no judge, a record lacks a field, is there twice, has
    a path that leaves `data` or no known sentiment, or there are too few examples.
    """
    split = split or "test"
    if repetitions < 1 or shots < 0:
        raise InputError(f"stsp: repetitions {repetitions} and shots {shots}: expected at least 1 and at least 0")
    prompts = {heard: read_prompts(folder, heard, split) for heard in CORPORA}
    if not any(prompts.values()):
        paths = " or ".join(str(manifest_of(folder, name, split)) for names in CORPORA.values() for name in names)
        raise InputError(f"{folder}: expected {paths}, found none of them")
    judges = with_published_judges(folder, judges)
    tasks = []
    for direction in NEW_TOKENS:
        if found := prompts[direction[0]]:
            name = f"stsp {direction}" + (f" {shots}-shot" if shots else "")
            records, judge = mixed(found, most), _classifier(judges, direction, name)
            pool = read_examples(folder, direction) if shots else []
            seeds = [f"{seed}-{direction}-{repetition}" for repetition in range(repetitions)]
            shown = [draw_examples(pool, shots, one, name) if shots else () for one in seeds]
            items = [_item(r, direction, n, shown[n], seeds[n]) for n in range(repetitions) for r in records]
            note = f"of {' and '.join(found)}, {repetitions} answers each; judged by {judge.name}"
            skipped = sum(map(len, found.values())) - len(records)
            tasks.append(AskedTask(name, VERSION, split, items, _judge(judge), "accuracy", skipped, note))
    return tasks


def prompt_figures(folder: Path, split: str | None, judges: Judges) -> dict[str, Any]:
    """Figures of the judges who are given the prompts themselves, by modality, `T` and `S`: about what perfect answers
    would get. Raises what `read` does."""
    found = {}
    for task in read(folder, split, judges, repetitions=1):
        heard, told = task.name.removeprefix("stsp ").split(">")
        if heard == told:
            asked = [item.question.prompt[0] for item in task.items]
            answers = [s if isinstance(s, str) else Speech(s.read(SAMPLE_RATE), SAMPLE_RATE) for s in asked]
            found[heard] = asked_figures(task, task.judge(task.items, answers))
    return found


def with_published_judges(folder: Path, judges: Judges) -> Judges:
    """`judges`, with those of `FOLDER/model` where they have none."""
    speech, text = (folder / "model" / name for name in ("speech_classifier", "text_classifier"))
    if judges.speech_classifier is None and speech.is_dir():
        judges = replace(judges, speech_classifier=load_speech_classifier(speech))
    if judges.text_classifier is None and text.is_dir():
        judges = replace(judges, text_classifier=load_text_classifier(text))
    return judges


def _classifier(judges: Judges, direction: str, name: str) -> SpeechClassifier | TextClassifier:
    """Raises `InputError` where there is none, or one of its labels stands for no sentiment."""
    judge = judges.mood(name) if direction.endswith("S") else judges.sentiment(name)
    try:
        list(map(sentiment_of, judge.labels))
    except InputError as error:
        raise InputError(f"task {name}: judge {judge.name}: {error}") from None
    return judge


def _item(record: Record, direction: str, repetition: int, shown: tuple[Segment, ...], seed: str) -> Item:
    item = f"{record.corpus}-{record.id}"
    drawn = int.from_bytes(hashlib.sha256(f"{seed}-{item}".encode()).digest()[:4])
    output: Literal["text", "speech"] = "speech" if direction.endswith("S") else "text"
    sampling = Sampling(NEW_TOKENS[direction], TEMPERATURE, TOP_P, seed=drawn)
    labels = {ITEM: item, CORPUS: record.corpus, REPETITION: str(repetition), **record.labels}
    return Item(
        f"{item}-{repetition}", Question((*shown, record.prompt), output, sampling), (record.sentiment,), labels
    )


def _judge(classifier: Callable[[Any], list[str]]) -> Judge:
    """Points are so weighted that every corpus counts alike."""

    def judge(items: Sequence[Item], answers: Sequence[Answer]) -> list[Grade]:
        labels = _labels(classifier, answers)
        groups = [(item.labels[CORPUS], item.labels[REPETITION]) for item in items]
        sizes, corpora = Counter(groups), Counter(corpus for corpus, _ in groups)
        known = Counter((group, item.expected[0]) for group, item in zip(groups, items, strict=True))
        grades = []
        for item, label, group in zip(items, labels, groups, strict=True):
            sentiment = sentiment_of(label) if label else ""
            weight = len(items) / len(corpora) / corpora[group[0]]
            right = sentiment == item.expected[0]
            others = (known[group, sentiment] - right) / max(1, sizes[group] - 1)
            grades.append(Grade(weight * right, weight, label, weight * others))
        return grades

    return judge


def _labels(classifier: Callable[[Any], list[str]], answers: Sequence[Answer]) -> list[str]:
    """What each answer is taken for; nothing where it is empty."""
    said = [bool(len(one.wave)) if isinstance(one, Speech) else bool(one.strip()) for one in answers]
    told = iter(classifier([answer for answer, is_said in zip(answers, said, strict=True) if is_said]))
    return [next(told) if is_said else "" for is_said in said]


# the published scorer


class Accuracy(NamedTuple):
    percent: float
    """NaN where nothing is counted."""
    unmatched: int
    """References without a prediction or a label."""


def accuracy(
    references: Sequence[Mapping[str, Any]],
    predictions: Sequence[Mapping[str, Any]],
    label: Literal["sentiment", "emotion"] = "sentiment",
    published: bool = False,
) -> Accuracy:
    """How many `pred` of `predictions` are the `label` of the reference with their `id`, letter by letter; ids are
    compared as text. A reference without `sentiment` has that of its `emotion`.

    A reference that nothing was predicted for, or that has no label, is wrong; with `published` it does not count, as
    in the published scorer, for which an answer that went missing is none. Raises `InputError` where there are not as
    many predictions as references, an id is predicted twice, or a row lacks `id` or `pred`.
    """
    if len(references) != len(predictions):
        raise InputError(f"stsp: {len(predictions)} predictions for {len(references)} references, expected as many")
    for name, rows, fields in (("reference", references, ("id",)), ("prediction", predictions, ("id", "pred"))):
        for number, row in enumerate(rows, start=1):
            if absent := [field for field in fields if field not in row]:
                raise InputError(f"stsp: {name} {number}: has no {absent[0]!r}, it has {', '.join(row) or 'nothing'}")
    told = {str(row["id"]): row["pred"] for row in predictions}
    if len(told) < len(predictions):
        twice = Counter(str(row["id"]) for row in predictions).most_common(1)[0][0]
        raise InputError(f"stsp: id {twice} is predicted twice, expected once")
    sentiments = PUBLISHED_SENTIMENTS if published else SENTIMENT_OF_EMOTION
    right = unmatched = 0
    for row in references:
        expected = row.get(label)
        if expected is None and label == "sentiment":
            expected = sentiments.get(str(row.get("emotion")))
        if expected is None or str(row["id"]) not in told:
            unmatched += 1
        else:
            right += told[str(row["id"])] == expected
    counted = len(references) - (unmatched if published else 0)
    return Accuracy(100 * right / counted if counted else float("nan"), unmatched)
