"""The plan of an epoch: which documents, in which order, and where each packed row begins.

A cut changes the length of a document, so a row's beginning is known only after the lengths of all documents before
it. A pass that only counts finds them; its result is an index on disk, memory-mapped, whole or absent:

    FOLDER/epoch-00002/order.npy   int32 [documents]  the documents, shuffled
    FOLDER/epoch-00002/rows.npy    int64 [rows, 2]    where in `order` a row begins, and how many tokens to leave out
    FOLDER/epoch-00002/plan.json   fingerprint, rows of the epochs before, tokens

A row holds `sequence_length + 1` tokens and begins `sequence_length` after the one before, so every token is the
label of one row. The last row of an epoch is padded.
"""

from __future__ import annotations

import fcntl
import os
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numba
import numpy as np

from spiritlm.corpus.packing import NOTHING, Drawing, measure, split_of
from spiritlm.corpus.store import DocumentStore
from spiritlm.errors import InputError
from spiritlm.run.files import atomic_folder, read_json, remove_partial, sha256_json, write_json
from spiritlm.tokens.emit import Ids
from spiritlm.tokens.samplers import CUTS_VERSION, document_key, mix

PLAN_FILE = "plan.json"
DOCUMENTS_AT_A_TIME = 1 << 14


@dataclass(frozen=True)
class EpochPlan:
    """One epoch of one source."""

    order: np.ndarray
    """int32 `[documents]`."""
    rows: np.ndarray
    """int64 `[rows, 2]`."""
    first_row: int
    """Rows of all epochs before this one."""
    tokens: int

    def __len__(self) -> int:
        """Rows of the epoch."""
        return len(self.rows)


def shuffled(keys: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """Documents int32 in an order that follows from seed, epoch and their keys, not from where they are stored."""
    return np.argsort(_draws(keys, seed, epoch), kind="stable").astype(np.int32)


@numba.njit(cache=True, nogil=True)
def _draws(keys: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    drawn = np.empty(len(keys), np.uint64)
    for number in range(len(keys)):
        drawn[number] = mix(document_key(seed, epoch, keys[number]))
    return drawn


def make_plan(store: DocumentStore, ids: Ids, drawing: Drawing, sequence_length: int, first_row: int) -> EpochPlan:
    """Count the tokens of every document of `drawing.epoch` and lay them into rows; memory does not grow with them.

    Raises `InputError` where a file of the store is corrupt: every plan reads all of it, so every plan checks it.
    """
    store.files.verify()
    split, order = split_of(store), shuffled(store.files.keys, drawing.seed, drawing.epoch)
    lengths = np.empty(len(order), np.int64)
    for first in range(0, len(order), DOCUMENTS_AT_A_TIME):
        measure(split, ids, drawing, NOTHING, first, lengths[first : first + DOCUMENTS_AT_A_TIME])
        store.files.forget()
    lengths = lengths[order]
    ends = np.cumsum(lengths)
    tokens = int(ends[-1]) if len(ends) else 0
    starts = np.arange(0, max(0, tokens - 1), sequence_length)
    places = np.searchsorted(ends, starts, side="right")
    skipped = starts - (ends[places] - lengths[places])
    return EpochPlan(order, np.stack([places, skipped], axis=1), first_row, tokens)


class Plans:
    """The epochs of one source, made when they are needed and kept in a folder, or in memory without one."""

    def __init__(
        self,
        store: DocumentStore,
        ids: Ids,
        kind: int,
        settings: np.ndarray,
        sequence_length: int,
        seed: int,
        folder: Path | None,
    ) -> None:
        self.store, self.ids, self.kind, self.settings = store, ids, kind, settings
        self.sequence_length, self.seed, self.folder = sequence_length, seed, folder
        self.fingerprint = sha256_json(
            [
                CUTS_VERSION,
                store.vocabulary.hash,
                store.files.manifest["sha256"],
                kind,
                settings.tolist(),
                sequence_length,
                seed,
            ]
        )
        self._epochs: list[EpochPlan] = []

    def drawing(self, epoch: int) -> Drawing:
        return Drawing(self.kind, self.settings, self.seed, epoch)

    def of_row(self, row: int) -> tuple[int, EpochPlan]:
        """The epoch that holds row `row` of the source. Raises `InputError` where an epoch has no rows at all."""
        while not self._epochs or row >= self._epochs[-1].first_row + len(self._epochs[-1]):
            self._epochs.append(self.plan(len(self._epochs)))
        epoch = bisect_right(self._epochs, row, key=lambda plan: plan.first_row) - 1
        return epoch, self._epochs[epoch]

    @property
    def newest(self) -> int:
        """The last epoch that is planned; -1 before the first."""
        return len(self._epochs) - 1

    def plan(self, epoch: int) -> EpochPlan:
        """Read or make the plan of an epoch, at most the one after `newest`."""
        last = self._epochs[epoch - 1] if epoch else None
        first_row = last.first_row + len(last) if last else 0
        plan = self._on_disk(epoch, first_row) if self.folder else self._fresh(epoch, first_row)
        if not len(plan):
            raise InputError(f"{self.store.files.folder}: holds no tokens of this kind")
        return plan

    def _fresh(self, epoch: int, first_row: int) -> EpochPlan:
        return make_plan(self.store, self.ids, self.drawing(epoch), self.sequence_length, first_row)

    def _on_disk(self, epoch: int, first_row: int) -> EpochPlan:
        """One process makes the plan, the others wait for it and map it."""
        assert self.folder
        folder = self.folder / f"epoch-{epoch:05d}"
        if not (folder / PLAN_FILE).is_file():
            with _locked(self.folder):
                if not (folder / PLAN_FILE).is_file():
                    remove_partial(self.folder)
                    self._write(self._fresh(epoch, first_row), folder)
        return self._read(folder)

    def _write(self, plan: EpochPlan, folder: Path) -> None:
        with atomic_folder(folder) as temporary:
            np.save(temporary / "order.npy", plan.order, allow_pickle=False)
            np.save(temporary / "rows.npy", plan.rows, allow_pickle=False)
            facts = {"first_row": plan.first_row, "rows": len(plan), "tokens": plan.tokens}
            write_json(temporary / PLAN_FILE, {"fingerprint": self.fingerprint, **facts})

    def _read(self, folder: Path) -> EpochPlan:
        facts = read_json(folder / PLAN_FILE)
        if facts["fingerprint"] != self.fingerprint:
            raise InputError(
                f"{folder}: planned for another store, mixture, sequence length or seed "
                f"({facts['fingerprint'][:16]}, expected {self.fingerprint[:16]})"
            )
        order, rows = (np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in ("order", "rows"))
        return EpochPlan(order, rows, facts["first_row"], facts["tokens"])


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
