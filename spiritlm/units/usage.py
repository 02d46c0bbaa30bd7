"""What a stream of units costs, and how evenly it uses its vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spiritlm.tokens.interleave import deduplicate


@dataclass(frozen=True)
class Usage:
    """Of the units of some recordings together."""

    units_per_second: float
    kept_per_second: float
    """Units after deduplication: those that differ from the one before."""
    published_bits: float
    """Bits a second as papers give them: rate times log2 of the vocabulary."""
    entropy_bits: float
    """Bits a second of deduplicated units under a unigram code made for them."""
    used: int
    """Units of the vocabulary that occur."""
    perplexity: float
    """Of the units before deduplication: how many equally frequent ones would be as hard to guess."""


def usage(sequences: Sequence[np.ndarray], seconds: float, rate: float, vocabulary_size: int) -> Usage:
    """`sequences`: int `[units]` of each recording; `seconds` of sound in all of them, above 0; `rate`: Hz."""
    counts = np.zeros(vocabulary_size, np.int64)
    kept = np.zeros(vocabulary_size, np.int64)
    for units in sequences:
        counts += np.bincount(units, minlength=vocabulary_size)
        kept += np.bincount(deduplicate(units)[0], minlength=vocabulary_size)
    return Usage(
        units_per_second=float(counts.sum() / seconds),
        kept_per_second=float(kept.sum() / seconds),
        published_bits=float(rate * np.log2(vocabulary_size)),
        entropy_bits=float(np.log2(perplexity(kept)) * kept.sum() / seconds),
        used=int(np.count_nonzero(counts)),
        perplexity=perplexity(counts),
    )


def perplexity(counts: np.ndarray) -> float:
    """How many equally frequent classes would be as hard to guess, 1 where nothing was counted.

    `counts`: int `[classes]`."""
    share = counts[counts > 0] / max(1, counts.sum())
    return float(np.exp(-(share * np.log(share)).sum()))
