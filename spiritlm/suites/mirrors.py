"""Benchmarks as Hugging Face mirrors have them: WebDataset archives, and parquet with sounds in its cells.

Archives are streamed, never extracted. Column names differ in blanks and underscores only, and are read alike.
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from spiritlm.errors import InputError
from spiritlm.run.files import files_below
from spiritlm.scoring.protocol import Sound

SOUNDS = (".wav", ".flac", ".ogg")
END_OF_ARCHIVE = bytes(1024)
"""How every whole tar archive ends."""
LARGEST = 2**30
"""Bytes of one sound, at most."""
_SHARD = re.compile(r"(.*)-(\d+)-of-(\d+)(?:-[0-9a-f]+)?")


def tar_sounds(archives: Sequence[Path]) -> dict[str, Sound]:
    """Sounds by the name of their member without folder and ending; other members are passed over.

    Raises `InputError` for an archive that is cut off, a member that is a link or a device, lies outside or is larger
    than `LARGEST`, and a name that is there twice.
    """
    found: dict[str, Sound] = {}
    for path in archives:
        for name, content in _members(path):
            member = PurePosixPath(name)
            if member.suffix not in SOUNDS:
                continue
            if member.stem in found:
                raise InputError(f"{path}: recording {member.stem!r} is there twice, expected once")
            found[member.stem] = Sound(f"{path}: {name}", content)
    return found


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    try:
        with path.open("rb") as file:
            file.seek(-min(len(END_OF_ARCHIVE), path.stat().st_size), io.SEEK_END)
            if file.read() != END_OF_ARCHIVE:
                raise InputError(f"{path}: expected a whole tar archive, but it is cut off")
        with tarfile.open(path, "r|") as archive:
            for member in archive:
                _require_usable(path, member)
                if member.isfile() and (content := archive.extractfile(member)):
                    yield member.name, content.read()
    except (OSError, tarfile.TarError) as error:
        raise InputError(f"{path}: expected a tar archive, but it cannot be read: {error}") from None


def _require_usable(path: Path, member: tarfile.TarInfo) -> None:
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts:
        raise InputError(f"{path}: member {member.name!r} lies outside of the archive")
    if not (member.isfile() or member.isdir()):
        raise InputError(f"{path}: member {member.name!r} is a link or a device, expected files")
    if member.issparse() or member.size > LARGEST:
        raise InputError(f"{path}: member {member.name!r} is sparse or larger than 1 GiB, expected a sound")


def parquet_files(folder: Path) -> list[Path]:
    """At whatever depth, in order of name."""
    return [path for path in files_below(folder) if path.suffix == ".parquet"]


def parquet_split(folder: Path, split: str | None) -> str:
    """`split`, or the only one there is. Raises `InputError` where it is not there, or there are several to choose
    from."""
    there = sorted({_split_of(path) for path in parquet_files(folder)})
    if split in there:
        return split
    if split is None and len(there) == 1:
        return there[0]
    asked = f"has no split {split!r}" if split else "has several splits, expected --split with one of them"
    raise InputError(f"{folder}: {asked}; its parquet files are of {', '.join(there) or 'none'}")


def _split_of(path: Path) -> str:
    """`train` of train-00000-of-00001.parquet, train.parquet and train/0000.parquet."""
    shard = _SHARD.fullmatch(path.stem)
    return shard[1] if shard else path.parent.name if path.stem.isdecimal() else path.stem


def parquet_rows(folder: Path, columns: Sequence[str], split: str) -> Iterator[tuple[Path, int, Mapping[str, Any]]]:
    """File, row number and row with `columns`, of all parquet files of `split` at whatever depth, in order of name.

    Raises `InputError` for an absent shard, a file that is cut off, and an absent column.
    """
    files = [path for path in parquet_files(folder) if _split_of(path) == split]
    _require_all_shards(files)
    for path in files:
        try:
            with pq.ParquetFile(path) as file:
                there = {_plain(name): name for name in file.schema_arrow.names}
                for column in columns:
                    if column not in there:
                        raise InputError(f"{path}: has no column {column!r}, it has {', '.join(there)}")
                number = 0
                for batch in file.iter_batches(64, columns=[there[column] for column in columns]):
                    for row in batch.to_pylist():
                        yield path, number, {_plain(name): value for name, value in row.items()}
                        number += 1
        except (pa.ArrowException, OSError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"{path}: expected a whole parquet file, but it cannot be read: {reason}") from None


def _plain(name: str) -> str:
    return name.strip().replace(" ", "_")


def _require_all_shards(files: Sequence[Path]) -> None:
    """Of files called `train-00001-of-00003.parquet`."""
    shards = {path: found.groups() for path in files if (found := _SHARD.fullmatch(path.stem))}
    there = {(path.parent, start, int(number), count) for path, (start, number, count) in shards.items()}
    for path, (start, number, count) in shards.items():
        for other in range(int(count)):
            if (path.parent, start, other, count) not in there:
                expected = path.with_name(f"{start}-{other:0{len(number)}}-of-{count}.parquet")
                raise InputError(f"{expected}: absent, though {path.name} says that there is one")


def cell_sound(path: Path, number: int, column: str, cell: Any) -> Sound:
    """The sound of a cell `{bytes, path}`. Raises `InputError` where the cell holds none."""
    name = f"{path}: row {number}: {column}"
    content = cell.get("bytes") if isinstance(cell, Mapping) else None
    if not isinstance(content, bytes) or not content:
        raise InputError(f"{name}: expected a sound (bytes and path), found none")
    return Sound(name, content)


def cell_text(path: Path, number: int, column: str, cell: Any) -> str:
    """Raises `InputError` where the cell holds no text."""
    if cell is None or not str(cell).strip():
        raise InputError(f"{path}: row {number}: {column} is empty, expected text")
    return str(cell).strip()
