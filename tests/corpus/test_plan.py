"""Plans of epochs; this file is also the program of its own runs in other processes."""

import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiritlm.corpus.datasets import KINDS, SourceRecipe
from spiritlm.corpus.packing import NOTHING, measure, split_of
from spiritlm.corpus.plan import Plans, shuffled
from spiritlm.corpus.store import DocumentStore, Record, write_split
from spiritlm.errors import InputError
from spiritlm.tokens.emit import Document, document_of, ids_of
from spiritlm.tokens.vocabulary import Vocabulary

EPOCHS = 6


def plans(
    store: Path, folder: Path | None = None, seed: int = 0, length: int = 64, split: str = "train", **recipe: object
) -> Plans:
    read, source = DocumentStore(store, split), SourceRecipe(**{"kind": "spans", "text_words": (2, 6), **recipe})
    return Plans(read, ids_of(read.vocabulary), KINDS[source.kind], source.settings(), length, seed, folder)


def content(folder: Path) -> dict[str, bytes]:
    """The files of all plans, and whatever else is there that has no place there."""
    files = [file for file in folder.rglob("*") if file.is_file() and file.name not in ("lock", "verified.json")]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def count_arrays(folder: Path) -> int:
    """Also while another process makes, renames and removes them: `os.walk` passes over what has just gone."""
    return sum(name.endswith(".npy") for _, _, names in os.walk(folder) for name in names)


def plan_epochs(store: Path, folder: Path) -> None:
    """Rows of the first epochs, one after the other."""
    made, row = plans(store, folder), 0
    for _ in range(EPOCHS):
        _, epoch = made.of_row(row)
        row = epoch.first_row + len(epoch)


