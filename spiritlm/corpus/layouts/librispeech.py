"""LibriSpeech: `SPLIT/SPEAKER/CHAPTER/SPEAKER-CHAPTER.trans.txt` beside one `SPEAKER-CHAPTER-NUMBER.flac` a line.

A recording may be a `.wav` too, as corpora that borrow the layout have it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from spiritlm.corpus.layouts.found import TO_THE_END, Found, Reject, folder_under, walk
from spiritlm.corpus.layouts.lines import text_lines
from spiritlm.corpus.manifest import Sentence

SOUNDS = (".wav", ".flac")
"""Where both are there, the last counts."""


def read_librispeech(root: Path, name: str) -> Iterator[Found | Reject]:
    """One recording a line of each transcript file under the folder `name`, for example `train-clean-100`.

    Recordings without a line are rejects. Raises `InputError` where there is no such folder.
    """
    for path in walk(root, folder_under(root, name)):
        if isinstance(path, Reject):
            yield path
        elif path.name.endswith(".trans.txt"):
            yield from _chapter(root, path)


def _chapter(root: Path, transcripts: Path) -> Iterator[Found | Reject]:
    folder, written = transcripts.parent, set()
    sounds = {path.stem: path for suffix in SOUNDS for path in folder.glob(f"*{suffix}")}
    speaker, _, chapter = transcripts.name.removesuffix(".trans.txt").partition("-")
    for line in text_lines(transcripts, str(transcripts.relative_to(root))):
        if isinstance(line, Reject):
            yield line
            continue
        id, _, text = line[1].strip().partition(" ")
        if id:
            written.add(id)
            audio = sounds.get(id, folder / f"{id}.flac").relative_to(root)
            yield Found(
                id.replace("/", "_"),
                audio,
                (Sentence(text.strip(), 0.0, TO_THE_END),),
                speaker,
                custom={"chapter": chapter},
            )
    for id in sorted(sounds.keys() - written):
        yield Reject(id, "transcript absent", f"{transcripts.name} has no line for it")
