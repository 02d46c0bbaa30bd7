"""The processes of a run that torchrun started, or this one alone."""

from __future__ import annotations

import itertools
import os
import time
from functools import cache
from typing import Any


def rank() -> int:
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """Processes of this run, as torchrun tells them."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@cache
def rendezvous() -> tuple[Any, int, int]:
    """The store where the ranks find each other, this one's rank and their number; one for the life of the process."""
    import torch.distributed as dist

    return next(dist.rendezvous("env://"))


_met = itertools.count()


def wait_for_all() -> None:
    """Return when every process of the run has called this as often as this one. Needs no process group, and leaves
    one alone that there is."""
    if world_size() == 1:
        return
    store, _, ranks = rendezvous()
    key = f"met-{next(_met)}"
    if store.add(key, 1) == ranks:
        store.set(f"{key}-all", "1")
    while not store.check([f"{key}-all"]):
        time.sleep(0.02)
