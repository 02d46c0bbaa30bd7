from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from spiritlm.errors import InputError
from spiritlm.inference.request import greedy
from spiritlm.scoring.protocol import Question, Sound
from spiritlm.suites import intent
from spiritlm.suites.asked import Item

HEADER = ",path,speakerId,transcription,action,object,location"
WANTED = (
    ("activate", "lights", "bedroom"),
    ("activate", "lights", "none"),
    ("increase", "volume", "none"),
    ("change language", "none", "none"),
)
LABELS = ["activate lights bedroom", "activate lights", "increase volume", "change language"]


@pytest.fixture
def folder(tmp_path: Path, write_tone: Callable[[Path, float], Path]) -> Path:
    """Of train, intents 4, 3, 2 and 1 times; of test once each."""
    for split, numbers in {"train": (4, 3, 2, 1), "test": (1, 1, 1, 1)}.items():
        rows = [HEADER]
        for place, (slots, count) in enumerate(zip(WANTED, numbers, strict=True)):
            for number in range(count):
                path = f"wavs/speakers/{split}/{place}-{number}.wav"
                write_tone(tmp_path / path, 0.1)
                rows.append(f'{len(rows)},{path},s{number},"Please, now",{",".join(slots)}')
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / f"{split}_data.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def test_the_published_prompt(folder: Path) -> None:
    task = intent.read(folder, None, shots=6)
    assert (task.name, task.metric, task.split, len(task.items)) == ("intent test 6-shot", "accuracy", "test", 4)
    assert [item.expected[0] for item in task.items] == LABELS
    for place, item in enumerate(task.items):
        pieces = item.question.prompt
        assert isinstance(pieces[-2], Sound) and pieces[-2].name.endswith(f"test/{place}-0.wav") and pieces[-1] == "A:"
        shown = {}
        for sound, text in zip(pieces[:-2:2], pieces[1:-2:2], strict=True):
            assert isinstance(sound, Sound) and "/train/" in sound.name
            assert text == f"A:{LABELS[int(Path(sound.name).stem[0])]}"
            shown[sound.name] = text
        assert sorted(Counter(shown.values()).values()) == [1, 1, 2, 2] and len(shown) == 6
        assert item.question.output == "text" and item.labels == {"speaker": "s0", "intent": LABELS[place]}
    again = intent.read(folder, "test", shots=6, most=2)
    assert list(again.items) == [task.items[0], task.items[3]] and again.skipped == 2
    assert intent.read(folder, None, shots=6, seed=1).items[0] != task.items[0]
    assert [len(item.question.prompt) for item in intent.read(folder, None, shots=0).items] == [2] * 4


@pytest.mark.parametrize(
    ("answer", "heard"),
    [
        ("activate lights bedroom", "activate lights bedroom"),
        (" Activate  Lights ", "activate lights"),
        ("activate lights bedroom A:increase volume", "activate lights bedroom"),
        ("activate lights bedrooms", "activate lights"),
        ("increase the volume", "increase the volume"),
        ("", ""),
    ],
)
def test_what_counts_of_an_answer(answer: str, heard: str) -> None:
    items = [Item(label, Question(("A:",), "text", greedy(1)), (label,)) for label in LABELS]
    grades = intent.grade_labels(items, [answer] * 4, LABELS)
    assert [grade.heard for grade in grades] == [heard] * 4
    assert [grade.points for grade in grades] == [float(label == heard) for label in LABELS]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("0,wavs/speakers/test/0-0.wav,s,x,activate,none,none", "row 6: recording .* is there twice"),
        ("0,gone.wav,s,x,activate,none,none", r"row 6: .*gone\.wav: expected a recording, but there is none"),
        ("0,wavs/speakers/train/0-0.wav,s,x,none,None,none", "row 6: action, object, location are none"),
    ],
)
def test_rows_that_cannot_be_used(folder: Path, row: str, message: str) -> None:
    with (folder / "data/test_data.csv").open("a") as file:
        file.write(row + "\n")
    with pytest.raises(InputError, match=rf"test_data\.csv: {message}"):
        intent.read(folder, None, shots=1)


def test_splits_and_too_few_examples(folder: Path) -> None:
    with pytest.raises(InputError, match="split 'train': expected test or valid, examples are of train"):
        intent.read(folder, "train")
    with pytest.raises(InputError, match=r"valid_data\.csv: No such file"):
        intent.read(folder, "valid", shots=1)
    with pytest.raises(InputError, match="train: expected 30 examples, found 10"):
        intent.read(folder, None)
