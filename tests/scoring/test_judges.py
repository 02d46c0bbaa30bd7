from pathlib import Path

import pytest
from pydantic import ValidationError

from spiritlm.config import validate_recipe
from spiritlm.errors import InputError
from spiritlm.scoring.judges import JudgedRecipe, Judges
from spiritlm.scoring.small_classifiers import WordSentiment


def recipe(**table: object) -> JudgedRecipe:
    return validate_recipe(JudgedRecipe, {"out": "x", **table}, "recipe")


def test_a_folder_is_named_where_it_is_needed_and_nowhere_else() -> None:
    for table in (
        {"recognizer": "ctc"},
        {"recognizer_folder": "units"},
        {"recognizer": "sphinx", "recognizer_folder": "u"},
    ):
        with pytest.raises((InputError, ValidationError), match=r"recognizer_folder = .*: expected a folder for 'ctc'"):
            recipe(**table)
    with pytest.raises(InputError, match=r"\bnone\b"):
        recipe(recognizer="whisper", recognizer_folder="none").judges()


def test_classifiers_come_from_one_folder_or_each_from_its_own(tmp_path: Path) -> None:
    texts, labels = ["happy end", "sad end"] * 4, ["positive", "negative"] * 4
    WordSentiment.fit(texts, labels).save_pretrained(tmp_path / "one")
    judges = recipe(text_classifier=str(tmp_path / "one")).judges()
    assert judges.speech_classifier is None and judges.recognizer is None
    assert judges.sentiment("stsp")(["a happy day", "a sad day"]) == ["positive", "negative"]
    with pytest.raises(InputError, match=r"task tts: nobody judges its answers, expected recognizer"):
        judges.hear("tts")
    with pytest.raises(InputError, match="speech_classifier"):
        recipe(classifiers=str(tmp_path), text_classifier=str(tmp_path / "one")).judges()


def test_a_recogniser_is_called_by_what_hears() -> None:
    assert recipe(recognizer="sphinx").judges().hear("tts").name.startswith("sphinx")
    assert Judges().recognizer is None
