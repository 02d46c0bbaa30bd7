import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiritlm.corpus.datasets import PackedSample
from spiritlm.inference.samples import TrainingSamples
from spiritlm.tokens.vocabulary import Vocabulary

LENGTH = 40


def row(vocabulary: Vocabulary, first: int) -> PackedSample:
    """Two documents of units that count upwards, then padding."""
    units = vocabulary.encode_units(np.arange(first, first + 30))
    ids = np.concatenate([[vocabulary.bos], units[:14], [vocabulary.bos], units[14:], np.full(8, vocabulary.eos)])
    mask = np.where(np.arange(LENGTH) < 31, 1.0, 0.0).astype(np.float32)
    return PackedSample(ids, ids, mask, np.ones(LENGTH, np.uint8), np.array([0, 15, 32, LENGTH], np.int32))


@given(count=st.integers(1, 9), tokens=st.integers(1, 30))
def test_every_sample_is_told_on_by_itself(
    vocabulary: Vocabulary, tmp_path_factory: pytest.TempPathFactory, count: int, tokens: int
) -> None:
    """The model of this test says the unit after the one it sees, and ends after unit 29."""
    path: Path = tmp_path_factory.mktemp("samples") / "samples.jsonl"
    units = vocabulary.encode_units(np.arange(31))

    def next_ids(rows: list[PackedSample]) -> np.ndarray:
        ids = np.stack([r.input_ids for r in rows])
        return np.where(ids == units[29], vocabulary.eos, np.where(ids == vocabulary.bos, units[0], ids + 1))

    samples = TrainingSamples([row(vocabulary, 0), row(vocabulary, 0)], vocabulary, count, tokens, path)
    for step in (3, 7, 9, 7):  # a run goes on from step 5
        samples(step, next_ids)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["step"] for row in rows] == [3] * min(count, 4) + [7] * min(count, 4)
    told = rows[min(count, 4) :]
    new = min(tokens, samples.slot // 2)
    for prompt, sample in zip(samples.prompts, told, strict=True):
        assert len(prompt) <= max(1, tokens)
        last = prompt[-1] if len(prompt) > 1 else units[0] - 1
        expected = [*range(last + 1, units[29] + 1), vocabulary.eos][:new]
        assert sample["ids"] == expected
        assert sample["step"] == 7
