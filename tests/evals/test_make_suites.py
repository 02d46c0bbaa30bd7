import csv
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from spiritlm.audio.files import read_audio
from spiritlm.corpus.manifest import Sentence, SpokenDocument, write_manifest
from spiritlm.run.files import read_json, write_json, write_jsonl
from spiritlm.scoring.judges import Judges
from spiritlm.scoring.protocol import Sound
from spiritlm.smallworld.stories import Story, stories
from spiritlm.suites.registry import Asking, read_asked, read_tasks

REPO = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, str(REPO / "evals/make_suites.py"), str(REPO / "evals/recipes/make-suites-tiny.toml")]
PAIRS = 10
SMALL = ("asr", "tts", "topic_qa", "outcome_qa", "stsp")


class Anyone:
    """A judge that is never asked."""

    name, labels = "anyone", ("happy", "sad")

    def __call__(self, answers: Sequence[object]) -> list[str]:
        raise AssertionError


VOICES = {
    "train": ["flite:kal16", "espeak:en-us+f3"],
    "held_out": ["flite:awb", "espeak:en-us+m2"],
    "train_without_flite": ["espeak:en-us+f3"],
    "held_out_without_flite": ["espeak:en-us+f5", "espeak:en-us+m2"],
}


@pytest.fixture(scope="module")
def told() -> list[Story]:
    return list(islice(stories("train", 0), 200))


@pytest.fixture(scope="module")
def speech(told: list[Story], tmp_path_factory) -> Path:
    """What is read of a finished corpus: words and voices of its train split, stories that are only written."""
    folder = tmp_path_factory.mktemp("corpus") / "speech"
    documents = [
        SpokenDocument(
            f"train-{number}", Path(f"wav/{number}.wav"), 20.0, 16000, VOICES["train"][number % 2],
            tuple(Sentence(text, 4.0 * place, 4.0 * place + 3) for place, text in enumerate(story.sentences)),
        )
        for number, story in enumerate(told[:100])
    ]  # fmt: skip
    folder.mkdir()
    write_manifest(folder, "train", documents)
    write_jsonl(folder / "stories.jsonl", ({"id": story.name, "text": story.text} for story in told[100:]))
    write_json(
        folder / "stage.json", {"stage": "speak", "fingerprint": "0", "recipe": {"voices": VOICES}, "inputs": {}}
    )
    return folder


