from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spiritlm.audio.files import read_audio, write_wav
from spiritlm.errors import InputError
from spiritlm.inference.request import Speech
from spiritlm.run.files import read_jsonl, write_jsonl
from spiritlm.scoring.judges import Judges
from spiritlm.scoring.protocol import Answer, Question, Sound
from spiritlm.scoring.small_classifiers import WordSentiment
from spiritlm.suites.asked import ask, asked_figures
from spiritlm.suites.stsp import accuracy, prompt_figures, read

RATE = 16_000
LEVELS = {"happy": 0.8, "sad": 0.2, "neutral": 0.5}


class LoudnessJudge:
    """Whoever is loud is happy."""

    name, labels = "loudness", ("happy", "neutral", "sad")

    def __call__(self, spoken: Sequence[Speech]) -> list[str]:
        loud = [float(np.abs(speech.wave).max()) for speech in spoken]
        return [min(LEVELS, key=lambda mood: abs(LEVELS[mood] - level)) for level in loud]


class WordJudge:
    name, labels = "words", ("Positive", "Negative")

    def __call__(self, texts: Sequence[str]) -> list[str]:
        return ["Positive" if "glad" in text else "Negative" for text in texts]


JUDGES = Judges(speech_classifier=LoudnessJudge(), text_classifier=WordJudge())


def tone(path: Path, level: float, samples: int = 800) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_wav(path, level * np.sin(np.arange(samples) / 3), RATE)


def manifest(folder: Path, name: str, rows: Sequence[dict[str, Any]]) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    write_jsonl(folder / name, rows)


def spoken(folder: Path, corpus: str, emotions: Sequence[str]) -> list[dict[str, Any]]:
    rows = []
    for number, emotion in enumerate(emotions):
        wav = f"{corpus}/{number}.wav"
        tone(folder / "data" / wav, LEVELS[emotion])
        rows.append({"emotion": emotion, "wav_path": wav, "split": "test", "speaker": "bea", "id": -number})
    return rows


