from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile

from spiritlm.errors import InputError
from spiritlm.inference.request import Speech, greedy
from spiritlm.scoring.judges import Judges
from spiritlm.scoring.protocol import Answer, Question, Sound
from spiritlm.scoring.recognizer import Listener, load_recognizer
from spiritlm.smallworld import flite
from spiritlm.suites import librispeech
from spiritlm.suites.asked import AskedTask, Item, asked_figures
from spiritlm.suites.librispeech import END, START

NEEDS_FLITE = pytest.mark.skipif(not flite.is_installed(), reason="flite is not installed")
TEST = {"1": ["HE CAME", "SHE DIDN'T STOP"], "2": ["Tom went home."]}
DEV = {"7": [f"IT RAINED {word}" for word in ("TODAY", "TWICE", "AGAIN", "HERE")], "8": ["NO", "AND " * 20]}
NOBODY = Judges()


Put = Callable[[str, Mapping[str, Sequence[str]]], None]


@pytest.fixture
def put(tmp_path: Path, write_tone: Callable[[Path, float], Path]) -> Put:
    """Writes a split: texts of each speaker."""

    def written(split: str, texts: Mapping[str, Sequence[str]]) -> None:
        for speaker, said in texts.items():
            names = [f"{speaker}-9-{number:04d}" for number in range(len(said))]
            for name in names:
                write_tone(tmp_path / split / speaker / "9" / f"{name}.wav", 0.1)
            lines = "".join(f"{name} {text}\n" for name, text in zip(names, said, strict=True))
            (tmp_path / split / speaker / "9" / f"{speaker}-9.trans.txt").write_text(lines)

    return written


@pytest.fixture
def folder(tmp_path: Path, put: Put) -> Path:
    put("test-clean", TEST)
    put("test-other", {"3": ["GO ON"]})
    put("dev-clean", DEV)
    return tmp_path


def hearing(*texts: str) -> Judges:
    """A recogniser that hears these, whatever is said."""
    return Judges(Listener("fixed", lambda waves: list(texts)))


def shown(question: Question) -> list[str]:
    return [piece if isinstance(piece, str) else f"{Path(piece.name).stem}.wav" for piece in question.prompt]


def by_name(tasks: Sequence[AskedTask]) -> dict[str, AskedTask]:
    return {task.name: task for task in tasks}


def test_without_examples(folder: Path) -> None:
    tasks = by_name(librispeech.read("asr", folder, None, NOBODY))
    assert list(tasks) == ["asr test-clean", "asr test-other"]
    task = tasks["asr test-clean"]
    assert (task.metric, task.split, task.skipped) == ("WER", "test-clean", 0)
    assert [(item.id, item.expected, item.labels["speaker"]) for item in task.items] == [
        ("1-9-0000", ("HE CAME",), "1"),
        ("1-9-0001", ("SHE DIDN'T STOP",), "1"),
        ("2-9-0000", ("Tom went home.",), "2"),
    ]
    question = task.items[0].question
    assert shown(question) == ["1-9-0000.wav"] and (question.output, question.task) == ("text", "transcribe")
    assert question.sampling.temperature == 0 and question.sampling.max_new_tokens == 16
    (read,) = librispeech.read("tts", folder, "test-clean", hearing())
    assert (read.name, read.metric) == ("tts test-clean", "CER") and "heard by fixed" in read.note
    assert [shown(item.question) for item in read.items] == [["he came"], ["she didn't stop"], ["Tom went home."]]
    assert {(item.question.output, item.question.task) for item in read.items} == {("speech", "read")}


def test_room_for_an_answer_grows_with_what_is_asked(folder: Path) -> None:
    for seconds, tokens in ((0.1, 16), (4.0, 100), (20.0, 400)):
        path = folder / "test-other/3/9/3-9-0000.flac"  # counts before the .wav beside it
        soundfile.write(path, np.zeros(int(16000 * seconds), np.float32), 16000)
        (task,) = librispeech.read("asr", folder, "test-other", NOBODY)
        assert task.items[0].question.sampling.max_new_tokens == tokens
    for letters, tokens in ((3, 100), (100, 500), (999, 1500)):
        (folder / "test-other/3/9/3-9.trans.txt").write_text(f"3-9-0000 {'a' * letters}\n")
        (task,) = librispeech.read("tts", folder, "test-other", hearing())
        assert task.items[0].question.sampling.max_new_tokens == tokens


