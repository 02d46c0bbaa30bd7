"""The program `tokenizers/encode_text.py`, and its store in a mixture with one of speech."""

import json
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from spiritlm.corpus.datasets import MixedDataset, SourceRecipe
from spiritlm.corpus.store import DocumentStore, Record, write_split
from spiritlm.run.files import write_json
from spiritlm.tokens.emit import document_of
from spiritlm.tokens.vocabulary import Vocabulary

from ..programs import run_here

REPO = Path(__file__).resolve().parents[2]
RECIPE = """
out = "{root}/texts"
vocabulary = "{root}/store"
split = "train"
max_bad_fraction = {budget}
executor.workers = {workers}
shards = {shards}
[texts]
root = "{root}/raw"
files = ["*.jsonl", "*.txt"]
documents = "paragraph"
"""


@pytest.fixture
def root(tmp_path: Path, vocabulary: Vocabulary) -> Path:
    """Texts on disk, and a store of speech whose vocabulary they take."""
    vocabulary.save(tmp_path / "store")
    spoken = [(Record(str(n)), document_of((5, 6), [(0, 0, 9), (1, 9, 30)], (), [n + 1] * 30)) for n in range(4)]
    write_split(tmp_path / "store", "train", spoken, {"semantic": 25.0}, vocabulary)
    write_json(tmp_path / "store/stage.json", {"stage": "encode", "fingerprint": "0", "recipe": {}, "inputs": {}})
    (tmp_path / "raw").mkdir()
    lines = [{"text": "Tom was sad."}, {"text": ""}, {"text": "He wanted to catch a big fish."}]
    (tmp_path / "raw/a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "raw/b.txt").write_text("The rain came soon.\n\nTom went to the lake\nwith his mother.\n")
    return tmp_path


def encode_text(root: Path, budget: float = 0.5, workers: int = 1, shards: int = 64) -> CompletedProcess:
    (root / "recipe.toml").write_text(RECIPE.format(root=root, budget=budget, workers=workers, shards=shards))
    return run_here(REPO / "tokenizers/encode_text.py", root / "recipe.toml")


def test_texts_fill_a_store_that_mixes_with_speech(root: Path, vocabulary: Vocabulary) -> None:
    done = encode_text(root)
    assert done.returncode == 0, done.stderr
    read = DocumentStore(root / "texts", "train", vocabulary)
    read.check()
    assert {record.id: vocabulary.decode_text(d.text) for record, d in zip(read.records, read, strict=True)} == {
        "a.jsonl:1": "Tom was sad.",
        "a.jsonl:3": "He wanted to catch a big fish.",
        "b.txt:1": "The rain came soon.",
        "b.txt:2": "Tom went to the lake\nwith his mother.",
    }
    assert json.loads((root / "texts/rejects.jsonl").read_text()) == {"item": "a.jsonl:2", "reason": "text empty"}
    counts = json.loads((root / "texts/stage.json").read_text())["counts"]
    assert (counts["rejected"], counts["train"]["documents"], counts["train"]["units"]) == (1, 4, 0)
    mixture = [SourceRecipe(kind="text", store="texts"), SourceRecipe(kind="speech")]
    data = MixedDataset({"main": root / "store", "texts": root / "texts"}, mixture, 16, 0)
    seen = {data.source_of(position) for position in range(8)}
    assert seen == {0, 1}
    for position in range(8):
        assert vocabulary.is_speech(data[position].labels).any() == (data.source_of(position) == 1)

    whole = {file.name: file.read_bytes() for file in (root / "texts/train").iterdir()}
    (root / "texts").rename(root / "first")
    done = encode_text(root, workers=2, shards=1)
    assert done.returncode == 0, done.stderr
    assert {file.name: file.read_bytes() for file in (root / "texts/train").iterdir()} == whole


def test_too_many_empty_texts_stop_the_stage(root: Path) -> None:
    done = encode_text(root, budget=0.1)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "1 of 5 items cannot be used, more than max_bad_fraction = 0.1; the first is a.jsonl:2" in done.stderr
    assert not (root / "texts/train").exists()
