import math
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from spiritlm.errors import InputError
from spiritlm.inference.request import Sampling, Speech
from spiritlm.scoring.judges import Judges
from spiritlm.scoring.protocol import Answer, Question, Request, Score
from spiritlm.suites.asked import AskedTask, ask, asked_figures
from spiritlm.suites.fluency import auto_bleu, read, repeated_pairs

RATE = 16000
SAID = ["the cat sat", "on and on and on and on", "", "tom"]
LIKELY = {"the": -1.0, "cat": -3.0, "sat": -2.0, "on": -0.5, "and": -0.25, "tom": -4.0}


class Speaks:
    """Says what it is told, as the level of a recording, and hears it again; silence is without samples."""

    identity: dict[str, str] = {}  # noqa: RUF012
    name = "level meter"

    def __init__(self) -> None:
        self.heard = 0

    def loglikelihood(self, requests: Sequence[Request]) -> list[Score]:
        raise NotImplementedError

    def generate(self, questions: Sequence[Question]) -> list[Answer]:
        return [Speech(np.full(9 if SAID[n] else 0, n, np.float32), RATE) for n in range(len(questions))]

    def __call__(self, spoken: Sequence[Speech]) -> list[str]:
        self.heard += 1
        return [SAID[int(speech.wave[0])] if len(speech.wave) else "" for speech in spoken]


