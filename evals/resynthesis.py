"""Recordings -> units -> speech, beside the recordings: how well speech decoders are understood, and what they keep.

In:  a corpus, the unit tokenizer, and the stages that trained speech decoders.
Out: `results.json`, `results.md` (a table, printed too), `report.html` (the table, players and mel frames).

Sentence by sentence. Words and letters are judged by pocketsphinx, with a grammar of the corpus's own sentences and
with its English, and, where the tokenizer has one, by its own CTC head; the recordings' own rates stand beside, and the
decoder predicts how long units last (length off: of a sentence, on average). F0, voicing, cepstra and STOI compare
speech of the recording's own durations. Beside units with pitch and style stands what else is kept: the mood, as their
style units tell it; the contour that pitch units stand for; and, with `swapped`, whose voice is heard when another
speaker is asked for the same units.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import soxr
import torch
from pydantic import PositiveInt

from spiritlm.audio.f0 import track_f0
from spiritlm.audio.files import read_audio, write_wav
from spiritlm.audio.mel import SAMPLE_RATE, log_mel
from spiritlm.corpus.manifest import corpus_root, read_manifest
from spiritlm.errors import InputError
from spiritlm.run.files import write_json, write_text
from spiritlm.run.page import Page, audio, figure, markdown_table, table
from spiritlm.run.program import run_program
from spiritlm.run.progress import track
from spiritlm.run.stage import Input, Inputs, Stage, StageRecipe
from spiritlm.scoring.distortion import mel_cepstral_distortion
from spiritlm.scoring.error_rates import error_rate, plain_words
from spiritlm.scoring.f0 import f0_correlation, f0_errors
from spiritlm.scoring.jackknife import as_json, as_percent, ratio
from spiritlm.scoring.recognizer import SphinxRecognizer
from spiritlm.scoring.styles import label_at, label_spans, majority
from spiritlm.scoring.voices import NearestVoice
from spiritlm.synthesis.loading import load_speech_decoder
from spiritlm.synthesis.picture import draw_mels
from spiritlm.synthesis.protocol import SpeechDecoder, as_given
from spiritlm.units.expressive import ExpressiveTokenizer
from spiritlm.units.loading import load_speech_tokenizer
from spiritlm.units.pitch import PitchTokenizer
from spiritlm.units.protocol import SpeechTokenizer, UnitStreams
from spiritlm.units.style import StyleTokenizer
from spiritlm.units.vq_whisper_tokenizer import VqWhisperTokenizer

RECORDED = "recording"
RATES = {
    "closed": "WER, grammar, %",
    "closed_letters": "CER, grammar, %",
    "english": "WER, English, %",
    "own": "WER, own CTC, %",
}
"""Shares of words or letters heard wrong, and their columns."""
KEPT = {
    "style_kept": "style kept, %",
    "pitch_followed": "pitch followed, % correlation",
    "speaker_heard": "speaker heard, %",
}
"""See `Kept`."""
VOICE_RECORDINGS = 20
"""Of training, by which a speaker is known."""


class ResynthesisRecipe(StageRecipe):
    speech: Input
    units: Input
    decoders: Inputs
    split: str = "test"
    speakers: tuple[str, ...] = ()
    """Whose recordings are spoken again, and with whose voice, where the decoder has it; all by default."""
    sentences: PositiveInt = 40
    """At most."""
    swapped: bool = False
    """Whether a decoder of several speakers also speaks with the next one's voice."""
    label: str = "mood"
    """What `custom` of the corpus calls the style of a recording."""
    english: bool = True
    """Whether pocketsphinx's own English judges too (slowly)."""
    pictures: PositiveInt = 3


@dataclass
class Said:
    """A sentence of a recording."""

    name: str
    text: str
    speaker: str
    wave: np.ndarray
    """float32 `[samples]` at 16 kHz."""
    streams: UnitStreams
    style: str
    """Of the recording, where the corpus tells it."""
    heard: dict[str, dict[str, str]] = field(default_factory=dict)
    """By who spoke and who listened."""


