"""Text to ids: a sentencepiece model or any Hugging Face fast tokenizer, behind one small seam.

A word's ids never depend on where a document is cut: every word is encoded as it would stand after a space.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import sentencepiece
from tokenizers import Tokenizer

from spiritlm.errors import InputError
from spiritlm.run.files import atomic_path, read_bytes, read_json, write_json

SENTENCEPIECE, HUGGINGFACE = "sentencepiece", "huggingface"
DESCRIPTION = "text-tokenizer.json"
FILES = {SENTENCEPIECE: "text.model", HUGGINGFACE: "text.json"}


class TextTokenizer(Protocol):
    """`bos` and `eos` begin and end documents."""

    kind: str
    size: int
    bos: int
    eos: int
    data: bytes
    """The file it was made from."""
    sha256: str
    """Of what the file says; the order of keys in it does not matter."""

    def encode(self, text: str) -> list[int]:
        """Ids of words that are separated by white space, each as after a space; no control tokens."""
        ...

    def encode_document(self, text: str) -> list[int]:
        """Ids of running text as it is, line breaks and all; no control tokens."""
        ...

    def decode(self, ids: Iterable[int]) -> str: ...

    def token(self, id: int) -> str: ...


class SentencePieceText:
    """A sentencepiece model (Llama 2's `tokenizer.model`, or one of `tokenizers/fit_text.py`)."""

    kind = SENTENCEPIECE

    def __init__(self, data: bytes) -> None:
        try:
            self.model = sentencepiece.SentencePieceProcessor(model_proto=data)
        except RuntimeError as error:
            raise InputError(f"{FILES[self.kind]}: not a sentencepiece model: {error}") from None
        self.data, self.sha256 = data, hashlib.sha256(data).hexdigest()
        self.size, self.bos, self.eos = self.model.vocab_size(), self.model.bos_id(), self.model.eos_id()
        if self.bos < 0 or self.eos < 0:
            raise InputError(f"{FILES[self.kind]}: has no pieces that begin and end documents (bos, eos)")

    def encode(self, text: str) -> list[int]:
        return self.model.encode(" ".join(text.split()))

    def encode_document(self, text: str) -> list[int]:
        return self.model.encode(text)

    def decode(self, ids: Iterable[int]) -> str:
        return self.model.decode([int(i) for i in ids])

    def token(self, id: int) -> str:
        return self.model.id_to_piece(int(id))


class HuggingFaceText:
    """A `tokenizer.json` with the names of its tokens that begin and end documents."""

    kind = HUGGINGFACE

    def __init__(self, data: bytes, bos: str, eos: str) -> None:
        try:
            self.model = Tokenizer.from_str(data.decode())
        except Exception as error:
            raise InputError(f"{FILES[self.kind]}: not a Hugging Face fast tokenizer: {error}") from None
        canonical = json.dumps(json.loads(data), sort_keys=True, ensure_ascii=False)
        self.data, self.sha256 = data, hashlib.sha256(canonical.encode()).hexdigest()
        self.size = max(self.model.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        self.bos, self.eos = self._id(bos), self._id(eos)
        self.model.encode_special_tokens = True  # a text that spells "</s>" does not end its document
        alone, after = self.encode_document("a"), self.encode_document("a a")
        self._before_word = "" if after == alone + alone else " "  # some tokenizers put a space there themselves

    def _id(self, token: str) -> int:
        found = self.model.token_to_id(token)
        if found is None:
            raise InputError(f"{FILES[self.kind]}: has no token {token!r} to begin or end documents with")
        return found

    def encode(self, text: str) -> list[int]:
        words = [self._before_word + word for word in text.split()]
        return [id for found in self.model.encode_batch(words, add_special_tokens=False) for id in found.ids]

    def encode_document(self, text: str) -> list[int]:
        return self.model.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Iterable[int]) -> str:
        return self.model.decode([int(i) for i in ids]).strip()

    def token(self, id: int) -> str:
        return self.model.id_to_token(int(id)) or f"<unused{id}>"


def read_text_tokenizer(folder: Path) -> TextTokenizer:
    """The tokenizer of a Hugging Face model folder: `tokenizer.json` where there is one, else `tokenizer.model`.

    Raises `InputError` where the folder has neither, or does not say how documents end.
    """
    if (folder / "tokenizer.json").is_file():
        config = read_json(folder / "tokenizer_config.json")
        eos = _content(config.get("eos_token"))
        if not eos:
            raise InputError(f"{folder / 'tokenizer_config.json'}: has no eos_token")
        return HuggingFaceText(read_bytes(folder / "tokenizer.json"), _content(config.get("bos_token")) or eos, eos)
    return SentencePieceText(read_bytes(folder / "tokenizer.model"))


def _content(token: Any) -> str:
    return token["content"] if isinstance(token, dict) else token or ""


def save_text_tokenizer(text: TextTokenizer, folder: Path) -> None:
    """Write the tokenizer's file, and `text-tokenizer.json`, which says how to read it."""
    with atomic_path(folder / FILES[text.kind]) as temporary:
        temporary.write_bytes(text.data)
    write_json(folder / DESCRIPTION, {"kind": text.kind, "bos": text.token(text.bos), "eos": text.token(text.eos)})


def load_text_tokenizer(folder: Path) -> TextTokenizer:
    """What `save_text_tokenizer` wrote."""
    if not (folder / DESCRIPTION).is_file():
        raise InputError(f"{folder}: expected the folder of a text tokenizer (fit text): it has no {DESCRIPTION}")
    said = read_json(folder / DESCRIPTION)
    if said.get("kind") not in FILES:
        raise InputError(f"{folder / DESCRIPTION}: kind {said.get('kind')!r}, expected one of {', '.join(FILES)}")
    data = read_bytes(folder / FILES[said["kind"]])
    return SentencePieceText(data) if said["kind"] == SENTENCEPIECE else HuggingFaceText(data, said["bos"], said["eos"])


def words_to_ids(words: Sequence[str], text: TextTokenizer) -> tuple[list[int], list[int]]:
    """Ids of all words, and where each word's begin `[words + 1]`."""
    ids: list[int] = []
    starts = [0]
    for word in words:
        ids += text.encode(word)
        starts.append(len(ids))
    return ids, starts
