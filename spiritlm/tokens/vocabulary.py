"""One vocabulary for text and units: text ids first, then markers, then blocks of units.

The order is Spirit LM's (paper section 3.1, released tokenizer): text pieces, `[Text]`, `[Speech]`, `[Hu0]`,
`[Hu1]`, ... A vocabulary is saved as `vocabulary.json` beside `text.model` (sentencepiece); its hash covers the
text model and every block, and whoever reads a store, a checkpoint or an export compares it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import sentencepiece

from spiritlm.errors import InputError
from spiritlm.run.files import atomic_path, read_bytes, read_json, sha256_json, write_json

MANIFEST, TEXT_MODEL = "vocabulary.json", "text.model"
TEXT_MARKER, SPEECH_MARKER = "[Text]", "[Speech]"
SEMANTIC = "semantic"


@dataclass(frozen=True)
class Block:
    """A run of ids for one stream of units; unit `i` is written `token.format(i)`."""

    name: str
    token: str
    start: int
    size: int

    @property
    def end(self) -> int:
        return self.start + self.size


class Vocabulary:
    """Ids of text pieces, markers and units."""

    def __init__(self, text_model: bytes, semantic_units: int, pad_to_multiple: int = 64) -> None:
        """`text_model`: a serialized sentencepiece model. Raises `InputError` where it is not one."""
        try:
            self._text = sentencepiece.SentencePieceProcessor(model_proto=text_model)
        except RuntimeError as error:
            raise InputError(f"{TEXT_MODEL}: not a sentencepiece model: {error}") from None
        self._text_model = text_model
        self.text_size: int = self._text.vocab_size()
        self.bos: int = self._text.bos_id()
        self.eos: int = self._text.eos_id()
        self.text_marker, self.speech_marker = self.text_size, self.text_size + 1
        self.blocks = (Block(SEMANTIC, "[Hu{}]", self.text_size + 2, semantic_units),)
        self.pad_to_multiple = pad_to_multiple

    @property
    def semantic(self) -> Block:
        return self.blocks[0]

    @property
    def size(self) -> int:
        """Ids that have a meaning."""
        return self.blocks[-1].end

    @property
    def padded_size(self) -> int:
        """Rows of the embedding: `size` rounded up to a multiple of `pad_to_multiple`."""
        return -(-self.size // self.pad_to_multiple) * self.pad_to_multiple

    @cached_property
    def hash(self) -> str:
        return sha256_json(self._manifest())

    def _manifest(self) -> dict[str, object]:
        return {
            "version": 1,
            "text_model_sha256": hashlib.sha256(self._text_model).hexdigest(),
            "text": [0, self.text_size],
            "markers": {TEXT_MARKER: self.text_marker, SPEECH_MARKER: self.speech_marker},
            "blocks": [asdict(block) for block in self.blocks],
            "pad_to_multiple": self.pad_to_multiple,
            "padded_size": self.padded_size,
        }

    # text and units -> ids

    def encode_text(self, text: str) -> list[int]:
        """Text pieces only, no markers; any run of white space counts as one space.

        Pieces never cross a space: `encode(a + " " + b) == encode(a) + encode(b)`.
        """
        return self._text.encode(" ".join(text.split()))

    def encode_units(self, units: np.ndarray) -> np.ndarray:
        """Semantic units `[n]` -> ids int64 `[n]`. Raises `InputError` for a unit outside the block."""
        units = np.asarray(units, dtype=np.int64)
        if units.size and not (units.min() >= 0 and units.max() < self.semantic.size):
            raise InputError(f"unit {units.max()} is outside the vocabulary: expected 0 to {self.semantic.size - 1}")
        return units + self.semantic.start

    # ids -> text, units, names

    def is_text(self, ids: np.ndarray) -> np.ndarray:
        """bool `[n]`: text pieces that are not control tokens."""
        ids = np.asarray(ids)
        return (ids < self.text_size) & (ids != self.bos) & (ids != self.eos)

    def is_unit(self, ids: np.ndarray) -> np.ndarray:
        ids = np.asarray(ids)
        return (ids >= self.semantic.start) & (ids < self.semantic.end)

    def decode_text(self, ids: Iterable[int]) -> str:
        return self._text.decode([int(i) for i in ids])

    def decode_units(self, ids: Sequence[int] | np.ndarray) -> np.ndarray:
        return np.asarray(ids, dtype=np.int64) - self.semantic.start

    def token(self, id: int) -> str:
        """Readable name of one id; ids of the padding are `<pad...>`."""
        if id < self.text_size:
            return self._text.id_to_piece(int(id))
        if id == self.text_marker:
            return TEXT_MARKER
        if id == self.speech_marker:
            return SPEECH_MARKER
        for block in self.blocks:
            if block.start <= id < block.end:
                return block.token.format(id - block.start)
        return f"<pad{id - self.size}>"

    def piece_score(self, id: int) -> float:
        """Log probability of a text piece in the unigram text model."""
        return self._text.get_score(int(id))

    # files

    def save(self, folder: Path) -> None:
        """Write `vocabulary.json` and `text.model` into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(folder / TEXT_MODEL) as temporary:
            temporary.write_bytes(self._text_model)
        write_json(folder / MANIFEST, {**self._manifest(), "hash": self.hash})

    @classmethod
    def load(cls, folder: Path) -> Vocabulary:
        """Raises `InputError` for absent files or a manifest that does not fit its text model."""
        manifest = read_json(folder / MANIFEST)
        text_model = read_bytes(folder / TEXT_MODEL)
        sizes = {block["name"]: block["size"] for block in manifest["blocks"]}
        vocabulary = cls(text_model, sizes[SEMANTIC], manifest["pad_to_multiple"])
        vocabulary.require_hash(manifest["hash"], folder / MANIFEST)
        return vocabulary

    def require_hash(self, found: str, where: Path) -> None:
        """Raises `InputError`, naming both hashes, where `found` (read from `where`) is another vocabulary's."""
        if found != self.hash:
            raise InputError(f"{where}: made with vocabulary {found[:16]}, expected {self.hash[:16]}")
