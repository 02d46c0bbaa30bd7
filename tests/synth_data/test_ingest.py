"""The program, from a corpus on disk to a corpus folder: sound is noise where only headers matter."""

import filecmp
import json
from collections.abc import Sequence
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
import soundfile

from spiritlm.corpus.manifest import corpus_root, read_manifest
from spiritlm.run.files import read_json, read_jsonl

from ..programs import run_here

REPO = Path(__file__).resolve().parents[2]
PROGRAM = REPO / "synth_data/ingest.py"


def ingest(recipe: str, root: Path, out: Path, *overrides: str) -> CompletedProcess[str]:
    path = REPO / f"synth_data/recipes/ingest-{recipe}.toml"
    return run_here(PROGRAM, path, f"root={root}", f"out={out}", *overrides)


def noise(path: Path, seconds: float = 1.0, rate: int = 16000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, int(seconds * rate)), rate)


def librispeech(root: Path) -> None:
    """Three splits; 40 training recordings of two speakers, none at fault."""
    for split, speakers in (("train-clean-100", ("10", "20")), ("dev-clean", ("30",)), ("test-clean", ("40",))):
        for speaker in speakers:
            folder, ids = root / split / speaker / "1", [f"{speaker}-1-{number:04d}" for number in range(20)]
            for number, id in enumerate(ids):
                noise(folder / f"{id}.flac", 0.5 + number / 20)
            (folder / f"{speaker}-1.trans.txt").write_text("".join(f"{id} HE WENT OUT\n" for id in ids))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root: Path = tmp_path_factory.mktemp("ingest") / "LibriSpeech"
    librispeech(root)
    return root


ONE_HUNDRED = 'splits.train=["train-clean-100"]'


