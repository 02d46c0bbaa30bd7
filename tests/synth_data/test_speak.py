import filecmp
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import soundfile

from spiritlm.corpus.manifest import read_manifest

from ..programs import run_here

REPO = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, str(REPO / "synth_data/speak.py"), str(REPO / "synth_data/recipes/speak-tiny.toml")]
SMALL = ["train=10", "dev=2", "test_pairs=2", "written=5", "shard_size=2", "mood_changes=0.5", "excerpts=0.0"]


def speak(out: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    return run_here(*COMMAND[1:], f"out={out}", *SMALL, *overrides)


def content(folder: Path) -> dict[Path, Path]:
    return {p.relative_to(folder): p for p in folder.rglob("*") if p.is_file() and p.name != "stage.json"}


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("speak") / "speech"
    done = speak(folder, "workers=1")
    assert done.returncode == 0, done.stderr
    return folder


def test_recordings_fit_their_manifests(spoken: Path) -> None:
    for split, count in (("train", 10), ("dev", 2), ("test", 12)):
        documents = read_manifest(spoken, split)
        assert len(documents) == count
        for document in documents:
            info = soundfile.info(spoken / document.audio)
            assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
            assert info.duration == pytest.approx(document.duration)
            assert document.sentences[-1].words[-1].end <= document.duration
    counts = json.loads((spoken / "stage.json").read_text())["counts"]
    assert counts["train"]["recordings"] == 10
    assert not {"flite:awb", "espeak:en-us+m2"} & set(counts["train"]["speakers"])


def test_a_test_item_is_three_recordings_in_one_voice_and_mood(spoken: Path) -> None:
    documents = {document.id: document for document in read_manifest(spoken, "test")}
    for number in range(4):
        parts = [documents[f"test-{number:05d}_{part}"] for part in ("mutual", "correct", "incorrect")]
        assert [len(part.sentences) for part in parts] == [4, 1, 1]
        assert len({(part.speaker, part.custom["mood"], part.custom["scenario"]) for part in parts}) == 1
        assert (spoken / parts[1].audio).with_suffix(".txt").read_text().strip() == parts[1].text


def moods(folder: Path) -> dict[str, list[tuple[str, float, float]]]:
    documents = [document for split in ("train", "dev", "test") for document in read_manifest(folder, split)]
    return {
        document.id: [(mood, start, end) for mood, start, end in document.custom["moods"]] for document in documents
    }


def test_moods_change_between_sentences_and_never_in_a_test_item(spoken: Path) -> None:
    changed = {id for id, spans in moods(spoken).items() if len(spans) > 1}
    assert 2 <= len(changed) <= 10
    assert not any(id.startswith("test") for id in changed)
    for split in ("train", "dev", "test"):
        for document in read_manifest(spoken, split):
            spans = moods(spoken)[document.id]
            assert spans[0][:2] == (document.custom["mood"], 0.0)
            assert spans[-1][2] == pytest.approx(document.duration)
            if document.id in changed:
                (one, _, change), (two, start, _) = spans
                assert one != two
                assert change == start
                assert not any(sentence.start < change < sentence.end for sentence in document.sentences)


def test_without_changes_the_other_recordings_are_the_same(spoken: Path, tmp_path: Path) -> None:
    assert speak(tmp_path / "none", "mood_changes=0.0").returncode == 0
    steady, half = moods(tmp_path / "none"), moods(spoken)
    assert all(len(spans) == 1 for spans in steady.values())
    assert all(spans[0][0] == half[id][0][0] for id, spans in steady.items())
    for document in read_manifest(spoken, "train"):
        if document.speaker.startswith("flite:") and len(half[document.id]) == 1:
            assert filecmp.cmp(spoken / document.audio, tmp_path / "none" / document.audio, shallow=False)


def test_an_excerpt_is_one_or_two_sentences_and_the_other_recordings_are_the_same(spoken: Path, tmp_path: Path) -> None:
    assert speak(tmp_path / "some", "excerpts=0.5").returncode == 0
    whole = {document.id: document for document in read_manifest(spoken, "train")}
    lengths = []
    for document in read_manifest(tmp_path / "some", "train"):
        told = [sentence.text for sentence in whole[document.id].sentences]
        said = [sentence.text for sentence in document.sentences]
        first = told.index(said[0])
        assert said == told[first : first + len(said)]
        lengths.append(len(said))
        assert len(document.custom["moods"]) <= len(said)
    assert set(lengths) <= {1, 2, 5} and 5 in lengths and set(lengths) & {1, 2}
    assert {len(document.sentences) for document in read_manifest(tmp_path / "some", "test")} == {4, 1}


def test_workers_change_nothing(spoken: Path, tmp_path: Path) -> None:
    assert speak(tmp_path / "again", "workers=2").returncode == 0
    one, two = content(spoken), content(tmp_path / "again")
    assert one.keys() == two.keys()
    assert all(filecmp.cmp(one[name], two[name], shallow=False) for name in one)


def test_killed_inside_a_shard_it_goes_on(spoken: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    process = subprocess.Popen([*COMMAND, f"out={out}", *SMALL], stdout=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 60
    while not list(out.glob("shard-*.json")) and time.monotonic() < deadline:
        time.sleep(0.01)
    (out / "wav" / "train" / ".partial-1-train-00000.wav").write_bytes(b"half a recording")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (out / "stage.json").exists()
    assert speak(out).returncode == 0
    one, two = content(spoken), content(out)
    assert two.keys() == one.keys()
    assert all(filecmp.cmp(one[name], two[name], shallow=False) for name in one)


def test_an_absent_voice_is_one_line_and_nothing_is_written(tmp_path: Path) -> None:
    done = speak(tmp_path / "out", 'voices.train=["espeak:en-us+f99"]')
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "'espeak:en-us+f99'" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_voice_is_either_for_training_or_held_out(tmp_path: Path) -> None:
    done = speak(tmp_path / "out", 'voices.train=["flite:awb"]')
    assert done.returncode == 2
    assert "voices.held_out: 'flite:awb' is in voices.train too" in done.stderr
    assert not (tmp_path / "out").exists()


def test_without_flite_espeak_speaks_and_a_line_says_so(tmp_path: Path) -> None:
    code = (
        "import ctypes.util, runpy, sys; find = ctypes.util.find_library\n"
        "ctypes.util.find_library = lambda name: None if name == 'flite' else find(name)\n"
        "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    command = [sys.executable, "-c", code, *COMMAND[1:], f"out={tmp_path / 'out'}", *SMALL]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "flite is not installed: speaking with espeak-ng voices only" in done.stdout
    counts = json.loads((tmp_path / "out" / "stage.json").read_text())["counts"]
    assert all(name.startswith("espeak:") for split in ("train", "dev", "test") for name in counts[split]["speakers"])
