"""What all suites of pairs share: items of a right and a wrong request, and the shape of their figures."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from spiritlm.scoring.protocol import Request, Segment

Normalisation = Literal["sum", "mean"]
"""Of log probabilities: added up, or a token."""
Among = Literal["full", "modality"]
"""What a token competes with: all of the vocabulary, or its modality's tokens."""


ITEM = "item"
RESERVED = (ITEM, "id", "right", "wrong", "win")
"""What no label of a benchmark may be called: these are kept of every pair."""


@dataclass(frozen=True)
class Pair:
    id: str
    """Unique in its task."""
    right: Request
    wrong: Request
    labels: Mapping[str, str] = field(default_factory=dict)
    """What tables group by: voice, type, frequency. Pairs of one `item` say the same in several voices: their mean is
    one observation."""


def whole_pair(id: str, right: Segment, wrong: Segment, labels: Mapping[str, str] | None = None) -> Pair:
    """Of two pieces that are scored from their beginning."""
    return Pair(id, Request((), (right,)), Request((), (wrong,)), labels or {})


@dataclass(frozen=True)
class Task:
    """A benchmark that was read from its folder, ready to be scored."""

    name: str
    version: int
    """Raised whenever a figure of the task could come out otherwise."""
    split: str
    pairs: Sequence[Pair]
    skipped: int
    """Items of the folder that are not scored, by a rule that the task states; never for what is missing."""
    published: tuple[Normalisation, Among]
    """The choice behind the published figures."""
    gold: Path | None = None
    """The `gold.csv` behind it, where the official scorer knows the task."""


def file_name(task: str) -> str:
    """`storycloze S>T whole` is `storycloze_S_T_whole`."""
    return re.sub(r"\W+", "_", task)
