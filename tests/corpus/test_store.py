import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiritlm.corpus.plan import Plans
from spiritlm.corpus.store import DTYPES, DocumentStore, Record, merge_splits, write_split
from spiritlm.errors import InputError
from spiritlm.tokens.emit import Document, document_of, ids_of
from spiritlm.tokens.layout import spirit
from spiritlm.tokens.vocabulary import Vocabulary

RATES = {"semantic": 25.0, "pitch": 12.5, "style": 1.0}
Named = list[tuple[Record, Document]]


def same_files(one: Path, two: Path) -> bool:
    files = {file.name: file.read_bytes() for file in one.iterdir()}
    assert len(files) == 17
    return files == {file.name: file.read_bytes() for file in two.iterdir()}


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_documents_come_back(store: Path, documents: Named) -> None:
    read = DocumentStore(store, "train")
    assert (len(read), read.rates.tolist()) == (24, [25.0, 12.5, 1.0])
    for index, (record, document) in enumerate(documents):
        for name, dtype in DTYPES.items():
            stream = getattr(read[index], name)
            assert stream.dtype == dtype
            np.testing.assert_array_equal(stream, getattr(document, name))
        assert read.record(index) == record
        assert read.files.keys[index] == record.key
    assert read.records == [record for record, _ in documents]
    np.testing.assert_array_equal(read.named("doc-5").semantic, read[5].semantic)
    with pytest.raises(InputError, match="doc-99"):
        read.named("doc-99")


