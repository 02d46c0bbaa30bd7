"""Which items are asked, with which examples before them, and what of an answer counts.

Examples are drawn for every item anew, by a seed and the item's id: its prompt depends on nothing that is asked beside
it, and the same examples stand before it whatever is asked of it (to transcribe, to read aloud).
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import TypeVar

import numpy as np

from spiritlm.errors import InputError
from spiritlm.scoring.protocol import Segment

T = TypeVar("T")


def spread(items: Sequence[T], most: int | None) -> list[T]:
    """At most `most` of them, evenly spread from the first to the last; all where it is None."""
    count = len(items) if most is None else min(most, len(items))
    return [items[i] for i in np.linspace(0, len(items) - 1, count).round().astype(int)]


def drawn(pool: Sequence[T], count: int, key: str, name: str) -> list[T]:
    """`count` different ones in the order they are shown. `key`: seed and item.

    Raises `InputError` where `pool`, of what `name` says, has fewer.
    """
    if len(pool) < count:
        raise InputError(f"{name}: expected {count} examples, found {len(pool)}; shots says how many")
    return random.Random(key).sample(pool, count)


def balanced(groups: Mapping[str, Sequence[T]], count: int, key: str, name: str) -> list[T]:
    """As `drawn`, from all groups as many, give or take one, while they last; in an order that says nothing."""
    if (there := sum(map(len, groups.values()))) < count:
        raise InputError(f"{name}: expected {count} examples, found {there}; shots says how many")
    rng, wanted = random.Random(key), dict.fromkeys(groups, 0)
    while left := count - sum(wanted.values()):
        not_yet = [group for group in groups if wanted[group] < len(groups[group])]
        for group in rng.sample(not_yet, min(left, len(not_yet))):
            wanted[group] += 1
    found = [one for group, own in groups.items() for one in rng.sample(own, wanted[group])]
    rng.shuffle(found)
    return found


def prompt(shown: Iterable[Sequence[Segment]], *asked: Segment) -> tuple[Segment, ...]:
    """The pieces of each example, then those of what is asked."""
    return (*chain.from_iterable(shown), *asked)


def until(answer: str, flag: str) -> str:
    """What stands before `flag`, with which examples end; all of an answer that has it not."""
    return answer.partition(flag)[0].strip()
