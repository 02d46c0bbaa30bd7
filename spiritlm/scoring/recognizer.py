"""A speech recogniser of others' making (pocketsphinx), as a judge of how well speech is understood.

It knows a task's words and which follows which: a bigram of sentences that it is given, in place of its own English,
which understands small-world recordings badly (56 % of words wrong on flite's voices; on espeak-ng's even with a closed
grammar half). So a figure means something on flite's voices, beside that of the recordings themselves.
"""

from __future__ import annotations

import math
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from spiritlm.errors import InputError
from spiritlm.scoring.error_rates import plain_words

SAMPLE_RATE = 16_000
BEGIN, END = "<s>", "</s>"
DISCOUNT = 0.5
"""Taken from every bigram that was counted, for those that were not (absolute discounting)."""


class SphinxRecognizer:
    """One recogniser, for one utterance after the other."""

    def __init__(self, sentences: Iterable[str] | None = None) -> None:
        """`sentences`: what may be said; without them, pocketsphinx's own English. Words that its dictionary lacks are
        left out and named in `unknown`. Raises `InputError` where pocketsphinx is not installed."""
        try:
            import pocketsphinx
        except ImportError:
            raise InputError("pocketsphinx is not installed; install the extra: pip install -e '.[judges]'") from None
        model, self.unknown = Path(pocketsphinx.get_model_path()) / "en-us", tuple[str, ...]()
        options: dict[str, Any] = {"samprate": SAMPLE_RATE, "loglevel": "FATAL"}
        if sentences is None:
            self._decoder = pocketsphinx.Decoder(**options)
            return
        said = [plain_words(sentence) for sentence in sentences]
        spoken = _pronunciations(model / "cmudict-en-us.dict", {word for words in said for word in words})
        self.unknown = tuple(sorted({word for words in said for word in words} - set(spoken)))
        with tempfile.TemporaryDirectory() as folder:
            grammar, dictionary = Path(folder) / "task.lm", Path(folder) / "task.dict"
            grammar.write_text(bigram_arpa([[w for w in words if w in spoken] for words in said]), encoding="utf-8")
            dictionary.write_text("".join(line for lines in spoken.values() for line in lines), encoding="utf-8")
            self._decoder = pocketsphinx.Decoder(lm=str(grammar), dict=str(dictionary), **options)

    def __call__(self, wave: np.ndarray) -> str:
        """`wave` float32 `[samples]` at 16 kHz -> the words heard, perhaps none."""
        samples = (np.clip(wave, -1, 1) * 32767).astype("<i2")
        self._decoder.start_utt()
        self._decoder.process_raw(samples.tobytes(), no_search=False, full_utt=True)
        self._decoder.end_utt()
        found = self._decoder.hyp()
        return found.hypstr if found is not None else ""


def _pronunciations(path: Path, words: set[str]) -> dict[str, list[str]]:
    """The dictionary's lines for each of `words` that it has; `word(2)` is another way to say it."""
    found: dict[str, list[str]] = defaultdict(list)
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        word = line.split(maxsplit=1)[0].partition("(")[0]
        if word in words:
            found[word].append(line)
    return dict(found)


def bigram_arpa(sentences: Sequence[Sequence[str]]) -> str:
    """A language model in the ARPA format: bigrams with absolute discounting, backed off to unigrams."""
    pairs = Counter(pair for words in sentences for pair in pairwise([BEGIN, *words, END]))
    followers: dict[str, dict[str, int]] = defaultdict(dict)
    for (first, second), count in pairs.items():
        followers[first][second] = count
    unigrams = Counter(word for words in sentences for word in [*words, END])
    total = sum(unigrams.values())
    lines = ["\\data\\", f"ngram 1={len(unigrams) + 1}", f"ngram 2={len(pairs)}", "", "\\1-grams:"]
    backoff = {}
    for word, after in followers.items():
        left = DISCOUNT * len(after) / sum(after.values())
        unseen = 1 - sum(unigrams[other] for other in after) / total
        backoff[word] = math.log10(left / max(unseen, 1e-6))
    lines.append(f"-99 {BEGIN} {backoff.get(BEGIN, 0.0):.5f}")
    for word, count in sorted(unigrams.items()):
        lines.append(f"{math.log10(count / total):.5f} {word} {backoff.get(word, 0.0):.5f}")
    lines += ["", "\\2-grams:"]
    for first, after in sorted(followers.items()):
        known = sum(after.values())
        for second, count in sorted(after.items()):
            lines.append(f"{math.log10((count - DISCOUNT) / known):.5f} {first} {second}")
    return "\n".join([*lines, "", "\\end\\", ""])
