import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from spiritlm.errors import InputError
from spiritlm.inference.request import Speech
from spiritlm.scoring.judges import Judges
from spiritlm.scoring.protocol import Answer, Question, Request, Score, Sound
from spiritlm.suites.asked import ask
from spiritlm.suites.spoken_qa import _several, containment_judge, plain, read, transcripts

Tone = Callable[[Path, float], Path]
ROWS = {
    "llama_questions": [
        {"Questions": "Where is the lake?", "Answer": "In Paris, France", "audio_filename": "a.mp3"},
        {"Questions": "Who is sad?", "Answer": "Tom", "audio_filename": "b.mp3"},
    ],
    "web_questions": [
        {"question": "who was tom?", "url": "x", "answers": "The King;a Doctor", "audio_filename": "w0.wav"},
        {"question": "what did he catch?", "url": "y", "answers": "Fish", "audio_filename": "w1.wav"},
        {"question": "where?", "url": "z", "answers": "U.S.;The;!", "audio_filename": "w2.wav"},
    ],
    "trivia_qa": [
        {
            "question": "Which band?", "answer_normalized_value": "beatles", "audio_filename": "t.wav",
            "answer_normalized_aliases": "beatles,fab four, the beatles",
        }
    ],
}  # fmt: skip


def write_table(folder: Path, name: str, rows: Sequence[dict[str, str]], write_tone: Tone) -> Path:
    folder.mkdir(exist_ok=True)
    with (folder / f"{name}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        write_tone(folder / "audios" / row["audio_filename"], 0.1)
    return folder


class Says:
    """Answers in text as it is told, or in speech whose level says which of its sentences it is."""

    def __init__(self, sentences: Sequence[str]) -> None:
        self.identity = {"model": "parrot"}
        self.sentences, self.asked, self.name = list(sentences), list[Question](), "level meter"

    def loglikelihood(self, requests: Sequence[Request]) -> list[Score]:
        raise NotImplementedError

    def generate(self, questions: Sequence[Question]) -> list[Answer]:
        self.asked = list(questions)
        return [
            text if question.output == "text" else Speech(np.full(4 if text else 0, number, np.float32), 16000)
            for number, (question, text) in enumerate(zip(questions, self.sentences, strict=True))
        ]

    def __call__(self, spoken: Sequence[Speech]) -> list[str]:
        return [self.sentences[int(speech.wave[0])].lower() if len(speech.wave) else "" for speech in spoken]


@pytest.mark.parametrize(
    ("name", "accepted"),
    [
        ("llama_questions", [("in paris france",), ("tom",)]),
        ("web_questions", [("king", "doctor"), ("fish",), ("u s",)]),
        ("trivia_qa", [("beatles", "fab four")]),
    ],
)
def test_the_layouts_of_openaudiobench(
    tmp_path: Path, write_tone: Tone, name: str, accepted: list[tuple[str, ...]]
) -> None:
    folder = write_table(tmp_path, name, ROWS[name], write_tone)
    tasks = {task.name: task for task in read(name, folder, Judges(recognizer=Says([])))}
    assert list(tasks) == [f"{name} S>T", f"{name} S>S", f"{name} T>T"]
    assert list({task.name: task for task in read(name, folder, Judges())}) == [f"{name} S>T", f"{name} T>T"]
    heard, spoken, read_ = tasks.values()
    for task in tasks.values():
        assert [item.expected for item in task.items] == accepted
        assert [item.id for item in task.items] == [row["audio_filename"] for row in ROWS[name]]
        assert (task.metric, task.skipped, task.split) == ("accuracy", 0, "test")
        assert all(item.question.sampling.temperature == 0 for item in task.items)
    for row, *items in zip(ROWS[name], heard.items, spoken.items, read_.items, strict=True):
        questions = [item.question for item in items]
        assert [question.output for question in questions] == ["text", "speech", "text"]
        assert [question.sampling.max_new_tokens for question in questions] == [64, 300, 64]
        path = folder / "audios" / row["audio_filename"]
        assert questions[0].prompt == questions[1].prompt == (Sound(str(path), path),)
        assert len(questions[0].prompt[0].read(16000)) == 800
        assert questions[2].prompt == (row.get("question") or row["Questions"],)
    assert "level meter" in spoken.note and "level meter" not in heard.note


def test_llama_questions_as_first_published(tmp_path: Path, write_tone: Tone) -> None:
    lines = ["Questions\tAnswer\tWav Filename", '"Who" is sad?\tTom\t1.wav', "Where?\tThe lake\t2"]
    (tmp_path / "llama_questions_300.tsv").write_text("\n".join(lines) + "\n")
    for number in (1, 2):
        write_tone(tmp_path / f"{number}.wav", 0.1)
    heard, read_ = read("llama_questions", tmp_path, Judges())
    assert [item.question.prompt[0].source for item in heard.items] == [tmp_path / "1.wav", tmp_path / "2.wav"]
    assert [item.question.prompt for item in read_.items] == [('"Who" is sad?',), ("Where?",)]
    assert [item.expected for item in heard.items] == [("tom",), ("lake",)]
    (tmp_path / "2.wav").unlink()
    with pytest.raises(InputError, match=r"llama_questions_300\.tsv: row 3: there is no recording .*2\.wav"):
        read("llama_questions", tmp_path, Judges())
    for text, message in (
        ("Questions\tAnswer\tWav\nWho?\tTom\t1.wav\n", "has no column 'Wav Filename', it has Questions, Answer, Wav$"),
        (f"{lines[0]}\nWho?\tTom\n", "row 2: expected 3 columns, found 2"),
        ("", "has no column 'Questions', it has none"),
        (f"{lines[0]}\n", "none of its 0 questions has an accepted answer"),
    ):
        (tmp_path / "llama_questions_300.tsv").write_text(text)
        with pytest.raises(InputError, match=message):
            read("llama_questions", tmp_path, Judges())


def test_labels_wording_and_lengths(tmp_path: Path, write_tone: Tone) -> None:
    rows = [row | {"voice": "slt", "ends": "well"} for row in ROWS["web_questions"]]
    folder = write_table(tmp_path, "topic_qa", rows, write_tone)
    judges = Judges(recognizer=Says([]))
    tasks = read("topic_qa", folder, judges, wording="The answer is", new_tokens={"text": 5, "speech": 9})
    heard, spoken, read_ = (task.items[0] for task in tasks)
    assert [piece if isinstance(piece, str) else "sound" for piece in heard.question.prompt] == [
        "sound",
        "The answer is",
    ]
    assert spoken.question.prompt == heard.question.prompt
    assert read_.question.prompt == ("who was tom? The answer is",)
    assert [item.question.sampling.max_new_tokens for item in (heard, spoken, read_)] == [5, 9, 5]
    assert heard.labels == {"voice": "slt", "ends": "well"}


def test_some_of_the_questions_are_spread_and_the_others_counted(tmp_path: Path, write_tone: Tone) -> None:
    rows = [{"question": f"{n}?", "answers": "!" if n == 3 else "yes", "audio_filename": f"{n}.wav"} for n in range(12)]
    folder = write_table(tmp_path, "web_questions", rows, write_tone)
    whole, some = (read("web_questions", folder, Judges(), most=most)[0] for most in (None, 3))
    assert (len(whole.items), whole.skipped) == (11, 1)  # nothing is left of "!"
    assert ([item.id for item in some.items], some.skipped) == (["0.wav", "6.wav", "11.wav"], 9)


def test_what_is_right_written_and_spoken(tmp_path: Path, write_tone: Tone) -> None:
    folder = write_table(tmp_path / "web", "web_questions", ROWS["web_questions"], write_tone)
    model = Says(["He was a KING.", "Fishes, I think", "In the U.S.!"])
    heard, spoken, _ = read("web_questions", folder, Judges(recognizer=model))
    for task in (heard, spoken):
        figures = ask(model, [task], tmp_path / "out")[task.name]
        assert (figures["value"], figures["n"], figures["chance"]["value"]) == (2 / 3, 3, 0)
        assert [question.output for question in model.asked] == ["speech" if task is spoken else "text"] * 3
    model.sentences = ["the doctor", "the doctor caught fish", ""]
    figures = ask(model, [spoken], tmp_path / "out")[spoken.name]
    assert figures["value"] == 2 / 3
    assert figures["chance"]["value"] == pytest.approx((1 / 2 + 0 + 0) / 3)


def test_the_rule() -> None:
    for text, words in {
        '  The Who\'s  A-Team, an "Apple"! ': "who s team apple",
        "ＦＵＬＬ width": "full width",
        "Beyoncé—Knowles": "beyoncé knowles",
        "$5 + 3%": "5 3",
        "an the a": "",
        "banana": "banana",
    }.items():
        assert plain(text) == words


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("garden; the carrot", ["garden", " the carrot"]),
        ('["garden", "the carrot"]', ["garden", "the carrot"]),
        ("['garden', 'the carrot']", ["garden", "the carrot"]),
        ("[sic] garden", ["[sic] garden"]),
    ],
)
def test_several_answers_of_a_cell(cell: str, expected: list[str]) -> None:
    assert _several(cell, ";") == expected


