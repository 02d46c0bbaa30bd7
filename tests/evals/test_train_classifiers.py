from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from spiritlm.audio.files import read_audio, write_wav
from spiritlm.corpus.manifest import Sentence, SpokenDocument, Word, read_manifest, write_manifest
from spiritlm.inference.request import Speech
from spiritlm.run.files import read_json, write_json
from spiritlm.scoring.sentiment import load_speech_classifier, load_text_classifier, sentiment_of
from spiritlm.smallworld.stories import stories
from spiritlm.smallworld.telling import Telling, record

from ..programs import run_here

REPO = Path(__file__).resolve().parents[2]
PROGRAM, RECIPE = REPO / "evals/train_classifiers.py", REPO / "evals/recipes/train-classifiers-tiny.toml"
SIZES = {"train": 24, "test": 8}
VOICES = {"train": ("espeak:en-us+f2", "espeak:en-us"), "test": ("espeak:en-us+f2", "espeak:en-us+f4")}


def documents(root: Path, split: str) -> Iterator[SpokenDocument]:
    """Stories of the small world, told; of training, the mood of every eighth changes on the way."""
    for number, story in enumerate(islice(stories("train", 0 if split == "train" else 1), SIZES[split])):
        voice, id = VOICES[split][number % 2], f"{split}-{number}"
        moods = (story.mood,) * 3 + (("sad",) if split == "train" and number % 8 == 0 else (story.mood,)) * 2
        recording = record(Telling(id, story.sentences, voice, moods, ""))
        path = Path("wav") / f"{id}.wav"
        write_wav(root / path, recording.wave, 16_000)
        sentences = tuple(Sentence.of_words([Word(*word) for word in words]) for words in recording.sentences)
        custom = {"mood": story.mood, "moods": recording.moods}
        yield SpokenDocument(id, path, len(recording.wave) / 16_000, 16_000, voice, sentences, custom)


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("corpus") / "speech"
    (root / "wav").mkdir(parents=True)
    for split in SIZES:
        write_manifest(root, split, list(documents(root, split)))
    write_json(root / "stage.json", {"stage": "speak", "fingerprint": "0", "recipe": {}, "inputs": {}})
    return root


@pytest.fixture(scope="module")
def trained(speech: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("classifiers") / "out"
    done = run_here(PROGRAM, RECIPE, f"speech={speech}", f"out={out}")
    assert done.returncode == 0, done.stderr
    assert "seen voices" in done.stdout and "(4)" in done.stdout
    return out


def test_what_was_heard_in_training_is_known(trained: Path, speech: Path) -> None:
    judge = load_speech_classifier(trained / "speech_classifier")
    assert judge.labels == ("angry", "excited", "happy", "sad")
    documents = [one for one in read_manifest(speech, "train") if len(one.custom["moods"]) == 1]
    told = judge([Speech(read_audio(speech / one.audio, 16_000), 16_000) for one in documents])
    assert sum(one == document.custom["mood"] for one, document in zip(told, documents, strict=True)) > 0.8 * len(told)


def test_what_words_tell_is_known(trained: Path) -> None:
    judge = load_text_classifier(trained / "text_classifier")
    assert judge.labels == ("negative", "positive")
    held_out = list(islice(stories("train", 0), SIZES["train"]))
    told = judge([" ".join(story.sentences[3:]) for story in held_out])
    assert told == [sentiment_of(story.mood) for story in held_out]


def test_figures_stand_in_the_stage(trained: Path) -> None:
    counts = read_json(trained / "stage.json")["counts"]
    assert counts["stretches"] == 60 + 12 + 12 and counts["texts"] == SIZES["train"] * 12
    assert {name: found["n"] for name, found in counts["speech"].items()} == {
        "seen voices": 4, "unseen voices": 4, "respoken": 2,
    }  # fmt: skip
    assert counts["text"]["n"] == SIZES["test"]
    for found in (*counts["speech"].values(), counts["text"]):
        assert 0 <= found["sentiment"]["value"] <= 1


def test_the_same_seed_trains_the_same(trained: Path, speech: Path, tmp_path: Path) -> None:
    done = run_here(PROGRAM, RECIPE, f"speech={speech}", f"out={tmp_path / 'again'}")
    assert done.returncode == 0, done.stderr
    for file in ("speech_classifier/model.safetensors", "text_classifier/model.safetensors"):
        assert (tmp_path / "again" / file).read_bytes() == (trained / file).read_bytes()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("shortest=9", "shortest = 9.0: expected at most longest = 8.0"),
        ("noisy=61", "stretches = 60: expected no fewer than are heard again"),
    ],
)
def test_recipes_that_make_no_sense(speech: Path, tmp_path: Path, override: str, message: str) -> None:
    done = run_here(PROGRAM, RECIPE, f"speech={speech}", f"out={tmp_path / 'out'}", override)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and message in done.stderr


def test_a_corpus_without_moods_is_one_line(stages: Path, tmp_path: Path) -> None:
    done = run_here(PROGRAM, RECIPE, f"speech={stages / 'speech'}", f"out={tmp_path / 'out'}")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "expected custom.mood in its manifest, found none" in done.stderr
    assert not (tmp_path / "out").exists()
