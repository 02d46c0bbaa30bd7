import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile

from spiritlm.audio.files import read_audio
from spiritlm.errors import InputError
from spiritlm.inference.request import Speech
from spiritlm.scoring.hearing import Hearing
from spiritlm.scoring.judges import Judges
from spiritlm.scoring.protocol import Answer, Question, Request, Score, Sound
from spiritlm.suites.asked import ask
from spiritlm.suites.voxeval import LAST, RATE, Exam, letter_of, read
from spiritlm.tokens.vocabulary import Vocabulary
from spiritlm.units.mfcc import FEATURES, MfccKmeansTokenizer

SUBJECTS = {"anatomy_4o": "ABC", "management_test": "DA"}
"""Letters of the rows."""
TIMBRES = ("alloy", "alloy_noise")


def write_mp3(path: Path, seconds: float, hertz: float, rate: int = RATE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = 0.3 * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)
    soundfile.write(path, wave, rate, format="MP3")


def write_turn(folder: Path, number: int, seconds: float, hertz: float) -> None:
    write_mp3(folder / f"{number:08d}_question.mp3", seconds, hertz)
    write_mp3(folder / f"{number:08d}_answer.mp3", seconds / 2, 2 * hertz)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for subject, letters in SUBJECTS.items():
        (tmp_path / "test").mkdir(exist_ok=True)
        with (tmp_path / "test" / f"{subject}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([f"Why, {n}?", "1", "2", "3", "4", letter] for n, letter in enumerate(letters))
        for timbre in TIMBRES:
            for number in range(len(letters)):
                write_turn(tmp_path / "test" / timbre / subject, number, 0.4, 200 + 50 * number)
            for number in range(2):
                examples = tmp_path / "all_fewshot_examples" / timbre / subject.replace("_test", "_val")
                write_turn(examples, number, 0.5, 400 + 50 * number)
    return tmp_path


class Speaks:
    """Says in turns what it is told, as the level of a recording, and hears it again."""

    identity: dict[str, str] = {}  # noqa: RUF012
    name = "level meter"

    def __init__(self, *sentences: str) -> None:
        self.sentences = sentences

    def loglikelihood(self, requests: Sequence[Request]) -> list[Score]:
        raise NotImplementedError

    def generate(self, questions: Sequence[Question]) -> list[Answer]:
        return [Speech(np.full(9, n % len(self.sentences), np.float32), RATE) for n in range(len(questions))]

    def __call__(self, spoken: Sequence[Speech]) -> list[str]:
        return [self.sentences[int(speech.wave[0])] for speech in spoken]


JUDGES = Judges(recognizer=Speaks("A"))


def test_questions_of_all_subjects_and_timbres(folder: Path) -> None:
    (task,) = read(folder, JUDGES, shots=2)
    assert (task.name, task.metric, task.skipped, len(task.items)) == (
        "voxeval S>S 2-shot", "accuracy", 0, 10,
    )  # fmt: skip
    assert [item.expected[0] for item in task.items] == list("ABCDA" * 2)
    assert {item.labels["timbre"] for item in task.items} == set(TIMBRES)
    assert [item.labels["subject"] for item in task.items[:5]] == ["anatomy"] * 3 + ["management"] * 2
    assert task.items[3].labels["item"] == task.items[8].labels["item"] == "management_test/00000000"
    assert len({item.id for item in task.items}) == 10
    question = task.items[0].question
    assert (question.output, question.sampling.max_new_tokens, question.sampling.temperature) == ("speech", 300, 0)
    (quiet,) = read(folder, JUDGES, timbres=["alloy_noise"], shots=2, most=3)
    assert [item.id for item in quiet.items] == [
        "alloy_noise/anatomy_4o/00000000", "alloy_noise/anatomy_4o/00000002", "alloy_noise/management_test/00000001",
    ]  # fmt: skip
    assert quiet.skipped == 2


def test_examples_and_question_are_one_recording_with_a_second_between(folder: Path) -> None:
    (task,) = read(folder, JUDGES, timbres=["alloy"], shots=2)
    (sound,) = task.items[3].question.prompt
    examples = folder / "all_fewshot_examples" / "alloy" / "management_val"
    parts = [examples / f"{n:08d}_{part}.mp3" for n in range(2) for part in ("question", "answer")]
    parts.append(folder / "test" / "alloy" / "management_test" / "00000000_question.mp3")
    silence, pieces = np.zeros(RATE, np.float32), [read_audio(parts[0], RATE)]
    for part in parts[1:]:
        pieces += [silence, read_audio(part, RATE)]
    expected = np.concatenate(pieces)
    assert np.abs(sound.read(RATE) - expected).max() < 2**-15
    assert len(sound.read(16000)) == pytest.approx(len(expected) * 16000 / RATE, abs=2)
    (alone,) = read(folder, JUDGES, timbres=["alloy"], shots=0)
    assert alone.name == "voxeval S>S"
    assert np.abs(alone.items[3].question.prompt[0].read(RATE) - pieces[-1]).max() < 2**-15


def test_the_last_eighty_seconds_are_heard(tmp_path: Path) -> None:
    write_mp3(tmp_path / "long.mp3", 79.0, 100)
    write_mp3(tmp_path / "answer.mp3", 0.5, 200, rate=16000)
    write_mp3(tmp_path / "question.mp3", 0.5, 400)
    exam = Exam("exam", (tmp_path / "long.mp3", tmp_path / "answer.mp3", tmp_path / "question.mp3"))
    wave = exam.read(RATE)
    assert len(wave) == LAST * RATE
    long, answer, question = (read_audio(part, RATE) for part in exam.parts)
    assert len(long) + len(answer) + len(question) + 2 * RATE > LAST * RATE
    assert np.abs(wave[-len(question) :] - question).max() < 2**-15
    kept = len(wave) - len(question) - len(answer) - 2 * RATE
    assert np.abs(wave[:kept] - long[-kept:]).max() < 2**-15


def test_ears_take_it_as_any_sound(folder: Path, vocabulary: Vocabulary) -> None:
    ears = MfccKmeansTokenizer(np.random.default_rng(0).normal(size=(50, FEATURES)).astype(np.float32))
    hearing = Hearing(ears, vocabulary)
    (task,), (bare,) = (read(folder, JUDGES, timbres=["alloy"], shots=shots) for shots in (2, 0))
    for item, other in zip(task.items, bare.items, strict=True):
        whole, alone = item.question.prompt[0], other.question.prompt[0]
        assert hearing.ids(whole) == Hearing(ears, vocabulary).ids(Sound("as a file", whole.source))
        assert len(hearing.ids(whole)) > len(hearing.ids(alone)) > 0


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"),
        ("The answer is C.", "C"),
        ("the answer is a", "A"),
        ("A.", "A"),
        ("a", "A"),
        ("A. Four apples", "A"),
        ("Option A is right", "A"),
        ("(D) because of B", "D"),
        ("a dog is an animal", ""),
        ("a dog, so d", "D"),
        ("Is it a question? B!", "B"),
        ("the answer is A because of B", "A"),
        ("The answer is bee.", "B"),
        ("see", "C"),
        ("I see the sea", ""),
        ("to be or not", ""),
        ("I'd say it's nothing", ""),
        ("", ""),
    ],
)
def test_which_letter_an_answer_says(text: str, letter: str) -> None:
    assert letter_of(text) == letter


