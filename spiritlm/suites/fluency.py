"""How a model speaks on: is what it says likely text (generation perplexity), and does it repeat itself (auto-BLEU)?

In: any folder of recordings. The first three seconds of each are heard, the model goes on in speech, a recogniser hears
what it said, a language model of text judges the transcripts. Both figures are wanted: who says one phrase over and
over is likely at each step. All tasks have the same `items`, so that whoever asks them need ask the model once, and
share transcripts where they are given the same answers.

- Perplexity: exp(-log p / tokens), all transcripts together; with `SlamKit` in its name the mean over transcripts of
  their own -log p / tokens in the exponent, as SlamKit has it. Grades are in nats. Where nothing is heard there is
  nothing to judge: such continuations do not count.
- Auto-BLEU-2 (GSLM): of a transcript, the share of its words that are said in another place too, and that of its pairs
  of neighbours (in a place that does not overlap), their geometric mean; 0 for less than two words; the mean over
  transcripts. With `SlamKit` in its name: pairs alone, overlapping ones count, case and punctuation marks too. That is
  near SlamKit's figure and not the same, for contractions stay whole here.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import soundfile

from spiritlm.audio.files import read_audio
from spiritlm.errors import InputError
from spiritlm.inference.request import SAMPLE_RATE, Sampling
from spiritlm.run.files import files_below
from spiritlm.scoring.error_rates import plain_words
from spiritlm.scoring.judges import Judges, Recognizer, TextModel
from spiritlm.scoring.protocol import Answer, Question, Sound
from spiritlm.suites.asked import AskedTask, Grade, Item, Judge, Metric
from spiritlm.suites.spoken_qa import transcripts

VERSION = 1
SUFFIXES = (".wav", ".flac")
PROMPT = 3.0
"""Seconds."""
MOST = 1000
SAMPLING = Sampling(max_new_tokens=150, temperature=0.8, top_p=1.0, top_k=25)
"""Each recording draws from a seed of its own."""
SLAMKIT = "SlamKit"

_WORD_OR_MARK = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")


def read(name: str, folder: Path, judges: Judges, most: int = MOST, sampling: Sampling = SAMPLING) -> list[AskedTask]:
    """`NAME auto-BLEU-2`, and `NAME perplexity` where `judges` have a model of text; each as SlamKit has it too. Asked
    are the first `most` recordings, in order of name, that are as long as the prompt; others are skipped.

    Raises `InputError` where there is no recogniser, no such recording, or one cannot be read.
    """
    recognizer = judges.hear(name)
    paths = [path for path in files_below(folder) if path.suffix in SUFFIXES]
    items: list[Item] = []
    for path in paths:
        if len(items) < most and (sound := _beginning(path)) is not None:
            own = replace(sampling, seed=sampling.seed + len(items))
            items.append(Item(str(path.relative_to(folder)), Question((sound,), "speech", own)))
    if not items:
        raise InputError(f"{folder}: expected recordings (*.wav, *.flac) of {PROMPT:g} s or more, found none")
    heard = Heard(recognizer, judges.text_model)
    skipped, note = len(paths) - len(items), f"{PROMPT:g} s, then {sampling.max_new_tokens} tokens; {heard.names}"

    def task(called: str, metric: Metric, judge: Judge) -> AskedTask:
        return AskedTask(f"{name} {called}", VERSION, "test", items, judge, metric, skipped, note)

    tasks = [
        task("auto-BLEU-2", "auto-BLEU", partial(_repetition, heard, auto_bleu)),
        task(f"auto-BLEU-2 {SLAMKIT}", "auto-BLEU", partial(_repetition, heard, repeated_pairs)),
    ]
    if judges.text_model is not None:
        tasks += [
            task("perplexity", "perplexity", partial(_surprise, heard, False)),
            task(f"perplexity {SLAMKIT}", "perplexity", partial(_surprise, heard, True)),
        ]
    return tasks


def _beginning(path: Path) -> Sound | None:
    """The prompt; None of a recording that is shorter."""
    wave = read_audio(path, SAMPLE_RATE, end=PROMPT)
    if len(wave) < round(PROMPT * SAMPLE_RATE) - 1:  # resampling may round down
        return None
    file = io.BytesIO()
    soundfile.write(file, wave, SAMPLE_RATE, subtype="PCM_16", format="WAV")
    return Sound(str(path), file.getvalue())


class Heard:
    """What is heard in answers and how likely it is, found once for all tasks that are given the same ones."""

    def __init__(self, recognizer: Recognizer, text_model: TextModel | None) -> None:
        self._recognizer, self._text_model = recognizer, text_model
        self._answers: Sequence[Answer] = ()
        self._texts: list[str] = []
        self._likely: list[tuple[float, int]] | None = None

    @property
    def names(self) -> str:
        judged = f"; judged by {self._text_model.name}" if self._text_model is not None else ""
        return f"heard by {self._recognizer.name}{judged}"

    def texts(self, answers: Sequence[Answer]) -> list[str]:
        if answers is not self._answers:
            self._answers, self._texts, self._likely = answers, transcripts(self._recognizer, answers), None
        return self._texts

    def likely(self, answers: Sequence[Answer]) -> list[tuple[float, int]]:
        """Log probabilities and tokens of the texts."""
        texts = self.texts(answers)
        if self._likely is None:
            assert self._text_model is not None
            self._likely = self._text_model(texts)
        return self._likely


def _surprise(heard: Heard, each_alike: bool, items: Sequence[Item], answers: Sequence[Answer]) -> list[Grade]:
    """-log p of tokens; `each_alike`: every text counts once, however long."""
    grades = []
    for text, (likely, tokens) in zip(heard.texts(answers), heard.likely(answers), strict=True):
        over = tokens if each_alike else 1
        grades.append(Grade(-likely / over, tokens / over, text) if tokens else Grade(0.0, 0.0, text))
    return grades


# repetition


def _repetition(
    heard: Heard, share: Callable[[str], float], items: Sequence[Item], answers: Sequence[Answer]
) -> list[Grade]:
    return [Grade(share(text), 1.0, text) for text in heard.texts(answers)]


def auto_bleu(text: str) -> float:
    """GSLM's auto-BLEU-2, 0 to 1: 0 where no word is said twice or no pair of neighbours is."""
    words = plain_words(text)
    return math.sqrt(_repeated(words, 1, apart=1) * _repeated(words, 2, apart=2)) if len(words) > 1 else 0.0


def repeated_pairs(text: str) -> float:
    """The share of pairs of neighbouring words or marks that are in the text more than once, 0 to 1."""
    return _repeated(_WORD_OR_MARK.findall(text), 2, apart=1)


def _repeated(words: Sequence[str], length: int, apart: int) -> float:
    """The share of runs of `length` words that are there again `apart` words away or farther."""
    runs = [tuple(words[place : place + length]) for place in range(len(words) - length + 1)]
    first = {run: place for place, run in reversed(list(enumerate(runs)))}
    last = {run: place for place, run in enumerate(runs)}
    again = [max(place - first[run], last[run] - place) >= apart for place, run in enumerate(runs)]
    return sum(again) / len(again) if again else 0.0
