"""Untranscribed recordings: synthesized speech with planted silences is found and cut."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile

from spiritlm.corpus.layouts import folder
from spiritlm.corpus.layouts.folder import cut, cut_at_silences, read_folder
from spiritlm.corpus.layouts.found import UNKNOWN, Found
from spiritlm.run.workers import map_in_workers
from spiritlm.smallworld.voices import speak

RATE = 16_000
TEXTS = ("Tom went to the lake with his mother.", "He wanted to catch a big fish.", "Sam felt very happy about this.")
SILENCES = (1.0, 0.5, 5.0)
"""Seconds before each sentence."""


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`ann/talk.mp3` (stereo, 22.05 kHz), `talk.wav`, `silence.flac`, `broken.ogg` and a file that is not audio."""
    root: Path = tmp_path_factory.mktemp("recordings")
    (root / "ann").mkdir()
    told = map_in_workers(partial(speak, voice="espeak:en-us", mood="happy"), TEXTS, workers=1)
    parts = [x for s, spoken in zip(SILENCES, told, strict=True) for x in (np.zeros(int(s * RATE)), spoken.wave)]
    wave = np.concatenate([*parts, np.zeros(RATE)])
    soundfile.write(root / "talk.wav", wave, RATE)
    soundfile.write(root / "ann" / "talk.mp3", np.stack([wave, wave], axis=1), 22_050)
    soundfile.write(root / "silence.flac", np.zeros(5 * RATE), RATE)
    (root / "broken.ogg").write_text("not sound")
    (root / "notes.txt").write_text("not audio")
    return root


def of(root: Path) -> dict[str, Found]:
    return {found.id: found for found in read_folder(root, ".") if isinstance(found, Found)}


def test_audio_files_are_found_with_the_speaker_of_their_folder(recordings: Path) -> None:
    found = of(recordings)
    assert list(found) == ["ann_talk", "broken", "silence", "talk"]
    assert (found["ann_talk"].speaker, found["talk"].speaker) == ("ann", UNKNOWN)


def test_documents_end_in_long_silences_and_hold_the_speech(recordings: Path, tmp_path: Path) -> None:
    checked = cut(of(recordings)["talk"], recordings, tmp_path, max_seconds=60)
    first, second = checked.documents
    assert [len(document.sentences) for document in checked.documents] == [2, 1]
    assert float(first.custom["source_start"]) == pytest.approx(1.0, abs=0.12)
    whole, _ = soundfile.read(recordings / "talk.wav", dtype="float32")
    for document in (first, second):
        wave, rate = soundfile.read(tmp_path / document.audio, dtype="float32")
        assert (rate, len(wave) / rate) == (RATE, document.duration)
        start = round(float(document.custom["source_start"]) * RATE)
        np.testing.assert_allclose(wave, whole[start : start + len(wave)], atol=1e-4)
        assert document.sentences[0].start == 0 and document.sentences[-1].end <= document.duration
        assert all(sentence.text == "" for sentence in document.sentences)
    assert [d.id for d in checked.documents] == ["talk-00000", "talk-00001"]


def test_stretches_change_nothing_but_where_they_meet(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = cut(of(recordings)["talk"], recordings, tmp_path / "whole", max_seconds=60)
    monkeypatch.setattr(folder, "STRETCH", 2)
    parts = cut(of(recordings)["talk"], recordings, tmp_path / "parts", max_seconds=60)
    assert len(parts.documents) == len(whole.documents)
    for one, other in zip(whole.documents, parts.documents, strict=True):
        assert other.duration == pytest.approx(one.duration, abs=0.2)


def test_no_document_is_longer_than_asked(recordings: Path, tmp_path: Path) -> None:
    checked = cut(of(recordings)["ann_talk"], recordings, tmp_path, max_seconds=1.0)
    assert checked.channels == 2 and len(checked.documents) > 3
    assert all(document.duration <= 1.0001 for document in checked.documents)


def test_a_recording_is_cut_once(recordings: Path, tmp_path: Path) -> None:
    found = of(recordings)["talk"]
    once = cut(found, recordings, tmp_path, max_seconds=60)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert cut(found, recordings, tmp_path, max_seconds=60) == once
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == times


@pytest.mark.parametrize(("name", "kind"), [("silence", "no speech"), ("broken", "audio unreadable")])
def test_what_cannot_be_used_is_named(recordings: Path, tmp_path: Path, name: str, kind: str) -> None:
    checked = cut(of(recordings)[name], recordings, tmp_path, max_seconds=60)
    assert not checked.documents
    assert [(reject.item, reject.kind) for reject in checked.rejects] == [(name, kind)]


def test_a_link_out_of_the_root_is_not_read(recordings: Path, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "a.wav").symlink_to(recordings / "talk.wav")
    (found,) = of(tmp_path / "root").values()
    checked = cut(found, tmp_path / "root", tmp_path / "out", max_seconds=60)
    assert [reject.kind for reject in checked.rejects] == ["path leaves the root"]


def test_pieces_of_segments() -> None:
    segments = [(0.0, 4.0), (5.0, 9.0), (13.0, 14.0), (15.0, 27.0)]
    pieces, used = cut_at_silences(segments, duration=28.0, max_seconds=10.0, last=True)
    assert [(piece.start, piece.end) for piece in pieces] == [(0, 9), (13, 14), (15, 25), (25, 27)]
    assert [len(piece.segments) for piece in pieces] == [2, 1, 1, 1] and used == 28.0
    pieces, used = cut_at_silences(segments, duration=28.0, max_seconds=10.0, last=False)
    assert [(piece.start, piece.end) for piece in pieces] == [(0, 9), (13, 14), (15, 25)] and used == 25.0
    assert cut_at_silences([], 5.0, 10.0, last=False) == ([], 5.0)
