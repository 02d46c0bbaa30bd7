"""What a store holds, in words: counts, a document as readable tokens, and whether its files are whole."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np

from spiritlm.corpus.store import STORE_MANIFEST, DocumentStore
from spiritlm.errors import InputError
from spiritlm.tokens.documents import compose, words_of
from spiritlm.tokens.emit import Document
from spiritlm.tokens.interleave import SPEECH, TEXT, Span
from spiritlm.tokens.layout import STREAMS
from spiritlm.tokens.vocabulary import MANIFEST, Vocabulary


def splits_in(path: Path) -> tuple[Path, list[str]]:
    """The store folder and the splits that `path`, a store or one split of it, stands for.

    Raises `InputError` where it is neither.
    """
    if (path / STORE_MANIFEST).is_file() and (path.parent / MANIFEST).is_file():
        return path.parent, [path.name]
    splits = sorted(file.parent.name for file in path.glob(f"*/{STORE_MANIFEST}"))
    if not splits or not (path / MANIFEST).is_file():
        if not path.is_dir():
            raise InputError(f"{path}: there is no such folder")
        raise InputError(f"{path}: expected a store (a folder with {MANIFEST} and SPLIT/{STORE_MANIFEST})")
    return path, splits


def describe_vocabulary(vocabulary: Vocabulary) -> str:
    blocks = [f"{block.size} {block.name} from {block.start}" for block in vocabulary.layout.blocks]
    markers = [f"{name} {id}" for name, id in vocabulary.layout.markers.items()]
    parts = [f"{vocabulary.layout.text_size} text", *blocks, *markers]
    return f"vocabulary {vocabulary.hash[:16]}: {', '.join(parts)}; {vocabulary.padded_size} rows"


def describe_split(store: DocumentStore) -> str:
    counts = store.counts
    parts = [f"{counts['documents']:,} documents", f"{counts['words']:,} words", f"{counts['text_ids']:,} text ids"]
    for stream, rate in zip(STREAMS, store.rates, strict=True):
        if rate:
            count = counts["units" if stream == "semantic" else f"{stream}_units"]
            parts.append(f"{count:,} {stream} units at {rate:g} Hz ({count / rate / 3600:.2f} h)")
    size = sum((store.files.folder / name).stat().st_size for name in store.files.manifest["sha256"])
    return ", ".join([*parts, f"{size / 1e6:,.1f} MB"])


def readable(store: DocumentStore, number: int, most: int = 60) -> Iterator[str]:
    """Document `number` in lines: what it is, then its first tokens as text, as speech and in turns.

    Raises `InputError` where the split has no such document.
    """
    if not 0 <= number < len(store):
        raise InputError(f"{store.files.folder}: document {number}: expected 0 to {len(store) - 1}")
    record, document = store.record(number), store[number]
    yield f"document {number}: {', '.join(f'{name} {value}' for name, value in vars(record).items() if value)}"
    for spans in _tellings(document):
        ids = compose(document, spans, store.vocabulary, store.rates.tolist()).ids
        rest = f" ... ({len(ids)} tokens)" if len(ids) > most else ""
        yield "  " + "".join(store.vocabulary.token(int(id)) for id in ids[:most]).replace("▁", " ") + rest


def _tellings(document: Document) -> list[list[Span]]:
    words = words_of(document)
    tellings = [[Span(TEXT, 0, words)]] if len(document.text) else []
    if len(document.semantic):
        tellings.append([Span(SPEECH, 0, words)])
    if len(tellings) == 2:
        turns = np.unique(np.linspace(0, words, min(words, 4) + 1).astype(int))
        tellings.append([Span(i % 2, int(a), int(b)) for i, (a, b) in enumerate(pairwise(turns))])
    return tellings
