"""Documents told on by a model in training, to be read beside its losses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spiritlm.corpus.datasets import PackedSample
from spiritlm.engine.trainer import NextIds
from spiritlm.inference.transcript import transcript
from spiritlm.run.files import write_jsonl
from spiritlm.run.metrics import whole_rows
from spiritlm.run.stage import is_main_process
from spiritlm.tokens.documents import parse
from spiritlm.tokens.vocabulary import Vocabulary


class TrainingSamples:
    """Continues the first halves of `count` documents greedily; they lie side by side in rows of the model's length,
    so that one pass gives each of them its next token."""

    def __init__(
        self, rows: Sequence[PackedSample], vocabulary: Vocabulary, count: int, tokens: int, path: Path
    ) -> None:
        """`rows`: where the documents are taken from, evenly spread. `tokens`: new ones of a sample, and the most its
        prompt may have. `path`: JSON lines, one a sample and evaluation."""
        self.vocabulary, self.tokens, self.path = vocabulary, tokens, path
        self.prompts = _prompts(rows, count, tokens)
        self.length = len(rows[0].input_ids)
        self.slot = min(2 * tokens, self.length)
        """Positions of a row that a sample has to itself."""

    def __call__(self, step: int, next_ids: NextIds) -> None:
        told = [list(prompt) for prompt in self.prompts]
        for _ in range(min(self.tokens, self.slot // 2)):
            going = [number for number, ids in enumerate(told) if ids[-1] != self.vocabulary.eos]
            if not going:
                break
            found = next_ids(self._rows(told)).reshape(-1)
            for number in going:
                told[number].append(int(found[self._place(number) + len(told[number]) - 1]))
        if is_main_process():
            earlier = [row for row in whole_rows(self.path) if row["step"] < step]  # a run may come here twice
            new = [self._record(step, ids, len(prompt)) for prompt, ids in zip(self.prompts, told, strict=True)]
            write_jsonl(self.path, [*earlier, *new])

    def _record(self, step: int, ids: list[int], prompt: int) -> dict[str, Any]:
        said = {
            name: transcript(parse(piece, self.vocabulary))
            for name, piece in (("prompt", ids[:prompt]), ("continuation", ids[prompt:]))
        }
        return {"step": step, **said, "ids": ids[prompt:]}

    def _rows(self, told: list[list[int]]) -> list[PackedSample]:
        per_row = self.length // self.slot
        rows = np.full((-(-len(told) // per_row), self.length), self.vocabulary.eos, dtype=np.int64)
        for number, ids in enumerate(told):
            place = self._place(number)
            rows.reshape(-1)[place : place + len(ids)] = ids
        bounds = np.array([*range(0, per_row * self.slot, self.slot), self.length], dtype=np.int32)
        nothing = np.zeros(self.length, dtype=np.float32), np.zeros(self.length, dtype=np.uint8)
        return [PackedSample(row, row, *nothing, bounds) for row in rows]

    def _place(self, number: int) -> int:
        """Where the slot of a sample begins, rows laid end to end."""
        row, slot = divmod(number, self.length // self.slot)
        return row * self.length + slot * self.slot


def _prompts(rows: Sequence[PackedSample], count: int, longest: int) -> list[list[int]]:
    documents = [
        row.input_ids[first:last]
        for row in rows
        for first, last in zip(row.cu_seqlens[:-1], row.cu_seqlens[1:], strict=True)
        if row.loss_mask[first : last - 1].any()  # not what fills the row
    ]
    chosen = np.linspace(0, len(documents) - 1, min(count, len(documents))).round().astype(int)
    halves = (documents[number][: max(1, min(len(documents[number]) // 2, longest))] for number in chosen)
    return [half.tolist() for half in halves]
