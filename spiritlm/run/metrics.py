"""Numbers of a run over its steps: always to `metrics.jsonl`, to wandb and tensorboard when asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from rich.console import Console

from spiritlm.run.files import read_jsonl, write_jsonl
from spiritlm.run.stage import is_main_process

Tracker = Literal["wandb", "tensorboard"]


class Metrics:
    """Append-only log of `{"step": n, name: value}` rows; silent on every rank but 0."""

    def __init__(self, folder: Path, trackers: tuple[Tracker, ...] = (), resume_step: int = 0) -> None:
        """Rows after `resume_step` (of a run that died after its last checkpoint) are dropped."""
        self.path = folder / "metrics.jsonl"
        self._active = is_main_process()
        self._sinks: dict[Tracker, Callable[[int, dict[str, float]], None]] = {}
        if not self._active:
            return
        kept = [row for row in whole_rows(self.path) if row["step"] <= resume_step]
        write_jsonl(self.path, kept)
        self._file = self.path.open("a", encoding="utf-8")
        for tracker in trackers:
            self._open_tracker(tracker, folder)

    def _open_tracker(self, tracker: Tracker, folder: Path) -> None:
        try:
            if tracker == "wandb":
                import wandb

                run = wandb.init(project="spiritlm", dir=str(folder), name=folder.name, resume="allow")
                self._sinks[tracker] = lambda step, row: run.log(row, step=step)
            else:
                from torch.utils.tensorboard import SummaryWriter

                writer = SummaryWriter(str(folder / "tensorboard"))
                self._sinks[tracker] = lambda step, row: _write_scalars(writer, step, row)
        except Exception as error:  # a tracker is a comfort: its failure never stops a run
            _warn(tracker, error)

    def log(self, step: int, **values: float) -> None:
        if not self._active:
            return
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        for tracker, sink in list(self._sinks.items()):
            try:
                sink(step, values)
            except Exception as error:
                del self._sinks[tracker]
                _warn(tracker, error)

    def __enter__(self) -> Metrics:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._active:
            self._file.close()


def _warn(tracker: Tracker, error: Exception) -> None:
    Console(stderr=True, markup=False).print(f"warning: {tracker} is not used: {error}")


def _write_scalars(writer: Any, step: int, row: dict[str, float]) -> None:
    for key, value in row.items():
        writer.add_scalar(key, value, step)


def read_metrics(folder: Path) -> list[dict[str, float]]:
    return list(read_jsonl(folder / "metrics.jsonl"))


def whole_rows(path: Path) -> list[dict[str, float]]:
    """Rows of a log whose last line may have been cut by a kill."""
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows
