import io
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spiritlm.errors import InputError
from spiritlm.suites.mirrors import tar_sounds
from spiritlm.suites.zerospeech import read_parquet

WAV = b"RIFF as in a file"


def archive(path: Path, *members: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w") as file:
        for member in members:
            member.size = len(WAV) if member.isfile() else 0
            file.addfile(member, io.BytesIO(WAV) if member.isfile() else None)
    return path


def link(name: str, kind: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, "/etc/passwd"
    return member


def test_sounds_of_an_archive_by_name(tmp_path: Path) -> None:
    members = [tarfile.TarInfo(name) for name in ("a/one.wav", "two.ogg", "one.json", "README")]
    found = tar_sounds([archive(tmp_path / "x.tar", *members)])
    assert {name: sound.source for name, sound in found.items()} == {"one": WAV, "two": WAV}


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (tarfile.TarInfo("../one.wav"), r"member '\.\./one\.wav' lies outside"),
        (tarfile.TarInfo("/tmp/one.wav"), "lies outside"),
        (link("one.wav", tarfile.SYMTYPE), "is a link or a device"),
        (link("one.wav", tarfile.LNKTYPE), "is a link or a device"),
        (link("one.wav", tarfile.CHRTYPE), "is a link or a device"),
    ],
)
def test_members_that_are_refused(tmp_path: Path, member: tarfile.TarInfo, message: str) -> None:
    with pytest.raises(InputError, match=message):
        tar_sounds([archive(tmp_path / "x.tar", tarfile.TarInfo("good.wav"), member)])


def test_members_that_would_fill_the_memory(tmp_path: Path) -> None:
    large, sparse = tarfile.TarInfo("one.wav"), tarfile.TarInfo("one.wav")
    large.size = 2**30 + 1
    sparse.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(2**40)}
    for member, content in ((large, b""), (sparse, b"1\n0\n0\n".ljust(512, b"\0"))):
        sparse.size = 512
        path = tmp_path / "x.tar"
        path.write_bytes(member.tobuf(tarfile.PAX_FORMAT) + content + bytes(1024))
        with pytest.raises(InputError, match=r"x\.tar: member 'one\.wav' is sparse or larger than 1 GiB"):
            tar_sounds([path])


def test_archives_that_are_cut_off_or_none(tmp_path: Path) -> None:
    whole = archive(tmp_path / "x.tar", *(tarfile.TarInfo(f"{n}.wav") for n in range(3)))
    content = whole.read_bytes()
    for length in (0, 700, 1024, 3 * 1024):  # the last two end between members
        whole.write_bytes(content[:length])
        with pytest.raises(InputError, match=r"x\.tar: expected a whole tar archive, but it is cut off"):
            tar_sounds([whole])
    whole.write_bytes(b"something else" * 200 + bytes(1024))
    with pytest.raises(InputError, match="cannot be read"):
        tar_sounds([whole])
    with pytest.raises(InputError, match="twice"):
        tar_sounds([archive(tmp_path / name, tarfile.TarInfo("one.wav")) for name in ("a.tar", "b.tar")])


ROWS = [
    {"id": id, "voice": voice, "type": "gap", "subtype": "gap_1",
     "positive audio": {"bytes": b"good", "path": "x.wav"}, "negative audio": {"bytes": b"bad", "path": None},
     "positive_transcription": f"right {id}", "negative_transcription": f"wrong {id}"}
    for id in (0, 1) for voice in ("A", "B")
]  # fmt: skip


def write(path: Path, rows: list[dict]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def test_sblimp_of_the_mirror(tmp_path: Path) -> None:
    for number, rows in enumerate((ROWS[:1], ROWS[1:])):
        write(tmp_path / f"train-0000{number}-of-00002.parquet", rows)
    heard, read = read_parquet(tmp_path), read_parquet(tmp_path, written=True)
    assert (heard.name, read.name, heard.split) == ("sblimp", "sblimp_text", "train")
    assert [pair.id for pair in heard.pairs] == [f"gap/gap_1/{id}-{voice}" for id in (0, 1) for voice in "AB"]
    assert [pair.right.continuation[0].source for pair in heard.pairs] == [b"good"] * 4
    assert [pair.wrong.continuation[0].source for pair in heard.pairs] == [b"bad"] * 4
    assert [(p.right.continuation, p.wrong.continuation) for p in read.pairs] == [
        (("right 0",), ("wrong 0",)), (("right 1",), ("wrong 1",)),
    ]  # fmt: skip
    with pytest.raises(InputError, match=r"has no split 'test'; its parquet files are of train$"):
        read_parquet(tmp_path, "test")
    (tmp_path / "other").mkdir()
    write(tmp_path / "other" / "test-00000-of-00001-0a1b.parquet", ROWS[:1])
    assert [read_parquet(tmp_path, split).split for split in ("test", "train")] == ["test", "train"]
    assert [len(read_parquet(tmp_path, split).pairs) for split in ("test", "train")] == [1, 4]
    with pytest.raises(InputError, match=r"has several splits, expected --split .* are of test, train$"):
        read_parquet(tmp_path)
    (tmp_path / "other" / "test-00000-of-00001-0a1b.parquet").unlink()
    (tmp_path / "train-00001-of-00002.parquet").unlink()
    with pytest.raises(InputError, match=r"train-00001-of-00002\.parquet: absent"):
        read_parquet(tmp_path)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{name: value for name, value in ROWS[0].items() if name != "voice"}], "has no column 'voice'"),
        ([ROWS[0], ROWS[0]], "row 1: gap/gap_1/0-A is there twice"),
        ([{**ROWS[0], "negative audio": {"bytes": None, "path": "x"}}], "row 0: negative_audio: expected a sound"),
        ([{**ROWS[0], "id": None}], "row 0: id is empty"),
    ],
)
def test_faulty_rows(tmp_path: Path, rows: list[dict], message: str) -> None:
    write(tmp_path / "x.parquet", rows)
    with pytest.raises(InputError, match=message):
        read_parquet(tmp_path)


def test_a_parquet_file_that_is_cut_off_is_one_line(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", ROWS)
    content = path.read_bytes()
    for kept in (0, 3, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:kept])
        with pytest.raises(InputError, match=r"x\.parquet: expected a whole parquet file") as raised:
            read_parquet(tmp_path)
        assert len(str(raised.value).splitlines()) == 1
