"""Manifests written by lhotse itself, and the times that cuts keep."""

import json
from pathlib import Path

import pytest
from lhotse import CutSet, MonoCut, Recording, RecordingSet, SupervisionSegment, SupervisionSet
from lhotse.audio import AudioSource
from lhotse.supervision import AlignmentItem

from spiritlm.corpus.layouts.found import Found, Reject
from spiritlm.corpus.layouts.lhotse import read_lhotse
from spiritlm.corpus.manifest import Sentence, SpokenDocument, Word, write_manifest
from spiritlm.errors import InputError

HELLO = Sentence("Hello, there.", 3.0, 7.0, (Word("Hello,", 3.1, 3.6), Word("there.", 5.0, 6.0)))
BYE = Sentence("Good bye.", 8.0, 9.0)


def recording(id: str = "r", source: str = "wav/a.wav") -> Recording:
    return Recording(id, [AudioSource("file", [0], source)], 16000, 160000, 10.0)


def supervisions() -> list[SupervisionSegment]:
    items = [AlignmentItem("", 0.0, 3.1), AlignmentItem("hello", 3.1, 0.5), AlignmentItem("there", 5.0, 1.0)]
    return [
        SupervisionSegment("s2", "r", 8.0, 1.0, text="Good bye.", speaker="bob", language="en", custom={"mood": "sad"}),
        SupervisionSegment(
            "s1", "r", 3.0, 4.0, text="Hello, there.", speaker="ann", language="en", alignment={"word": items}
        ),
    ]


def cut() -> MonoCut:
    return MonoCut("c", 0, 10, 0, supervisions=supervisions(), recording=recording())


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz"])
def test_recordings_and_supervisions(tmp_path: Path, suffix: str) -> None:
    RecordingSet.from_recordings([recording()]).to_file(tmp_path / f"x_recordings_train.{suffix}")
    SupervisionSet.from_segments(supervisions()).to_file(tmp_path / f"x_supervisions_train.{suffix}")
    (found,) = read_lhotse(tmp_path, f"x_recordings_train.{suffix}")
    custom = {"language": "en", "mood": "sad", "speakers": "ann,bob"}
    assert found == Found("r", Path("wav/a.wav"), (BYE, HELLO), "ann", 10.0, 16000, custom)


def test_cuts_however_cut_keep_the_times_of_the_recording(tmp_path: Path) -> None:
    truncated = cut().truncate(offset=4.0, duration=5.0)
    assert min(s.start for s in truncated.supervisions) < 0, "lhotse shows a part of a supervision"
    for number, cuts in enumerate(([cut()], [truncated], cut().trim_to_supervisions(), [cut(), truncated])):
        CutSet.from_cuts(c.with_id(str(n)) for n, c in enumerate(cuts)).to_file(tmp_path / f"{number}.jsonl.gz")
        (found,) = read_lhotse(tmp_path, f"{number}.jsonl.gz")
        assert isinstance(found, Found)
        assert sorted(found.sentences, key=lambda sentence: sentence.start) == [HELLO, BYE]
        assert (found.id, found.speaker) == ("r", "ann")


def test_our_own_manifests_come_back(tmp_path: Path) -> None:
    document = SpokenDocument("r", Path("wav/a.wav"), 10.0, 16000, "ann", (HELLO, BYE))
    write_manifest(tmp_path, "train", [document])
    (found,) = read_lhotse(tmp_path, "recordings-train.jsonl")
    assert isinstance(found, Found)
    assert (found.id, found.audio, found.sentences) == (document.id, document.audio, document.sentences)


@pytest.mark.parametrize(
    ("text", "symbols", "expected"),
    [
        ("Out, out!", ["OUT", "OUT"], ("Out, out!", ["Out,", "out!"])),
        ("Out of it", ["out of", "it"], ("Out of it", [])),
        ("", ["out", "it"], ("out it", ["out", "it"])),
        ("Out of  it", ["Out of", "it"], ("Out of it", ["Out of", "it"])),
    ],
)
def test_words_are_spelt_as_in_the_text(
    tmp_path: Path, text: str, symbols: list[str], expected: tuple[str, list[str]]
) -> None:
    items = [AlignmentItem(symbol, 1.0 + n, 0.5) for n, symbol in enumerate(symbols)]
    segment = SupervisionSegment("s", "r", 0.0, 9.0, text=text, alignment={"word": items})
    RecordingSet.from_recordings([recording()]).to_file(tmp_path / "recordings.jsonl")
    SupervisionSet.from_segments([segment]).to_file(tmp_path / "supervisions.jsonl")
    (found,) = read_lhotse(tmp_path, "recordings.jsonl")
    assert isinstance(found, Found)
    (sentence,) = found.sentences
    assert (sentence.text, [word.text for word in sentence.words]) == expected


def test_what_is_not_one_plain_file_is_named(tmp_path: Path) -> None:
    plain = cut().to_dict()
    sound = plain["recording"]
    rows = [
        {**plain, "type": "MixedCut"},
        {
            **plain,
            "recording": {**sound, "id": "url", "sources": [{"type": "url", "source": "http://x", "channels": [0]}]},
        },
        {**plain, "recording": {**sound, "id": "fast", "transforms": [{"name": "Speed"}]}},
        {key: value for key, value in plain.items() if key != "recording"},
        {**plain, "supervisions": [{**plain["supervisions"][0], "start": "soon"}]},
        {**plain, "supervisions": 3},
        {**plain, "supervisions": ["said"]},
        {**plain, "supervisions": [{**plain["supervisions"][0], "alignment": {"word": [3]}}]},
        {**plain, "supervisions": [{**plain["supervisions"][0], "alignment": "word"}]},
    ]
    (tmp_path / "cuts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = list(read_lhotse(tmp_path, "cuts.jsonl"))
    assert {(item.item, item.kind) for item in found if isinstance(item, Reject)} == {
        ("cuts.jsonl:1", "not a MonoCut"),
        ("url", "not one audio file"),
        ("fast", "transformed recording"),
        ("cuts.jsonl:4", "malformed row"),
        *((f"cuts.jsonl:{number}", "malformed row") for number in range(5, 10)),
    }


def test_recordings_without_supervisions_are_an_error(tmp_path: Path) -> None:
    RecordingSet.from_recordings([recording()]).to_file(tmp_path / "recordings.jsonl")
    with pytest.raises(InputError, match=r"supervisions in supervisions\.jsonl"):
        list(read_lhotse(tmp_path, "recordings.jsonl"))