@dataclass
class Row:
    """What one decoder made of the sentences."""

    free: list[np.ndarray]
    """At its own pace, float32 `[samples]` at 16 kHz."""
    aligned: list[np.ndarray]
    """At the recording's pace."""
    factor: float
    """Seconds to speak a second."""
    speakers: list[str]
    """Who was asked to speak."""


def resynthesis(recipe: ResynthesisRecipe, stage: Stage) -> dict[str, Any]:
    if not recipe.decoders or RECORDED in recipe.decoders:
        raise InputError(f"decoders: expected the folder of at least one, and none called {RECORDED}")
    if find_spec("pystoi") is None:
        raise InputError("pystoi is not installed; install the extra: pip install -e '.[judges]'")
    tokenizer = load_speech_tokenizer(recipe.units / "model")
    sentences = _sentences(recipe, tokenizer)
    known = [sentence.text for document in read_manifest(recipe.speech, "train") for sentence in document.sentences]
    closed = SphinxRecognizer(known)
    if closed.unknown:
        print(f"the recogniser lacks {len(closed.unknown)} words: {', '.join(closed.unknown[:10])}")
    listeners: dict[str, Callable[[np.ndarray], str]] = {"closed": closed}
    if recipe.english:
        listeners["english"] = SphinxRecognizer()
    ears = tokenizer.semantic if isinstance(tokenizer, ExpressiveTokenizer) else tokenizer
    if isinstance(ears, VqWhisperTokenizer) and ears.config.ctc_letters:
        listeners["own"] = lambda wave: ears.transcribe(ears.encode(wave, SAMPLE_RATE).semantic.values)
    waves = [sentence.wave for sentence in sentences]
    rows = {RECORDED: Row(waves, waves, 0.0, [sentence.speaker for sentence in sentences])}
    for name, folder in recipe.decoders.items():
        decoder = load_speech_decoder(folder / "model")
        rows[name] = _speak(name, decoder, sentences, swapped=False)
        if recipe.swapped and len(decoder.speakers) > 1:
            rows[f"{name}, other voice"] = _speak(name, decoder, sentences, swapped=True)
    kept = Kept(recipe, tokenizer, {speaker for row in rows.values() for speaker in row.speakers})
    results = {
        name: _figures(name, row, sentences, listeners, rows[RECORDED]) | kept.figures(row, sentences)
        for name, row in rows.items()
    }
    header, cells = _table(results)
    write_json(stage.folder / "results.json", {"split": recipe.split, "sentences": len(sentences), "rows": results})
    text = (
        markdown_table(header, cells)
        + f"n = {len(sentences)} sentences of split {recipe.split}; ± one standard error.\n"
    )
    write_text(stage.folder / "results.md", text)
    print(text)
    _page(recipe, stage.folder, sentences, rows, table(header, cells)).save(stage.folder / "report.html")
    return {name: {key: row[key]["value"] for key in RATES if key in row} for name, row in results.items()}


def _sentences(recipe: ResynthesisRecipe, tokenizer: SpeechTokenizer) -> list[Said]:
    """Spread evenly over the split. Raises `InputError` where there are none."""
    root, found = corpus_root(recipe.speech), []
    for document in read_manifest(recipe.speech, recipe.split):
        if not recipe.speakers or document.speaker in recipe.speakers:
            found += [(document, sentence) for sentence in document.sentences]
    if not found:
        raise InputError(f"speech = {recipe.speech}: split {recipe.split} has no sentence of the speakers asked for")
    chosen = [found[i] for i in np.unique(np.linspace(0, len(found) - 1, recipe.sentences).astype(int))]
    said = []
    for document, sentence in track(chosen, "encode", len(chosen)):
        wave = read_audio(root / document.audio, SAMPLE_RATE, sentence.start, sentence.end)
        name, middle = f"{document.id}, {sentence.start:.1f} s", (sentence.start + sentence.end) / 2
        told = f"{recipe.label}s" in document.custom or recipe.label in document.custom
        style = label_at(label_spans(document, recipe.label), middle) if told else ""
        streams = tokenizer.encode(wave, SAMPLE_RATE)
        said.append(Said(name, sentence.text, document.speaker, wave, streams, style))
    return said


def _speak(name: str, decoder: SpeechDecoder, sentences: Sequence[Said], swapped: bool) -> Row:
    row, spent, heard = Row([], [], 0.0, []), 0.0, 0.0
    for one in track(sentences, f"speak {name}", len(sentences)):
        speaker = one.speaker if one.speaker in decoder.speakers else decoder.speakers[0]
        if swapped:
            speaker = decoder.speakers[(decoder.speakers.index(speaker) + 1) % len(decoder.speakers)]
        style = one.style if one.style in decoder.styles and not decoder.expressive else None
        units, prosody = one.streams.semantic.values, one.streams.prosody
        values, durations, begun = as_given(decoder, units, prosody)
        started = time.monotonic()
        wave = decoder.decode(values, speaker, style, begun)
        spent, heard = spent + time.monotonic() - started, heard + len(wave) / decoder.sample_rate
        if decoder.expressive:  # its pitch may change while a unit lasts
            values, durations, begun = units, np.ones_like(units), prosody
        row.free.append(_at_16_khz(wave, decoder.sample_rate))
        row.aligned.append(_at_16_khz(decoder.decode(values, speaker, style, begun, durations), decoder.sample_rate))
        row.speakers.append(speaker)
    row.factor = spent / heard
    return row


def _at_16_khz(wave: np.ndarray, sample_rate: int) -> np.ndarray:
    return wave if sample_rate == SAMPLE_RATE else soxr.resample(wave, sample_rate, SAMPLE_RATE).astype(np.float32)


def _figures(
    name: str,
    row: Row,
    sentences: Sequence[Said],
    listeners: Mapping[str, Callable[[np.ndarray], str]],
    recorded: Row,
) -> dict[str, Any]:
    for one, wave in zip(track(sentences, f"hear {name}", len(sentences)), row.free, strict=True):
        one.heard[name] = {listener: hear(wave) for listener, hear in listeners.items()}
    judged = [key for key in RATES if key.split("_")[0] in listeners]
    figures: dict[str, Any] = {key: as_json(_rate(name, key, sentences)) for key in judged}
    if name == RECORDED:
        return figures
    contours, cepstra, stois = [], [], []
    for true, spoken in zip(recorded.aligned, row.aligned, strict=True):
        length = min(len(true), len(spoken))
        contours.append((track_f0(true[:length]), track_f0(spoken[:length])))
        cepstra.append(mel_cepstral_distortion(true, spoken))
        stois.append(_stoi(true[:length], spoken[:length]))
    f0 = f0_errors(contours)
    return figures | {
        "f0_within": as_json(f0.near),
        "f0_cents": f0.cents,
        "voicing_error": as_json(f0.voicing),
        "mel_cepstral_distortion": float(np.nanmean(cepstra)),
        "stoi": float(np.mean(stois)),
        "length_off": float(np.mean([abs(len(a) / len(b) - 1) for a, b in zip(row.free, row.aligned, strict=True)])),
        "real_time_factor": row.factor,
    }


def _rate(name: str, key: str, sentences: Sequence[Said]) -> Any:
    listener, _, letters = key.partition("_")
    pairs = [(plain_words(one.text), plain_words(one.heard[name][listener])) for one in sentences]
    rates = [error_rate([(" ".join(true), " ".join(heard)) if letters else (true, heard)]) for true, heard in pairs]
    return ratio(np.array([rate.edits for rate in rates], float), np.array([rate.length for rate in rates], float))


def _stoi(true: np.ndarray, spoken: np.ndarray) -> float:
    from pystoi import stoi

    return float(stoi(true, spoken, SAMPLE_RATE))


