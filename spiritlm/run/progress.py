"""Progress for people: a rich bar on a terminal, plain lines now and then in a log file."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from spiritlm.run.stage import is_main_process

T = TypeVar("T")

SECONDS_BETWEEN_LINES = 5.0


class Bar:
    """Handle of one running progress display."""

    def __init__(self, label: str, total: int, rich_bar: Progress | None) -> None:
        self._label, self._total, self._rich = label, total, rich_bar
        self._task = rich_bar.add_task(label, total=total, note="") if rich_bar else None
        self._done, self._started = 0, time.monotonic()
        self._shown, self._last_line = 0, self._started

    def advance(self, amount: int = 1, note: str = "") -> None:
        """`note` is shown beside the bar, for example `loss 1.23`."""
        self._done += amount
        if self._rich is not None and self._task is not None:
            self._rich.update(self._task, advance=amount, note=note)
        elif is_main_process() and self._line_is_due():
            seconds = time.monotonic() - self._started
            print(f"  {self._label} {self._done}/{self._total} ({seconds:.0f} s) {note}".rstrip(), flush=True)

    def _line_is_due(self) -> bool:
        """At the end, and at every tenth of the way but not more often than `SECONDS_BETWEEN_LINES`."""
        tenth, now = 10 * self._done // max(1, self._total), time.monotonic()
        if self._done < self._total and (tenth == self._shown or now - self._last_line < SECONDS_BETWEEN_LINES):
            return False
        self._shown, self._last_line = tenth, now
        return True


@contextmanager
def progress(label: str, total: int, done: int = 0) -> Iterator[Bar]:
    """Show progress while the block runs; `done` of `total` were finished by an earlier run."""
    console = Console()
    if not (console.is_terminal and is_main_process()):
        bar = Bar(label, total, None)
        if done:
            bar.advance(done)
        yield bar
        return
    columns = (
        TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(),
        TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[note]}"),
    )  # fmt: skip
    with Progress(*columns, console=console) as rich_bar:
        bar = Bar(label, total, rich_bar)
        if done:
            bar.advance(done)
        yield bar


def track(items: Iterable[T], label: str, total: int) -> Iterator[T]:
    """Iterate over `items` with a progress bar."""
    with progress(label, total) as bar:
        for item in items:
            yield item
            bar.advance()
