"""One vocabulary for text and units: a text tokenizer and a layout of markers and blocks of units.

A vocabulary is saved as `vocabulary.json` beside its text tokenizer (`text.model` or `text.json`); its hash covers
both, and whoever reads a store, a checkpoint or an export compares it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from spiritlm.errors import InputError
from spiritlm.run.files import read_json, sha256_json, write_json
from spiritlm.tokens.interleave import SPEECH
from spiritlm.tokens.layout import Block, Layout, Wrap
from spiritlm.tokens.text import TextTokenizer, load_text_tokenizer, save_text_tokenizer

MANIFEST, VERSION = "vocabulary.json", 3


class Vocabulary:
    """Ids of text pieces, markers and units."""

    def __init__(self, text: TextTokenizer, layout: Layout) -> None:
        """Raises `InputError` where a piece of the text tokenizer has an id that the layout gives to another token."""
        self.text, self.layout = text, layout
        self.bos, self.eos = layout.bos, layout.eos
        self.blocks = {block.name: block for block in layout.blocks}
        self._markers = {id: name for name, id in layout.markers.items()}
        named = [*layout.markers.values(), *(id for block in layout.blocks for id in range(block.start, block.end))]
        for id in named:
            name = self._name(id)
            if id < text.size and text.token(id) != name:
                raise InputError(
                    f"vocabulary: id {id} is {text.token(id)!r} to the text tokenizer, {name!r} to the layout"
                )

    @property
    def size(self) -> int:
        """Ids that have a meaning are below it."""
        return self.layout.size

    @property
    def padded_size(self) -> int:
        """Rows of the embedding."""
        return self.layout.padded_size()

    @property
    def semantic(self) -> Block:
        return self.blocks["semantic"]

    def marker(self, name: str) -> int | None:
        """Id of a marker by its name; none where the layout has no such marker."""
        return self.layout.markers.get(name)

    def opening(self, modality: int) -> list[int]:
        """Ids before a span of `TEXT` or `SPEECH`: one marker, or none."""
        wrap = self.layout.speech if modality == SPEECH else self.layout.text
        return [self.layout.markers[wrap.open]] if wrap.open else []

    def closing(self, modality: int) -> list[int]:
        """Ids after a span."""
        wrap = self.layout.speech if modality == SPEECH else self.layout.text
        return [self.layout.markers[wrap.close]] if wrap.close else []

    @cached_property
    def hash(self) -> str:
        return sha256_json(self._manifest())

    def _manifest(self) -> dict[str, Any]:
        layout = self.layout
        return {
            "version": VERSION,
            "text": {
                "kind": self.text.kind,
                "sha256": self.text.sha256,
                "size": layout.text_size,
            },
            "bos": layout.bos,
            "eos": layout.eos,
            "markers": dict(layout.markers),
            "blocks": [asdict(block) for block in sorted(layout.blocks, key=lambda block: block.start)],
            "spans": {"text": asdict(layout.text), "speech": asdict(layout.speech)},
            "pad_to_multiple": layout.pad_to_multiple,
            "deduplicate": layout.deduplicate,
            "padded_size": self.padded_size,
        }

    # text and units -> ids

    def encode_text(self, text: str) -> list[int]:
        """Text pieces only, no markers; any run of white space counts as one space.

        Pieces never cross a space: `encode(a + " " + b) == encode(a) + encode(b)`.
        """
        return self.text.encode(text)

    def encode_units(self, units: np.ndarray, stream: str = "semantic") -> np.ndarray:
        """Units `[n]` of one stream -> ids int64 `[n]`. Raises `InputError` for a unit outside its block."""
        block = self.blocks[stream]
        units = np.asarray(units, dtype=np.int64)
        if units.size and not (units.min() >= 0 and units.max() < block.size):
            found = units.max() if units.max() >= block.size else units.min()
            raise InputError(f"{stream} unit {found} is outside the vocabulary: expected 0 to {block.size - 1}")
        return units + block.start

    # ids -> text, units, names

    def is_text(self, ids: np.ndarray) -> np.ndarray:
        """bool `[n]`: text pieces that are not control tokens or markers."""
        ids = np.asarray(ids)
        control = [self.bos, self.eos, self.text.bos, self.text.eos, *self._markers]
        return (ids < min(self.layout.text_size, self.text.size)) & ~np.isin(ids, control)

    def is_unit(self, ids: np.ndarray, stream: str = "semantic") -> np.ndarray:
        ids = np.asarray(ids)
        block = self.blocks.get(stream)
        return (ids >= block.start) & (ids < block.end) if block else np.zeros(ids.shape, dtype=bool)

    def is_speech(self, ids: np.ndarray) -> np.ndarray:
        """bool `[n]`: units of any stream."""
        return np.any([self.is_unit(ids, stream) for stream in self.blocks], axis=0)

    def decode_text(self, ids: Iterable[int]) -> str:
        return self.text.decode(ids)

    def decode_units(self, ids: Sequence[int] | np.ndarray, stream: str = "semantic") -> np.ndarray:
        return np.asarray(ids, dtype=np.int64) - self.blocks[stream].start

    def token(self, id: int) -> str:
        """Readable name of one id; ids without a meaning are `<unused...>`."""
        return self._name(id) or (self.text.token(id) if id < self.text.size else f"<unused{id}>")

    def _name(self, id: int) -> str:
        """What the layout calls an id; empty where it is text or nothing."""
        if id in self._markers:
            return self._markers[id]
        for block in self.layout.blocks:
            if block.start <= id < block.end:
                return block.token.format(id - block.start)
        return ""

    # files

    def save(self, folder: Path) -> None:
        """Write `vocabulary.json` and the text tokenizer into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        save_text_tokenizer(self.text, folder)
        write_json(folder / MANIFEST, {**self._manifest(), "hash": self.hash})

    @classmethod
    def load(cls, folder: Path) -> Vocabulary:
        """Raises `InputError` for absent files or a manifest that does not fit its text tokenizer."""
        if not (folder / MANIFEST).is_file():
            raise InputError(f"{folder}: expected a store or an exported model: it has no {MANIFEST}")
        manifest = read_json(folder / MANIFEST)
        if manifest.get("version") != VERSION:
            raise InputError(f"{folder / MANIFEST}: version {manifest.get('version')}, expected {VERSION}")
        text = manifest["text"]
        layout = Layout(
            text["size"],
            manifest["markers"],
            tuple(Block(**block) for block in manifest["blocks"]),
            Wrap(**manifest["spans"]["text"]),
            Wrap(**manifest["spans"]["speech"]),
            manifest["bos"],
            manifest["eos"],
            manifest["pad_to_multiple"],
            manifest["deduplicate"],
        )
        vocabulary = cls(load_text_tokenizer(folder), layout)
        vocabulary.require_hash(manifest["hash"], folder / MANIFEST)
        return vocabulary

    def require_hash(self, found: str, where: Path) -> None:
        """Raises `InputError`, naming both hashes, where `found` (read from `where`) is another vocabulary's."""
        if found != self.hash:
            raise InputError(f"{where}: made with vocabulary {found[:16]}, expected {self.hash[:16]}")
