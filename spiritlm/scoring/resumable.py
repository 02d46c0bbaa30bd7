"""Scores of many requests in files that a killed run goes on from, one a process.

    FOLDER/scores-RANK.jsonl   a header, then a line for each request that was scored, as they come
    FOLDER/scores.jsonl        all of them, in order, once every process is done with its share

The header tells which model and which requests the scores are of; files of others are refused. Requests go to
processes in turns, so that any number of them gives the same scores, and a run may go on with another number.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from spiritlm.errors import InputError, RunError
from spiritlm.run.files import sha256_file, sha256_json, write_jsonl
from spiritlm.run.progress import progress
from spiritlm.run.ranks import rank, wait_for_all, world_size
from spiritlm.run.stage import is_main_process
from spiritlm.scoring.protocol import Request, Score, Segment, SpeechTextModel

MERGED, SHARE = "scores.jsonl", "scores-{}.jsonl"
CHUNK = 512
"""Requests that a model is asked at a time: what a kill loses at most."""
TURN = 16
"""Neighbours that go to one process, for they may have something in common."""


def resumable_scores(
    model: SpeechTextModel, requests: Mapping[str, Request], folder: Path, task: Mapping[str, Any]
) -> dict[str, Score]:
    """The scores of `requests`, which `folder` holds or will. Under torchrun every process calls it and gets all.

    `task`: what else the scores depend on, as JSON: its name, version and split. Raises `InputError` where the folder
    is of another model, task or requests, and where a score is no number; `RunError` where one is missing in the end.
    """
    folder.mkdir(parents=True, exist_ok=True)
    header = {"model": model.identity, "task": dict(task), "requests": _digest(requests)}
    known = _read_all(folder, header)
    own = [key for number, key in enumerate(requests) if number // TURN % world_size() == rank()]
    left = [key for key in own if key not in known]
    share = folder / SHARE.format(rank())
    with (
        _appending(share, header) as write,
        progress(f"score {task.get('name', '')}".rstrip(), len(own), len(own) - len(left)) as bar,
    ):
        for first in range(0, len(left), CHUNK):
            keys = left[first : first + CHUNK]
            scores = model.loglikelihood([requests[key] for key in keys])
            write([(key, _plain(key, score)) for key, score in zip(keys, scores, strict=True)])
            bar.advance(len(keys))
    wait_for_all()
    if is_main_process():
        _merge(folder, header, list(requests))
    wait_for_all()
    return _read(folder / MERGED, header)


def _digest(requests: Mapping[str, Request]) -> str:
    """Of texts and of what is in the sounds, wherever they lie and whatever they are called."""
    heard: dict[Path, str] = {}

    def told(piece: Segment) -> list[str]:
        if isinstance(piece, str):
            return [piece]
        if isinstance(piece.source, bytes):
            return ["sound", hashlib.sha256(piece.source).hexdigest()]
        if piece.source not in heard:
            heard[piece.source] = sha256_file(piece.source) if piece.source.is_file() else "none"
        return ["sound", heard[piece.source]]

    return sha256_json([[key, *([told(piece) for piece in part] for part in r)] for key, r in requests.items()])


def _plain(key: str, score: Score) -> Score:
    """In numbers of Python. Raises `InputError` where one of them is no number, not finite, or there are no tokens."""
    total, tokens, restricted = score
    numbers = [total] if restricted is None else [total, restricted]
    if all(isinstance(n, Real) and math.isfinite(n) for n in numbers) and isinstance(tokens, Integral) and tokens > 0:
        return Score(float(total), int(tokens), None if restricted is None else float(restricted))
    raise InputError(f"{key}: the model's score is {tuple(score)}, expected finite numbers and at least one token")


# files


@contextmanager
def _appending(path: Path, header: dict[str, Any]) -> Iterator[Any]:
    """Gives what writes scores by key, flushed to disk. A last line that is not whole is cut off."""
    with path.open("ab") as file:
        file.truncate(_whole_bytes(path))

        def append(rows: list[dict[str, Any]]) -> None:
            file.write(b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows))
            file.flush()
            os.fsync(file.fileno())

        if not path.stat().st_size:
            append([header])
        yield lambda scores: append([{"key": key, **score._asdict()} for key, score in scores])


def _whole_bytes(path: Path) -> int:
    return path.read_bytes().rfind(b"\n") + 1


def _read_all(folder: Path, header: dict[str, Any]) -> dict[str, Score]:
    found: dict[str, Score] = {}
    for path in sorted(folder.glob("scores*.jsonl")):
        found |= _read(path, header)
    return found


def _read(path: Path, header: dict[str, Any]) -> dict[str, Score]:
    """By key, but for a last line that is not whole. Raises `InputError` for another header, naming what differs, and
    for lines that are no scores."""
    lines = path.read_bytes().split(b"\n")[:-1]
    scores: dict[str, Score] = {}
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            if number > 1:
                scores[row["key"]] = _plain(row["key"], Score(row["total"], row["tokens"], row["restricted"]))
        except (ValueError, KeyError, TypeError, InputError):
            raise InputError(f"{path}, line {number}: expected a score, found {line[:60]!r}; remove the file") from None
        if number == 1 and row != json.loads(json.dumps(header)):
            raise InputError(f"{path}: {_difference(row, header)}; give another folder or remove the file")
    return scores


def _difference(found: Any, expected: dict[str, Any]) -> str:
    """The first field in which two headers differ."""
    for part, wanted in expected.items():
        other = found.get(part) if isinstance(found, dict) else None
        if not isinstance(wanted, dict) or not isinstance(other, dict):
            if other != wanted:
                return f"scores of other {part}, {str(other)[:16]}, expected {str(wanted)[:16]}"
            continue
        for name in [*wanted, *other]:
            if other.get(name) != wanted.get(name):
                was, now = (str(table.get(name))[:16] for table in (other, wanted))
                return f"scores of another {part}: its {name} is {was}, expected {now}"
    return "no scores"


def _merge(folder: Path, header: dict[str, Any], keys: Sequence[str]) -> None:
    found = _read_all(folder, header)
    if missing := [key for key in keys if key not in found]:
        raise RunError(f"{folder}: {len(missing)} of {len(keys)} requests have no score, {missing[0]!r} is the first")
    write_jsonl(folder / MERGED, [header, *({"key": key, **found[key]._asdict()} for key in keys)])
    for path in folder.glob(SHARE.format("*")):
        path.unlink()
