"""The plan of an epoch: which documents, in which order, and where each packed row begins.

A cut changes the length of a document, so a row's beginning is known only after the lengths of all documents before
it. A pass that only counts finds them; its result is an index on disk, memory-mapped, whole or absent:

    FOLDER/epoch-00002/order.npy   int32 [documents]  the documents, shuffled
    FOLDER/epoch-00002/rows.npy    int64 [rows, 2]    where in `order` a row begins, and how many tokens to leave out
    FOLDER/epoch-00002/plan.json   fingerprint, rows of the epochs before, tokens
    FOLDER/verified.json           size and time of every file of the store when its sha256 was last found right

A row holds `sequence_length + 1` tokens and begins `sequence_length` after the one before, so every token is the
label of one row. The last row of an epoch is padded.
"""

from __future__ import annotations

import fcntl
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spiritlm.corpus.packing import NOTHING, Drawing, measure, split_of
from spiritlm.corpus.store import DocumentStore
from spiritlm.errors import InputError
from spiritlm.run.files import atomic_folder, read_json, remove_partial, sha256_json, write_json
from spiritlm.tokens.compiled import compiled
from spiritlm.tokens.emit import Ids
from spiritlm.tokens.samplers import CUTS_VERSION, document_key, mix

PLAN_FILE, VERIFIED_FILE = "plan.json", "verified.json"
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


@compiled
def _draws(keys: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    drawn = np.empty(len(keys), np.uint64)
    for number in range(len(keys)):
        drawn[number] = mix(document_key(seed, epoch, keys[number]))
    return drawn


def make_plan(store: DocumentStore, ids: Ids, drawing: Drawing, sequence_length: int, first_row: int) -> EpochPlan:
    """Count the tokens of every document of `drawing.epoch` and lay them into rows; memory does not grow with them."""
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
            {
                "cuts": CUTS_VERSION,
                "vocabulary": store.vocabulary.hash,
                "store": store.files.manifest["sha256"],
                "kind": kind,
                "settings": settings.tolist(),
                "sequence_length": sequence_length,
                "seed": seed,
            }
        )
        self._first_rows = [0]
        """Of every epoch that is planned, and of the one after them."""
        self._at_hand: dict[int, EpochPlan] = {}
        """The epochs read last: each holds two memory maps."""

    def drawing(self, epoch: int) -> Drawing:
        return Drawing(self.kind, self.settings, self.seed, epoch)

    @property
    def newest(self) -> int:
        """The last epoch that is planned; -1 before the first."""
        return len(self._first_rows) - 2

    def of_row(self, row: int) -> tuple[int, EpochPlan]:
        """The epoch that holds row `row` of the source, and its plan.

        Raises `InputError` where a file of the store is corrupt, a plan is of other settings, or an epoch has no rows.
        """
        while row >= self._first_rows[-1]:
            plan = self.plan(self.newest + 1)
            if not len(plan):
                raise InputError(f"{self.store.files.folder}: holds no tokens of this kind")
            self._first_rows.append(self._first_rows[-1] + len(plan))
        epoch = bisect_right(self._first_rows, row) - 1
        return epoch, self.plan(epoch)

    def plan(self, epoch: int) -> EpochPlan:
        """Read or make the plan of an epoch, at most the one after `newest`."""
        plan = self._at_hand.get(epoch)
        if plan is None:
            plan = self._on_disk(self.folder, epoch) if self.folder else self._fresh(epoch)
            self._at_hand = {**dict(list(self._at_hand.items())[-1:]), epoch: plan}
        return plan

    def prepare(self, epoch: int) -> None:
        """Make the plan of an epoch on disk for `plan` to find; may run in another thread."""
        if self.folder:
            self._on_disk(self.folder, epoch)

    def _fresh(self, epoch: int) -> EpochPlan:
        self.store.files.verify()
        first_row = self._first_rows[epoch]
        return make_plan(self.store, self.ids, self.drawing(epoch), self.sequence_length, first_row)

    def _on_disk(self, root: Path, epoch: int) -> EpochPlan:
        """One process makes the plan, the others wait for it and map it."""
        folder = root / f"epoch-{epoch:05d}"
        if not (folder / PLAN_FILE).is_file() or not self._known_whole(root):
            with _locked(root):
                if not self._known_whole(root):
                    self.store.files.verify()
                    write_json(root / VERIFIED_FILE, self.store.files.stamp())
                if not (folder / PLAN_FILE).is_file():
                    remove_partial(root, of_this_machine=True)  # a lock may not hold across machines
                    self._write(self._fresh(epoch), folder)
        return self._read(folder)

    def _known_whole(self, root: Path) -> bool:
        """Whether the store is, to the time of its files, the one that was verified for these plans."""
        verified = root / VERIFIED_FILE
        return verified.is_file() and read_json(verified) == self.store.files.stamp()

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
        try:
            order, rows = (np.load(folder / f"{n}.npy", mmap_mode="r", allow_pickle=False) for n in ("order", "rows"))
        except (OSError, ValueError) as error:
            raise InputError(f"{folder}: not a whole plan, remove it to have it made again: {error}") from None
        return EpochPlan(order, rows, facts["first_row"], facts["tokens"])


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
