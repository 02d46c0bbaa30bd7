"""Measure speech tokenizers side by side: what their units keep of phones, what they cost, what disturbs them.

In:  a corpus with phone times (a speak stage) and the folders of trained tokenizers.
Out: `measures.json`, `measures.md` (a table, printed too), `report.html` (the table, and units drawn over sound);
     `rejects.jsonl` names recordings that could not be used.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from spiritlm.audio.augment import narrowed, noisy
from spiritlm.audio.files import read_audio
from spiritlm.corpus.manifest import SpokenDocument, corpus_root, read_manifest, splits_of
from spiritlm.corpus.phones import PHONES_FILE, Phone, alphabet, read_phones, triphones
from spiritlm.corpus.sounds import draw_hours
from spiritlm.errors import InputError
from spiritlm.run.files import write_json, write_text
from spiritlm.run.page import Page, figure, markdown_table, table
from spiritlm.run.program import run_program
from spiritlm.run.progress import progress, track
from spiritlm.run.rejects import Rejects
from spiritlm.run.stage import Input, Inputs, Stage, StageRecipe
from spiritlm.scoring.abx import AbxTask
from spiritlm.scoring.error_rates import error_rate
from spiritlm.scoring.jackknife import as_json, as_percent, groups_of, ratio
from spiritlm.scoring.purity import FrameCounts
from spiritlm.suites import prosody
from spiritlm.tokens.interleave import deduplicate
from spiritlm.units.expressive import ExpressiveTokenizer
from spiritlm.units.loading import load_speech_tokenizer
from spiritlm.units.picture import Mark, timeline
from spiritlm.units.protocol import SpeechTokenizer, StreamTokenizer, UnitStreams
from spiritlm.units.usage import usage

Speakers = Literal["all", "seen", "unseen"]


class MeasureRecipe(StageRecipe):
    speech: Input
    tokenizers: Inputs
    split: str = "test"
    speakers: tuple[Speakers, ...] = Field(default=("seen", "unseen"), min_length=1)
    """Sets that are measured apart: speakers of the train split, others, or all together."""
    max_hours: PositiveFloat = 0.17
    """Hours of each set; where the smallest set has less, the others are cut to its size, for purity and PNMI depend
    on the amount of speech."""
    disturbed_hours: PositiveFloat = 0.03
    """Hours of each set that are encoded again in noise and over a narrow band."""
    noise: tuple[float, ...] = (20.0, 10.0)
    """Signal-to-noise ratios of white noise, dB."""
    narrow_rate: PositiveInt = 8000
    """Hz; recordings are resampled to it and back."""
    style_hours: PositiveFloat = 0.2
    """Hours of training recordings that tell which mood each style unit stands for."""
    pictures: NonNegativeInt = 1
    """Recordings of each set to draw."""
    picture_seconds: PositiveFloat = 2.4
    seed: int = 0
    max_bad_fraction: float = 0.01
    """Largest share of recordings that may be rejected."""


@dataclass(frozen=True)
class Spoken:
    """The recordings that are measured, and which of them are in each set."""

    documents: list[SpokenDocument]
    phones: list[tuple[Phone, ...]]
    root: Path
    sets: dict[str, list[int]]

    def wave(self, number: int, sample_rate: int) -> np.ndarray:
        return read_audio(self.root / self.documents[number].audio, sample_rate)

    def seconds(self, members: Sequence[int]) -> float:
        return sum(self.documents[i].duration for i in members)


@dataclass(frozen=True)
class Heard:
    """What one tokenizer makes of them."""

    tokenizer: SpeechTokenizer
    streams: list[UnitStreams]
    """Of each recording."""
    speed: float
    """Seconds of sound encoded in a second, one recording at a time."""
    disturbed: dict[str, dict[int, np.ndarray]]
    """By disturbance and recording, int32 `[units]`."""
    moods: list[str]
    """What each style unit stands for; empty where there are none."""

    @property
    def units(self) -> list[np.ndarray]:
        """Semantic units int32 `[units]` of each recording."""
        return [streams.semantic.values for streams in self.streams]


def measure(recipe: MeasureRecipe, stage: Stage) -> dict[str, Any]:
    if not recipe.tokenizers:
        raise InputError("tokenizers: expected at least one NAME = FOLDER, found none")
    tokenizers = {name: load_speech_tokenizer(folder / "model") for name, folder in recipe.tokenizers.items()}
    rejects = Rejects(stage.folder, recipe.max_bad_fraction)
    spoken = _choose(recipe, rejects)
    parts = [t for i, d in enumerate(spoken.documents) for t in triphones(spoken.phones[i], i, d.speaker)]
    task = AbxTask(parts, groups_of(len(spoken.documents)), recipe.seed)
    heard = {name: _hear(name, tokenizer, spoken, recipe) for name, tokenizer in tokenizers.items()}
    measures = {
        name: {speakers: _figures(one, spoken, members, task) for speakers, members in spoken.sets.items()}
        for name, one in heard.items()
    }
    write_json(stage.folder / "measures.json", {"split": recipe.split, "measures": measures})
    tables = "\n".join(markdown_table(*made) for made in (_table(measures), prosody.table(measures)) if made[1])
    text = f"{tables}\n{_amounts(spoken, measures)}\n"
    write_text(stage.folder / "measures.md", text)
    print(text)
    _page(recipe, spoken, heard, measures).save(stage.folder / "report.html")
    return {
        "recordings": len(spoken.documents),
        "rejected": len(rejects.items),
        "pnmi": {name: {s: round(f["pnmi"]["value"], 4) for s, f in sets.items()} for name, sets in measures.items()},
    }


def _choose(recipe: MeasureRecipe, rejects: Rejects) -> Spoken:
    """Recordings of each set, of equal amounts, in the order of the manifest."""
    phones, root = read_phones(recipe.speech), corpus_root(recipe.speech)
    documents = read_manifest(recipe.speech, recipe.split)
    sets = {speakers: _of(speakers, documents, recipe) for speakers in recipe.speakers}
    hours = min(recipe.max_hours, *(sum(d.duration for d in members) / 3600 for members in sets.values()))
    drawn = {name: {d.id for d in draw_hours(members, hours, recipe.seed)} for name, members in sets.items()}
    chosen = [document for document in documents if any(document.id in ids for ids in drawn.values())]
    for document in chosen:
        if not phones.get(document.id):
            rejects.add(document.id, f"{PHONES_FILE} has no phones of it")
    told = [document for document in chosen if phones.get(document.id)]
    readable = [d for d in track(told, f"read {recipe.split}", len(told)) if _is_readable(d, root, rejects)]
    rejects.close(len(chosen))
    numbers = {str(name): [i for i, d in enumerate(readable) if d.id in ids] for name, ids in drawn.items()}
    for name, members in numbers.items():
        if not members:
            raise InputError(f"speakers = {name}: none of their recordings can be read ({rejects.path})")
    return Spoken(readable, [phones[d.id] for d in readable], root, numbers)


def _is_readable(document: SpokenDocument, root: Path, rejects: Rejects) -> bool:
    try:
        return len(read_audio(root / document.audio, document.sample_rate)) > 0
    except InputError as error:
        rejects.add(document.id, str(error))
        return False


def _of(speakers: Speakers, documents: Sequence[SpokenDocument], recipe: MeasureRecipe) -> list[SpokenDocument]:
    """Raises `InputError` where nobody is in the set."""
    found = list(documents)
    if speakers != "all":
        if "train" not in splits_of(recipe.speech):
            raise InputError(f"speakers = {speakers}: {recipe.speech} has no train split; expected speakers=all")
        known = {document.speaker for document in read_manifest(recipe.speech, "train")}
        found = [document for document in documents if (document.speaker in known) == (speakers == "seen")]
    if not found:
        raise InputError(f"speakers = {speakers}: split {recipe.split} of {recipe.speech} has no recording of them")
    return found


def _hear(name: str, tokenizer: SpeechTokenizer, spoken: Spoken, recipe: MeasureRecipe) -> Heard:
    def encode(wave: np.ndarray) -> UnitStreams:
        return tokenizer.encode(wave, tokenizer.sample_rate)

    disturbed: dict[str, dict[int, np.ndarray]] = {}
    again = {i for members in spoken.sets.values() for i in _first_hours(spoken, members, recipe.disturbed_hours)}
    streams, seconds = [], 0.0
    encode(spoken.wave(0, tokenizer.sample_rate))  # what the first call prepares is not the speed
    with progress(f"encode with {name}", len(spoken.documents)) as bar:
        for number in range(len(spoken.documents)):
            wave = spoken.wave(number, tokenizer.sample_rate)
            started = time.perf_counter()
            streams.append(encode(wave))
            seconds += time.perf_counter() - started
            for how, changed in _disturbed(wave, tokenizer.sample_rate, number, recipe) if number in again else ():
                disturbed.setdefault(how, {})[number] = encode(changed).semantic.values
            bar.advance()
    speed = spoken.seconds(range(len(streams))) / seconds
    moods = _moods(tokenizer.style, recipe) if isinstance(tokenizer, ExpressiveTokenizer) else []
    return Heard(tokenizer, streams, speed, disturbed, moods)


def _moods(style: StreamTokenizer, recipe: MeasureRecipe) -> list[str]:
    """The mood that each style unit mostly has in recordings of training; none where they have no moods."""
    if "train" not in splits_of(recipe.speech):
        return []
    documents = draw_hours(read_manifest(recipe.speech, "train"), recipe.style_hours, recipe.seed)
    heard = []
    if not all(prosody.LABEL in document.custom for document in documents):
        return []
    for document in track(documents, "moods of style units", len(documents)):
        with suppress(InputError):
            wave = read_audio(corpus_root(recipe.speech) / document.audio, style.sample_rate)
            heard.append((document, style.encode(wave, style.sample_rate)))
    return prosody.moods_of_units(style.vocabulary_size, heard) if heard else []


def _first_hours(spoken: Spoken, members: Sequence[int], hours: float) -> list[int]:
    seconds = np.cumsum([spoken.documents[i].duration for i in members])
    return list(members[: int(np.searchsorted(seconds, 3600 * hours)) + 1])


def _disturbed(
    wave: np.ndarray, sample_rate: int, number: int, recipe: MeasureRecipe
) -> Iterator[tuple[str, np.ndarray]]:
    for decibels in recipe.noise:
        yield f"{decibels:g} dB", noisy(wave, decibels, np.random.default_rng((recipe.seed, number)))
    yield f"{recipe.narrow_rate / 1000:g} kHz", narrowed(wave, sample_rate, recipe.narrow_rate)


def _figures(heard: Heard, spoken: Spoken, members: Sequence[int], task: AbxTask) -> dict[str, Any]:
    """Of one tokenizer on one set."""
    tokenizer, seconds = heard.tokenizer, spoken.seconds(members)
    counts = FrameCounts(tokenizer.vocabulary_size)
    for i in members:
        document = spoken.documents[i]
        spelling = alphabet(document.speaker)
        counts.add(heard.units[i], tokenizer.rate, spoken.phones[i], document.duration, spelling)
    known = counts.estimates()
    speakers = {spoken.documents[i].speaker for i in members}
    abx = {side: task.score(heard.units, tokenizer.rate, side == "across", speakers) for side in ("within", "across")}
    return {
        "recordings": len(members),
        "hours": round(seconds / 3600, 4),
        "frames": known.frames,
        "rate": tokenizer.rate,
        "vocabulary": tokenizer.vocabulary_size,
        **asdict(usage([heard.units[i] for i in members], seconds, tokenizer.rate, tokenizer.vocabulary_size)),
        "phone_purity": as_json(known.phone),
        "cluster_purity": as_json(known.cluster),
        "pnmi": as_json(known.pnmi),
        **{
            f"abx_{side}": {**as_json(score.error), "triples": score.triples, "phone_pairs": score.pairs}
            for side, score in abx.items()
        },
        "unit_errors": {how: _unit_errors(heard.units, again, members) for how, again in heard.disturbed.items()},
        "speed": heard.speed,
        **_prosody(heard, spoken, members),
    }


def _prosody(heard: Heard, spoken: Spoken, members: Sequence[int]) -> dict[str, Any]:
    """Of pitch and style units, where the tokenizer gives them."""
    if not isinstance(heard.tokenizer, ExpressiveTokenizer):
        return {}
    recordings = [
        prosody.Heard(spoken.documents[i], spoken.wave(i, heard.tokenizer.sample_rate), streams.pitch, streams.style)
        for i in members
        if (streams := heard.streams[i]).pitch and streams.style
    ]
    found = prosody.prosody(heard.tokenizer.pitch, heard.moods, recordings)
    sizes = [heard.tokenizer.streams[name].size for name in ("pitch", "style")]
    return prosody.figures(found, *sizes)


def _unit_errors(units: list[np.ndarray], again: Mapping[int, np.ndarray], members: Sequence[int]) -> dict[str, Any]:
    """Edits between the deduplicated units of recordings and of their disturbed copies."""
    found = [i for i in members if i in again]
    rates = [error_rate([(deduplicate(units[i])[0].tolist(), deduplicate(again[i])[0].tolist())]) for i in found]
    value = ratio(np.array([r.edits for r in rates], float), np.array([r.length for r in rates], float))
    return {**as_json(value), "recordings": len(found)}


def _table(measures: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    first = next(iter(next(iter(measures.values())).values()))
    header = ["tokenizer", "speakers", "Hz", "used", "perplexity", "units/s", "bit/s", "entropy bit/s"]
    header += ["phone purity", "cluster purity", "PNMI", "ABX within", "ABX across"]
    header += [f"errors, {how}" for how in first["unit_errors"]] + ["x real time"]
    rows = []
    for name, sets in measures.items():
        for speakers, found in sets.items():
            row = [name, speakers, f"{found['rate']:g}", f"{found['used']}/{found['vocabulary']}"]
            row += [f"{found['perplexity']:.0f}", f"{found['kept_per_second']:.1f}"]
            row += [f"{found['published_bits']:.0f}", f"{found['entropy_bits']:.0f}"]
            keys = ("phone_purity", "cluster_purity", "pnmi", "abx_within", "abx_across")
            row += [as_percent(found[key]) for key in keys]
            row += [as_percent(rate) for rate in found["unit_errors"].values()]
            rows.append([*row, f"{found['speed']:.0f}"])
    return header, rows


def _amounts(spoken: Spoken, measures: Mapping[str, Mapping[str, Any]]) -> str:
    """How much each figure stands on; the same for every tokenizer."""
    lines = []
    for speakers, found in next(iter(measures.values())).items():
        voices = len({spoken.documents[i].speaker for i in spoken.sets[speakers]})
        again = next(iter(found["unit_errors"].values()))["recordings"]
        lines.append(
            f"n, {speakers}: {60 * found['hours']:.1f} minutes, {found['recordings']} recordings, {voices} speakers, "
            f"{found['frames']} frames of 10 ms; ABX {found['abx_within']['triples']} triples within and "
            f"{found['abx_across']['triples']} across speakers; errors in {again} recordings.\n"
        )
    return "".join(lines) + "Purity, PNMI, ABX (chance 50) and errors are in %; ± is one standard error.\n"


def _page(
    recipe: MeasureRecipe, spoken: Spoken, heard: Mapping[str, Heard], measures: Mapping[str, Mapping[str, Any]]
) -> Page:
    page = Page("Speech tokenizers, measured", f"Split {recipe.split} of {recipe.speech}")
    notes = "".join(f'<p class="soft">{escape(line)}</p>' for line in _amounts(spoken, measures).splitlines())
    page.section(
        "In figures", *(table(*made) for made in (_table(measures), prosody.table(measures)) if made[1]), notes
    )
    for speakers, members in spoken.sets.items():
        for number in members[: recipe.pictures]:
            document = spoken.documents[number]
            page.section(
                f"{document.speaker}, {document.id}",
                _picture(recipe, spoken, heard, number),
                note=f"Speakers: {speakers}. Equal units side by side are one cell; dashed: starts of words.",
            )
    return page


def _picture(recipe: MeasureRecipe, spoken: Spoken, heard: Mapping[str, Heard], number: int) -> str:
    document, phones = spoken.documents[number], spoken.phones[number]
    start = max(0.0, phones[0].start - 0.1)
    tracks = [
        (name if stream == "semantic" else f"{name}, {stream}", units)
        for name, one in heard.items()
        for stream, units in one.streams[number].items()
    ]
    words = [Mark(word.text, word.start, word.end) for sentence in document.sentences for word in sentence.words]
    drawn = timeline(
        spoken.wave(number, document.sample_rate),
        document.sample_rate,
        tracks,
        [Mark(*phone) for phone in phones],
        words,
        start,
        min(document.duration, start + recipe.picture_seconds),
    )
    return figure(drawn, f"waveform, units, phones and words of {document.id}: {document.text}")


if __name__ == "__main__":
    run_program("measure", MeasureRecipe, measure, __doc__)