class Kept:
    """What speech keeps beside words: style, the contour of its pitch units, and whose voice it is."""

    def __init__(self, recipe: ResynthesisRecipe, tokenizer: SpeechTokenizer, speakers: set[str]) -> None:
        """`speakers`: who may be heard."""
        both = (tokenizer.style, tokenizer.pitch) if isinstance(tokenizer, ExpressiveTokenizer) else (None, None)
        style, pitch = both
        self.style = style if isinstance(style, StyleTokenizer) and style.config.labels else None
        self.pitch = pitch if isinstance(pitch, PitchTokenizer) and pitch.config.normalization == "none" else None
        root, known = corpus_root(recipe.speech), defaultdict[str, list[np.ndarray]](list)
        for document in read_manifest(recipe.speech, "train") if recipe.swapped else ():
            if document.speaker in speakers and len(known[document.speaker]) < VOICE_RECORDINGS:
                known[document.speaker].append(read_audio(root / document.audio, SAMPLE_RATE))
        self.nearest = NearestVoice(known) if len(known) > 1 else None

    def figures(self, row: Row, sentences: Sequence[Said]) -> dict[str, Any]:
        """`style_kept` and `speaker_heard`: shares of sentences; `pitch_followed`: correlation of F0 with what pitch
        units stand for."""
        found: dict[str, Any] = {}
        if self.style is not None and all(one.style for one in sentences):
            heard = [
                [self.style.config.labels[u] for u in self.style.encode(w, SAMPLE_RATE).values] for w in row.aligned
            ]
            found["style_kept"] = _share([majority(h) == one.style for h, one in zip(heard, sentences, strict=True)])
        if self.pitch is not None:
            pairs = []
            for one, wave in zip(sentences, row.aligned, strict=True):
                assert one.streams.pitch is not None
                asked, made = self.pitch.decode_f0(one.streams.pitch.values), track_f0(wave)
                length = min(len(asked), len(made))
                pairs.append((asked[:length], made[:length]))
            found["pitch_followed"] = as_json(f0_correlation(pairs))
        if self.nearest is not None:
            asked_of = zip(row.aligned, row.speakers, strict=True)
            found["speaker_heard"] = _share(
                [self.nearest(wave) == speaker for wave, speaker in asked_of if speaker in self.nearest.names]
            )
        return found


def _share(right: Sequence[bool]) -> dict[str, float | None]:
    return as_json(ratio(np.array(right, float), np.ones(len(right))))


def _table(results: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    shown = {key: title for key, title in (RATES | KEPT).items() if key in results[RECORDED]}
    header = ["speech", *shown.values()]
    header += [
        "F0 within 10 %, %",
        "cents",
        "voicing errors, %",
        "MCD, dB",
        "STOI",
        "length off, %",
        "real-time factor",
    ]
    rows = []
    for name, found in results.items():
        row = [name, *(as_percent(found[key]) for key in shown)]
        if name == RECORDED:
            rows.append([*row, *["-"] * 7])
            continue
        row += [as_percent(found["f0_within"]), f"{found['f0_cents']:.0f}", as_percent(found["voicing_error"])]
        row += [f"{found[key]:.2f}" for key in ("mel_cepstral_distortion", "stoi")]
        rows.append([*row, f"{100 * found['length_off']:.1f}", f"{found['real_time_factor']:.3f}"])
    return header, rows


def _page(
    recipe: ResynthesisRecipe, folder: Path, sentences: Sequence[Said], rows: Mapping[str, Row], figures: str
) -> Page:
    page = Page("Recordings, spoken again", f"Split {recipe.split} of {recipe.speech}")
    page.section("In figures", figures, note="Players: as the decoder paces it; mel frames: at the recording's pace.")
    sounds = folder / "sounds"
    sounds.mkdir(exist_ok=True)
    for number, one in enumerate(sentences[: recipe.pictures]):
        parts = []
        for name, row in rows.items():
            path = sounds / f"{number}-{name}.wav"
            write_wav(path, row.free[number], SAMPLE_RATE)
            heard = "; ".join(f"{listener}: {text or '(nothing)'}" for listener, text in one.heard[name].items())
            parts.append(table([name, "heard"], [[name, heard]]) + audio(path))
        mels = [(name, log_mel(torch.from_numpy(row.aligned[number])).T.numpy()) for name, row in rows.items()]
        picture = figure(draw_mels(mels, 100.0), "Mel frames of the recording and of each decoder")
        page.section(f"{one.speaker}, {one.name}", *parts, picture, note=one.text)
    return page


if __name__ == "__main__":
    run_program("resynthesis", ResynthesisRecipe, resynthesis, __doc__)
