"""How many words, letters or units were heard wrong."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Sequence
from typing import NamedTuple

from rapidfuzz.distance import Levenshtein


class ErrorRate(NamedTuple):
    """Insertions, deletions and replacements over all items, against the length of what was true."""

    edits: int
    length: int
    items: int

    @property
    def value(self) -> float:
        """Above 1 where more was heard than said."""
        return self.edits / max(1, self.length)


def error_rate(pairs: Iterable[tuple[Sequence[Hashable], Sequence[Hashable]]]) -> ErrorRate:
    """Of (true, heard) sequences."""
    edits = length = items = 0
    for true, heard in pairs:
        edits += Levenshtein.distance(true, heard)
        length += len(true)
        items += 1
    return ErrorRate(edits, length, items)


def word_error_rate(pairs: Iterable[tuple[str, str]]) -> ErrorRate:
    """Of (true, heard) texts; case and punctuation do not count."""
    return error_rate((plain_words(true), plain_words(heard)) for true, heard in pairs)


def plain_words(text: str) -> list[str]:
    """Lower case, letters, digits and apostrophes."""
    return re.findall(r"[\w']+", text.lower())
