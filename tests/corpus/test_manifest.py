import json
from dataclasses import replace
from pathlib import Path

import lhotse
import pytest

from spiritlm.corpus.manifest import Sentence, SpokenDocument, Word, corpus_root, read_manifest, write_manifest
from spiritlm.errors import InputError
from spiritlm.run.files import write_json

DOCUMENT = SpokenDocument(
    id="a",
    audio=Path("wav/a.wav"),
    duration=2.5,
    sample_rate=16000,
    speaker="flite:slt",
    sentences=(
        Sentence.of_words((Word("Out", 0.1, 0.3), Word("of the", 0.35, 0.6), Word("rain.", 0.6, 0.9))),
        Sentence.of_words((Word("Sad.", 1.2, 1.7),)),
    ),
    custom={"mood": "sad"},
)


def test_written_and_read_back(tmp_path: Path) -> None:
    write_manifest(tmp_path, "dev", [DOCUMENT])
    assert read_manifest(tmp_path, "dev") == [DOCUMENT]
    assert DOCUMENT.text == "Out of the rain. Sad."


def test_lhotse_reads_it(tmp_path: Path) -> None:
    write_manifest(tmp_path, "dev", [DOCUMENT])
    recordings = lhotse.RecordingSet.from_file(tmp_path / "recordings-dev.jsonl")
    supervisions = lhotse.SupervisionSet.from_file(tmp_path / "supervisions-dev.jsonl")
    lhotse.validate_recordings_and_supervisions(recordings, supervisions)
    assert [item.symbol for item in supervisions[0].alignment["word"]] == ["Out", "of the", "rain."]


@pytest.mark.parametrize("source", ["/etc/passwd", "../outside.wav", "wav/../../b.wav"])
def test_a_path_that_leaves_the_folder_is_refused(tmp_path: Path, source: str) -> None:
    write_manifest(tmp_path, "dev", [DOCUMENT])
    path = tmp_path / "recordings-dev.jsonl"
    row = json.loads(path.read_text())
    row["sources"][0]["source"] = source
    path.write_text(json.dumps(row))
    with pytest.raises(InputError, match="leaves the corpus folder"):
        read_manifest(tmp_path, "dev")


def test_what_is_not_a_manifest_is_refused(tmp_path: Path) -> None:
    write_manifest(tmp_path, "dev", [DOCUMENT])
    path = tmp_path / "supervisions-dev.jsonl"
    first, second = path.read_text().splitlines()
    path.write_text(first.replace('"alignment"', '"other"') + "\n" + second)
    with pytest.raises(InputError, match="line 1: not a lhotse SupervisionSegment"):
        read_manifest(tmp_path, "dev")
    path.write_text("")
    with pytest.raises(InputError, match="recording a has no supervision"):
        read_manifest(tmp_path, "dev")


def test_sentences_need_neither_words_nor_text(tmp_path: Path) -> None:
    spoken = Sentence("", 0.25, 1.0), Sentence("Not aligned.", 1.5, 2.0)
    document = replace(DOCUMENT, sentences=spoken)
    write_manifest(tmp_path, "dev", [document])
    assert read_manifest(tmp_path, "dev") == [document]


def test_audio_may_stand_elsewhere_but_not_outside_its_root(tmp_path: Path) -> None:
    corpus, audio = tmp_path / "corpus", tmp_path / "audio"
    corpus.mkdir()
    write_json(corpus / "corpus.json", {"root": str(audio)})
    write_manifest(corpus, "dev", [DOCUMENT])
    assert corpus_root(corpus) == audio
    assert read_manifest(corpus, "dev") == [DOCUMENT]
    write_manifest(corpus, "dev", [replace(DOCUMENT, audio=Path("../corpus/a.wav"))])
    with pytest.raises(InputError, match="leaves the corpus folder"):
        read_manifest(corpus, "dev")


def test_a_split_that_is_not_there_is_named_beside_those_that_are(tmp_path: Path) -> None:
    write_manifest(tmp_path, "dev", [DOCUMENT])
    with pytest.raises(InputError, match="has no split 'tset'; it has dev"):
        read_manifest(tmp_path, "tset")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="expected a corpus folder"):
        read_manifest(tmp_path / "empty", "dev")
