"""`gold.csv` of ZeroSpeech 2021: which recordings there are, what they say, and which two belong together.

A row is a recording. Columns are found by the names in the first line, in whatever order; two recordings are a pair
where all but the last column that names an item (`KEYS`) agrees and one is `correct`, the other not.
"""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

from spiritlm.errors import InputError
from spiritlm.run.files import read_bytes

GOLD = "gold.csv"
LEXICAL = ("filename", "id", "voice", "frequency", "word", "phones", "length", "correct")
SYNTACTIC = ("filename", "id", "voice", "type", "subtype", "transcription", "correct")
KEYS = {LEXICAL: ("id",), SYNTACTIC: ("type", "subtype", "id")}
"""What makes an item; its recordings differ in `voice`."""

Row = Mapping[str, str]


def read_gold(path: Path, columns: Sequence[str]) -> list[Row]:
    """Rows in order. Raises `InputError` as `read_table` does, and for a recording that is named twice, a `correct`
    that is neither 0 nor 1, and where what is right has a `frequency` or `length` that is no number; a frequency may be
    empty."""
    rows = read_table(path, columns)
    for number, row in enumerate(rows, 2):
        if row["correct"] not in ("0", "1"):
            raise InputError(f"{path}: row {number}: correct is {row['correct']!r}, expected 0 or 1")
        if row["correct"] == "1" and columns == LEXICAL:
            _require_number(f"{path}: row {number}: frequency", row["frequency"].strip() or "0")
            _require_number(f"{path}: row {number}: length", row["length"])
    for name, count in Counter(row["filename"] for row in rows).items():
        if count > 1:
            raise InputError(f"{path}: recording {name!r} is named {count} times, expected once")
    return rows


def _require_number(name: str, told: str) -> None:
    try:
        known = math.isfinite(float(told))
    except ValueError:
        known = False
    if not known:
        raise InputError(f"{name} is {told!r}, expected a number")


def read_table(path: Path, columns: Sequence[str]) -> list[Row]:
    """Rows of a table whose first line names its columns, in order. Raises `InputError` for an absent file or column, a
    row that is cut off, and a table without rows."""
    try:
        table = csv.DictReader(io.StringIO(read_bytes(path).decode("utf-8-sig"), newline=""), strict=True)
        there = [name.strip() for name in table.fieldnames or ()]
        for column in columns:
            if column not in there:
                near = "".join(f"; the nearest is {name!r}" for name in get_close_matches(column, there, 1))
                raise InputError(f"{path}: has no column {column!r}, it has {', '.join(there) or 'none'}{near}")
        table.fieldnames = there
        rows: list[Row] = list(table)
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: expected a table in UTF-8, comma between columns: {error}") from None
    for number, row in enumerate(rows, 2):
        if None in row.values() or None in row:
            raise InputError(f"{path}: row {number}: expected {len(there)} columns, found {_width(row)}")
    if not rows:
        raise InputError(f"{path}: holds no rows")
    return rows


def _width(row: Row) -> int:
    return sum(value is not None for name, value in row.items() if name) + len(row.get(None) or ())  # type: ignore[call-overload]


def columns_of(row: Row) -> tuple[str, ...]:
    """`LEXICAL` or `SYNTACTIC`."""
    return LEXICAL if "frequency" in row else SYNTACTIC


def item_of(row: Row) -> str:
    """The item that a recording is of, in whatever voice."""
    return "/".join(row[name] for name in KEYS[columns_of(row)])


def pairs_of(rows: Sequence[Row], source: Path) -> dict[str, tuple[Row, Row]]:
    """`ITEM-VOICE` -> the right and the wrong recording, in order of the right ones.

    Raises `InputError` where one is there twice or without the other.
    """
    sides: tuple[dict[str, Row], dict[str, Row]] = ({}, {})  # wrong, right
    for row in rows:
        key, side = f"{item_of(row)}-{row['voice']}", sides[int(row["correct"])]
        if key in side:
            raise InputError(f"{source}: {key} is there twice as correct = {row['correct']}, expected once")
        side[key] = row
    wrong, right = sides
    for key in [*right, *wrong]:
        if key not in right or key not in wrong:
            raise InputError(f"{source}: {key} has no row of correct = {int(key in wrong)}")
    return {key: (row, wrong[key]) for key, row in right.items()}
