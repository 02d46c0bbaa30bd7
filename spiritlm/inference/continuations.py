"""Continuations in files: what was asked and said, as text, sound, rows of JSON and a page with players.

OUT.txt, OUT.wav             one answer; OUT-NAME.txt, OUT-NAME.wav where there are several
OUT.html                     everything, sounds included, on one page
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any, get_args

import numpy as np

from spiritlm.audio.files import write_wav
from spiritlm.errors import InputError
from spiritlm.inference.model import SpeechTextLM
from spiritlm.inference.request import BATCH_SIZE, Output, Request, Sampling, Speech
from spiritlm.inference.speaking import NOTHING, Manner, Said
from spiritlm.inference.transcript import transcript
from spiritlm.run.files import read_jsonl, write_text
from spiritlm.run.page import Page, audio
from spiritlm.run.progress import progress
from spiritlm.tokens.documents import Segment
from spiritlm.tokens.interleave import SPEECH, TEXT

Pieces = Sequence[tuple[str, str]]
"""Of a prompt: ("text", words) or ("speech", path)."""
KINDS = ("text", "speech")
NAME = re.compile(r"\w[\w.-]{0,99}")


@dataclass(frozen=True)
class Asked:
    name: str
    """Of its files, behind OUT; empty where there is one answer only."""
    pieces: Pieces
    request: Request


def read_pieces(pieces: Pieces) -> list[str | Speech]:
    """Raises `InputError` for a sound that is none."""
    return [Speech.read(Path(value)) if kind == "speech" else value for kind, value in pieces]


def read_prompts(path: Path, output: Output, sampling: Sampling) -> list[Asked]:
    """Prompts of a file of JSON lines: `prompt`, a list of `{"text": WORDS}` and `{"speech": PATH}`, and perhaps `id`
    and `output`. Raises `InputError`, with the number of the line, for one that is not, or has the id of another."""
    if not path.is_file():
        raise InputError(f"{path}: expected a file of JSON lines, one a prompt")
    found: dict[str, Asked] = {}
    try:
        rows = list(read_jsonl(path))
    except UnicodeDecodeError:
        raise InputError(f"{path}: expected JSON lines in UTF-8") from None
    for number, row in enumerate(rows, start=1):
        where = f"{path}, line {number}"
        if not isinstance(row, dict):
            raise InputError(f"{where}: expected an object with id, prompt and output, found {str(row)[:60]}")
        if strange := sorted(set(row) - {"id", "prompt", "output"}):
            raise InputError(f"{where}: {strange[0]!r}: expected id, prompt and output")
        name, wanted = str(row.get("id", number)), row.get("output", output)
        if not NAME.fullmatch(name) or name in found:
            raise InputError(
                f"{where}: id {name[:60]!r}: expected letters, digits, . _ -, at most 100, as no other line"
            )
        if wanted not in get_args(Output):
            raise InputError(f"{where}: output {wanted!r}: expected one of {', '.join(get_args(Output))}")
        pieces = _pieces(row.get("prompt"), where, path.parent)
        try:
            prompt = read_pieces(pieces)
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
        found[name] = Asked(name, pieces, Request(prompt, wanted, sampling))
    if not found:
        raise InputError(f"{path}: holds no prompt")
    return list(found.values())


def _pieces(told: Any, where: str, beside: Path) -> list[tuple[str, str]]:
    if not isinstance(told, list) or not told:
        raise InputError(f'{where}: prompt: expected a list of {{"text": WORDS}} and {{"speech": PATH}}')
    pieces = []
    for piece in told:
        if not isinstance(piece, dict) or len(piece) != 1 or not set(piece) <= set(KINDS):
            raise InputError(
                f'{where}: prompt: expected {{"text": WORDS}} or {{"speech": PATH}}, found {str(piece)[:60]}'
            )
        ((kind, value),) = piece.items()
        if not isinstance(value, str) or not value.strip():
            raise InputError(f"{where}: prompt: {kind}: expected words or a path, found {str(value)[:60]!r}")
        pieces.append((kind, str(beside / value) if kind == "speech" else value))
    return pieces


def require_free(asked: Sequence[Asked], out: Path) -> None:
    """Raises `InputError` where an answer would take the place of a sound of a prompt, or of one that no earlier answer
    has left."""
    heard = {Path(value).resolve() for one in asked for kind, value in one.pieces if kind == "speech"}
    for one in asked:
        txt, wav = _files(one, out)
        if wav.resolve() in heard:
            raise InputError(f"--out {out}: {wav} is in the prompt and would be replaced; expected another name")
        if wav.exists() and not txt.exists():
            raise InputError(f"--out {out}: {wav} is there and no answer ({txt.name} is not); expected another name")


def repeated(asked: Sequence[Asked], n: int) -> list[Asked]:
    """Each `n` times, with one seed after the other."""
    if n == 1:
        return list(asked)
    return [
        Asked(f"{one.name}-{number + 1}".removeprefix("-"), one.pieces, _seeded(one.request, number))
        for one in asked
        for number in range(n)
    ]


def _seeded(request: Request, number: int) -> Request:
    return replace(request, sampling=replace(request.sampling, seed=request.sampling.seed + number))


def answer(
    model: SpeechTextLM, asked: Sequence[Asked], manner: Manner, out: Path, batch_size: int = BATCH_SIZE
) -> list[dict[str, Any]]:
    """Writes the text and sound of every answer; rows as JSON, in the order of `asked`."""
    rows: dict[int, dict[str, Any]] = {}
    answers = model.generate_many([one.request for one in asked], batch_size)
    with progress("answer", len(asked)) if len(asked) > 1 else nullcontext() as bar:
        for number, segments in answers:
            wave = NOTHING if model.voice is None else model.speak(segments, manner)
            rows[number] = _save(model, asked[number], segments, wave, out)
            if bar is not None:
                bar.advance(1)
    return [rows[number] for number in range(len(asked))]


def stream(model: SpeechTextLM, asked: Asked, manner: Manner, out: Path) -> dict[str, Any]:
    """Prints words as they come; the row of `answer`, with seconds until the first sound, None where there was none,
    and until the end."""
    started, first, said = time.perf_counter(), None, list[Said]()
    for piece in model.stream(asked.request, manner):
        if first is None and len(piece.wave):
            first = time.perf_counter() - started
        print(piece.text, end="", flush=True)
        said.append(piece)
    took = time.perf_counter() - started
    print()
    wave = np.concatenate([NOTHING, *(piece.wave for piece in said)])
    row = _written(model, asked, _told(said, model), wave, out)
    return {**row, "first_sound": first, "took": took}


def _told(said: Sequence[Said], model: SpeechTextLM) -> str:
    """Words, and between them how long was spoken."""
    parts = []
    for modality, some in groupby(said, key=lambda piece: piece.modality):
        pieces = list(some)
        wave = np.concatenate([piece.wave for piece in pieces])
        spoken = f"[{_seconds(model, wave):.1f} s of speech]"
        parts.append("".join(piece.text for piece in pieces).strip() if modality == TEXT else spoken)
    return " ".join(parts) or "(nothing)"


def _save(
    model: SpeechTextLM, asked: Asked, segments: Sequence[Segment], wave: np.ndarray, out: Path
) -> dict[str, Any]:
    row = _written(model, asked, transcript(segments), wave, out)
    return {**row, "segments": [_segment(segment) for segment in segments]}


def _segment(segment: Segment) -> dict[str, Any]:
    if segment.modality != SPEECH:
        return {"text": segment.text}
    streams = {} if segment.prosody is None else {name: v.tolist() for name, v in segment.prosody._asdict().items()}
    return {"units": segment.units.tolist(), **streams}


def _written(model: SpeechTextLM, asked: Asked, text: str, wave: np.ndarray, out: Path) -> dict[str, Any]:
    """Files that an earlier answer of the same name left are replaced or removed."""
    txt, wav = _files(asked, out)
    write_text(txt, text + "\n")
    wav.unlink(missing_ok=True)
    if len(wave) and model.voice is not None:
        write_wav(wav, wave, model.voice.sample_rate)
    return {
        "name": asked.name,
        "prompt": [{kind: value} for kind, value in asked.pieces],
        "output": asked.request.output,
        "seed": asked.request.sampling.seed,
        "transcript": text,
        "txt": str(txt),
        "wav": str(wav) if len(wave) else None,
        "seconds": round(_seconds(model, wave), 3),
    }


def _files(asked: Asked, out: Path) -> tuple[Path, Path]:
    """Text and sound of an answer."""
    name = f"{out.name}-{asked.name}".removesuffix("-")
    return out.with_name(f"{name}.txt"), out.with_name(f"{name}.wav")


def _seconds(model: SpeechTextLM, wave: np.ndarray) -> float:
    return len(wave) / model.voice.sample_rate if model.voice is not None else 0.0


def save_page(rows: Sequence[dict[str, Any]], out: Path) -> Path:
    """A page of answers with the prompts before them."""
    page = Page("What the model said", f"{len(rows)} answers")
    for row in rows:
        parts = [_prompt_piece(kind, value) for piece in row["prompt"] for kind, value in piece.items()]
        said = f"<p><b>{escape(row['transcript'])}</b></p>" + (audio(Path(row["wav"])) if row["wav"] else "")
        page.section(row["name"] or "Answer", *parts, said, note=f"output {row['output']}, seed {row['seed']}")
    path = out.with_name(f"{out.name}.html")
    page.save(path)
    return path


def _prompt_piece(kind: str, value: str) -> str:
    if kind == "text":
        return f"<p>{escape(value)}</p>"
    return audio(Path(value)) if value.endswith(".wav") else f"<p>{escape(value)}</p>"
