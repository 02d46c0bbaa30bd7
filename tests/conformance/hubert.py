"""Spirit LM's HuBERT at 25 Hz, in its two variants."""

from __future__ import annotations

from conformance.registry import Case, kind


@kind("spirit_hubert25")
def spirit_hubert25(case: Case) -> None:
    from conformance import hubert_golden  # imports torch, which cases of the token formats do without

    hubert_golden.check(case)


@kind("spirit_hubert25_prenorm")
def spirit_hubert25_prenorm(case: Case) -> None:
    spirit_hubert25(case)
