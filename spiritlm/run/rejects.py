"""Bad items of a corpus: named in `rejects.jsonl`, counted, and a reason to stop when there are too many."""

from __future__ import annotations

from pathlib import Path

import torch.distributed as dist

from spiritlm.errors import InputError
from spiritlm.run.files import write_jsonl
from spiritlm.run.stage import is_main_process


class Rejects:
    """Collects the items a stage could not use."""

    def __init__(self, folder: Path, max_bad_fraction: float) -> None:
        self.path, self.max_bad_fraction = folder / "rejects.jsonl", max_bad_fraction
        self._reasons: dict[str, str] = {}

    @property
    def items(self) -> list[dict[str, str]]:
        return [{"item": item, "reason": reason} for item, reason in self._reasons.items()]

    def add(self, item: str, reason: str) -> None:
        """An item is counted once, however often and by whichever thread it is added."""
        self._reasons.setdefault(item, reason)

    def close(self, total: int) -> int:
        """Write the file and return the count, of all processes together; each of them calls it. Raises `InputError`
        above `max_bad_fraction` of `total` items."""
        if dist.is_initialized():
            everyones: list[dict[str, str]] = [{} for _ in range(dist.get_world_size())]
            dist.all_gather_object(everyones, self._reasons)
            self._reasons = {item: reason for part in everyones for item, reason in part.items()}
        if is_main_process():
            write_jsonl(self.path, self.items)
        self.require_few(total)
        return len(self._reasons)

    def require_few(self, total: int) -> None:
        """Raises `InputError` above `max_bad_fraction` of `total` items."""
        bad = len(self._reasons)
        if bad > self.max_bad_fraction * total:
            first = self.items[0]
            raise InputError(
                f"{bad} of {total} items cannot be used, more than max_bad_fraction = {self.max_bad_fraction}; "
                f"the first is {first['item']}: {first['reason']} ({self.path})"
            )