EMOV, READ, ASR, FEW = (
    "manifest/emov/emov.test.jsonl",
    "manifest/expresso/expresso_read.test.jsonl",
    "manifest/expresso/expresso_asr.test.jsonl",
    "manifest/few_shot",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four records of emov, two of expresso_read, three of expresso_asr, six examples; the published layout."""
    root = tmp_path / "stsp"
    manifest(root, EMOV, spoken(root, "emov", ["happy", "happy", "happy", "sad"]))
    manifest(root, READ, spoken(root, "read", ["happy", "sad"]))
    words = [("happy", "Tom was glad."), ("sad", "Tom was ill."), ("sad", "Tom lost it.")]
    asr = [{"emotion": e, "sentiment": "", "asr": text, "id": str(n)} for n, (e, text) in enumerate(words)]
    manifest(root, ASR, asr)
    for number in range(6):
        wave = np.concatenate([np.full(400, 0.1 * (number + 1)), np.full(401, -0.1 * (number + 1))])
        path = root / f"data/conversational/{number}.wav"
        path.parent.mkdir(exist_ok=True)
        write_wav(path, wave, RATE)
    for name in ("t2t", "t2s", "s2t", "s2s"):
        pieces = {"t": "prompt {}", "s": "conversational/{}.wav"}, {"t": "answer {}", "s": "conversational/{}.wav"}
        asked, told = name.split("2")
        rows = [
            {"prompt": pieces[0][asked].format(n), "generation": pieces[1][told].format(n),
             "sentiment": ("negative", "neutral", "positive")[n % 3]}
            for n in range(6)
        ]  # fmt: skip
        manifest(root, f"{FEW}/{name}.jsonl", rows)
    return root


class Echo:
    """Says the end of the prompt again, where it can."""

    def __init__(self) -> None:
        self.identity = {"model": "echo"}

    def generate(self, questions: Sequence[Question]) -> list[Answer]:
        return [self._say(question) for question in questions]

    def _say(self, question: Question) -> Answer:
        last = question.prompt[-1]
        if question.output == "text":
            return last if isinstance(last, str) else "glad"
        return Speech(last.read(RATE) if isinstance(last, Sound) else np.zeros(0, np.float32), RATE)

    def loglikelihood(self, requests: Sequence[Any]) -> list[Any]:
        raise NotImplementedError


def test_what_is_asked_in_each_direction(folder: Path) -> None:
    tasks = {task.name: task for task in read(folder, None, JUDGES)}
    assert list(tasks) == ["stsp T>T", "stsp S>T", "stsp T>S", "stsp S>S"]
    assert {name: len(task.items) for name, task in tasks.items()} == dict(zip(tasks, (9, 18, 9, 18), strict=True))
    for name, task in tasks.items():
        most = {"stsp T>S": 200, "stsp S>S": 300}.get(name, 50)
        assert {item.question.output for item in task.items} == {"speech" if name[-1] == "S" else "text"}
        drawn = [item.question.sampling for item in task.items]
        assert {(one.max_new_tokens, one.temperature, one.top_p) for one in drawn} == {(most, 0.8, 0.95)}
        assert len({one.seed for one in drawn}) == len(drawn)
        assert all(isinstance(item.question.prompt[0], str) == (name[5] == "T") for item in task.items)
        assert task.split == "test"
    first = tasks["stsp S>S"].items[0]
    assert (first.id, first.expected) == ("emov-0-0", ("positive",))
    assert first.labels == {"item": "emov-0", "corpus": "emov", "repetition": "0", "emotion": "happy", "speaker": "bea"}
    assert "loudness" in tasks["stsp S>S"].note and "emov and expresso_read" in tasks["stsp S>S"].note


def test_a_few_of_each_manifest(folder: Path) -> None:
    tasks = read(folder, None, JUDGES, repetitions=2, most=2)
    assert [(len(task.items), task.skipped) for task in tasks] == [(4, 1), (8, 2), (4, 1), (8, 2)]
    assert {item.labels["item"] for item in tasks[3].items} == {
        "emov-0",
        "emov--3",
        "expresso_read-0",
        "expresso_read--1",
    }


def test_the_same_seed_asks_the_same(folder: Path) -> None:
    one, two, other = ([task.items for task in read(folder, "test", JUDGES, 3, 2, seed)] for seed in (0, 0, 1))
    assert one == two != other


def test_a_record_is_asked_alike_whatever_stands_beside_it(folder: Path) -> None:
    whole = {item.id: item for item in read(folder, None, JUDGES)[3].items}
    (folder / READ).unlink()
    manifest(folder, EMOV, list(read_jsonl(folder / EMOV))[2:])
    left = read(folder, None, JUDGES)[3]
    assert all(whole[item.id] == item for item in left.items) and len(left.items) == 6
    assert "of emov, 3" in left.note


def test_repetitions_share_their_item_and_corpora_are_mixed(folder: Path) -> None:
    items = read(folder, None, JUDGES, repetitions=2)[1].items
    assert set(Counter(item.labels["item"] for item in items).values()) == {2}
    corpora = [item.labels["corpus"] for item in items]
    assert [corpora[start : start + 3].count("emov") for start in (0, 3, 6, 9)] == [2, 2, 2, 2]


def test_the_figure_is_the_mean_of_both_corpora(folder: Path) -> None:
    task = read(folder, None, JUDGES, repetitions=1)[1]
    answers = ["glad" if item.labels["corpus"] == "emov" else "" for item in task.items]
    figures = asked_figures(task, task.judge(task.items, answers))
    assert figures["value"] == pytest.approx((3 / 4 + 0) / 2)
    assert figures["by"]["corpus"]["emov"]["value"] == pytest.approx(0.75)
    assert figures["by"]["corpus"]["expresso_read"]["value"] == 0


def test_chance_is_the_share_of_other_prompts_of_the_corpus(folder: Path) -> None:
    task = read(folder, None, JUDGES, repetitions=2)[1]
    grades = task.judge(task.items, ["glad"] * len(task.items))
    for item, grade in zip(task.items, grades, strict=True):
        happy, others = {"emov": (3, 3), "expresso_read": (1, 1)}[item.labels["corpus"]]
        right = item.labels["emotion"] == "happy"
        assert grade.heard == "Positive"
        assert grade.points == (grade.out_of if right else 0)
        assert grade.chance == pytest.approx(grade.out_of * (happy - right) / others)


def test_an_empty_answer_is_wrong_and_nobody_judges_it(folder: Path) -> None:
    text, speech = (read(folder, None, JUDGES, repetitions=1)[place] for place in (0, 2))
    silent = Speech(np.zeros(0, np.float32), RATE)
    for task, answers in ((text, ["", " \n", "glad"]), (speech, [silent] * 3)):
        grades = task.judge(task.items, answers)
        assert [grade.heard for grade in grades] == (["", "", "Positive"] if task is text else [""] * 3)
        assert all(grade.points == 0 for grade in grades)
        assert [grade.chance for grade in grades[:2]] == [0, 0]


def test_an_echo_keeps_the_sentiment(folder: Path, tmp_path: Path) -> None:
    found = ask(Echo(), read(folder, None, JUDGES), tmp_path)
    assert found["stsp T>T"]["value"] == found["stsp S>S"]["value"] == 1
    assert found["stsp T>S"]["value"] == 0
    assert found["stsp S>T"]["difference"]["value"] == pytest.approx(0)
    rows = list(read_jsonl(tmp_path / "items" / "stsp_S_S.jsonl"))
    assert {row["heard"] for row in rows} == {"happy", "sad"} and all((tmp_path / row["wav"]).is_file() for row in rows)


def test_prompts_are_judged_themselves(folder: Path) -> None:
    figures = prompt_figures(folder, None, JUDGES)
    assert {name: (found["value"], found["n"]) for name, found in figures.items()} == {"T": (1, 3), "S": (1, 6)}


def test_examples_come_before_the_prompt(folder: Path) -> None:
    tasks = read(folder, None, JUDGES, shots=3, repetitions=4)
    assert [task.name for task in tasks] == [f"stsp {d} 3-shot" for d in ("T>T", "S>T", "T>S", "S>S")]
    shown = set()
    for item in tasks[0].items:
        *examples, prompt = item.question.prompt
        numbers = [int(text.split()[1]) for text in examples[::2]]
        assert examples == [f"{kind} {number}" for number in numbers for kind in ("prompt", "answer")]
        assert sorted(number % 3 for number in numbers) == [0, 1, 2]
        assert prompt in ("Tom was glad.", "Tom was ill.", "Tom lost it.")
        shown.add((item.labels["repetition"], tuple(numbers)))
    assert len(shown) == 4 and len({numbers for _, numbers in shown}) > 1
    assert len({tuple(number % 3 for number in numbers) for _, numbers in shown}) > 1


def test_spoken_examples_are_halves_of_their_recording(folder: Path) -> None:
    *examples, prompt = read(folder, None, JUDGES, shots=3)[3].items[0].question.prompt
    for first, second in zip(examples[::2], examples[1::2], strict=True):
        whole = read_audio(Path(first.name.partition(",")[0]), RATE)
        heard = [first.read(RATE), second.read(RATE)]
        assert (len(heard[0]), len(heard[1])) == (400, 401)
        assert np.abs(np.concatenate(heard) - whole).max() < 1e-4
    assert isinstance(prompt.source, Path)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        (EMOV, {"wav_path": "../secret.wav"}, r"line 1: wav_path is '\.\./secret\.wav', expected a path below"),
        (EMOV, {"wav_path": "/etc/passwd"}, "wav_path is '/etc/passwd', expected a path below"),
        (EMOV, {"wav_path": "emov/9.wav"}, r"emov/9\.wav does not exist"),
        (EMOV, {"wav_path": None}, "line 1: has no 'wav_path', it has emotion"),
        (EMOV, {"id": -1}, "line 2: id -1 is there twice"),
        (EMOV, {"emotion": "sleepy"}, "sentiment is None, emotion 'sleepy', expected a sentiment"),
        (READ, {"sentiment": "Positive"}, "sentiment is 'Positive'"),
        (ASR, {"asr": " "}, "asr is empty"),
        (f"{FEW}/t2t.jsonl", {"generation": None}, "has no 'generation'"),
        (f"{FEW}/s2s.jsonl", {"prompt": "../0.wav"}, "expected a path below"),
        (f"{FEW}/t2s.jsonl", {"sentiment": "glad"}, "line 1: sentiment is 'glad'"),
    ],
)
def test_faulty_records(folder: Path, file: str, change: dict[str, Any], message: str) -> None:
    first, *rest = read_jsonl(folder / file)
    write_jsonl(folder / file, [{**first, **change}, *rest])
    with pytest.raises(InputError, match=message):
        read(folder, None, JUDGES, shots=3)


def test_what_cannot_be_asked(folder: Path, tmp_path: Path) -> None:
    strange = LoudnessJudge()
    strange.labels = ("LABEL_0", "LABEL_1")  # type: ignore[misc]
    asked: list[tuple[Callable[[], Any], str]] = [
        (lambda: read(folder, "dev", JUDGES), r"expected .*expresso_asr\.dev\.jsonl or .*, found none of them"),
        (lambda: read(folder, None, JUDGES, shots=9), "stsp T>T 9-shot: expected 9 examples, found 6"),
        (lambda: read(folder, None, JUDGES, repetitions=0), "repetitions 0"),
        (lambda: read(folder, None, Judges(text_classifier=WordJudge())), "expected speech_classifier"),
        (
            lambda: read(folder, None, replace(JUDGES, speech_classifier=strange)),
            "'LABEL_0' stands",
        ),
    ]
    for question, message in asked:
        with pytest.raises(InputError, match=message):
            question()
    (folder / EMOV).write_text("")
    with pytest.raises(InputError, match="holds no records"):
        read(folder, None, JUDGES)
    (folder / EMOV).write_text("[1]\n")
    with pytest.raises(InputError, match="line 1: expected a record, found list"):
        read(folder, None, JUDGES)


def test_judges_of_the_folder_serve_where_nobody_else_is_named(folder: Path) -> None:
    texts = ["Tom was glad.", "Tom was ill.", "He was glad.", "She was ill."]
    judge = WordSentiment.fit(texts, ["positive", "negative"] * 2)
    judge.save_pretrained(folder / "model" / "text_classifier")
    given = read(folder, None, Judges(speech_classifier=LoudnessJudge()), repetitions=1)[0]
    assert "word-sentiment" in given.note
    assert [grade.points for grade in given.judge(given.items, ["He was glad.", "Tom was ill.", "so glad"])] == [
        1,
        1,
        0,
    ]
    assert "words" in read(folder, None, JUDGES, repetitions=1)[0].note


def test_a_reference_without_prediction_is_wrong_or_as_published_uncounted() -> None:
    references = [{"id": n, "emotion": emotion} for n, emotion in enumerate(["happy", "sad", "surprised", "excited"])]
    predictions = [{"id": name, "pred": "positive"} for name in ("0", "7", "2", "3")]
    assert accuracy(references, predictions) == (50.0, 2)
    assert accuracy(references, predictions, published=True) == (100.0, 3)
    assert np.isnan(accuracy([], []).percent)


@pytest.mark.parametrize(
    ("predictions", "message"),
    [
        ([{"id": 0, "pred": "positive"}], "1 predictions for 2 references"),
        ([{"id": 0, "pred": "positive"}, {"id": "0", "pred": "negative"}], "id 0 is predicted twice"),
        ([{"id": 0, "pred": "positive"}, {"id": 1}], "prediction 2: has no 'pred', it has id"),
    ],
)
def test_predictions_that_are_refused(predictions: list[dict[str, Any]], message: str) -> None:
    references = [{"id": 0, "sentiment": "positive"}, {"id": 1, "sentiment": "negative"}]
    with pytest.raises(InputError, match=message):
        accuracy(references, predictions)
