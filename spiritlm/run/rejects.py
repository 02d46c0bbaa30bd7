"""Bad items of a corpus: named in `rejects.jsonl`, counted, and a reason to stop when there are too many."""

from __future__ import annotations

from pathlib import Path

from spiritlm.errors import InputError
from spiritlm.run.files import write_jsonl


class Rejects:
    """Collects the items a stage could not use."""

    def __init__(self, folder: Path, max_bad_fraction: float) -> None:
        self.path, self.max_bad_fraction = folder / "rejects.jsonl", max_bad_fraction
        self.items: list[dict[str, str]] = []

    def add(self, item: str, reason: str) -> None:
        self.items.append({"item": item, "reason": reason})

    def close(self, total: int) -> int:
        """Write the file and return the count. Raises `InputError` above `max_bad_fraction` of `total` items."""
        write_jsonl(self.path, self.items)
        bad = len(self.items)
        if bad > self.max_bad_fraction * total:
            first = self.items[0]
            raise InputError(
                f"{bad} of {total} items cannot be used, more than max_bad_fraction = {self.max_bad_fraction}; "
                f"the first is {first['item']}: {first['reason']} (all in {self.path})"
            )
        return bad