def test_counts_are_those_of_the_documents(store: Path, documents: Named) -> None:
    expected = {
        "documents": 24,
        "text_ids": sum(len(d.text) for _, d in documents),
        "words": sum(len(d.words) // 3 for _, d in documents),
        "sentences": sum(len(d.sentences) for _, d in documents),
        "units": sum(len(d.semantic) for _, d in documents),
        "pitch_units": sum(len(d.pitch) for _, d in documents),
        "style_units": sum(len(d.style) for _, d in documents),
    }
    assert DocumentStore(store, "train").counts == expected
    assert DocumentStore(store, "texts").counts["units"] == DocumentStore(store, "untold").counts["text_ids"] == 0


def test_same_documents_same_bytes(copy: Path, documents: Named, task_vocabulary: Vocabulary) -> None:
    write_split(copy, "again", documents, RATES, task_vocabulary)
    assert same_files(copy / "train", copy / "again")


@pytest.mark.parametrize("cuts", [(8, 16), (0, 24), (1, 1), (24, 24)])
def test_joined_splits_are_those_written_at_once(
    copy: Path, documents: Named, task_vocabulary: Vocabulary, cuts: tuple[int, int]
) -> None:
    parts = []
    for number, (start, end) in enumerate(((0, cuts[0]), cuts, (cuts[1], 24))):
        write_split(copy, f"part-{number}", documents[start:end], RATES, task_vocabulary)
        parts.append(copy / f"part-{number}")
    counts = merge_splits(parts, copy, "joined", task_vocabulary)
    assert counts == DocumentStore(copy, "train").counts
    assert same_files(copy / "train", copy / "joined")


def test_a_key_follows_from_the_id_alone(documents: Named) -> None:
    assert {record.key for record, _ in documents} == {Record(record.id, "x").key for record, _ in documents}
    assert len({Record(f"doc-{number}").key for number in range(10_000)}) == 10_000
    assert Record("doc-3").key == -6722110773860770310


def test_absent_splits_and_stores_are_refused(store: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no split 'absent', it has dev"):
        DocumentStore(store, "absent")
    with pytest.raises(InputError, match=r"it has no vocabulary\.json"):
        DocumentStore(tmp_path, "train")


def test_truncated_files_and_files_of_other_splits_are_refused(copy: Path) -> None:
    for name in ("text.idx", "semantic.idx", "documents.idx", "keys.idx", "words.bin", "style.bin"):
        whole = (copy / "train" / name).read_bytes()
        (copy / "train" / name).write_bytes(whole[:-8])
        with pytest.raises(InputError, match=name.replace(".", r"\.")):
            DocumentStore(copy, "train")
        (copy / "train" / name).write_bytes(whole)
    for suffix in (".idx", ".bin"):
        shutil.copy(copy / "dev" / f"pitch{suffix}", copy / "train" / f"pitch{suffix}")
    with pytest.raises(InputError, match="do not hold the same documents"):
        DocumentStore(copy, "train")


def test_a_manifest_of_another_version_is_refused(copy: Path) -> None:
    path = copy / "train" / "manifest.json"
    path.write_text(path.read_text().replace('"version": 2', '"version": 1'))
    with pytest.raises(InputError, match="store of version 1, expected 2"):
        DocumentStore(copy, "train")


@given(st.integers(0, 2**32))
def test_one_flipped_bit_is_found(store: Path, at: int) -> None:
    """In any file of the split, at any place; the files are as long as before."""
    folder = store / "train"
    names = sorted(json.loads((folder / "manifest.json").read_text())["sha256"])
    sizes = [(folder / name).stat().st_size for name in names]
    at %= sum(sizes)
    number = int(np.searchsorted(np.cumsum(sizes), at, side="right"))
    path = folder / names[number]
    before, read = path.read_bytes(), DocumentStore(store, "train")
    try:
        flip(path, at - sum(sizes[:number]))
        with pytest.raises(InputError, match=rf"{names[number]}: corrupt: sha256"):
            read.files.verify()
    finally:
        path.write_bytes(before)


@pytest.mark.parametrize("name", ["semantic.bin", "text.bin", "words.bin", "style.bin"])
def test_no_plan_is_made_from_a_corrupt_store(copy: Path, name: str) -> None:
    flip(copy / "train" / name, 20)
    read = DocumentStore(copy, "train")
    with pytest.raises(InputError, match=rf"{name}: corrupt"):
        read.check()
    with pytest.raises(InputError, match=rf"{name}: corrupt"):
        Plans(read, ids_of(read.vocabulary), 0, np.zeros(4), 64, 0, None).of_row(0)


def test_another_vocabulary_is_refused_with_both_hashes(copy: Path, task_vocabulary: Vocabulary) -> None:
    text = task_vocabulary.text
    other = Vocabulary(text, spirit(text.size, {"semantic": 60}, text.bos, text.eos))
    with pytest.raises(InputError) as first:
        DocumentStore(copy, "train", other)
    other.save(copy)
    with pytest.raises(InputError) as second:
        DocumentStore(copy, "train")
    for error in (first, second):
        assert task_vocabulary.hash[:16] in str(error.value)
        assert other.hash[:16] in str(error.value)


def test_check_passes_a_whole_store(store: Path) -> None:
    for split in ("train", "texts", "untold"):
        DocumentStore(store, split).check()


@pytest.mark.parametrize(
    ("text", "words", "sentences", "units"),
    [
        ((5, 6), [(0, 0, 3)], (0,), (1, 2)),
        ((5, 6), [(0, 2, 1)], (0,), (1, 2)),
        ((5, 6), [(0, 0, 2), (1, 1, 2)], (0,), (1, 2)),
        ((5, 6), [(0, 1, 2), (1, 0, 1)], (0,), (1, 2)),
        ((5, 6), [(1, 0, 1), (0, 1, 2)], (0,), (1, 2)),
        ((5, 6), [(3, 0, 1)], (0,), (1, 2)),
        ((5, 6), [(-1, 0, 1)], (0,), (1, 2)),
        ((5, 6), [(0, 0, 1), (1, 1, 2)], (1,), (1, 2)),
        ((5, 6), [(0, 0, 1), (1, 1, 2)], (0, 0), (1, 2)),
        ((5, 6), [(0, 0, 1)], (0, 1), (1, 2)),
        ((), (), (), (50,)),
        ((1 << 20,), (), (), ()),
        ((-1,), (), (), ()),
    ],
)
def test_check_names_a_document_that_does_not_fit(
    copy: Path,
    documents: Named,
    task_vocabulary: Vocabulary,
    text: tuple[int, ...],
    words: list[tuple[int, int, int]],
    sentences: tuple[int, ...],
    units: tuple[int, ...],
) -> None:
    bad = Record("the-bad-one"), document_of(text, words, sentences, units)
    write_split(copy, "bad", [*documents[:2], bad], RATES, task_vocabulary)
    with pytest.raises(InputError, match="the-bad-one"):
        DocumentStore(copy, "bad").check()


def killed_writing(folder: Path, kill_at: int) -> int:
    """Writes split `train` of 24 documents in another process that is killed at one of them."""
    return subprocess.run([sys.executable, __file__, str(folder), str(kill_at)], timeout=120).returncode


def test_a_kill_in_the_middle_leaves_what_was_there_before(copy: Path, documents: Named) -> None:
    before = {file.name: file.read_bytes() for file in (copy / "train").iterdir()}
    assert killed_writing(copy, 20) == -signal.SIGKILL
    assert {file.name: file.read_bytes() for file in (copy / "train").iterdir()} == before
    shutil.rmtree(copy / "train")
    assert killed_writing(copy, 20) == -signal.SIGKILL
    assert list(copy.glob(".partial-*"))
    assert not (copy / "train").exists()
    for left in [copy / "train", *copy.glob(".partial-*")]:
        with pytest.raises(InputError, match="has no split"):
            DocumentStore(copy, left.name)
    write_split(copy, "train", documents, RATES, Vocabulary.load(copy))
    assert {file.name: file.read_bytes() for file in (copy / "train").iterdir()} == before


def documents_until(kill_at: int) -> Iterator[tuple[Record, Document]]:
    for number in range(24):
        if number == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        yield Record(f"new-{number}"), document_of(semantic=np.arange(20_000) % 50)


def test_an_error_while_writing_leaves_nothing(copy: Path, task_vocabulary: Vocabulary) -> None:
    bad = [(Record("a"), document_of((5,))), (Record("b"), document_of((5,))._replace(semantic=np.array([70_000])))]
    with pytest.raises(InputError, match="semantic: a value is outside uint16"):
        write_split(copy, "new", bad, RATES, task_vocabulary)
    assert not list(copy.glob("*new*"))
    assert not list(copy.glob(".partial-*"))


if __name__ == "__main__":
    target = Path(sys.argv[1])
    write_split(target, "train", documents_until(int(sys.argv[2])), RATES, Vocabulary.load(target))
