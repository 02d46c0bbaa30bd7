"""The run in one page: loss curves, StoryCloze, speech recognition, what the model says, time and memory.

In:  the folders of all stages of a run.   Out: `report.html`, self-contained.
"""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from spiritlm.audio.files import read_audio
from spiritlm.audio.mel import FRAME_RATE, SAMPLE_RATE, log_mel
from spiritlm.run.files import read_json, read_jsonl
from spiritlm.run.metrics import read_metrics
from spiritlm.run.page import Page, audio, cards, figure, table
from spiritlm.run.program import run_program
from spiritlm.run.stage import Input, OptionalInput, Stage, StageRecipe, read_stage
from spiritlm.suites import sheets
from spiritlm.suites.pairs import file_name
from spiritlm.suites.sheets import figure_of, percent
from spiritlm.suites.storycloze import DIRECTIONS

COLORS = {"text": "#2457c5", "semantic": "#c5562b", "pitch": "#2f8f5b", "style": "#8a4fb5"}
CLOZE = {f"topic_storycloze {direction}": direction for direction in DIRECTIONS}
WORDS = {"swuggy": "word or non-word, heard", "sblimp": "sentence or a wrong one, heard"}
"""Tasks shown, and what they are called."""
SHOWN = {"model": "mean", "model, sum": "sum"}
APART = " Apart: a model trained on as many tokens of text and speech, without interleaving or pairs."
HEARD = {"asr test-clean": "voices heard in training", "asr test-other": "voices never heard"}
ANSWERED = {
    "tts test-clean": "read aloud, letters heard wrong",
    "tts test-other": "read aloud, letters heard wrong (the same sentences)",
    "topic_qa T>T": "what a story is about, read",
    "topic_qa S>T": "what a story is about, heard",
    "topic_qa S>S": "what a story is about, heard, answered aloud",
    "outcome_qa T>T": "how a story ends, read",
    "outcome_qa S>T": "how a story ends, heard",
    "outcome_qa S>S": "how a story ends, heard, answered aloud",
    "stsp T>T": "sentiment kept, read and written",
    "stsp S>T": "sentiment kept, heard and written",
    "stsp T>S": "sentiment kept, read and said",
    "stsp S>S": "sentiment kept, heard and said",
}
MOODS = {"excited": "#c5562b", "happy": "#e0a030", "angry": "#8a4fb5", "sad": "#2457c5"}
EXAMPLES = 6
"""Sentences shown as they were heard."""
GIVEN = {"text": "read", "speech": "heard"}


class ReportRecipe(StageRecipe):
    speech: Input
    units: Input
    text: Input
    store: Input
    suites: Input
    classifiers: Input
    lm: Input
    voice: Input
    model: Input
    lm_apart: OptionalInput = None
    """The run without interleaving that the results compare with."""
    model_apart: OptionalInput = None
    results: Input
    samples: Input
    lm_expressive: OptionalInput = None
    """The run over units with pitch and style."""
    results_expressive: OptionalInput = None


