"""What is found out by looking at the audio: only headers matter, so the sound is noise."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from spiritlm.corpus.layouts.check import check
from spiritlm.corpus.layouts.found import TO_THE_END, Found
from spiritlm.corpus.manifest import Sentence, Word

SECONDS = 2.0
FOUND = Found("a", Path("a.flac"), (Sentence("Out in the rain.", 0.0, TO_THE_END),), "ann", custom={"k": "v"})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    noise = np.random.default_rng(0).normal(0, 0.1, (int(SECONDS * 8000), 2))
    for suffix in ("flac", "wav", "ogg", "mp3"):
        soundfile.write(tmp_path / f"a.{suffix}", noise, 8000)
    soundfile.write(tmp_path / "a.opus", noise, 8000, format="OGG", subtype="OPUS")
    return tmp_path


@pytest.mark.parametrize("suffix", ["flac", "wav", "ogg", "mp3", "opus"])
def test_a_sentence_to_the_end_lasts_as_long_as_its_file(root: Path, suffix: str) -> None:
    checked = check(replace(FOUND, audio=Path(f"a.{suffix}")), root)
    (document,) = checked.documents
    assert (document.id, document.speaker, document.custom) == ("a", "ann", {"k": "v"})
    assert document.duration == pytest.approx(SECONDS, abs=0.1)
    assert document.sentences[0].end <= document.duration
    assert document.sentences[0].end == pytest.approx(document.duration, abs=1e-4)
    assert checked.channels == 2 and not checked.rejects


def write_faulty(root: Path) -> None:
    (root / "empty.flac").touch()
    (root / "text.wav").write_text("not sound")
    (root / "head.flac").write_bytes((root / "a.flac").read_bytes()[:20])
    soundfile.write(root / "none.wav", np.zeros(0), 8000)
    (root / "linked.flac").symlink_to("/etc/hostname")


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"audio": Path("b.flac")}, "audio absent"),
        ({"audio": Path("empty.flac")}, "audio empty"),
        ({"audio": Path("none.wav")}, "audio empty"),
        ({"audio": Path("text.wav")}, "audio unreadable"),
        ({"audio": Path("head.flac")}, "audio unreadable"),
        ({"audio": Path("../a.flac")}, "path leaves the root"),
        ({"audio": Path("/etc/hostname")}, "path leaves the root"),
        ({"audio": Path("linked.flac")}, "path leaves the root"),
        ({"duration": SECONDS + 0.2}, "duration differs"),
        ({"sentences": ()}, "transcript absent"),
        ({"sentences": (Sentence("", 0.0, 1.0),)}, "transcript empty"),
        ({"sentences": (Sentence("Out.", 0.0, SECONDS + 0.2),)}, "times outside the recording"),
        ({"sentences": (Sentence("Out.", -0.2, 1.0),)}, "times outside the recording"),
        ({"sentences": (Sentence("Out.", 1.0, 1.0),)}, "times outside the recording"),
        ({"sentences": (Sentence("Out.", 0.0, math.nan),)}, "times outside the recording"),
        ({"sentences": (Sentence("Out.", 0.0, 1.0, (Word("Out.", 0.5, 9.0),)),)}, "times outside the recording"),
        ({"sentences": (Sentence("Out.", 0.0, 1.0, (Word("Out.", 0.5, 0.4),)),)}, "times outside the recording"),
    ],
)
def test_what_cannot_be_used_is_named(root: Path, changes: dict, kind: str) -> None:
    write_faulty(root)
    checked = check(replace(FOUND, **changes), root)
    assert not checked.documents
    assert [(reject.item, reject.kind) for reject in checked.rejects] == [("a", kind)]


def test_a_bad_sentence_leaves_the_others(root: Path) -> None:
    sentences = (Sentence("Second\n one. ", 1.0, 2.05), Sentence(" ", 0.5, 0.9), Sentence("First.", -0.05, 0.5))
    checked = check(replace(FOUND, sentences=sentences), root)
    assert checked.documents[0].sentences == (Sentence("First.", 0.0, 0.5), Sentence("Second one.", 1.0, SECONDS))
    assert [(reject.item, reject.kind) for reject in checked.rejects] == [("a-1", "transcript empty")]


def test_all_sentences_of_a_rejected_recording_count_as_lost(root: Path) -> None:
    checked = check(replace(FOUND, audio=Path("b.flac"), sentences=FOUND.sentences * 3), root)
    assert [reject.sentences for reject in checked.rejects] == [3]


def test_a_layout_that_states_all_is_believed_when_asked(root: Path) -> None:
    stated = replace(FOUND, audio=Path("b.flac"), duration=3.0, sample_rate=16000)
    (document,) = check(stated, root, read_header=False).documents
    assert (document.duration, document.sample_rate) == (3.0, 16000)
    assert not check(replace(stated, sample_rate=None), root, read_header=False).documents
