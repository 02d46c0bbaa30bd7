"""The scorer of STSP on made-up records and predictions, and the choice of a classifier's labels."""

from __future__ import annotations

from conformance.registry import Case, kind

from spiritlm.scoring.sentiment import PUBLISHED_SENTIMENTS, select_labels
from spiritlm.suites.stsp import accuracy


@kind("stsp")
def stsp(case: Case) -> None:
    case.report.equal("sentiments", PUBLISHED_SENTIMENTS, case.read("config.json")["emotion_to_sentiment"])
    for told in case.read("cases.json"):
        name, question = told["name"], (told["refs"], told["preds"], told["label"], True)
        if told["error"]:
            case.report.refused(name, lambda question=question: accuracy(*question))
            continue
        percent, unmatched = accuracy(*question)
        case.report.equal(name, f"{percent:.2f}", told["accuracy_percent_2dp"])
        case.report.equal(f"{name}: unmatched", unmatched, told["unmatched_messages"])
    for number, told in enumerate(case.read("label_selection.json")):
        found = select_labels(told["emotions_to_select"], told["label_names"])
        case.report.equal(f"labels {number}", [list(part) for part in found], told["result"])
