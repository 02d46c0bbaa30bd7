"""Text corpora: JSON lines, parquet or plain text come in, documents with ids go out, streamed and in shards.

The unit of sharding is the file, of parquet the row group: shard `i` of `n` reads every n-th of them. So a corpus of
one large `.jsonl` is one shard; cut such a file, or bring it as parquet. Ids do not depend on the number of shards.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow
from pyarrow import parquet
from pydantic import Field

from spiritlm.config import Recipe
from spiritlm.corpus.layouts.found import Reject, matching_files
from spiritlm.corpus.layouts.lines import RowFault, json_lines, text_lines, text_of
from spiritlm.errors import InputError

BATCH_ROWS = 256
"""Rows of a parquet file in memory at a time, beside what pyarrow reads ahead of a column."""


class TextsRecipe(Recipe):
    """A text corpus on disk."""

    root: Path
    files: tuple[str, ...] = Field(min_length=1)
    """Glob patterns under `root`: `.jsonl`, `.parquet`, anything else is plain text; `.gz` and `.zst` of lines too."""
    field: str = "text"
    """The field of a JSON object, or the column of a parquet file, that holds the text."""
    documents: Literal["file", "paragraph"] = "file"
    """What a document of plain text is: the whole file, or what stands between blank lines."""


@dataclass(frozen=True)
class TextDocument:
    id: str
    """`FILE:NUMBER`, with the path from the root on; lines, rows and paragraphs count from 1."""
    text: str


@dataclass(frozen=True)
class Part:
    """What one shard reads at least."""

    file: Path
    row_group: int | None = None
    """Of a parquet file."""
    first_row: int = 0
    """Rows of the file before this row group."""


def text_parts(recipe: TextsRecipe) -> list[Part]:
    """All parts of a corpus: patterns in the order of the recipe, files sorted, none twice.

    Raises `InputError` where a pattern matches nothing inside `root` or a parquet file cannot be read or lacks the
    column.
    """
    root = recipe.root.absolute()
    files = dict.fromkeys(file for pattern in recipe.files for file in matching_files(root, pattern))
    return [part for file in files for part in (_row_groups(file, recipe.field) if _is_parquet(file) else [Part(file)])]


def read_texts(recipe: TextsRecipe, shard: int = 0, shards: int = 1) -> Iterator[TextDocument | Reject]:
    """The documents of shard `shard` of `shards`, one at a time; what holds no text is a reject.

    Raises `InputError` as `text_parts` does.
    """
    root = recipe.root.absolute()
    for part in text_parts(recipe)[shard::shards]:
        for document in _documents(part, str(part.file.relative_to(root)), recipe):
            if isinstance(document, TextDocument) and not document.text.strip():
                yield Reject(document.id, "text empty")
            else:
                yield document


def _documents(part: Part, name: str, recipe: TextsRecipe) -> Iterator[TextDocument | Reject]:
    if _is_parquet(part.file):
        return _parquet(part, name, recipe.field)
    if part.file.name.removesuffix(".gz").removesuffix(".zst").endswith((".jsonl", ".ndjson")):
        return _json(part.file, name, recipe.field)
    return _paragraphs(part.file, name) if recipe.documents == "paragraph" else _whole(part.file, name)


def _is_parquet(file: Path) -> bool:
    return file.suffix == ".parquet"


def _row_groups(file: Path, column: str) -> list[Part]:
    try:
        with parquet.ParquetFile(file) as opened:
            names = opened.schema_arrow.names
            if column not in names:
                near = difflib.get_close_matches(column, names, n=1, cutoff=0.0)
                raise InputError(f"{file}: it has no column {column!r}; the nearest is {near[0] if near else None!r}")
            rows = [opened.metadata.row_group(group).num_rows for group in range(opened.num_row_groups)]
    except (OSError, pyarrow.ArrowException) as error:
        raise InputError(f"{file}: not a parquet file: {str(error).splitlines()[0]}") from None
    return [Part(file, group, sum(rows[:group])) for group in range(len(rows))]


def _parquet(part: Part, name: str, column: str) -> Iterator[TextDocument | Reject]:
    number = part.first_row
    try:
        with parquet.ParquetFile(part.file) as opened:
            groups = [part.row_group]
            for batch in opened.iter_batches(BATCH_ROWS, row_groups=groups, columns=[column], use_threads=False):
                for text in batch.column(0).to_pylist():
                    number += 1
                    id = f"{name}:{number}"
                    if isinstance(text, str):
                        yield TextDocument(id, text)
                    else:
                        yield Reject(id, "text empty" if text is None else "malformed row", f"{column!r} is {text!r}")
    except (OSError, pyarrow.ArrowException) as error:
        yield Reject(f"{name}:{number + 1}", "file breaks off", str(error).splitlines()[0])


def _json(file: Path, name: str, field: str) -> Iterator[TextDocument | Reject]:
    for line in json_lines(file, name):
        if isinstance(line, Reject):
            yield line
            continue
        number, row = line
        try:
            yield TextDocument(f"{name}:{number}", text_of(row, field))
        except RowFault as fault:
            yield Reject(f"{name}:{number}", "malformed row", str(fault))


def _paragraphs(file: Path, name: str) -> Iterator[TextDocument | Reject]:
    """Lines of a paragraph keep their line ends; blank lines make no empty documents."""
    lines: list[str] = []
    number = 0
    for line in text_lines(file, name):
        if isinstance(line, Reject):
            yield line
        elif line[1].strip():
            lines.append(line[1])
        elif lines:
            number += 1
            yield TextDocument(f"{name}:{number}", "\n".join(lines))
            lines = []
    if lines:
        yield TextDocument(f"{name}:{number + 1}", "\n".join(lines))


def _whole(file: Path, name: str) -> Iterator[TextDocument | Reject]:
    lines = list(text_lines(file, name))
    if faults := [line for line in lines if isinstance(line, Reject)]:
        yield faults[0]
    else:
        yield TextDocument(f"{name}:1", "\n".join(line[1] for line in lines if not isinstance(line, Reject)))