def test_published_prompts(folder: Path) -> None:
    (heard,) = librispeech.read("asr", folder, "test-clean", NOBODY, shots=3)
    assert heard.name == "asr test-clean 3-shot" and "3 examples of dev-clean, published" in heard.note
    texts = {f"{s}-9-{n:04d}.wav": text.lower() for s, own in DEV.items() for n, text in enumerate(own)}
    for item in heard.items:
        pieces = shown(item.question)
        assert pieces[-2:] == [f"{item.id}.wav", START] and item.question.task == "continue"
        examples = dict(zip(pieces[:-2:2], pieces[1:-2:2], strict=True))
        assert examples == {name: f"{START} {texts[name]} {END}" for name in examples} and len(examples) == 3
        assert "8-9-0001.wav" not in examples  # too long
    (read,) = librispeech.read("tts", folder, "test-clean", hearing(), shots=3)
    for item, other in zip(read.items, heard.items, strict=True):
        pieces = shown(item.question)
        assert pieces[:-1:2] == [f"{texts[name]} stop" for name in pieces[1::2]]
        assert pieces[1::2] == shown(other.question)[:-2:2]  # the same examples
        assert pieces[-1].endswith(" stop") and (item.question.output, item.question.task) == ("speech", "continue")
    (few,) = librispeech.read("asr", folder, "test-clean", NOBODY, shots=3, most=2)
    assert few.items == [heard.items[0], heard.items[2]] and few.skipped == 1
    (other,) = librispeech.read("asr", folder, "test-clean", NOBODY, shots=3, seed=1)
    assert [item.question for item in other.items] != [item.question for item in heard.items]


def test_plain_prompts(folder: Path) -> None:
    (heard,) = librispeech.read("asr", folder, "test-other", NOBODY, shots=5, template="plain")
    pieces = shown(heard.items[0].question)
    assert set(pieces[1:-1:2]) == {"no", *(text.lower() for text in DEV["7"])} and pieces[-1] == "3-9-0000.wav"
    (read,) = librispeech.read("tts", folder, "test-other", hearing(), shots=5, template="plain")
    told = shown(read.items[0].question)
    assert (told[1::2], told[:-1:2], told[-1]) == (pieces[:-1:2], pieces[1:-1:2], "go on")
    assert (heard.items[0].question.task, read.items[0].question.task) == ("transcribe", "read")


def test_the_spoken_stop(folder: Path, write_tone: Callable[[Path, float], Path]) -> None:
    write_tone(folder / "stop.wav", 0.1)
    heard = ("he came stop it rained today stop", "she didn't stop stop", "tom went home")
    (task,) = librispeech.read("tts", folder, "test-clean", hearing(*heard), shots=2)
    assert shown(task.items[0].question)[2::3] == ["stop.wav"] * 2 and len(task.items[0].question.prompt) == 7
    answers = [Speech(np.zeros(9, np.float32), 16000)] * 3
    assert [grade.points for grade in task.judge(task.items, answers)] == [0, 0, 0]
    (folder / "stop.wav").unlink()
    (task,) = librispeech.read("tts", folder, "test-clean", hearing(*heard), shots=2)
    assert [grade.points for grade in task.judge(task.items, answers)] == [26, 5, 0]


def test_examples_where_nothing_but_the_split_itself_is_there(tmp_path: Path, put: Put) -> None:
    put("dev-clean", {"1": ["A", "B", "C"], "2": ["D", "E"]})
    (task,) = librispeech.read("asr", tmp_path, None, NOBODY, shots=2)
    for item in task.items:
        assert all(name[0] != item.id[0] for name in shown(item.question)[:-2:2])
    with pytest.raises(InputError, match=r"dev-clean: of at most 60 letters by other speakers: expected 3 .* found 2"):
        librispeech.read("asr", tmp_path, None, NOBODY, shots=3)
    put("dev-other", {"5": ["F"]})
    put("test-other", {"6": ["G"]})
    for split, source in (("dev-clean", "F"), ("dev-other", "ABCDE"), ("test-other", "F")):
        (task,) = librispeech.read("asr", tmp_path, split, NOBODY, shots=1, template="plain")
        assert {shown(item.question)[1].upper() for item in task.items} <= set(source)


def test_words_of_what_is_written_and_letters_of_what_is_heard() -> None:
    item = Item("a", Question(("",), "text", greedy(1)), ("HE DIDN'T COME",))
    for answer, edits in (("He didn't come.", 0), ("he did come on", 2), ("", 3), (f"he didn't {END} come", 1)):
        (grade,) = librispeech.grade_texts([item], [answer], flagged=True)
        assert (grade.points, grade.out_of) == (edits, 3)
    assert librispeech.grade_texts([item], [f"he didn't come {END}"], flagged=False)[0].points == 1
    for heard, edits in (("he, didn't come", 0), ("he did come", 3), ("hedidn't come", 1), ("", 14)):
        listener = Listener("fixed", lambda waves, heard=heard: [heard])
        (grade,) = librispeech.grade_speech([item], [Speech(np.ones(9, np.float32), 16000)], listener, stops=False)
        assert (grade.points, grade.out_of) == (edits, 14)


