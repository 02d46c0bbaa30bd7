"""Multilingual LibriSpeech: `SPLIT/transcripts.txt` (`ID<tab>text`), `SPLIT/audio/SPEAKER/BOOK/ID.flac` or `.opus`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from spiritlm.corpus.layouts.found import TO_THE_END, Found, Reject, folder_under
from spiritlm.corpus.layouts.lines import text_lines
from spiritlm.corpus.manifest import Sentence


def read_mls(root: Path, name: str) -> Iterator[Found | Reject]:
    """One recording a line of `name/transcripts.txt`; an id is `SPEAKER_BOOK_NUMBER`.

    The transcript file is streamed. Raises `InputError` where there is no such folder or file.
    """
    folder = folder_under(root, name)
    transcripts = folder / "transcripts.txt"
    for line in text_lines(transcripts, str(transcripts.relative_to(root))):
        if isinstance(line, Reject):
            yield line
            continue
        id, _, text = line[1].partition("\t")
        speaker, _, rest = id.partition("_")
        book = rest.partition("_")[0]
        if not book or "/" in id:
            yield Reject(f"{transcripts.relative_to(root)}:{line[0]}", "malformed line", "expected SPEAKER_BOOK_NUMBER")
            continue
        audio = folder / "audio" / speaker / book / f"{id}.flac"
        if not audio.is_file() and audio.with_suffix(".opus").is_file():
            audio = audio.with_suffix(".opus")
        sentence = Sentence(text.strip(), 0.0, TO_THE_END)
        yield Found(id, audio.relative_to(root), (sentence,), speaker, custom={"book": book})