def test_nothing_heard_and_one_question_alone(tmp_path: Path, write_tone: Tone) -> None:
    folder = write_table(tmp_path, "trivia_qa", ROWS["trivia_qa"], write_tone)
    (item,) = read("trivia_qa", folder, Judges())[0].items
    silent = Speech(np.zeros(0, np.float32), 16000)
    judge = containment_judge(Says(["I like the Fab-Four"]))
    assert judge([item], [silent]) == [(0.0, 1.0, "", None)]
    assert judge([item], [Speech(np.zeros(3, np.float32), 16000)]) == [(1.0, 1.0, "i like the fab-four", None)]
    assert transcripts(None, ["as written"]) == ["as written"]


def test_tables_that_cannot_be_used_are_one_line(tmp_path: Path, write_tone: Tone) -> None:
    with pytest.raises(InputError, match=r"expected web_questions\.csv and audios/, or llama_questions_300\.tsv"):
        read("web_questions", tmp_path, Judges())
    rows = ROWS["web_questions"]
    cases = (
        (
            [{"question": "who?", "answer": "x", "audio_filename": "0.wav"}],
            "expected the columns question and answer_norm",
        ),
        (
            [{"question": "who?", "answers": "x", "audio": "0.wav", "audio_filename": ""}],
            "row 2: audio_filename is empty",
        ),
        ([rows[0], rows[1] | {"question": " "}], "row 3: question is empty"),
        ([rows[0], rows[0]], r"row 3: recording 'w0\.wav' is there twice"),
        ([row | {"answers": " ; the"} for row in rows], "none of its 3 questions has an accepted answer"),
    )
    for number, (table, message) in enumerate(cases):
        folder = write_table(tmp_path / str(number), "web_questions", rows, write_tone)
        lines = [table[0].keys(), *(row.values() for row in table)]
        (folder / "web_questions.csv").write_text("".join(",".join(line) + "\n" for line in lines))
        with pytest.raises(InputError, match=message) as error:
            read("web_questions", folder, Judges())
        assert "\n" not in str(error.value)
    folder = write_table(tmp_path / "lost", "web_questions", rows, write_tone)
    (folder / "audios" / "w1.wav").unlink()
    with pytest.raises(InputError, match=r"row 3: there is no recording .*audios/w1\.wav"):
        read("web_questions", folder, Judges())
    (folder / "web_questions.csv").write_text("question,answers\nwho?,x\n")
    with pytest.raises(InputError, match="has no column 'audio_filename', it has question, answers"):
        read("web_questions", folder, Judges())
