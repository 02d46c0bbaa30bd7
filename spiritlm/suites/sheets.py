"""Results as tables and a picture, in Markdown and as a page.

`results` is what `evals/run.py` writes: `model` (what it is), `tasks` (by name, as `figures` has them; `official` and
`trigram` beside), `asked` (as `asked_figures` has them), `loss`, `style_consistency`, and `apart`, another model's
results, beside.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from spiritlm.run.page import Page, figure, markdown_table, table
from spiritlm.suites.figures import published

STYLE_ROWS = {"kept": "in the story's mood", "shuffled": "in the mood of another story", "difference": "difference"}
COLUMNS = {"mean": ("mean", "full"), "sum": ("sum", "full"), "mean, modality": ("mean", "modality"),
           "sum, modality": ("sum", "modality")}  # fmt: skip
COLORS = {"model": "#2457c5", "apart": "#c5562b", "trigram": "#a9b2c3"}
CHANCE = 50.0
WIDEST = 80
"""Rows of a table by label; longer ones are in `results.json` only."""
INTERVAL = 1.96
"""Standard errors to each side that hold the true value 95 times in 100."""


class Sheet(NamedTuple):
    heading: str
    note: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def markdown(results: Mapping[str, Any]) -> str:
    return _written([*_figures(results), *_details(results), _facts(results)])


def brief(results: Mapping[str, Any]) -> str:
    """What a terminal is told."""
    return _written(list(_figures(results)))


def _written(sheets: Sequence[Sheet]) -> str:
    return "\n".join(f"## {s.heading}\n\n{markdown_table(s.header, s.rows)}\n{s.note}\n" for s in sheets)


def page(results: Mapping[str, Any]) -> Page:
    made = Page("What the model knows", _identity(results["model"]))
    if results["tasks"]:
        picture = figure(accuracy_plot(results), "accuracy of each task with its interval")
        made.section("Pairs won", picture, note="Published choice of each task; lines: 95 % intervals; dashed: chance.")
    for sheet in (*_figures(results), *_details(results), _facts(results)):
        made.section(sheet.heading, table(sheet.header, sheet.rows), note=sheet.note)
    return made


def percent(found: Mapping[str, Any] | None) -> str:
    """An accuracy to be read."""
    if found is None or found["value"] is None:
        return "-"
    error = found.get("standard_error")
    return f"{100 * found['value']:.1f}" + ("" if error is None else f" ± {100 * error:.1f}")


def accuracy_plot(results: Mapping[str, Any]) -> Figure:
    """A row for each task, the first on top."""
    arms = {"model": {name: published(found) for name, found in results["tasks"].items()}}
    if "apart" in results:
        arms["apart"] = {name: published(found) for name, found in results["apart"]["tasks"].items()}
    arms["trigram"] = {name: found["trigram"] for name, found in results["tasks"].items() if "trigram" in found}
    names = list(results["tasks"])
    picture = Figure(figsize=(9, 1.2 + 0.34 * len(names)))
    axes = picture.subplots()
    for number, (label, found) in enumerate(arms.items()):
        known = [(row, one) for row, name in enumerate(names) if (one := found.get(name))]
        if known:
            at = np.array([row for row, _ in known]) + 0.18 * (number - 1)
            values = [100 * one["value"] for _, one in known]
            errors = [100 * INTERVAL * (one["standard_error"] or 0) for _, one in known]
            axes.errorbar(values, at, xerr=errors, fmt="o", color=COLORS[label], label=label, capsize=3, markersize=5)
    axes.axvline(CHANCE, color="#1d2433", linewidth=1, linestyle="--")
    axes.set(yticks=range(len(names)), yticklabels=names, xlim=(0, 101), xlabel="% of pairs won")
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(ncols=3, fontsize=8, frameon=False, loc="lower right", bbox_to_anchor=(1, 1))
    return picture


def _figures(results: Mapping[str, Any]) -> Iterator[Sheet]:
    apart = results.get("apart")
    if results["tasks"]:
        yield _accuracies(results["tasks"], apart)
    if loss := results.get("loss"):
        rows = [[name, f"{row['model']:.3f}", f"{row['unigram']:.3f}"] for name, row in loss.items()]
        yield Sheet("Loss (dev)", "Nats a token.", ["modality", "model", "unigram"], rows)
    if answered := results.get("asked"):
        yield _answers(answered, apart, [*results.get("not_asked", ()), *results.get("not_judged", ())])
    if prompts := results.get("stsp_prompts"):
        rows = [[{"T": "read", "S": "heard"}[kind], percent(found), str(found["n"])] for kind, found in prompts.items()]
        yield Sheet(
            "Prompts of STSP as the judges take them", "%, right: more than that no answer is.", ["", "%", "n"], rows
        )
    if style := results.get("style_consistency"):
        rows = [[told, percent(style[key]), str(style[key]["n"])] for key, told in STYLE_ROWS.items()]
        yield Sheet("Style kept by a continuation (test)", "%.", ["", "%", "stories"], rows)


def figure_of(found: Mapping[str, Any] | None, metric: str) -> str:
    """A figure of a task of answers, to be read: % but for a perplexity."""
    if metric != "perplexity" or found is None or found["value"] is None:
        return percent(found)
    error = found["standard_error"]
    return f"{found['value']:.1f}" + ("" if error is None else f" ± {error:.1f}")


def _answers(asked: Mapping[str, Any], apart: Mapping[str, Any] | None, left: Sequence[str]) -> Sheet:
    shuffled = any("chance" in found for found in asked.values())
    header = [
        "task",
        "figure",
        "model",
        *(["shuffled", "difference"] if shuffled else []),
        *(["apart"] if apart else []),
    ]
    rows = []
    for name, found in asked.items():
        metric = found["metric"]
        cells = [figure_of(found, metric)]
        cells += [figure_of(found.get(key), metric) for key in ("chance", "difference") if shuffled]
        cells += [figure_of(apart["asked"].get(name), metric)] if apart else []
        counts = [str(found["n"]), str(found["items"]), str(found["skipped"]), found["split"], str(found["version"])]
        rows.append([name, metric, *cells, *counts])
    note = (
        "% ± one standard error over items (a perplexity as it is); of WER, CER, perplexity, auto-BLEU less is better. "
        "n counts answers, items those of one prompt together. Shuffled: the same answers behind other prompts."
    )
    if left:
        note += f" Not asked, for want of a voice or of a judge: {', '.join(left)}."
    return Sheet("Answers", note, [*header, "n", "items", "skipped", "split", "version"], rows)


def _accuracies(tasks: Mapping[str, Any], apart: Mapping[str, Any] | None) -> Sheet:
    trigram = any("trigram" in found for found in tasks.values())
    header = ["task", *COLUMNS, *(["trigram"] if trigram else []), *(["apart"] if apart else [])]
    rows = []
    for name, found in tasks.items():
        choice = found["published"]["normalisation"], found["published"]["among"]
        cells = [
            percent(found["accuracy"][normalisation][among]) + (" *" if (normalisation, among) == choice else "")
            for normalisation, among in COLUMNS.values()
        ]
        cells += [percent(found.get("trigram"))] if trigram else []
        cells += [percent(published(apart["tasks"][name]))] if apart else []
        counts = [str(found["n"]), str(found["skipped"]), found["split"], str(found["version"])]
        rows.append([name, *cells, *counts])
    note = (
        "% of pairs won ± one standard error, chance 50; n counts pairs, errors are over items, all voices of one "
        "together; *: the choice behind published figures. Log-likelihoods are "
    )
    note += "added up (sum) or taken a token (mean), among all of the vocabulary or among the modality's tokens."
    if apart:
        note += f" Apart: another model ({_identity(apart['model'])})."
    return Sheet("Pairs won", note, [*header, "n", "skipped", "split", "version"], rows)


def _details(results: Mapping[str, Any]) -> Iterator[Sheet]:
    for name, found in results.get("asked", {}).items():
        yield from _asked_by_label(name, found)
    for name, found in results["tasks"].items():
        yield from _by_label(name, found)
        if official := found.get("official"):
            yield from _officially(name, official)


def _by_label(name: str, found: Mapping[str, Any]) -> Iterator[Sheet]:
    for label, by_value in found.get("by", {}).items():
        if len(by_value) <= WIDEST:
            rows = [[value or "-", percent(one), str(one["pairs"])] for value, one in by_value.items()]
            yield Sheet(f"{name} by {label}", "Published choice.", [label, "% won", "pairs"], rows)


def _asked_by_label(name: str, found: Mapping[str, Any]) -> Iterator[Sheet]:
    for label, by_value in found["by"].items():
        if 1 < len(by_value) <= WIDEST:
            rows = [[v or "-", figure_of(one, found["metric"]), str(one["n"])] for v, one in by_value.items()]
            yield Sheet(f"{name} by {label}", found["note"], [label, found["metric"], "n"], rows)


def _officially(name: str, official: Mapping[str, Any]) -> Iterator[Sheet]:
    known = "" if official.get("in_vocab") is None else f", in vocabulary {official['in_vocab']:.4f}"
    note = f"Official scorer: overall {official['overall']:.4f}{known}; mean and deviation over items."
    for key in (key for key in official if key.startswith("by_")):
        label = key.removeprefix("by_")
        rows = [
            [str(row[label]), *("-" if row[k] is None else f"{row[k]:.4f}" for k in ("score", "std")), str(row["n"])]
            for row in official[key]
        ]
        yield Sheet(f"{name}, officially, by {label}", note, [label, "score", "std", "n"], rows)


def _facts(results: Mapping[str, Any]) -> Sheet:
    arms = {"model": results, **({"apart": results["apart"]} if "apart" in results else {})}
    rows = [[arm, name, value] for arm, one in arms.items() for name, value in one["model"].items()]
    return Sheet("What was evaluated", "Digests (sha256).", ["model", "part", "digest"], rows)


def _identity(model: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value[:16]}" for name, value in model.items())
