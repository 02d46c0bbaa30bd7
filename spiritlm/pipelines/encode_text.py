"""Running text becomes documents of a store: the steps of `tokenizers/encode_text.py`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from datatrove.pipeline.base import PipelineStep

from spiritlm.corpus.layouts.found import Reject
from spiritlm.corpus.store import Record
from spiritlm.corpus.texts import TextDocument, TextsRecipe, read_texts
from spiritlm.pipelines.shards import Rejected
from spiritlm.tokens.emit import Document, document_of
from spiritlm.tokens.vocabulary import Vocabulary


class ReadTexts(PipelineStep):
    """Shard `rank` of a text corpus."""

    name, type = "read texts", "reader"

    def __init__(self, texts: TextsRecipe) -> None:
        super().__init__()
        self.texts = texts

    def run(self, data: None = None, rank: int = 0, world_size: int = 1) -> Iterator[TextDocument | Reject]:
        yield from read_texts(self.texts, rank, world_size)


class EncodeText(PipelineStep):
    """Ids of running text; line breaks are kept."""

    name, type = "encode text", "text"

    def __init__(self, vocabulary: Path) -> None:
        super().__init__()
        self.vocabulary = vocabulary

    def run(
        self, data: Iterable[TextDocument | Reject], rank: int = 0, world_size: int = 1
    ) -> Iterator[tuple[Record, Document] | Rejected]:
        text = Vocabulary.load(self.vocabulary).text
        for item in data:
            if isinstance(item, TextDocument):
                yield Record(item.id), document_of(text=text.encode_document(item.text))
            else:
                yield Rejected(item.item, item.reason)
