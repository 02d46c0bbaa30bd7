"""The official scorer of ZeroSpeech 2021 on made-up gold files and submissions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from conformance.registry import Case, kind

from spiritlm.suites.gold import LEXICAL, SYNTACTIC, read_gold
from spiritlm.suites.official import evaluate, read_submission

TOLERANCE = 1e-12


@kind("swuggy_sblimp")
def swuggy_sblimp(case: Case) -> None:
    expected = case.read("expected.json")
    for task, columns in (("lexical", LEXICAL), ("syntactic", SYNTACTIC)):
        for told in expected[task]:
            folder, what = case.folder / task / told["name"], f"{task} {told['name']}"
            gold, scores = read_gold(folder / "gold.csv", columns), read_submission(folder / "scores.txt")
            if told["error"]:
                case.report.refused(what, lambda gold=gold, scores=scores: evaluate(gold, scores))
                continue
            found = evaluate(gold, scores)
            for name in told.keys() - {"name", "note", "error"}:
                _compare(case, f"{what} {name}", found[name], told[name])


def _compare(case: Case, what: str, found: Any, told: Any) -> None:
    """Numbers within the tolerance, all else equal."""
    if isinstance(told, Mapping):
        case.report.equal(f"{what}: names", set(found), set(told))
        for name, value in told.items():
            _compare(case, f"{what} {name}", found[name], value)
    elif isinstance(told, Sequence) and not isinstance(told, str):
        case.report.equal(f"{what}: rows", len(found), len(told))
        for number, (one, other) in enumerate(zip(found, told, strict=False)):
            _compare(case, f"{what} {number}", one, other)
    elif isinstance(told, float) and isinstance(found, float):
        case.report.near(what, found, told, TOLERANCE)
    else:
        case.report.equal(what, found, told)
