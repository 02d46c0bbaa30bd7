from pathlib import Path

import pytest

from spiritlm.errors import InputError
from spiritlm.run.files import atomic_folder, atomic_path, read_json, read_jsonl, remove_partial, sha256_json


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    folder = tmp_path / "split"
    for name in ("first", "second"):
        with atomic_folder(folder) as temporary:
            (temporary / name).write_text(name)
    assert [file.name for file in folder.iterdir()] == ["second"]


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".partial-1-a").mkdir()
    (tmp_path / ".partial-1-b").write_text("")
    (tmp_path / "kept").write_text("")
    remove_partial(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["kept"]


def test_unreadable_json_is_the_users_error(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{")
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n{"b"\n')
    for path in ("a.json", "absent.json"):
        with pytest.raises(InputError, match=path):
            read_json(tmp_path / path)
    with pytest.raises(InputError, match="line 2"):
        list(read_jsonl(tmp_path / "a.jsonl"))


def test_digest_does_not_depend_on_key_order() -> None:
    assert sha256_json({"a": 1, "b": [2]}) == sha256_json({"b": [2], "a": 1})
    assert sha256_json([1, 2]) != sha256_json([2, 1])
