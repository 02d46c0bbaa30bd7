from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from spiritlm.errors import InputError
from spiritlm.run.files import write_text
from spiritlm.scoring.judges import Judges
from spiritlm.scoring.protocol import Sound
from spiritlm.smallworld import read_speech
from spiritlm.smallworld.read_speech import CHAPTER, plan, shards, texts
from spiritlm.smallworld.recording import forget_shards, record_shards
from spiritlm.smallworld.stories import stories
from spiritlm.suites import librispeech

SEEN, UNSEEN = ("espeak:en-us+f3", "espeak:en-us"), ("espeak:en-us+m2",)


def test_who_says_what() -> None:
    chapters = plan(SEEN, UNSEEN, 100, seed=0)
    assert chapters == plan(SEEN[::-1], UNSEEN, 100, seed=0) != plan(SEEN, UNSEEN, 100, seed=1)
    said: dict[str, list[str]] = {"dev-clean": [], "test-clean": [], "test-other": []}
    for chapter in chapters:
        assert len(chapter.tellings) <= CHAPTER
        assert {telling.voice for telling in chapter.tellings} == {chapter.voice}
        assert chapter.voice in (UNSEEN if chapter.split == "test-other" else SEEN)
        said[chapter.split] += [text for telling in chapter.tellings for text in telling.sentences]
    assert all(len(set(own)) == len(own) == 100 for own in said.values())
    assert all(3 <= len(text.split()) <= 12 for own in said.values() for text in own)
    assert set(said["test-clean"]) == set(said["test-other"]) and not {*said["test-clean"]} & {*said["dev-clean"]}
    voices = Counter(telling.voice for chapter in chapters for telling in chapter.tellings)
    assert voices == {SEEN[0]: 100, SEEN[1]: 100, UNSEEN[0]: 100}
    ids = [telling.id for chapter in chapters for telling in chapter.tellings]
    assert len(set(ids)) == 300 and len({chapter.name for chapter in chapters}) == len(chapters)


def test_sentences_of_test_stories_and_of_training_stories() -> None:
    chapters = plan(SEEN, UNSEEN, 40, seed=3)
    told = {
        split: {text for story in islice(stories(split, 3), 400) for text in story.sentences}
        for split in ("train", "test")
    }
    for chapter in chapters:
        of = "train" if chapter.split == "dev-clean" else "test"
        assert all(set(telling.sentences) <= told[of] for telling in chapter.tellings)
    told_at = {
        text: place
        for split in ("train", "test")
        for story in islice(stories(split, 3), 400)
        for place, text in enumerate(story.sentences, 1)
    }
    lines = [line for chapter in chapters for line in chapter.lines]
    assert {line.place for line in lines} == {1, 2, 3, 4, 5}
    assert all(line.place == told_at[line.text] for line in lines)


def test_the_reader_of_the_public_benchmark_reads_it(tmp_path: Path) -> None:
    chapters = plan(SEEN, UNSEEN, 6, seed=0)
    made = shards(chapters, Path("librispeech"))
    record_shards("speak", tmp_path, made, workers=1)
    forget_shards(tmp_path, made)
    for path, text in texts(chapters).items():
        write_text(tmp_path / "librispeech" / path, text)
    tasks = librispeech.read("asr", tmp_path / "librispeech", None, Judges(), shots=2, template="plain")
    assert [(task.split, len(task.items)) for task in tasks] == [("test-clean", 6), ("test-other", 6)]
    rows = (tmp_path / "librispeech/SPEAKERS.TXT").read_text().splitlines()
    voices = {row.partition("|")[0].strip(): row.rpartition("|")[2].strip() for row in rows}
    for task in tasks:
        assert {item.labels["voice"] for item in task.items} == set(SEEN if task.split == "test-clean" else UNSEEN)
        for item in task.items:
            assert voices[item.labels["speaker"]] == item.labels["voice"] and item.labels["place"] in "12345"
            assert item.expected[0].endswith(".") and item.question.prompt[1] != item.expected[0]
            assert all(len(piece.read(16000)) > 8000 for piece in item.question.prompt if isinstance(piece, Sound))


def test_more_sentences_than_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_speech, "DRY", 3)
    with pytest.raises(InputError, match="sentences = 2000: the stories of test have not so many, found"):
        plan(SEEN, UNSEEN, 2000, seed=0)