class Words:
    """A language model of single words."""

    name = "unigram"

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, texts: Sequence[str]) -> list[tuple[float, int]]:
        self.asked += 1
        return [(sum(LIKELY[word] for word in text.split()), len(text.split())) for text in texts]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four recordings of three seconds or more, at several rates, and one that is shorter."""
    (tmp_path / "b").mkdir()
    for name, seconds, rate in (
        ("a.wav", 3.5, RATE),
        ("b/1.flac", 3.0, 22050),
        ("b/2.wav", 2.9, RATE),
        ("c.wav", 4.0, 8000),
        ("d.wav", 3.0, RATE),
    ):
        soundfile.write(tmp_path / name, 0.3 * np.sin(np.arange(round(rate * seconds)) / 7), rate)
    (tmp_path / "notes.txt").write_text("no sound")
    return tmp_path


def test_beginnings_are_asked_once_for_all_figures(folder: Path) -> None:
    tasks = read("fluency", folder, Judges(recognizer=Speaks(), text_model=Words()))
    assert [(task.name, task.metric) for task in tasks] == [
        ("fluency auto-BLEU-2", "auto-BLEU"),
        ("fluency auto-BLEU-2 SlamKit", "auto-BLEU"),
        ("fluency perplexity", "perplexity"),
        ("fluency perplexity SlamKit", "perplexity"),
    ]
    assert all(task.items is tasks[0].items and task.skipped == 1 for task in tasks)
    assert "heard by level meter; judged by unigram" in tasks[0].note
    items = tasks[0].items
    assert [item.id for item in items] == ["a.wav", "b/1.flac", "c.wav", "d.wav"]
    for number, item in enumerate(items):
        (sound,), output, sampling, task = item.question
        assert abs(len(sound.read(RATE)) - 3 * RATE) <= 1
        assert (output, task) == ("speech", "continue")
        assert sampling == Sampling(150, temperature=0.8, top_p=1.0, top_k=25, seed=number)
    first = soundfile.read(folder / "a.wav")[0][: 3 * RATE]
    assert np.abs(items[0].question.prompt[0].read(RATE) - first).max() < 2**-14


def test_the_first_recordings_and_the_sampling_that_is_asked_for(folder: Path) -> None:
    (task, _) = read("fluency", folder, Judges(recognizer=Speaks()), most=2, sampling=Sampling(7, seed=5))
    assert [item.id for item in task.items] == ["a.wav", "b/1.flac"] and task.skipped == 3
    assert [item.question.sampling for item in task.items] == [Sampling(7, seed=5), Sampling(7, seed=6)]


def figures(tasks: Sequence[AskedTask], answers: Sequence[Answer]) -> dict[str, float]:
    return {task.name: asked_figures(task, task.judge(task.items, answers))["value"] for task in tasks}


def test_figures_are_those_of_the_transcripts_and_judges_are_asked_once(folder: Path, tmp_path: Path) -> None:
    model, words = Speaks(), Words()
    tasks = read("fluency", folder, Judges(recognizer=model, text_model=words))
    answers = model.generate([item.question for item in tasks[0].items])
    found = figures(tasks, answers)
    assert (model.heard, words.asked) == (1, 1)
    own = [6 / 3, (4 * 0.5 + 3 * 0.25) / 7, 4 / 1]
    assert found["fluency perplexity"] == pytest.approx(math.exp((6 + 2.75 + 4) / 11))
    assert found["fluency perplexity SlamKit"] == pytest.approx(math.exp(sum(own) / 3))
    assert found["fluency auto-BLEU-2"] == pytest.approx(1 / 4)
    assert found["fluency auto-BLEU-2 SlamKit"] == pytest.approx(1 / 4)
    assert figures(tasks, list(answers)) == found and model.heard == 2  # others may be anything
    asked = ask(model, [tasks[2]], tmp_path / "out")[tasks[2].name]
    assert asked["value"] == pytest.approx(found["fluency perplexity"])
    assert asked["n"] == 4 and "chance" not in asked


def test_nothing_but_silence_has_no_perplexity(folder: Path) -> None:
    tasks = read("fluency", folder, Judges(recognizer=Speaks(), text_model=Words()))
    found = figures(tasks, [Speech(np.zeros(0, np.float32), RATE)] * 4)
    assert found == {
        "fluency auto-BLEU-2": 0, "fluency auto-BLEU-2 SlamKit": 0,
        "fluency perplexity": None, "fluency perplexity SlamKit": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "gslm", "slamkit"),
    [
        ("", 0, 0),
        ("tom", 0, 0),
        ("tom tom", 0, 0),  # its only pair is there once
        ("The cat saw the cat.", math.sqrt(4 / 5 * 2 / 4), 0),  # The is not the, and a mark is a word
        ("the cat saw the cat again", math.sqrt(4 / 6 * 2 / 5), 2 / 5),
        ("so so so", 0, 1),  # the two pairs overlap
        ("so so so so", math.sqrt(1 * 2 / 3), 1),  # the pair in the middle overlaps both others
        ("don't go don't go", 1 * math.sqrt(2 / 3), 2 / 3),
        ("all words differ here", 0, 0),
    ],
)
def test_what_repeats_itself(text: str, gslm: float, slamkit: float) -> None:
    assert auto_bleu(text) == pytest.approx(gslm)
    assert repeated_pairs(text) == pytest.approx(slamkit)


@given(st.lists(st.sampled_from("abc"), max_size=9))
def test_repetition_by_trying_all_pairs_of_places(words: list[str]) -> None:
    def share(length: int, apart: int) -> float:
        runs = [words[place : place + length] for place in range(len(words) - length + 1)]
        pairs = [(a, b) for a, b in combinations(range(len(runs)), 2) if runs[a] == runs[b] and b - a >= apart]
        return len({place for pair in pairs for place in pair}) / max(1, len(runs))

    text = " ".join(words)
    assert auto_bleu(text) == pytest.approx(math.sqrt(share(1, 1) * share(2, 2)))
    assert repeated_pairs(text) == pytest.approx(share(2, 1))


def test_folders_and_judges_that_do_not_serve(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"task fluency: nobody judges its answers, expected recognizer"):
        read("fluency", folder, Judges(text_model=Words()))
    for path in folder.rglob("*.*"):
        if path.name not in ("2.wav", "notes.txt"):
            path.unlink()
    with pytest.raises(InputError, match=r"expected recordings \(\*\.wav, \*\.flac\) of 3 s or more, found none"):
        read("fluency", folder, Judges(recognizer=Speaks()))
    (folder / "a.wav").write_bytes(b"no sound")
    with pytest.raises(InputError, match=r"a\.wav: expected an audio file"):
        read("fluency", folder, Judges(recognizer=Speaks()))