@pytest.fixture(scope="module")
def undisturbed(store: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder: Path = tmp_path_factory.mktemp("plan")
    plan_epochs(store, folder)
    return content(folder)


@given(st.sets(st.integers(-(2**63), 2**63 - 1), max_size=60), st.integers(0, 2**63 - 1), st.integers(0, 99))
def test_the_order_does_not_depend_on_where_documents_stand(keys: set[int], seed: int, epoch: int) -> None:
    stored = np.array(sorted(keys), np.int64)
    turned = stored[::-1].copy()
    order = shuffled(stored, seed, epoch)
    assert sorted(order.tolist()) == list(range(len(keys)))
    np.testing.assert_array_equal(stored[order], turned[shuffled(turned, seed, epoch)])
    if len(keys) > 20:
        assert order.tolist() != shuffled(stored, seed, epoch + 1).tolist()
        assert order.tolist() != shuffled(stored, seed + 1, epoch).tolist()


@pytest.mark.parametrize("length", [1, 7, 64, 1000, 100_000])
def test_rows_begin_a_sequence_length_apart(store: Path, length: int) -> None:
    made = plans(store, length=length)
    first_row = 0
    for epoch in range(3):
        number, plan = made.of_row(first_row)
        lengths = np.empty(24, np.int64)
        measure(split_of(made.store), made.ids, made.drawing(epoch), NOTHING, 0, lengths)
        begins = np.concatenate([[0], np.cumsum(lengths[plan.order])])
        assert (number, plan.first_row, plan.tokens) == (epoch, first_row, lengths.sum())
        starts = begins[plan.rows[:, 0]] + plan.rows[:, 1]
        np.testing.assert_array_equal(starts, length * np.arange(len(plan)))
        assert np.all(plan.rows[:, 1] < lengths[plan.order][plan.rows[:, 0]])
        assert starts[-1] + 1 < plan.tokens <= starts[-1] + length + 1
        assert made.of_row(first_row + len(plan) - 1)[0] == epoch
        first_row += len(plan)


def test_a_plan_on_disk_is_the_one_in_memory(store: Path, tmp_path: Path) -> None:
    for row in (400, 0, 200):
        (one, memory), (two, disk) = plans(store).of_row(row), plans(store, tmp_path).of_row(row)
        assert one == two
        assert (memory.first_row, memory.tokens) == (disk.first_row, disk.tokens)
        np.testing.assert_array_equal(memory.order, disk.order)
        np.testing.assert_array_equal(memory.rows, disk.rows)


def test_a_second_process_reads_the_plan_of_the_first(
    store: Path, tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    """Both at once, then one after them."""
    processes = [subprocess.Popen([sys.executable, __file__, str(store), str(tmp_path)]) for _ in range(2)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    assert content(tmp_path) == undisturbed
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    plan_epochs(store, tmp_path)
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")} == before


def test_killed_at_any_moment_it_goes_on(store: Path, tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    """The process is killed as soon as it has made one more file; half-written plans are not read."""
    draw, kills = random.Random(0), 0
    while kills < 4:
        seen = len(content(tmp_path))
        process = subprocess.Popen([sys.executable, __file__, str(store), str(tmp_path)])
        while process.poll() is None and count_arrays(tmp_path) <= seen // 3 * 2:
            time.sleep(0.0005)
        time.sleep(draw.random() * 0.004)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        if process.wait(timeout=60) == 0:
            break
        kills += 1
    assert kills
    plan_epochs(store, tmp_path)
    assert content(tmp_path) == undisturbed


def test_what_a_killed_process_left_is_not_a_plan(store: Path, tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    for name in (f".partial-{platform.node()}-77-epoch-00000", "epoch-00001"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "order.npy").write_bytes(b"\x93NUMPY half of it")
    plan_epochs(store, tmp_path)
    assert content(tmp_path) == undisturbed


@pytest.mark.parametrize(
    "other", [{"seed": 1}, {"length": 65}, {"kind": "poisson"}, {"text_words": (2, 7)}, {"split": "dev"}], ids=str
)
def test_a_plan_of_something_else_is_refused(store: Path, tmp_path: Path, other: dict[str, object]) -> None:
    first = plans(store, tmp_path)
    first.of_row(0)
    second = plans(store, tmp_path, **other)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="planned for another store, mixture, sequence length or seed") as error:
        second.of_row(0)
    assert first.fingerprint[:16] in str(error.value)
    assert second.fingerprint[:16] in str(error.value)


def test_a_plan_of_another_store_is_refused(
    store: Path, tmp_path: Path, documents: list[tuple[Record, Document]], task_vocabulary: Vocabulary
) -> None:
    """One unit is another one; every length is as before."""
    (record, first), rest = documents[0], documents[1:]
    plans(store, tmp_path / "plan").of_row(0)
    changed = first._replace(semantic=np.concatenate([[(first.semantic[0] + 1) % 50], first.semantic[1:]]))
    shutil.copytree(store, tmp_path / "store")
    rates = DocumentStore(store, "train").files.rates
    write_split(tmp_path / "store", "train", [(record, changed), *rest], rates, task_vocabulary)
    with pytest.raises(InputError, match="planned for another store"):
        plans(tmp_path / "store", tmp_path / "plan").of_row(0)


def test_a_moved_store_keeps_its_plan(store: Path, tmp_path: Path) -> None:
    plans(store, tmp_path / "plan").of_row(0)
    before = content(tmp_path / "plan")
    shutil.copytree(store, tmp_path / "moved")
    plans(tmp_path / "moved", tmp_path / "plan").of_row(0)
    assert content(tmp_path / "plan") == before


def test_a_store_without_tokens_of_a_kind_is_refused(store: Path, tmp_path: Path, task_vocabulary: Vocabulary) -> None:
    task_vocabulary.save(tmp_path)
    write_split(tmp_path, "train", [(Record("a"), document_of())], {}, task_vocabulary)
    write_split(tmp_path, "none", [], {}, task_vocabulary)
    for folder, split, kind in (
        (store, "texts", "speech"), (store, "texts", "spans"), (store, "untold", "text"), (tmp_path, "train", "text"),
        (tmp_path, "none", "speech"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=f"{split}: holds no tokens of this kind"):
            plans(folder, split=split, kind=kind).of_row(0)


def test_the_plan_says_what_it_holds(store: Path, tmp_path: Path) -> None:
    made = plans(store, tmp_path)
    _, first = made.of_row(0)
    _, second = made.of_row(len(first))
    for number, plan in enumerate((first, second)):
        facts = json.loads((tmp_path / f"epoch-{number:05d}" / "plan.json").read_text())
        assert facts == {
            "fingerprint": made.fingerprint,
            "first_row": plan.first_row,
            "rows": len(plan),
            "tokens": plan.tokens,
        }
    assert made.newest == 1


if __name__ == "__main__":
    plan_epochs(Path(sys.argv[1]), Path(sys.argv[2]))