def report(recipe: ReportRecipe, stage: Stage) -> dict[str, Any]:
    stages = {name: read_stage(folder) for name, folder in stage.inputs.items()}
    results = read_json(recipe.results / "results.json")
    page = Page("A speech-text model, from text to voice", _subtitle(stages))
    page.section("In figures", _headline(stages, results))
    page.section(
        "Loss by modality",
        figure(_loss_curves(read_metrics(recipe.lm), results["loss"]), "training and dev loss over tokens"),
        _loss_table(results["loss"]),
        note="Nats a token. Lines: training; dots: dev; dashed: what token frequencies alone reach on dev.",
    )
    page.section(
        "StoryCloze: which ending belongs to the story?",
        figure(_cloze_bars(_columns(results, CLOZE)), "StoryCloze accuracy in four directions"),
        _pairs_table(_columns(results, CLOZE)),
        note="Held-out stories; T is text, S is speech: S>T hears the story and reads the endings. Both endings are "
        "spoken by the story's voice in its mood, and every ending is once right and once wrong, so that a "
        "scorer that does not understand the story is at chance (50 %). ± is one standard error."
        + (APART if "apart" in results else ""),
    )
    page.section(
        "Words and sentences: which of two was it?",
        _pairs_table(_columns(results, WORDS)),
        note="Spoken words against non-words that differ in a phone (sWUGGY), and sentences against the same with one "
        "thing wrong (sBLIMP), of the small world's words, each by a voice of training and by one never heard; "
        "the tables by voice, frequency and type: results.html in the folder of the results.",
    )
    page.section(
        "Does it write down what it hears?",
        _answers_table(results, HEARD),
        _asr_examples(recipe.results),
        note="Single sentences of held-out stories, in the layout of LibriSpeech: heard and then written by the "
        "language model, prompted with the marker of its training pairs; the likeliest token each time.",
    )
    page.section(
        "Does it read aloud, answer, keep the mood?",
        _answers_table(results, ANSWERED),
        note="Read aloud: what a recogniser that knows the stories' sentences hears. Questions are half-told stories, "
        "right is a word of the true end; STSP: a classifier of voices or of words tells the sentiment of the "
        "answer. Shuffled: the same answers behind other prompts. ± is one standard error.",
    )
    if recipe.lm_expressive and recipe.results_expressive:
        expressive = read_json(recipe.results_expressive / "results.json")
        page.section(
            "With pitch and style",
            figure(_loss_curves(read_metrics(recipe.lm_expressive), expressive["loss"]), "losses of all streams"),
            _expressive_table(stages, results, expressive),
            note="The same model over as many tokens, of units with pitch and style (1 Hz) between them, beside that "
            "above. Style kept: how often a story that is heard is told on in its mood, as the style tokenizer "
            "hears it; shuffled: the same continuations behind other stories. ± is one standard error.",
        )
    told = read_json(recipe.samples / "samples.json")
    samples, continuations = told["samples"], told["continuations"]
    page.section(
        "Does a voice go on as it began?",
        figure(_pitch_plot(continuations), "pitch of prompts and of their continuations"),
        _continuation_table(continuations),
        note="Held-out stories, heard and continued in speech, listened to: the mood that a classifier hears, the "
        "median and range of F0, the words that a recogniser makes out.",
    )
    page.section(
        "What the model says next",
        *(_sample(sample, recipe.samples) for sample in samples),
        note="The first four sentences of held-out stories, continued.",
    )
    page.section("Time and memory", _stage_table(stages))
    page.save(stage.folder / "report.html")
    return {"samples": len(samples), "bytes": (stage.folder / "report.html").stat().st_size}


def _subtitle(stages: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in stages["lm"]["versions"].items())
    return f"Finished {stages['samples']['finished']}. {versions}"


def _headline(stages: dict[str, Any], results: dict[str, Any]) -> str:
    cloze = {d: f"{100 * row['value']:.1f} %" for d, row in _columns(results, CLOZE)["model"].items()}
    counts = stages["lm"]["counts"]
    seconds = sum(stage["seconds"] for stage in stages.values())
    return cards(
        [
            (f"{stages['speech']['counts']['train']['hours']:.1f} h", "of speech to train on"),
            (f"{counts['tokens'] / 1e6:.1f} M", "tokens of pretraining"),
            *((figure, f"StoryCloze {direction}") for direction, figure in cloze.items()),
            *(
                (f"{100 * results['asked'][name]['value']:.1f} %", f"of words heard wrong, {told}")
                for name, told in HEARD.items()
                if name in results.get("asked", {})
            ),
            (f"{seconds / 60:.1f} min", "of all stages; the two models train side by side"),
        ]
    )


def _loss_curves(rows: list[dict[str, float]], loss: dict[str, dict[str, float]]) -> Figure:
    picture = Figure(figsize=(9, 3.6))
    axes = picture.subplots()
    for name in loss:
        color = COLORS[name]
        train = [(row["tokens"] / 1e6, row[f"loss_{name}"]) for row in rows if f"loss_{name}" in row]
        dev = [(row["tokens"] / 1e6, row[f"dev_loss_{name}"]) for row in rows if f"dev_loss_{name}" in row]
        axes.plot(*zip(*train, strict=True), color=color, linewidth=1, alpha=0.6, label=f"{name}, train")
        axes.plot(*zip(*dev, strict=True), color=color, linewidth=0, marker="o", markersize=5, label=f"{name}, dev")
        axes.axhline(loss[name]["unigram"], color=color, linewidth=1, linestyle="--", label=f"{name}, unigram")
    axes.set(xlabel="million tokens", ylabel="nats a token", ylim=(0, None))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(ncols=2, fontsize=8, frameon=False)
    return picture


def _loss_table(loss: dict[str, dict[str, float]]) -> str:
    rows = [
        [n, f"{r['model']:.3f}", f"{r['unigram']:.3f}", f"{r['unigram'] - r['model']:.3f}"] for n, r in loss.items()
    ]
    return table(["dev", "model", "unigram", "gain"], rows)


def _columns(results: dict[str, Any], names: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Accuracies by column, and by what `names` calls the tasks."""
    tasks = _named(results, names)
    columns = {label: {n: row["accuracy"][key]["full"] for n, row in tasks.items()} for label, key in SHOWN.items()}
    if all("trigram" in row for row in tasks.values()):
        columns["trigram"] = {name: row["trigram"] for name, row in tasks.items()}
    if "apart" in results:
        columns["apart"] = {n: row["accuracy"]["mean"]["full"] for n, row in _named(results["apart"], names).items()}
    return columns


def _named(results: dict[str, Any], names: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Tasks by what `names` calls them."""
    return {told: results["tasks"][name] for name, told in names.items()}


def _cloze_bars(columns: dict[str, dict[str, Any]]) -> Figure:
    picture = Figure(figsize=(9, 2.6))
    axes = picture.subplots()
    directions = list(columns["model"])
    shown = {label: color for label, color in sheets.COLORS.items() if label in columns}
    width = 0.7 / len(shown)
    for number, (label, color) in enumerate(shown.items()):
        values = [100 * columns[label][d]["value"] for d in directions]
        errors = [100 * (columns[label][d]["standard_error"] or 0) for d in directions]
        at = np.arange(len(directions)) + (number - (len(shown) - 1) / 2) * width
        axes.bar(at, values, 0.94 * width, yerr=errors, color=color, label=label, capsize=3)
    axes.axhline(50, color="#1d2433", linewidth=1, linestyle="--", label="chance")
    axes.set(xticks=range(len(directions)), xticklabels=directions, ylim=(0, 105), ylabel="% right")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(ncols=4, fontsize=8, frameon=False, loc="lower right", bbox_to_anchor=(1, 1))
    return picture


def _pairs_table(columns: dict[str, dict[str, Any]]) -> str:
    rows = [
        [name, *(percent(column[name]) for column in columns.values()), "50.0", str(row["pairs"])]
        for name, row in columns["model"].items()
    ]
    return table(["% won", *columns, "chance", "n"], rows)


def _answers_table(results: dict[str, Any], names: dict[str, str]) -> str:
    arms = {"model": results["asked"]} | ({"apart": results["apart"]["asked"]} if "apart" in results else {})
    rows = []
    for name, called in names.items():
        if not (own := results["asked"].get(name)):
            continue
        cells = [figure_of(arm.get(name), own["metric"]) for arm in arms.values()]
        rows.append(
            [f"{called} ({name})", own["metric"], *cells, figure_of(own.get("chance"), own["metric"]), str(own["n"])]
        )
    return table(["%", "figure", *arms, "shuffled", "n"], rows)


def _asr_examples(results: Path) -> str:
    items = [item for name in HEARD for item in _items(results, name)]
    if not items:
        return ""
    shown = [items[number] for number in np.linspace(0, len(items) - 1, min(EXAMPLES, len(items))).astype(int)]
    return table(["said", "heard"], [[item["expected"][0], item["heard"]] for item in shown])


def _items(results: Path, task: str) -> list[dict[str, Any]]:
    path = results / "items" / f"{file_name(task)}.jsonl"
    return list(read_jsonl(path)) if path.is_file() else []


def _pitch_plot(rows: list[dict[str, Any]]) -> Figure:
    picture = Figure(figsize=(5.4, 3.6))
    axes = picture.subplots()
    for mood, color in MOODS.items():
        own = [(row["prompt"]["pitch"], row["continuation"]["pitch"]) for row in rows if row["true_mood"] == mood]
        both = np.array([pair for pair in own if all(pair)]).reshape(-1, 2)
        axes.scatter(both[:, 0], both[:, 1], color=color, label=mood, s=24)
    axes.plot([60, 350], [60, 350], color="#1d2433", linewidth=1, linestyle="--")
    axes.set(xlabel="F0 of the prompt, median, Hz", ylabel="of the continuation", xscale="log", yscale="log")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False)
    return picture


def _continuation_table(rows: list[dict[str, Any]]) -> str:
    keys = ("mood", "pitch", "range", "seconds")
    cells = []
    for row in rows[: 2 * EXAMPLES]:
        both = [" > ".join(str(row[part].get(key) or "-") for part in ("prompt", "continuation")) for key in keys]
        cells.append([row["speaker"], row["true_mood"], *both, row["continuation"].get("words", "-")])
    header = [
        "voice",
        "mood",
        "mood heard, prompt > continuation",
        "F0, Hz",
        "range, semitones",
        "seconds",
        "words heard",
    ]
    return table(header, cells)


def _expressive_table(stages: dict[str, Any], results: dict[str, Any], expressive: dict[str, Any]) -> str:
    runs = {"lm": results, "lm_expressive": expressive}
    rows = [["tokens a second, in training"], *([f"loss, {name}"] for name in expressive["loss"])]
    rows += [[f"StoryCloze {direction}, %"] for direction in DIRECTIONS]
    asked = [name for name in (*HEARD, *ANSWERED) if name in results.get("asked", {}) | expressive.get("asked", {})]
    rows += [["style kept, %"], ["style kept, shuffled, %"], ["difference, %"], *([name] for name in asked)]
    for lm, found in runs.items():
        style = found.get("style_consistency")
        cells = [f"{stages[lm]['counts']['tokens_per_second']:.0f}"]
        losses = [found["loss"].get(name) for name in expressive["loss"]]
        cells += [f"{loss['model']:.3f}" if loss else "-" for loss in losses]
        cells += [percent(row) for row in _columns(found, CLOZE)["model"].values()]
        cells += [percent(style[key]) if style else "-" for key in ("kept", "shuffled", "difference")]
        cells += [percent(found.get("asked", {}).get(name)) for name in asked]
        for row, cell in zip(rows, cells, strict=True):
            row.append(cell)
    return table(["", "units", "units, pitch and style"], rows)


def _sample(sample: dict[str, Any], folder: Path) -> str:
    columns = [_sound(sample.get("prompt_wav"), folder, f"the story, {GIVEN[sample['given']]}", sample["prompt"])]
    columns.append(_sound(sample.get("wav"), folder, f"continued in {sample['output']}", sample["continuation"]))
    return f'<div class="sample two">{"".join(columns)}</div>'


def _sound(wav: str | None, folder: Path, heading: str, text: str) -> str:
    parts = [f'<p><span class="soft">{escape(heading)}</span><br>{escape(text)}</p>']
    if wav is not None:
        parts += [audio(folder / wav), figure(_spectrogram(folder / wav), f"log-mel spectrogram of {wav}")]
    return f"<div>{''.join(parts)}</div>"


def _spectrogram(wav: Path) -> Figure:
    mel = log_mel(read_audio(wav, SAMPLE_RATE)).numpy()  # [frames, mels]
    picture = Figure(figsize=(5, 1.5))
    axes = picture.subplots()
    axes.imshow(mel.T, origin="lower", aspect="auto", cmap="magma", extent=(0, len(mel) / FRAME_RATE, 0, mel.shape[1]))
    axes.set(xlabel="seconds", ylabel="mel band")
    return picture


def _stage_table(stages: dict[str, Any]) -> str:
    rows = [
        [name, stage["stage"], f"{stage['seconds']:.1f}", f"{stage['peak_memory_bytes'] / 2**30:.2f}"]
        for name, stage in stages.items()
    ]
    rows.append(["all", "", f"{sum(stage['seconds'] for stage in stages.values()):.1f}", ""])
    return table(["folder", "stage", "seconds", "peak memory of one process, GiB"], rows)


if __name__ == "__main__":
    run_program("report", ReportRecipe, report, __doc__)
