import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from spiritlm.corpus.layouts.found import Reject
from spiritlm.corpus.texts import TextDocument, TextsRecipe, read_texts, text_parts
from spiritlm.errors import InputError

ROWS = "".join(json.dumps({"text": f"Story {n}.", "title": "t"}) + "\n" for n in range(5)).encode()


def zstd(data: bytes) -> bytes:
    half = len(data) // 2
    return b"".join(pyarrow.compress(part, "zstd", asbytes=True) for part in (data[:half], data[half:]))


def recipe(root: Path, *files: str, **more: str) -> TextsRecipe:
    return TextsRecipe.model_validate({"root": root, "files": files, **more})


@pytest.mark.parametrize(("suffix", "packed"), [("", bytes), (".gz", gzip.compress), (".zst", zstd)])
def test_json_lines_plain_and_compressed(tmp_path: Path, suffix: str, packed: Callable[[bytes], bytes]) -> None:
    (tmp_path / "en").mkdir()
    name = f"en/a.jsonl{suffix}"
    (tmp_path / name).write_bytes(packed(ROWS))
    found = list(read_texts(recipe(tmp_path, "**/*.jsonl*")))
    assert found == [TextDocument(f"{name}:{n + 1}", f"Story {n}.") for n in range(5)]


def test_what_holds_no_text_is_named(tmp_path: Path) -> None:
    rows = [b'{"text": "One."}', b"", b'{"text": " "}', b"not json", b'{"other": "x"}', b'{"text": 3}', b"\xff", b"[1]"]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join([*rows, b'{"text": "Two."}']))
    found = list(read_texts(recipe(tmp_path, "a.jsonl")))
    assert [d.id for d in found if isinstance(d, TextDocument)] == ["a.jsonl:1", "a.jsonl:9"]
    assert [(r.item, r.kind) for r in found if isinstance(r, Reject)] == [
        ("a.jsonl:3", "text empty"),
        ("a.jsonl:4", "not JSON"),
        ("a.jsonl:5", "malformed row"),
        ("a.jsonl:6", "malformed row"),
        ("a.jsonl:7", "not UTF-8"),
        ("a.jsonl:8", "not a JSON object"),
    ]


def test_a_truncated_file_gives_what_is_whole_and_a_reject(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(ROWS * 2000)[:-400])
    *documents, last = read_texts(recipe(tmp_path, "a.jsonl.gz"))
    assert all(isinstance(document, TextDocument) for document in documents)
    assert isinstance(last, Reject) and last.kind == "file breaks off"


def write_parquet(path: Path, texts: list[str | None], row_group: int) -> None:
    parquet.write_table(pyarrow.table({"id": range(len(texts)), "content": texts}), path, row_group_size=row_group)


def test_parquet_in_row_groups(tmp_path: Path) -> None:
    texts = [f"Story {n}." if n != 3 else None for n in range(10)]
    write_parquet(tmp_path / "a.parquet", texts, row_group=4)
    source = recipe(tmp_path, "*.parquet", field="content")
    assert [(part.row_group, part.first_row) for part in text_parts(source)] == [(0, 0), (1, 4), (2, 8)]
    found = list(read_texts(source))
    assert [d for d in found if isinstance(d, TextDocument)] == [
        TextDocument(f"a.parquet:{n + 1}", f"Story {n}.") for n in range(10) if n != 3
    ]
    assert [r.item for r in found if isinstance(r, Reject)] == ["a.parquet:4"]


def test_shards_share_out_all_documents_and_change_no_id(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", [f"Row {n}." for n in range(10)], row_group=3)
    for name in "bcd":
        (tmp_path / f"{name}.jsonl").write_bytes(ROWS.replace(b"text", b"content"))
    source = recipe(tmp_path, "*.parquet", "*.jsonl", field="content")
    whole = list(read_texts(source))
    for shards in (1, 2, 3, 20):
        parts = [document for shard in range(shards) for document in read_texts(source, shard, shards)]
        assert sorted(map(str, parts)) == sorted(map(str, whole))
    assert len(whole) == 25


def test_plain_text_by_file_and_by_paragraph(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("One\ntwo.\n\n\nThree.\r\n")
    (tmp_path / "b.txt").write_text("\n")
    by_file = list(read_texts(recipe(tmp_path, "*.txt")))
    assert by_file[0] == TextDocument("a.txt:1", "One\ntwo.\n\n\nThree.")
    assert by_file[1] == Reject("b.txt:1", "text empty")
    paragraphs = list(read_texts(recipe(tmp_path, "*.txt", documents="paragraph")))
    assert paragraphs == [TextDocument("a.txt:1", "One\ntwo."), TextDocument("a.txt:2", "Three.")]


def test_faults_of_the_recipe_are_named(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", ["One."], row_group=1)
    (tmp_path / "b.parquet").write_bytes(b"nothing")
    for files, field, expected in (
        ("a.parquet", "contents", "no column 'contents'; the nearest is 'content'"),
        ("b.parquet", "content", "b.parquet: not a parquet file"),
        ("*.jsonl", "text", "no file there matches"),
        ("../*.jsonl", "text", "relative to root"),
    ):
        with pytest.raises(InputError, match=expected):
            list(read_texts(recipe(tmp_path, files, field=field)))


def test_a_link_out_of_the_root_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret.jsonl").write_bytes(ROWS)
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "a.jsonl").symlink_to(tmp_path / "secret.jsonl")
    with pytest.raises(InputError, match=r"a\.jsonl: a link that leaves root"):
        list(read_texts(recipe(tmp_path / "root", "*.jsonl")))
