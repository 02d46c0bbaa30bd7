import os
from pathlib import Path

import pytest

from spiritlm.corpus.layouts.found import Reject, document_id, folder_under, matching_files, place, walk
from spiritlm.errors import InputError


def test_a_path_is_placed_inside_the_root_or_nowhere(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "wav").mkdir(parents=True)
    outside.mkdir()
    (root / "linked").symlink_to(outside)
    (root / "also").symlink_to(root / "wav")
    (tmp_path / "link-to-root").symlink_to(root)
    inside = Path("wav/a.wav")
    assert place(root, inside) == inside
    assert place(root, Path("manifests/../wav/a.wav")) == inside
    assert place(root, root / inside) == inside
    assert place(tmp_path / "link-to-root", root / inside) == inside
    assert place(tmp_path / "link-to-root", tmp_path / "link-to-root" / inside) == inside
    assert place(root, Path("also/a.wav")) == Path("also/a.wav")
    for path in ("../outside/a.wav", "/etc/passwd", "wav/../../outside/a.wav", "linked/a.wav", "..", f"{root}2/a.wav"):
        assert place(root, Path(path)) is None, path


def test_an_id_can_name_a_file(tmp_path: Path) -> None:
    assert document_id(tmp_path, Path("m/../wav/1/a.b.wav")) == "wav_1_a.b"
    assert document_id(tmp_path, tmp_path / "wav/a.wav") == "wav_a"
    assert "/" not in document_id(tmp_path, Path("/etc/a.wav"))


def test_files_come_sorted_and_linked_folders_are_named(tmp_path: Path) -> None:
    for name in ("b/2.wav", "b/1.wav", "a.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "c").symlink_to(tmp_path)
    found = list(walk(tmp_path, tmp_path))
    assert found[:3] == [tmp_path / name for name in ("a.wav", "b/1.wav", "b/2.wav")]
    assert found[3:] == [Reject("c", "linked folder", "it is not followed")]
    assert matching_files(tmp_path, "**/[12].wav") == [tmp_path / "b/1.wav", tmp_path / "b/2.wav"]


def test_a_name_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.wav")).touch()
    (found,) = walk(tmp_path, tmp_path)
    assert found == Reject("\ufffd.wav", "name is not UTF-8")


def test_an_absent_folder_names_those_there_are(tmp_path: Path) -> None:
    (tmp_path / "dev-clean").mkdir()
    with pytest.raises(InputError, match="holds dev-clean"):
        folder_under(tmp_path, "dev_clean")
    with pytest.raises(InputError, match="inside root"):
        folder_under(tmp_path / "dev-clean", "..")