def test_librispeech_becomes_a_corpus_folder_whatever_the_workers(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "one"
    done = ingest("librispeech", corpus, out, ONE_HUNDRED, "workers=1")
    assert done.returncode == 0, done.stderr
    assert corpus_root(out) == corpus
    documents = read_manifest(out, "train")
    assert [document.id for document in documents] == sorted(document.id for document in documents)
    assert len(documents) == 40 and len(read_manifest(out, "dev")) == len(read_manifest(out, "test")) == 20
    for document in documents[:3]:
        assert document.text == "he went out"
        assert soundfile.info(corpus / document.audio).duration == pytest.approx(document.duration)
    counts = read_json(out / "stage.json")["counts"]
    expected = {"documents": 40, "sentences": 40, "sentences_with_word_times": 0, "words": 120, "speakers": 2}
    assert counts["train"] == {**expected, "hours": round(40 * 0.975 / 3600, 3)}
    assert (counts["rejected"], counts["sample_rates"], counts["channels"]) == (0, {"16000": 80}, {"1": 80})
    assert {path.name for path in out.iterdir()} == {
        *(f"{kind}-{split}.jsonl" for kind in ("recordings", "supervisions") for split in ("train", "dev", "test")),
        "corpus.json",
        "rejects.jsonl",
        "stage.json",
    }
    assert ingest("librispeech", corpus, tmp_path / "two", ONE_HUNDRED, "workers=2").returncode == 0
    for path in out.glob("*.jsonl"):
        assert filecmp.cmp(path, tmp_path / "two" / path.name, shallow=False)


def test_a_dev_split_by_digest_lengths_and_a_budget_of_hours(corpus: Path, tmp_path: Path) -> None:
    splits = [ONE_HUNDRED, "splits.dev=[]", "splits.test=[]"]
    assert ingest("librispeech", corpus, tmp_path / "a", *splits, "dev_fraction=0.3").returncode == 0
    train, dev = (read_manifest(tmp_path / "a", split) for split in ("train", "dev"))
    assert len(train) + len(dev) == 40 and 4 < len(dev) < 20
    assert not list((tmp_path / "a").glob("*-test.jsonl")), "a split without documents has no manifest"
    limits = ["min_seconds=0.6", "max_seconds=1.2", f"max_hours={13 / 3600}"]
    assert ingest("librispeech", corpus, tmp_path / "b", *splits, *limits).returncode == 0
    kept = read_manifest(tmp_path / "b", "train")
    assert all(0.6 <= document.duration <= 1.21 for document in kept)
    assert 13 <= sum(document.duration for document in kept) < 14.3
    left_out = read_json(tmp_path / "b" / "stage.json")["counts"]["left_out"]
    assert {"over max_hours", "longer than max_seconds", "shorter than min_seconds"} == set(left_out)
    twice = ingest("librispeech", corpus, tmp_path / "c", "dev_fraction=0.3")
    assert twice.returncode == 2 and "splits.dev names a dev split already" in twice.stderr


def faulty_nemo(root: Path) -> int:
    """96 good recordings and one of each fault. Returns how many faults."""
    rows: list[object] = []
    for number in range(96):
        noise(root / f"wav/{number:03d}.wav", 0.4, 8000)
        rows.append({"audio_filepath": f"wav/{number:03d}.wav", "duration": 0.4, "text": "Out."})
    (root / "wav/empty.wav").touch()
    (root / "wav/text.wav").write_text("not sound")
    (root / "wav/link.wav").symlink_to("/etc/hostname")
    for name in ("long", "silent", "late", "once"):
        noise(root / f"wav/{name}.wav", 0.4, 8000)
    faults: list[object] = [
        *(
            {"audio_filepath": path, "duration": 0.4, "text": "Out."}
            for path in ("wav/no.wav", "wav/empty.wav", "wav/text.wav", "wav/link.wav", "../a.wav", "/etc/hostname")
        ),
        {"audio_filepath": "wav/long.wav", "duration": 0.9, "text": "Out."},
        {"audio_filepath": "wav/silent.wav", "duration": 0.4, "text": " "},
        {"audio_filepath": "wav/late.wav", "duration": 0.4, "offset": 0.3, "text": "Out."},
        "{not json",
    ]
    for name, content in (("a", [*rows, *faults]), ("b", [rows[0]])):
        lines = (row if isinstance(row, str) else json.dumps(row) for row in content)
        (root / f"{name}.json").write_text("\n".join(lines))
    return len(faults) + 1


def test_faults_are_named_counted_and_stay_under_a_budget(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    faults = faulty_nemo(tmp_path / "root")
    splits = ['splits.train=["a.json", "b.json"]', "splits.dev=[]"]
    done = ingest("nemo", tmp_path / "root", tmp_path / "out", *splits, "max_bad_fraction=0.15")
    assert done.returncode == 0, done.stderr
    assert len(read_manifest(tmp_path / "out", "train")) == 96
    reasons = {row["item"]: row["reason"] for row in read_jsonl(tmp_path / "out" / "rejects.jsonl")}
    assert len(reasons) == faults
    assert reasons["a.json:106"].startswith("not JSON")
    assert reasons["wav_long"] == "duration differs: the manifest says 0.9 s, the file 0.4 s"
    assert reasons["wav_late"].startswith("times outside the recording: sentence at 0.30 to 0.70 s of 0.40 s")
    assert reasons["wav_000"] == "id met before: its audio is wav/000.wav"
    assert reasons["wav_link"] == "path leaves the root: wav/link.wav"
    counts = read_json(tmp_path / "out" / "stage.json")["counts"]
    assert counts["rejected"] == faults == sum(counts["rejects"].values())
    assert counts["rejects"]["path leaves the root"] == 3 and counts["rejects"]["audio absent"] == 1


def test_too_many_faults_stop_the_stage_with_the_count(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    faults = faulty_nemo(tmp_path / "root")
    out = tmp_path / "out"
    done = ingest("nemo", tmp_path / "root", out, 'splits.train=["a.json", "b.json"]', "splits.dev=[]")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert f"{faults} of {96 + faults} sentences cannot be used, more than max_bad_fraction = 0.01" in done.stderr
    assert len(list(read_jsonl(out / "rejects.jsonl"))) == faults
    assert not (out / "stage.json").exists() and not list(out.glob("recordings-*"))


def test_emilia_in_the_languages_and_quality_asked_for(tmp_path: Path) -> None:
    for number, (language, quality) in enumerate([("en", 3.4), ("de", 3.4), ("en", 2.0), ("en", 3.1)]):
        noise(tmp_path / f"root/EN/{number}.mp3", 1.5, 24000)
        row = {"id": str(number), "wav": f"{number}.mp3", "text": " Out.", "language": language, "dnsmos": quality}
        (tmp_path / f"root/EN/{number}.json").write_text(json.dumps(row))
    assert ingest("emilia", tmp_path / "root", tmp_path / "out", "dev_fraction=0").returncode == 0
    assert [document.id for document in read_manifest(tmp_path / "out", "train")] == ["0", "3"]
    assert read_json(tmp_path / "out" / "stage.json")["counts"]["left_out"] == {"dnsmos": 1, "language": 1}


def test_a_folder_of_recordings_is_cut_into_the_corpus_folder(tmp_path: Path) -> None:
    """Loud noise passes for speech (see `spiritlm/audio/vad.py`), which is all that is needed here."""
    noise(tmp_path / "root/ann/a.wav", 7.0)
    noise(tmp_path / "root/b.ogg", 2.5)
    splits: Sequence[str] = ("max_seconds=3", "min_seconds=0.5", "dev_fraction=0")
    done = ingest("folder", tmp_path / "root", tmp_path / "out", *splits)
    assert done.returncode == 0, done.stderr
    documents = read_manifest(tmp_path / "out", "train")
    assert [document.id for document in documents] == ["ann_a-00000", "ann_a-00001", "ann_a-00002", "b-00000"]
    assert corpus_root(tmp_path / "out") == tmp_path / "out"
    assert all((tmp_path / "out" / document.audio).is_file() for document in documents)
    assert {document.speaker for document in documents} == {"ann", "unknown"}


@pytest.mark.parametrize(
    ("recipe", "overrides", "expected"),
    [
        ("mls", (), "expected a folder inside root"),
        ("nemo", (), "no file there matches 'manifests/train_*.json*'"),
        ("lhotse", ("root=/nowhere",), "root = /nowhere: expected the folder of the corpus"),
        ("librispeech", ("layout=librespeech",), "layout = 'librespeech'"),
    ],
)
def test_what_is_not_a_corpus_is_one_line(
    tmp_path: Path, recipe: str, overrides: tuple[str, ...], expected: str
) -> None:
    (tmp_path / "root").mkdir()
    done = ingest(recipe, tmp_path / "root", tmp_path / "out", *overrides)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert expected in done.stderr
    assert not (tmp_path / "out").exists()


def test_out_may_not_lie_in_the_corpus(corpus: Path) -> None:
    done = ingest("librispeech", corpus, corpus / "out")
    assert done.returncode == 2 and "it lies in root" in done.stderr