def test_figures_beside_what_its_letters_are_worth_elsewhere(folder: Path, tmp_path: Path) -> None:
    model = Speaks("The answer is A.", "be", "I do not know", "d", "a cat")
    (task,) = read(folder, Judges(recognizer=model), timbres=["alloy"], shots=1)
    figures = ask(model, [task], tmp_path / "out")[task.name]
    assert figures["value"] == pytest.approx(3 / 5)  # A, B and D; no letter, and an article
    assert figures["by"]["subject"]["anatomy"]["value"] == pytest.approx(2 / 3)
    assert figures["chance"]["value"] == pytest.approx((0 + 0 + 0 + 0 + 1 / 4) / 5)
    assert "heard by level meter" in figures["note"]


def test_rows_without_recordings_are_skipped_and_counted(folder: Path) -> None:
    (folder / "test" / "alloy" / "anatomy_4o" / "00000001_question.mp3").unlink()
    (folder / "test" / "alloy" / "management_test" / "00000001_answer.mp3").unlink()
    (task,) = read(folder, JUDGES, timbres=["alloy"], shots=1)
    assert ([item.id[-1] for item in task.items], task.skipped) == (["0", "2", "0"], 2)


def test_examples_may_be_called_as_the_test_is(folder: Path) -> None:
    examples = folder / "all_fewshot_examples" / "alloy"
    (examples / "management_val").rename(examples / "management_test")
    assert len(read(folder, JUDGES, timbres=["alloy"], shots=2)[0].items) == 5


def test_folders_that_cannot_be_used_are_one_line(folder: Path, tmp_path: Path) -> None:
    def refused(message: str, **asked: object) -> None:
        with pytest.raises(InputError, match=message) as error:
            read(folder, JUDGES, **{"timbres": ["alloy"], "shots": 2, **asked})  # type: ignore[arg-type]
        assert "\n" not in str(error.value)

    refused(r"has no timbre 'aloy', it has alloy, alloy_noise; the nearest is 'alloy'", timbres=["aloy"])
    refused(r"00000002_question\.mp3: absent, expected examples 0 to 2", shots=3)
    with pytest.raises(InputError, match=r"voxeval S>S: nobody judges its answers, expected recognizer"):
        read(folder, Judges())
    with pytest.raises(InputError, match="expected test/ with tables and recordings"):
        read(tmp_path / "test", JUDGES)
    table = folder / "test" / "management_test.csv"
    whole = table.read_text()
    for text, message in (
        ("Why?,1,2,3,4,E\n", "row 1: the sixth column is 'E', expected one of A, B, C, D"),
        ("Why?,1,2,3,4,A\nWhy?,1,2\n", "row 2: the sixth column is absent"),
    ):
        table.write_text(text)
        refused(rf"management_test\.csv: {message}")
    table.write_text(whole)
    (folder / "all_fewshot_examples" / "alloy" / "management_val").rename(folder / "elsewhere")
    refused(r"management_val or .*management_test: expected the examples of management_test")
    (folder / "test" / "alloy" / "management_test").rename(folder / "gone")
    refused(r"management_test: expected the recordings of management_test\.csv")
    for path in (folder / "test").glob("*.csv"):
        path.unlink()
    refused(r"expected tables SUBJECT\.csv, found none")
