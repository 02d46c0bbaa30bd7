"""Files of lines, plain or compressed (`.gz`, `.zst`), streamed: a line at a time is in memory."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pyarrow

from spiritlm.corpus.layouts.found import Reject
from spiritlm.errors import InputError

MOST = 1e15
"""No number of a manifest is as large."""


def open_lines(path: Path) -> IO[bytes]:
    """Raises `InputError` where the file cannot be opened."""
    try:
        if path.suffix == ".gz":
            return gzip.open(path, "rb")  # type: ignore[return-value]
        if path.suffix == ".zst":
            return io.BufferedReader(pyarrow.input_stream(str(path), compression="zstd"))
        return path.open("rb")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None


def text_lines(path: Path, name: str) -> Iterator[tuple[int, str] | Reject]:
    """(line number from 1, line without its end). `name` names the file in rejects.

    A line that is not UTF-8 is a reject; so is the place where a compressed file breaks off.
    """
    number = 0
    with open_lines(path) as file:
        while True:
            number += 1
            try:
                line = file.readline()
            except (OSError, EOFError, zlib.error) as error:
                yield Reject(f"{name}:{number}", "file breaks off", str(error))
                return
            if not line:
                return
            try:
                yield number, line.decode().rstrip("\r\n")
            except UnicodeDecodeError as error:
                yield Reject(f"{name}:{number}", "not UTF-8", str(error))


def json_lines(path: Path, name: str) -> Iterator[tuple[int, dict[str, Any]] | Reject]:
    """(line number from 1, object); blank lines are passed over, what is not a JSON object is a reject."""
    for line in text_lines(path, name):
        if isinstance(line, Reject):
            yield line
        elif line[1].strip():
            yield _parsed(line[1], line[0], name)


def json_file(path: Path, name: str) -> Iterator[tuple[int, dict[str, Any]] | Reject]:
    """The one object of a `.json` file, as if it were line 1."""
    try:
        yield _parsed(path.read_text(encoding="utf-8"), 1, name)
    except (OSError, UnicodeDecodeError) as error:
        yield Reject(name, "not readable", str(error))


def _parsed(text: str, number: int, name: str) -> tuple[int, dict[str, Any]] | Reject:
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        return Reject(f"{name}:{number}", "not JSON", str(error))
    if not isinstance(row, dict):
        return Reject(f"{name}:{number}", "not a JSON object", f"found {text[:40]!r}")
    return number, row


class RowFault(Exception):
    """A field of a row is absent or of another kind than it should be."""


def text_of(row: dict[str, Any], key: str, default: str | None = None) -> str:
    """Raises `RowFault` where the field is absent (without a default), is not text or cannot be written as UTF-8."""
    value = row.get(key)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise RowFault(f"{key!r} is {value!r}, expected text" if key in row else f"it has no field {key!r}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise RowFault(f"{key!r} holds half of a surrogate pair at character {error.start}") from None
    return value


def id_of(row: dict[str, Any], key: str, default: str | None = None) -> str:
    """As `text_of`, not empty, and with `/` made `_`: later stages name files by ids."""
    id = text_of(row, key, default).replace("/", "_")
    if not id:
        raise RowFault(f"{key!r} is empty")
    return id


def number_of(row: dict[str, Any], key: str, default: float | None = None) -> float:
    """Raises `RowFault` where the field is absent (without a default) or is not a finite number."""
    value = row.get(key)
    if value is None and default is not None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RowFault(f"{key!r} is {value!r}, expected a number" if key in row else f"it has no field {key!r}")
    if not abs(value) < MOST:
        raise RowFault(f"{key!r} is {str(value)[:20]}, expected a finite number")
    return float(value)


def table_of(row: dict[str, Any], key: str) -> dict[str, Any]:
    """An object, empty where the field is absent. Raises `RowFault` where it is something else."""
    value = row.get(key)
    if value is not None and not isinstance(value, dict):
        raise RowFault(f"{key!r} is {str(value)[:40]!r}, expected an object")
    return value or {}


def list_of(row: dict[str, Any], key: str) -> list[Any]:
    """A list, empty where the field is absent. Raises `RowFault` where it is something else."""
    value = row.get(key)
    if value is not None and not isinstance(value, list):
        raise RowFault(f"{key!r} is {str(value)[:40]!r}, expected a list")
    return value or []