class Reader:
    """Writes down what a recording's transcript says, one word before it, and reads aloud by flite."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self.identity, self.texts = {"model": "reader"}, texts

    def loglikelihood(self, requests: Sequence[object]) -> list[object]:
        raise NotImplementedError

    def generate(self, questions: Sequence[Question]) -> list[Answer]:
        return [self._answer(question) for question in questions]

    def _answer(self, question: Question) -> Answer:
        asked = question.prompt[-1]
        if isinstance(asked, Sound):
            return f"so {self.texts[Path(asked.name).stem]}"
        return Speech(flite.speak(asked, "rms").wave, 16000)


@NEEDS_FLITE
def test_asked_of_a_model(folder: Path) -> None:
    texts = {f"{s}-9-{n:04d}": text for s, own in TEST.items() for n, text in enumerate(own)}
    judges = Judges(load_recognizer("sphinx", [*texts.values(), "it was nothing"]))
    model = Reader(texts)
    heard, read = (librispeech.read(name, folder, "test-clean", judges) for name in ("asr", "tts"))
    grades = {}
    for task in (*heard, *read):
        grades[task.metric] = task.judge(task.items, model.generate([item.question for item in task.items]))
        figures = asked_figures(task, grades[task.metric])
        assert figures["value"] == (pytest.approx(3 / 8) if task.metric == "WER" else 0)
        assert set(figures["by"]["speaker"]) == {"1", "2"}
    assert [grade.heard for grade in grades["CER"]] == [text.lower().rstrip(".") for text in texts.values()]


def test_capitals_links_and_no_recordings(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    link = tmp_path_factory.mktemp("links")
    (link / "test-clean").symlink_to(folder / "test-clean")
    (task,) = librispeech.read("asr", link, None, NOBODY)
    assert len(task.items) == 3
    (folder / "test-other/3/9/3-9-0000.wav").unlink()
    (read,) = librispeech.read("tts", folder, "test-other", hearing())
    assert len(read.items) == 1
    with pytest.raises(InputError, match=r"3-9-0000\.flac: audio absent"):
        librispeech.read("asr", folder, "test-other", NOBODY)


def test_what_else_is_known_of_the_utterances(folder: Path) -> None:
    table = folder / "items.csv"
    table.write_text("name,voice\n1-9-0000,rms\n1-9-0001,rms\n2-9-0000,slt\n")
    (task,) = librispeech.read("asr", folder, "test-clean", NOBODY)
    assert [item.labels for item in task.items][1:] == [
        {"speaker": "1", "voice": "rms"},
        {"speaker": "2", "voice": "slt"},
    ]
    for text, message in (
        ("name,voice\n1-9-0000,rms\n2-9-0000,slt\n", "has no utterance '1-9-0001' of test-clean"),
        ("name,voice\n1-9-0000,rms\n1-9-0000,slt\n", "row 3: utterance '1-9-0000' is there twice"),
        ("name,speaker\n1-9-0000,rms\n", "column 'speaker': expected another name"),
        ("id,voice\n1-9-0000,rms\n", "has no column 'name'"),
    ):
        table.write_text(text)
        with pytest.raises(InputError, match=rf"items\.csv: {message}"):
            librispeech.read("asr", folder, "test-clean", NOBODY)


def _stray(folder: Path) -> None:
    (folder / "test-clean/1/9/1-9.trans.txt").unlink()


def _untold(folder: Path) -> None:
    (folder / "test-clean/1/9/1-9.trans.txt").write_text("1-9-0000 HE CAME\n")


def _written(text: str, folder: Path) -> None:
    (folder / "test-clean/2/9/2-9.trans.txt").write_text(text)


@pytest.mark.parametrize(
    ("spoil", "split", "message"),
    [
        (_stray, None, r"1-9-0000\.wav: expected a line of SPEAKER-CHAPTER\.trans\.txt beside it"),
        (_untold, None, r"test-clean: 1-9-0001: transcript absent: 1-9\.trans\.txt has no line for it"),
        (partial(_written, "2-9-0000 ...\n"), None, "test-clean: 2-9-0000: its transcript has no words"),
        (partial(_written, "2-9-0000 A\n" * 2), None, "test-clean: 2-9-0000: has two transcripts"),
        (lambda folder: None, "test-clear", "has no split 'test-clear', it has .*; the nearest is 'test-clean'"),
        (lambda folder: (folder / "test-none").mkdir(), "test-none", r"test-none: expected SPEAKER/CHAPTER/"),
    ],
)
def test_what_is_not_whole(folder: Path, spoil: Callable[[Path], object], split: str | None, message: str) -> None:
    spoil(folder)
    with pytest.raises(InputError, match=message):
        librispeech.read("asr", folder, split, NOBODY)


def test_what_is_not_there(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(InputError, match=r"task tts test-clean: nobody judges its answers, expected recognizer"):
        librispeech.read("tts", folder, None, NOBODY)
    (tmp_path / "empty/dev").mkdir(parents=True)
    with pytest.raises(InputError, match=r"empty: expected test-clean, test-other or dev-\.\.\., it has dev$"):
        librispeech.read("asr", tmp_path / "empty", None, NOBODY)