def make(speech: Path, out: Path) -> subprocess.CompletedProcess[str]:
    sizes = [f"pairs={PAIRS}", "sentences=6", "questions=4", "prompts=8", "shard_size=5"]
    command = [*COMMAND, f"speech={speech}", f"out={out}", *sizes]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def suites(speech: Path, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("suites") / "suites"
    done = make(speech, out)
    assert done.returncode == 0, done.stderr
    return out


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_readers_of_the_public_benchmarks_read_them(suites: Path) -> None:
    for name in ("swuggy", "sblimp"):
        (heard,), (read,) = read_tasks(name, suites, "dev"), read_tasks(f"{name}_text", suites, "dev")
        assert (len(heard.pairs), len(read.pairs)) == (2 * PAIRS, PAIRS)
    for name in ("storycloze", "topic_storycloze"):
        assert {len(task.pairs) for task in read_tasks(name, suites, "dev")} == {PAIRS}


def test_the_readers_of_benchmarks_of_answers_read_them(suites: Path) -> None:
    anyone = Judges(*(Anyone() for _ in range(3)))
    asking = Asking(anyone, (0, 2), template="plain", repetitions=1)
    found = {task.name: task for name in SMALL for task in read_asked(name, suites, None, asking)}
    assert len(found["asr test-clean"].items) == len(found["tts test-other 2-shot"].items) == 6
    assert len(found["topic_qa S>S"].items) == len(found["outcome_qa T>T"].items) == 4
    assert {name for name in found if name.startswith("stsp")} == {
        f"stsp {asked}>{told}{shots}" for asked in "TS" for told in "TS" for shots in ("", " 2-shot")
    }
    for item in (item for task in found.values() for item in task.items):
        assert all(len(piece.read(16000)) for piece in item.question.prompt if isinstance(piece, Sound))


def test_a_pair_is_said_by_a_voice_of_training_and_a_held_out_one(suites: Path) -> None:
    voices = read_json(suites / "suites.json")["voices"]
    assert set(voices["seen"]) <= set(VOICES["train"]) and not set(voices["seen"]) & set(voices["unseen"])
    for folder in ("swuggy/lexical/dev", "sblimp/syntactic/dev"):
        rows = table(suites / folder / "gold.csv")
        for item in range(PAIRS):
            said = [row["voice"] for row in rows if row["id"] == str(item)]
            assert said[0] == said[1] and said[2] == said[3]
            assert said[0] in voices["seen"] and said[2] in voices["unseen"]


def test_recordings_of_a_pair_differ_and_are_nearly_as_long(suites: Path) -> None:
    for folder in ("swuggy/lexical/dev", "sblimp/syntactic/dev"):
        rows = table(suites / folder / "gold.csv")
        for right, wrong in zip(rows[::2], rows[1::2], strict=True):
            one, two = (read_audio(suites / folder / f"{row['filename']}.wav", 16000) for row in (right, wrong))
            assert abs(len(one) - len(two)) < 0.3 * len(one)
            assert len(one) != len(two) or np.abs(one - two).max() > 0.05


def test_frequency_is_that_of_the_recordings(suites: Path, told: list[Story]) -> None:
    counted = Counter(word for story in told[:100] for word in re.findall("[a-z]+", story.text.lower()))
    rows = table(suites / "swuggy/lexical/dev/gold.csv")
    assert all(row["frequency"] == (str(counted[row["word"]]) if row["correct"] == "1" else "") for row in rows)
    held_out = {row["word"] for row in rows if row["frequency"] == "0"}
    assert len(held_out) == 2 and held_out == set(read_json(suites / "suites.json")["swuggy"]["held_out_words"])
    for right, wrong in zip(rows[::2], rows[1::2], strict=True):
        assert right["length"] == wrong["length"] == str(len(right["phones"].split()))
        assert sum(a != b for a, b in zip(right["phones"].split(), wrong["phones"].split(), strict=True)) == 1


def test_no_sentence_is_of_training(suites: Path, told: list[Story]) -> None:
    text = " ".join(story.text for story in told)
    rows = table(suites / "sblimp/syntactic/dev/gold.csv")
    assert len(rows) == 4 * PAIRS and not any(row["transcription"] in text for row in rows)


def test_partners_share_voice_and_mood(suites: Path) -> None:
    unseen = read_json(suites / "suites.json")["voices"]["unseen"]
    for name in ("storycloze", "topic_storycloze"):
        items = table(suites / name / "items.csv")
        for number, (one, two) in enumerate(zip(items[::2], items[1::2], strict=True)):
            assert (one["voice"], one["mood"]) == (two["voice"], two["mood"])
            assert (one["voice"] in unseen) == bool(number % 2)
            assert (one["scenario"] == two["scenario"]) == (name == "storycloze")


def test_made_before_it_is_left_alone(suites: Path, speech: Path) -> None:
    again = make(speech, suites)
    assert again.returncode == 0 and "done before" in again.stdout
    assert not list(suites.glob("shard-*"))


def test_another_stage_is_one_line_and_nothing_is_written(tmp_path: Path) -> None:
    write_json(tmp_path / "stage.json", {"stage": "encode", "fingerprint": "0", "recipe": {}, "inputs": {}})
    done = make(tmp_path, tmp_path / "out")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "holds stage 'encode', expected one of synth_data/speak.py" in done.stderr
    assert not (tmp_path / "out").exists()
